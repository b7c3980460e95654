"""The ConnectX-7 fabric: what was found, what it means for NCCL, and how it is shown. No I/O."""
