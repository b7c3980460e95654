"""What the host's CPUs do to an engine: slow cores, and idle states that are slow to leave."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, EngineKind, Role, Rule, Severity
from sparktune.advice.rules.groups import computes, is_clustered
from sparktune.advice.rules.saying import find

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts

DEEP_US = 100
"""An exit latency that counts beside a round trip of some tens of microseconds."""


_RANGE = re.compile(r"([0-9]{1,4})-([0-9]{1,4})")
_MASK = re.compile(r"(?:0x)?[0-9a-fA-F]{1,256}")
_WHY = "its threads launch the GPU's work and sample tokens; the other cluster does that faster"


def _judge_cores(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    allowed = evidence.affinity
    if not host.performance_cpus:
        return None
    if not allowed or not allowed <= host.efficiency_cpus:
        return _judge_threads(engine, evidence, host)
    return find(
        CORES,
        engine,
        what=f"may run on efficiency cores only: CPUs {_ranges(allowed)}",
        why=_WHY,
        do=(
            f"let it run on the others: `taskset -acp {_ranges(host.performance_cpus)} "
            f"{engine.pid}` for now, CPUAffinity= in its unit or `--cpuset-cpus` of its container for good"
        ),
    )


def _judge_threads(engine: Engine, evidence: Evidence, host: HostFacts) -> Finding | None:
    """Threads may be pinned one by one, which the affinity of the process does not show."""
    threads, pinned = evidence.thread_cpus, _pinned(engine)
    others = _ranges(host.performance_cpus)
    if pinned and pinned <= host.efficiency_cpus:
        what = f"pins its threads to efficiency cores by its command line: CPUs {_ranges(pinned)}"
        do = f"give it the others, `--cpu-range` or `--cpu-mask` for CPUs {others}, or neither of the two"
    elif threads and threads <= host.efficiency_cpus:
        what = f"has its busiest threads pinned to efficiency cores: CPUs {_ranges(threads)}"
        do = f"take away what pins them, or let them run on CPUs {others}"
    else:
        return None
    return find(CORES, engine, what=what, why=_WHY, do=do)


def _pinned(engine: Engine) -> frozenset[int]:
    """The CPUs of `--cpu-range lo-hi` and `--cpu-mask hex`, which add up; empty: none, or not understood."""
    if engine.kind is not EngineKind.LLAMA_CPP:
        return frozenset()
    found: set[int] = set()
    if bounds := _RANGE.fullmatch(engine.option("-Cr", "--cpu-range") or ""):
        found.update(range(int(bounds[1]), int(bounds[2]) + 1))
    if (mask := engine.option("-C", "--cpu-mask")) and _MASK.fullmatch(mask):
        bits = int(mask, 16)
        found.update(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)
    return frozenset(found)


def _ranges(cpus: frozenset[int]) -> str:
    """`0-4,10-14` of CPU numbers."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def _judge_idle(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    deepest = host.deepest_idle_us
    if deepest is None or deepest < DEEP_US or not _answers_nodes(engine, evidence, host):
        return None
    return find(
        IDLE,
        engine,
        what=f"answers other nodes, and CPUs enter idle states that take up to {deepest} µs to leave",
        why="every token waits for messages from the other node, and each can find the CPU asleep",
        do=(
            "switch deep states off while the cluster works: in [cpuidle] `disable_latency_us = 0`, "
            '`when = "cluster"`'
        ),
    )


def may_answer_nodes(engine: Engine) -> bool:
    """Whether it is of a kind that other nodes can wait for: else nobody need know the idle states."""
    if engine.kind is EngineKind.LLAMA_CPP:
        return engine.role is Role.RPC
    return engine.kind in (EngineKind.VLLM, EngineKind.SGLANG)


def _answers_nodes(engine: Engine, evidence: Evidence, host: HostFacts) -> bool:
    if not may_answer_nodes(engine):
        return False
    if engine.kind is EngineKind.LLAMA_CPP:
        return any(one.inbound for one in evidence.remote)
    return computes(engine, evidence, host) and is_clustered(engine, evidence, host)


CORES = Rule(
    id="threads-on-efficiency-cores",
    severity=Severity.WARNING,
    looks_for="An engine that may only run on efficiency cores.",
    evidence=(
        "Its CPU affinity and that of its busiest threads, against the clusters that the kernel tells apart; "
        "for llama.cpp also `--cpu-range` and `--cpu-mask`, by which it pins its threads itself."
    ),
    recommendation="Let it run on the performance cores.",
    expect="Faster launches and sampling; how much has not been published for GB10.",
    versions="Every engine; machines with two kinds of cores.",
    source=(
        "Arm Cortex-A725 and X925 of GB10 (MIDR 0xd87, 0xd85); flame/blis#938 for their floating point "
        "peaks; ggml-org/llama.cpp tools/server/README.md at 00dc8057"
    ),
    certainty=Certainty.REPORTED,
    judge=_judge_cores,
)

IDLE = Rule(
    id="idle-states-with-cluster",
    severity=Severity.INFO,
    looks_for="Deep idle states while a cluster's RPC server or a worker of several nodes runs.",
    evidence=(
        "The longest exit latency of an enabled idle state, 100 µs or more, and connections with other nodes."
    ),
    recommendation="Switch them off while the cluster works.",
    expect=(
        "Two-node tensor parallelism: decode +5 to +6.6 %, +13.9 % with four requests at once; wake-up "
        "207-283 µs before, about 5 µs after. It costs watts: nobody has published how many."
    ),
    versions="Every engine; acpi_idle on kernels 6.11 to 6.17. Kernel 7.0 names its states differently.",
    source="Linux Documentation/admin-guide/pm/cpuidle.rst; users' figures (docs/tunables.md)",
    certainty=Certainty.REPORTED,
    judge=_judge_idle,
)
