"""Real processes with the command lines of the engines' own documentation, each beside one that must not.

`pytest -s … | grep '^| '` gives a table: rule, what triggered it, what is beside it, what was said.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from engine_scene import BLOB, GIB, MIB, RESIDENT, Case, Expected, Scene, advice, check, tell
from passes import Published
from stand_ins import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from machines import Machine

OLD, BOTH, NEW = ("--no-mmap",), ("--no-mmap", "--load-mode"), ("--load-mode",)
"""Texts that builds before b10105, up to b10874, and from b10875 on contain: docs/engines.md."""


CASES = (
    Case(
        name="an old build",
        rule="llama-mmap",
        says="add `--no-mmap`",
        make=lambda s: (s.llama(knows=OLD, mapped=RESIDENT), s.llama("--no-mmap", knows=OLD)),
        beside="the same with --no-mmap: the model is read",
        never="--load-mode none",
    ),
    Case(
        name="a new build",
        rule="llama-mmap",
        says="instead of `--load-mode mmap`: `--load-mode none`, or `--load-mode dio`",
        make=lambda s: (
            s.llama("--load-mode", "mmap", knows=NEW, mapped=RESIDENT),
            s.llama("--load-mode", "dio", knows=NEW),
        ),
        beside="--load-mode dio",
        never="--no-mmap",
    ),
    Case(
        name="an unknown build",
        rule="llama-mmap",
        says="the build is not known",
        make=lambda s: (s.llama(mapped=RESIDENT), s.llama("--load-mode", "mmap", mapped=4096)),
        beside="--load-mode mmap, but next to nothing of the mapping is resident",
    ),
    Case(
        name="ollama before 0.30",
        rule="llama-mmap",
        says="PARAMETER use_mmap false",
        make=lambda s: (s.ollama("--ctx-size", "32768", mapped=RESIDENT), s.ollama("--no-mmap")),
        beside="the same with --no-mmap: the blob is read",
    ),
    Case(
        name="ollama's llama-server",
        rule="llama-mmap",
        says="PARAMETER use_mmap false",
        make=lambda s: (s.ollama_server(mapped=RESIDENT), s.ollama_server("--load-mode", "dio")),
        beside="--load-mode dio, as from 0.32.6 on",
    ),
    Case(
        name="updated under its feet",
        rule="llama-flag-removed",
        says="replace `--no-mmap` by `--load-mode none`",
        make=lambda s: (s.llama("--no-mmap", knows=NEW), s.llama("--load-mode", "none", knows=NEW)),
        beside="the new spelling, --load-mode none, for the same build",
    ),
    Case(
        name="a build that knows both",
        rule="llama-flag-deprecated",
        says="this build knows both",
        make=lambda s: (s.llama("--no-mmap", knows=BOTH), s.llama("--no-mmap", knows=OLD)),
        beside="the same line for an old build, which knows nothing else",
    ),
    Case(
        name="the environment",
        rule="llama-variable-ignored",
        says="LLAMA_ARG_LOAD_MODE",
        make=lambda s: (
            s.llama(knows=NEW, environment={"LLAMA_ARG_NO_MMAP": "1"}),
            s.llama(knows=NEW, environment={"LLAMA_ARG_LOAD_MODE": "none"}),
        ),
        beside="LLAMA_ARG_LOAD_MODE=none",
    ),
    Case(
        name="vllm serve",
        rule="vllm-lazy-load",
        says="`--safetensors-load-strategy ",
        make=lambda s: (
            s.serve("plain", maps={s.shard("plain"): 16 * MIB}),
            s.serve("plain", "--safetensors-load-strategy", "eager", opens=(s.shard("plain"),)),
        ),
        beside="--safetensors-load-strategy eager",
    ),
    Case(
        name="vllm's module",
        rule="vllm-lazy-load",
        says="`--safetensors-load-strategy ",
        make=lambda s: (s.serve_module("plain"), s.serve_module("plain", "--load-format", "fastsafetensors")),
        beside="--load-format fastsafetensors",
    ),
    Case(
        name="sglang",
        rule="sglang-lazy-load",
        says="`--weight-loader-",
        make=lambda s: (
            s.launch("plain", maps={s.shard("plain"): 16 * MIB}),
            s.launch("plain", "--weight-loader-disable-mmap", opens=(s.shard("plain"),)),
        ),
        beside="--weight-loader-disable-mmap",
    ),
    Case(
        name="one stream",
        rule="vllm-single-stream",
        says="compare with llama.cpp",
        make=lambda s: (s.serve("plain", "--max-num-seqs", "1"), s.serve("plain", "--max-num-seqs", "256")),
        beside="--max-num-seqs 256",
    ),
    Case(
        name="mxfp4",
        rule="sglang-mxfp4",
        says="`--moe-runner-backend triton_kernel`",
        make=lambda s: (s.launch("mxfp4"), s.launch("mxfp4", "--moe-runner-backend", "triton_kernel")),
        beside="--moe-runner-backend triton_kernel",
    ),
    Case(
        name="nvfp4",
        rule="quantisation-nvfp4",
        says="AWQ 4-bit",
        make=lambda s: (s.serve("nvfp4"), s.serve("plain")),
        beside="a model that is not quantised",
    ),
    Case(
        name="awq",
        rule="quantisation-awq4",
        says="measure both",
        make=lambda s: (s.launch("awq4"), s.serve("awq4")),
        beside="the same model on vLLM 0.11.1, where AWQ 4-bit led",
    ),
    Case(
        name="fp8",
        rule="quantisation-8bit",
        says="AWQ 8-bit",
        make=lambda s: (s.serve("fp8"), s.serve("nvfp4")),
        beside="an NVFP4 model",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}-{case.name}")
def test_the_documented_command_line_is_advised_and_the_one_beside_it_is_not(
    case: Case, scene: Scene, tmp_path: Path
) -> None:
    triggers, beside = case.make(scene)
    pids = scene.stage.start(triggers), scene.stage.start(beside)
    check(case, Published(tmp_path).run_pass(), pids, triggers.line)


def test_an_engine_on_efficiency_cores_is_advised_only_where_cpus_differ(
    scene: Scene, build_machine: Callable[..., Machine], tmp_path: Path
) -> None:
    engine = scene.llama(cpus=(0,))
    pid = scene.stage.start(engine)
    directory = build_machine("gb10").directory
    (directory / "proc" / str(pid)).symlink_to(f"/proc/{pid}")
    rule = "threads-on-efficiency-cores"
    spark = Published(tmp_path, directory).run_pass()
    alike = Published(tmp_path).run_pass()
    words = "the same process, where the kernel tells no CPUs apart"
    case = Expected(rule=rule, says="may run on efficiency cores only: CPUs 0", beside=words)
    assert advice(alike, pid, rule) == []
    [found] = advice(spark, pid, rule)
    tell(case, found, engine.line, "llama.cpp")


def test_many_clients_of_llama_cpp_are_advised_and_few_are_not(scene: Scene, tmp_path: Path) -> None:
    many, few = scene.llama("-np", "8", knows=NEW), scene.llama("-np", "8", knows=NEW)
    pids = scene.stage.start(many), scene.stage.start(few)
    with ExitStack() as stack:
        for one, clients in ((many, 9), (few, 2)):
            for _ in range(clients):
                client = socket.create_connection((one.host, one.port), timeout=10)
                assert stack.enter_context(client).recv(1) == b"+"
        case = Expected(
            rule="llama-many-clients",
            says="serves 9 connections at once with 8 slots",
            beside="the same with two clients",
        )
        check(case, Published(tmp_path).run_pass(), pids, many.line)


@pytest.mark.root
def test_a_resident_mapping_costs_with_a_gpu_open_and_is_information_without(
    scene: Scene, tmp_path: Path
) -> None:
    with_gpu = scene.llama(knows=OLD, mapped=RESIDENT, devices=("nvidia0", "nvidiactl", "nvidia-uvm"))
    pids = scene.stage.start(with_gpu), scene.stage.start(scene.llama(knows=OLD, mapped=RESIDENT))
    report = Published(tmp_path).run_pass()
    [costs], [informs] = (advice(report, pid, "llama-mmap") for pid in pids)
    assert (costs.severity, informs.severity) == ("warning", "info")
    beside = "the same without a GPU open: information only"
    case = Expected(rule="llama-mmap", says="warning: has its model", beside=beside)
    tell(case, costs, (*with_gpu.line, "with /dev/nvidia0 open"), "llama.cpp")


@pytest.mark.root
def test_a_page_cache_that_crowds_cuda_is_advised_to_who_has_the_gpu_open(
    scene: Scene, build_machine: Callable[..., Machine], tmp_path: Path
) -> None:
    directory = build_machine("gb10").directory
    memory = {"MemTotal": 120 * GIB, "MemAvailable": 70 * GIB, "Cached": 65 * GIB, "Shmem": 0}
    lines = [f"{name}: {count >> 10} kB" for name, count in memory.items()]
    (directory / "proc/meminfo").write_text("\n".join(lines))
    with_gpu, without = scene.serve("plain", devices=("nvidia0",)), scene.serve("plain")
    pids = scene.stage.start(with_gpu), scene.stage.start(without)
    for pid in pids:
        (directory / "proc" / str(pid)).symlink_to(f"/proc/{pid}")
    case = Expected(
        rule="page-cache-crowds-gpu",
        says="65.0 GiB of 120.0 GiB are page cache and about 5.0 GiB are free",
        beside="the same without a GPU open",
    )
    line = (*with_gpu.line, "with /dev/nvidia0 open")
    check(case, Published(tmp_path, directory).run_pass(), pids, line)


@pytest.mark.root
def test_a_model_that_only_a_container_sees_is_read_there(scene: Scene, tmp_path: Path) -> None:
    inside = scene.folder / "inside"
    inside.mkdir()
    seen, binds = inside / scene.gguf.name, {str(scene.gguf.parent): str(inside)}
    pid = scene.stage.start(StandIn(line=("llama-cli",), maps={str(seen): RESIDENT}, binds=binds))
    report = Published(tmp_path).run_pass()
    assert not seen.exists()
    [engine] = [one for one in report.engines if one.pid == pid]
    assert (engine.model, engine.unreadable) == ("tiny random, F32", ())
    assert f"has {seen} mapped or open" in engine.signs


# -- what merely calls itself one ----------------------------------------------------------------------------

IMPOSTORS = (
    ("./llama-server", "-m", "models/7B/ggml-model.gguf", "-c", "2048"),
    ("llama-cli", "-m", "models/7B/ggml-model.gguf", "--rpc", "192.168.100.11:50052"),
    ("bin/rpc-server", "-p", "50052"),
    ("bin/ollama", "runner", "--ollama-engine", "--model", BLOB, "--port", "37893"),
    ("lib/ollama/llama-server", "--model", BLOB, "--port", "37893"),
    ("vllm", "serve", "Qwen/Qwen2.5-1.5B-Instruct"),
    ("python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "facebook/opt-125m"),
    ("python3", "-m", "sglang.launch_server", "--model-path", "meta-llama/Meta-Llama-3.1-405B-Instruct"),
    ("python3", "-m", "llama_cpp.server", "--model", "models/7B/ggml-model.gguf"),
)
TITLES = (("VLLM::EngineCore",), ("sglang::scheduler_TP0",), ("ray::RayWorkerWrapper.execute_method",))


def test_what_merely_calls_itself_an_engine_and_does_nothing_is_none(scene: Scene, tmp_path: Path) -> None:
    pids = [scene.stage.start(StandIn(line=line)) for line in IMPOSTORS]
    pids += [scene.stage.start(StandIn(line=line, title=True)) for line in TITLES]
    report = Published(tmp_path).run_pass()
    assert {engine.pid for engine in report.engines}.isdisjoint(pids)
    assert {one.pid for one in report.findings}.isdisjoint(pids)


@pytest.mark.parametrize(
    "line", [("grep", "vllm serve"), ("vim", "llama-server.log"), ("ollama", "run", "x")]
)
def test_what_speaks_of_an_engine_and_has_a_model_open_is_none(
    scene: Scene, tmp_path: Path, line: tuple[str, ...]
) -> None:
    pid = scene.stage.start(StandIn(line=line, maps={str(scene.gguf): RESIDENT}))
    assert pid not in {engine.pid for engine in Published(tmp_path).run_pass().engines}
