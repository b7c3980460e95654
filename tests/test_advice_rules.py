"""All rules together: what each must have, and what none may do on whatever is found."""

from __future__ import annotations

import ast
import re
import runpy
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advised import FABRIC, GIB, SPARK, engine
from sparktune.advice.allowed import ALLOWED
from sparktune.advice.model import (
    Connection,
    Engine,
    EngineKind,
    Evidence,
    HostFacts,
    Limit,
    ModelFacts,
    ModelFile,
    Role,
    Rule,
    Severity,
)
from sparktune.advice.rules import RULES, VARIABLES
from sparktune.fabric.model import Fabric, Presence

PROJECT = Path(__file__).parents[1]
GENERATOR = PROJECT / "docs/generate_advice.py"
SOURCES = PROJECT / "src/sparktune/advice/rules"


def test_the_page_of_advice_is_that_of_the_rules() -> None:
    generator = runpy.run_path(str(GENERATOR))
    written = generator["PAGE"].read_text(encoding="utf-8")
    assert written == generator["compose"](), f"run: .venv/bin/python {GENERATOR.relative_to(PROJECT)}"


def test_ids_are_unique_and_can_be_typed() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one) for one in ids)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_says_what_where_from_and_for_which_versions(rule: Rule) -> None:
    texts = [getattr(rule, one.name) for one in fields(rule) if one.name != "judge"]
    assert all(isinstance(text, str) and text.strip() for text in texts)
    assert "\n" not in "".join(texts)


def test_quantisation_is_never_more_than_information() -> None:
    about = [rule for rule in RULES if rule.id.startswith("quantisation-")]
    assert len(about) == 3
    assert {rule.severity for rule in about} == {Severity.INFO}


def test_every_variable_a_rule_asks_for_is_in_the_list_and_none_is_a_secret() -> None:
    asked = {
        node.args[0].value
        for path in SOURCES.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "variable"
        and isinstance(node.args[0], ast.Constant)
    }
    assert asked
    assert asked <= set(VARIABLES)
    assert not any(re.search("KEY|TOKEN|SECRET|PASS", name) for name in VARIABLES)


def test_every_variable_a_rule_asks_for_may_be_read() -> None:
    assert set(VARIABLES) <= ALLOWED


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
@pytest.mark.parametrize("kind", EngineKind)
@pytest.mark.parametrize("role", Role)
def test_nothing_is_said_about_a_process_of_which_nothing_could_be_read(
    rule: Rule, kind: EngineKind, role: Role
) -> None:
    bare = Engine(pid=1, start_ticks=1, started_s=1.0, kind=kind, role=role, name="engine")
    assert rule.judge(bare, Evidence(), None, HostFacts(kernel="")) is None


# -- whatever is found ---------------------------------------------------------------------------------------

NAMES = st.text(max_size=12) | st.sampled_from(["VLLM::EngineCore", "ray::RayWorkerWrapper", "llama-server"])
NUMBERS = st.none() | st.integers(min_value=0, max_value=200 * GIB)
VERSIONS = (
    st.none() | st.text(max_size=12) | st.sampled_from(["b6812", "b10500", "b10878", "0.11.1rc4", "0.19.0"])
)
OPTIONS = st.sampled_from(
    [
        "--no-mmap",
        "--mlock",
        "--load-mode",
        "mmap",
        "--rpc",
        "10.0.0.2:50052,[::1]:1,:,",
        "--tensor-parallel-size=2",
        "-tp",
        "²",
        "--nnodes",
        "--safetensors-load-strategy=lazy",
        "--max-num-seqs",
        "1",
        "openai/gpt-oss-120b",
    ]
)
FILES = st.builds(
    ModelFile,
    path=st.sampled_from(["/m.gguf", "/m/a.safetensors", "\x1b[2J\n", ""]),
    size_bytes=NUMBERS,
    mapped_bytes=st.integers(min_value=0, max_value=200 * GIB),
    resident_bytes=NUMBERS,
    is_open=st.booleans(),
    read_ahead_since_s=st.none() | st.floats(min_value=0, max_value=1e9),
)
CONNECTIONS = st.builds(
    Connection,
    local=st.just("10.0.0.1"),
    remote=st.sampled_from(["10.0.0.2", "fe80::1", "\x1b[31m", ""]),
    port=st.sampled_from([80, 443, 8000, 50052]),
    inbound=st.booleans(),
    interface=st.sampled_from(["", "enP7s7", "a\x07b"]),
    is_local=st.booleans(),
    count=st.integers(min_value=0, max_value=1000),
)
CPUS = st.frozensets(st.integers(min_value=0, max_value=19))
EVIDENCE = st.builds(
    Evidence,
    models=st.none() | st.lists(FILES, max_size=3).map(tuple),
    uverbs=st.none() | st.sampled_from([(), ("/dev/infiniband/uverbs0",)]),
    queue_pairs=st.none() | st.sampled_from([0, 1, 16]),
    gpu=st.none() | st.booleans(),
    connections=st.none() | st.lists(CONNECTIONS, max_size=4).map(tuple),
    affinity=st.none() | CPUS,
    memlock=st.none() | st.builds(Limit, soft=NUMBERS, hard=NUMBERS),
    ipc_lock=st.none() | st.booleans(),
    swap_bytes=NUMBERS,
)
ENGINES = st.builds(
    Engine,
    pid=st.integers(min_value=1, max_value=1 << 22),
    start_ticks=st.just(1),
    started_s=st.floats(min_value=0, max_value=1e9),
    kind=st.sampled_from(EngineKind),
    role=st.sampled_from(Role),
    name=NAMES,
    version=VERSIONS,
    knows=st.none() | st.frozensets(st.sampled_from(["--no-mmap", "--load-mode"])),
    libraries=st.sampled_from([(), ("libibverbs.so.1",)]),
    nccl=VERSIONS,
    container=st.sampled_from(["", "0123456789ab"]),
    unit=st.none() | st.just("vllm.service"),
    arguments=st.lists(OPTIONS, max_size=8).map(tuple),
    environment=st.dictionaries(
        st.sampled_from(VARIABLES), st.text(max_size=12) | st.sampled_from(["^=", "=rocep1s0f0", "-1", "1"])
    ).map(lambda found: tuple(found.items())),
    group=st.integers(min_value=0, max_value=2),
)
MODELS = st.none() | st.builds(
    ModelFacts,
    path=st.just("/m"),
    format=st.sampled_from(["", "gguf", "safetensors"]),
    name=NAMES,
    quantisation=st.sampled_from(["", "NVFP4", "AWQ 4-bit", "AWQ 8-bit", "FP8", "MXFP4"]),
    bytes=NUMBERS,
    largest_bytes=NUMBERS,
)
HOSTS = st.builds(
    HostFacts,
    kernel=st.text(max_size=12),
    memory_bytes=NUMBERS,
    available_bytes=NUMBERS,
    page_cache_bytes=NUMBERS,
    performance_cpus=CPUS,
    efficiency_cpus=CPUS,
    deepest_idle_us=NUMBERS,
    engines=st.lists(ENGINES, max_size=3).map(tuple),
    fabric=st.none() | st.sampled_from([FABRIC, *(Fabric(presence=one) for one in Presence)]),
    management=st.sampled_from([(), ("enP7s7",)]),
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(one=ENGINES, evidence=EVIDENCE, model=MODELS, host=HOSTS)
def test_no_rule_raises_or_prints_what_a_terminal_would_obey(
    one: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> None:
    for rule in RULES:
        found = rule.judge(one, evidence, model, host)
        if found is None:
            continue
        texts = [found.engine, found.what, found.why, found.do, found.expect, found.source]
        assert (found.rule, found.pid) == (rule.id, one.pid)
        assert all(text.strip() for text in texts[1:])
        assert all(text.isprintable() for text in texts)
        assert not (rule.severity is Severity.INFO and found.severity is Severity.WARNING)


@given(
    evidence=EVIDENCE,
    version=VERSIONS,
    knows=st.none() | st.frozensets(st.sampled_from(["--no-mmap", "--load-mode"])),
)
def test_no_build_is_ever_told_a_flag_it_does_not_know(
    evidence: Evidence, version: str | None, knows: frozenset[str] | None
) -> None:
    one = engine(
        EngineKind.LLAMA_CPP, Role.SERVER, "llama-server", ("llama-server",), version, {"knows": knows}
    )
    [rule] = [rule for rule in RULES if rule.id == "llama-mmap"]
    found = rule.judge(one, evidence, None, replace(SPARK, engines=(one,)))
    if found is None or (
        "--help" in found.do and "`--no-mmap`" in found.do and "`--load-mode none`" in found.do
    ):
        return
    assert ("--no-mmap" in found.do) is not ("--load-mode none" in found.do)
    if knows is not None and "--load-mode" in knows:
        assert "--no-mmap" not in found.do


@given(evidence=EVIDENCE, host=HOSTS, model=MODELS)
def test_no_rule_offers_a_new_flag_to_an_old_build_or_an_old_one_to_a_new_build(
    evidence: Evidence, host: HostFacts, model: ModelFacts | None
) -> None:
    for version, never in (("b6812", "`--load-mode "), ("b10878", "`--no-mmap`")):
        line = ("llama-server", "--rpc", "10.0.0.2:50052")
        one = engine(EngineKind.LLAMA_CPP, Role.SERVER, "llama-server", line, version, {})
        for rule in RULES:
            found = rule.judge(one, evidence, model, host)
            assert found is None or never not in found.do
