"""The ConnectX-7 fabric of this machine: what was found, what it means for NCCL, and how it is shown. No I/O."""
