"""Memory that an engine wants and does not get: locked, in swap, or behind the page cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, EngineKind, Role, Rule, Severity
from sparktune.advice.rules.groups import computes, is_clustered, leads
from sparktune.advice.rules.saying import GIB, MIB, find, size
from sparktune.advice.rules.versions import Spelling, at_least, spelling_of

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts

LEAST_MEMLOCK = 1 * GIB
"""NCCL's and RPC's buffers are hundreds of MiB; distributions give 8 MiB or an eighth of the memory."""

LEAST_SWAP = 64 * MIB

MUCH_CACHE = 0.25
LITTLE_FREE = 0.10


def _uses_rdma(engine: Engine, evidence: Evidence, host: HostFacts) -> bool:
    if evidence.uverbs or evidence.queue_pairs:
        return True
    planned = engine.kind in (EngineKind.VLLM, EngineKind.SGLANG)
    return planned and computes(engine, evidence, host) and is_clustered(engine, evidence, host)


def _judge_memlock(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    limit = evidence.memlock
    if limit is None or limit.soft is None or limit.soft >= LEAST_MEMLOCK or evidence.ipc_lock is True:
        return None
    if not _uses_rdma(engine, evidence, host):
        return None
    where = (
        "`--ulimit memlock=-1` for its container"
        if engine.container
        else "`LimitMEMLOCK=infinity` in its unit"
        if engine.unit
        else "`memlock` in /etc/security/limits.d, or `ulimit -l unlimited` before it"
    )
    return find(
        MEMLOCK,
        engine,
        what=f"may lock {size(limit.soft)} of memory, and works over RDMA{_how_much(evidence)}",
        why="RDMA registers its buffers as locked memory: too little of it ends in ENOMEM, or in TCP instead",
        do=f"{where}, then restart it",
    )


def _how_much(evidence: Evidence) -> str:
    return f": {evidence.queue_pairs} queue pairs" if evidence.queue_pairs else " or is about to"


def _judge_swap(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    swapped = evidence.swap_bytes
    if swapped is None or swapped < LEAST_SWAP:
        return None
    return find(
        SWAP,
        engine,
        what=f"has {size(swapped)} of its memory in swap",
        why=(
            "what is in swap has to be read back before it can be used; on unified memory the GPU's needs "
            "push it out"
        ),
        do=(
            "give it less: a smaller `--gpu-memory-utilization`, `--mem-fraction-static` or context, or "
            "fewer models at once; swap empties when it is restarted"
        ),
    )


def _judge_cache(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    cache, whole, available = host.page_cache_bytes, host.memory_bytes, host.available_bytes
    if not whole or cache is None or available is None or evidence.gpu is not True or not leads(engine, host):
        return None
    free = max(0, available - cache)
    if cache < MUCH_CACHE * whole or free > LITTLE_FREE * whole:
        return None
    return find(
        CACHE,
        engine,
        what=(
            f"uses the GPU while {size(cache)} of {size(whole)} are page cache and about {size(free)} are "
            "free; CUDA counts page cache as used on GB10"
        ),
        why=(
            "the next allocation or model load on the GPU is refused or slow, although the cache could be "
            "dropped"
        ),
        do=_drop(engine),
    )


def _drop(engine: Engine) -> str:
    own = _loads_without_cache(engine)
    once = (
        "for now, once: `sync; echo 1 | sudo tee /proc/sys/vm/drop_caches`, which makes the next reads slow"
    )
    return f"{own}; {once}" if own else once


def _loads_without_cache(engine: Engine) -> str:
    """How this engine reads a model past the page cache; empty if its version is known not to."""
    if engine.kind is EngineKind.LLAMA_CPP:
        if engine.role is Role.PYTHON or spelling_of(engine) is Spelling.OLD:
            return ""
        sure = spelling_of(engine) is not Spelling.UNKNOWN
        return "load with `--load-mode dio`" + ("" if sure else ", if its `--help` names --load-mode")
    since, how = {
        EngineKind.OLLAMA: ("0.32.6", "Ollama loads by direct I/O, which leaves no cache,"),
        EngineKind.VLLM: ("0.18.0", "`--load-format instanttensor` reads by direct I/O,"),
        EngineKind.SGLANG: ("0.5.23", "`--weight-loader-drop-cache-after-load` gives it back,"),
    }[engine.kind]
    return "" if at_least(engine.version, since) is False else f"{how} from {since} on"


MEMLOCK = Rule(
    id="memlock-too-small",
    severity=Severity.WARNING,
    looks_for="An engine over RDMA that may lock less than 1 GiB.",
    evidence=(
        "RLIMIT_MEMLOCK without CAP_IPC_LOCK, and queue pairs, open uverbs devices or work with other nodes."
    ),
    recommendation="Lift the limit and restart.",
    expect="Registrations succeed. No gain in speed where they did before.",
    versions="Every engine and kernel.",
    source="man 2 setrlimit (RLIMIT_MEMLOCK); Red Hat, Configuring InfiniBand and RDMA networks, chapter 5",
    certainty=Certainty.DOCUMENTED,
    judge=_judge_memlock,
)

SWAP = Rule(
    id="engine-swapped",
    severity=Severity.WARNING,
    looks_for="An engine with memory in swap.",
    evidence="VmSwap of the process, 64 MiB or more.",
    recommendation="Give it less memory to want, then restart it.",
    expect="Steady times between tokens. Where nothing was read back there is nothing to gain.",
    versions="Every engine and kernel.",
    source="man 5 proc_pid_status (VmSwap)",
    certainty=Certainty.DOCUMENTED,
    judge=_judge_swap,
)

CACHE = Rule(
    id="page-cache-crowds-gpu",
    severity=Severity.WARNING,
    looks_for="Page cache that leaves little for CUDA, as after a model was loaded or copied.",
    evidence=(
        "Page cache of a quarter of the memory or more, less than a tenth free, and an engine on the GPU."
    ),
    recommendation="A loader that leaves no cache; for now, dropping it once.",
    expect=(
        "CUDA's free memory follows MemFree: a file of 60 GiB took it from 103 to 42 GiB. A full cache has "
        "ended loads of vLLM at 73 to 97 %, and slowed a run by 62 %."
    ),
    versions="GB10 with drivers of up to 2026; engines as named.",
    source=(
        "unslothai/unsloth#10705; MiaAI-Lab/Qwen3.8-Flash-Next-Dual-DGX-Sparks#35; "
        "Blackwellboy/model-serving-minefield#113; NVIDIA's DGX Spark known issues"
    ),
    certainty=Certainty.REPORTED,
    judge=_judge_cache,
)
