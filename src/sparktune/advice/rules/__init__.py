"""The registry of the rules: one explicit tuple, in the order in which they are documented."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.rules import (
    cluster,
    cpus,
    llama_flags,
    llama_loading,
    memory,
    nccl,
    quantisation,
    readahead,
    rpc,
    safetensors_loading,
    use,
)

if TYPE_CHECKING:
    from sparktune.advice.model import Rule

RULES: tuple[Rule, ...] = (
    llama_loading.MAPPING,
    llama_flags.REMOVED,
    llama_flags.DEPRECATED,
    llama_flags.IGNORED,
    safetensors_loading.VLLM,
    safetensors_loading.SGLANG,
    readahead.TOO_EARLY,
    cluster.RDMA,
    nccl.TWIN,
    nccl.DOWN,
    nccl.GID,
    rpc.TCP,
    rpc.LAYERS,
    use.MANY,
    use.SINGLE,
    use.MXFP4,
    quantisation.NVFP4,
    quantisation.AWQ4,
    quantisation.EIGHT,
    cpus.CORES,
    cpus.IDLE,
    memory.MEMLOCK,
    memory.SWAP,
    memory.CACHE,
)

VARIABLES = (
    *llama_flags.VARIABLES,
    "LLAMA_ARG_LOAD_MODE",
    "LLAMA_ARG_N_PARALLEL",
    "LLAMA_ARG_RPC",
    "NCCL_IB_DISABLE",
    "NCCL_IB_GID_INDEX",
    "NCCL_IB_HCA",
    "NCCL_NET",
)
"""The environment variables that rules ask for, by their exact names; none names a key, token or password."""
