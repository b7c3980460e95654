"""Advice about what the host does to an engine: cores, idle states, locked memory, swap and page cache."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advised import GIB, MIB, SPARK, advice, inbound, judged, llama, ollama, outbound, sglang, vllm
from sparktune.advice.model import Engine, Evidence, HostFacts, Limit, Role
from sparktune.advice.rules.cpus import CORES, IDLE
from sparktune.advice.rules.memory import CACHE, MEMLOCK, SWAP

SLOW = frozenset({*range(5), *range(10, 15)})


def on(*cpus: int) -> Evidence:
    return Evidence(affinity=frozenset(cpus))


# -- cores ---------------------------------------------------------------------------------------------------


def test_an_engine_on_efficiency_cores_only_is_told_how_to_leave_them() -> None:
    found = advice(CORES, llama(), on(*SLOW))
    assert "CPUs 0-4,10-14" in found.what
    assert "taskset -acp 5-9,15-19 4242" in found.do


@pytest.mark.parametrize("cpus", [(*SLOW, 5), range(20), range(5, 10), ()])
def test_an_engine_that_may_use_a_fast_core_is_left_alone(cpus: tuple[int, ...]) -> None:
    assert judged(CORES, llama(), on(*cpus)) is None


def test_a_single_slow_core_counts() -> None:
    assert "CPUs 3" in advice(CORES, vllm(), on(3)).what


@pytest.mark.parametrize(
    "options",
    [("--cpu-range", "0-4"), ("-Cr", "10-14"), ("--cpu-mask", "0x1f"), ("-C", "1F", "-Cr", "10-11")],
)
def test_threads_that_the_command_line_pins_to_efficiency_cores_are_told(options: tuple[str, ...]) -> None:
    assert "pins its threads" in advice(CORES, llama(*options), on(*range(20))).what


@pytest.mark.parametrize(
    "options",
    [
        ("--cpu-range", "5-9"),
        ("-Cr", "0-9"),
        ("-C", "0x3f"),
        ("-Cr", "x"),
        ("-C", ""),
        ("-C", "0", "-Cr", "4-0"),
    ],
)
def test_threads_with_a_fast_core_among_theirs_are_left_alone(options: tuple[str, ...]) -> None:
    assert judged(CORES, llama(*options), on(*range(20))) is None


def test_threads_that_somebody_pinned_are_told_whatever_the_process_may_use() -> None:
    pinned = replace(on(*range(20)), thread_cpus=frozenset({0, 1}))
    assert "busiest threads pinned to efficiency cores: CPUs 0-1" in advice(CORES, vllm(), pinned).what
    assert judged(CORES, vllm(), replace(pinned, thread_cpus=frozenset({0, 5}))) is None
    assert judged(CORES, vllm(), replace(pinned, thread_cpus=None)) is None


def test_the_same_letters_mean_nothing_to_other_engines() -> None:
    assert judged(CORES, vllm("qwen", "-C", "0x1f"), on(*range(20))) is None


def test_a_machine_with_one_kind_of_cores_has_no_slow_ones() -> None:
    alike = replace(SPARK, performance_cpus=frozenset(), efficiency_cpus=frozenset())
    assert judged(CORES, llama(), on(0), host=alike) is None


# -- idle states ---------------------------------------------------------------------------------------------


def deep(latency_us: int | None) -> HostFacts:
    return replace(SPARK, deepest_idle_us=latency_us)


RPC = llama(role=Role.RPC, name="rpc-server", arguments=("rpc-server",))
SERVED = Evidence(connections=(inbound(),))


@pytest.mark.parametrize(
    ("latency_us", "reported"), [(433, True), (100, True), (99, False), (0, False), (None, False)]
)
def test_deep_states_matter_while_a_node_is_served(latency_us: int | None, reported: bool) -> None:  # noqa: FBT001
    assert (judged(IDLE, RPC, SERVED, host=deep(latency_us)) is not None) is reported


def test_the_latency_and_the_setting_are_named() -> None:
    found = advice(IDLE, RPC, SERVED, host=deep(433))
    assert "433 µs" in found.what
    assert "disable_latency_us = 0" in found.do


def test_a_server_that_nobody_uses_or_that_serves_one_machine_may_sleep() -> None:
    assert judged(IDLE, RPC, Evidence(connections=()), host=deep(433)) is None
    assert judged(IDLE, llama(), SERVED, host=deep(433)) is None
    assert judged(IDLE, vllm("qwen"), SERVED, host=deep(433)) is None


def test_a_worker_of_several_nodes_counts_too() -> None:
    worker = vllm(role=Role.WORKER, arguments=("VLLM::Worker_TP0",))
    assert judged(IDLE, worker, Evidence(connections=(outbound(),)), host=deep(231))


# -- locked memory -------------------------------------------------------------------------------------------

UVERBS = ("/dev/infiniband/uverbs0",)


def limit(soft: int | None, **more: object) -> Evidence:
    made = Evidence(memlock=Limit(soft=soft, hard=soft), uverbs=UVERBS, ipc_lock=False)
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("soft", "reported"), [(8 * MIB, True), (GIB - 1, True), (GIB, False), (None, False), (0, True)]
)
def test_rdma_needs_a_gib_of_locked_memory(soft: int | None, reported: bool) -> None:  # noqa: FBT001
    assert (judged(MEMLOCK, vllm("qwen"), limit(soft)) is not None) is reported


def test_whoever_may_lock_what_it_likes_has_no_limit() -> None:
    assert judged(MEMLOCK, vllm("qwen"), limit(8 * MIB, ipc_lock=True)) is None
    assert judged(MEMLOCK, vllm("qwen"), limit(8 * MIB, ipc_lock=None))


def test_without_rdma_the_limit_does_not_matter() -> None:
    assert judged(MEMLOCK, llama(), limit(8 * MIB, uverbs=())) is None
    assert judged(MEMLOCK, vllm("qwen"), limit(8 * MIB, uverbs=(), connections=())) is None


def test_a_worker_that_is_about_to_use_rdma_counts() -> None:
    worker = vllm(role=Role.WORKER, arguments=("VLLM::Worker_TP0",))
    assert judged(MEMLOCK, worker, limit(8 * MIB, uverbs=(), connections=(outbound(),)))


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (vllm("qwen", container="0123456789ab", unit="docker.service"), "--ulimit memlock=-1"),
        (vllm("qwen", unit="vllm.service"), "LimitMEMLOCK=infinity"),
        (vllm("qwen"), "limits.d"),
    ],
)
def test_the_limit_is_lifted_where_it_comes_from(one: Engine, text: str) -> None:
    assert text in advice(MEMLOCK, one, limit(8 * MIB)).do


# -- swap ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("swapped", "reported"), [(64 * MIB, True), (64 * MIB - 1, False), (0, False), (None, False)]
)
def test_an_engine_in_swap_is_reported_from_64_mib_on(swapped: int | None, reported: bool) -> None:  # noqa: FBT001
    found = judged(SWAP, llama(), Evidence(swap_bytes=swapped))
    assert (found is not None) is reported
    if found:
        assert "64 MiB" in found.what


# -- page cache ----------------------------------------------------------------------------------------------

GPU = Evidence(gpu=True)


def cached(cache: int, available: int) -> HostFacts:
    return replace(SPARK, memory_bytes=120 * GIB, page_cache_bytes=cache, available_bytes=available)


@pytest.mark.parametrize(
    ("cache", "available", "reported"),
    [
        (30 * GIB, 42 * GIB, True),
        (30 * GIB - 1, 42 * GIB - 1, False),  # not much cache
        (30 * GIB, 42 * GIB + 1, False),  # more than a tenth is free
        (60 * GIB, 50 * GIB, True),
    ],
)
def test_much_cache_and_little_free_crowd_the_gpu(cache: int, available: int, reported: bool) -> None:  # noqa: FBT001
    assert (judged(CACHE, vllm("qwen"), GPU, host=cached(cache, available)) is not None) is reported


@pytest.mark.parametrize("evidence", [Evidence(gpu=False), Evidence()])
def test_an_engine_without_a_gpu_is_not_crowded(evidence: Evidence) -> None:
    assert judged(CACHE, vllm("qwen"), evidence, host=cached(60 * GIB, 65 * GIB)) is None


def test_what_could_not_be_read_of_the_memory_is_not_judged() -> None:
    for missing in ({"page_cache_bytes": None}, {"available_bytes": None}, {"memory_bytes": None}):
        host = replace(cached(60 * GIB, 65 * GIB), **missing)  # type: ignore[arg-type]
        assert judged(CACHE, vllm("qwen"), GPU, host=host) is None


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (llama(), "--load-mode dio"),
        (ollama(role=Role.SERVER), "0.32.6"),
        (vllm("qwen"), "instanttensor"),
        (sglang("--model-path", "qwen"), "--weight-loader-drop-cache-after-load"),
    ],
)
def test_each_engine_has_its_way_to_leave_no_cache(one: Engine, text: str) -> None:
    do = advice(CACHE, one, GPU, host=cached(60 * GIB, 65 * GIB)).do
    assert text in do
    assert "drop_caches" in do


@pytest.mark.parametrize(
    ("one", "never"),
    [
        (llama(version="b6812"), "--load-mode"),
        (llama(version="0.3.36", role=Role.PYTHON), "--load-mode"),
        (ollama(version="0.32.5", role=Role.SERVER), "direct I/O"),
        (vllm("qwen", version="0.17.1"), "instanttensor"),
        (sglang("--model-path", "qwen", version="0.5.22"), "drop-cache"),
    ],
)
def test_a_version_that_lacks_its_way_is_not_told_it(one: Engine, never: str) -> None:
    do = advice(CACHE, one, GPU, host=cached(60 * GIB, 65 * GIB)).do
    assert never not in do
    assert do.startswith("for now, once: `sync;")
