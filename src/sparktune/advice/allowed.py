"""Which environment variables of an engine may be read: exact names, no patterns; and which values are kept.

A variable that is not listed is never decoded. A value that looks as if it held a secret is not kept either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sparktune.redaction import REDACTED, redact, redact_each
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

ALLOWED = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "GGML_CUDA_ENABLE_UNIFIED_MEMORY",
        "GGML_CUDA_NO_PINNED",
        "GGML_RPC_RDMA",
        "GLOO_SOCKET_IFNAME",
        "LLAMA_ARG_CTX_SIZE",
        "LLAMA_ARG_DIO",
        "LLAMA_ARG_LOAD_MODE",
        "LLAMA_ARG_MLOCK",
        "LLAMA_ARG_MMAP",
        "LLAMA_ARG_MODEL",
        "LLAMA_ARG_NO_MMAP",
        "LLAMA_ARG_N_PARALLEL",
        "LLAMA_ARG_RPC",
        "LLAMA_ARG_SPLIT_MODE",
        "LLAMA_ARG_THREADS",
        "NCCL_DEBUG",
        "NCCL_IB_DISABLE",
        "NCCL_IB_GID_INDEX",
        "NCCL_IB_HCA",
        "NCCL_IB_MERGE_NICS",
        "NCCL_IB_TC",
        "NCCL_NET",
        "NCCL_SOCKET_IFNAME",
        "OLLAMA_NUM_PARALLEL",
        "OMP_NUM_THREADS",
        "SGLANG_HOST_IP",
        "TP_SOCKET_IFNAME",
        "UCX_NET_DEVICES",
        "VLLM_ATTENTION_BACKEND",
        "VLLM_HOST_IP",
        "VLLM_MXFP4_USE_MARLIN",
    }
)
MOST_CHARACTERS = 256
"""So much of a value is kept."""

HIDDEN = "…"
"""Stands for a part of a command line that is not kept."""
KEPT = frozenset(
    # A list of words reads better than eighty quoted ones.
    """-m --model --model-path -hf --hf-repo -lm --load-mode -ngl --n-gpu-layers --gpu-layers -t --threads
    -tb --threads-batch -np --parallel -c --ctx-size --rpc -sm --split-mode -ts --tensor-split --port -p
    --host -H -C --cpu-mask -Cr --cpu-range --cpu-strict --prio -fa --flash-attn -ot --override-tensor --numa
    -b --batch-size -ub --ubatch-size -d --device -ctk -ctv --cache-type-k --cache-type-v
    --use_mmap --use_mlock --n_ctx --n_gpu_layers --n_threads --rpc_servers
    --tensor-parallel-size -tp --tp --tp-size --pipeline-parallel-size -pp --pp-size --data-parallel-size -dp
    --load-format --load_format --safetensors-load-strategy --safetensors_load_strategy
    --quantization -q --dtype --max-num-seqs --max-running-requests
    --gpu-memory-utilization --mem-fraction-static --max-model-len --context-length --kv-cache-dtype
    --distributed-executor-backend --nnodes -n --node-rank -r --master-addr --master-port --dist-init-addr
    --attention-backend --moe-runner-backend --moe-backend --enable-flashinfer-mxfp4-moe --cuda-graph-max-bs
    --served-model-name --revision""".split()  # noqa: SIM905
)
"""The options whose values are kept. None of them takes a prompt, a name of a person, or a secret."""
_NUMBERS_ONLY = frozenset({"-p", "-r", "-n", "-d", "-c", "-H"})
"""Short options that mean something else to other programs: kept only where they have a number."""
_OPTION = re.compile(r"--?[A-Za-z][A-Za-z0-9_.-]{0,60}")
_NEGATIVE = re.compile(r"-[0-9.]+")
_HARMLESS = re.compile(r"[A-Za-z0-9_./:,@+%*=\[\]~-]{0,512}")
_NAMES = {name.encode(): name for name in ALLOWED}


def choose_variables(environment: bytes) -> tuple[tuple[str, str], ...]:
    """The allowed variables of /proc/PID/environ, by name; proc_pid_environ(5). Others are never decoded."""
    found: dict[str, str] = {}
    for entry in environment.split(b"\0"):
        key, sign, value = entry.partition(b"=")
        name = _NAMES.get(key)
        if name is not None and sign:
            found.setdefault(name, _safe(name, value))
    return tuple(sorted(found.items()))


def _safe(name: str, value: bytes) -> str:
    text = value.decode(errors="replace")[:MOST_CHARACTERS]
    told = redact(("env", f"{name}={text}"))
    return text if told == f"env {name}={text}" else REDACTED


def safe_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """A command line of which only harmless parts are left: option names, and the values of listed options.

    Everything else becomes `…`: prompts and code are nobody's business, and a secret hides anywhere. What is
    left is redacted besides, as all command lines are.
    """
    told = redact_each(arguments)
    found: list[str] = [plain(told[0], most=MOST_CHARACTERS)] if told else []
    option: str | None = None
    for argument in told[1:]:
        if argument.startswith("-") and not _NEGATIVE.fullmatch(argument):
            name, sign, value = argument.partition("=")
            name = name if _OPTION.fullmatch(name) else HIDDEN
            found.append(f"{name}={_kept(name, value)}" if sign else name)
            option = None if sign else name
        else:
            found.append(_kept(option, argument))
            option = None
    return tuple(found)


def _kept(option: str | None, value: str) -> str:
    """The value of an option, or an argument that belongs to none."""
    if option is not None and option not in KEPT:
        return HIDDEN
    if option in _NUMBERS_ONLY and not value.isdecimal():
        return HIDDEN
    return value if _HARMLESS.fullmatch(value) else HIDDEN
