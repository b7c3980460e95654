"""Advice about engine against use, and about quantisations: figures only for the versions they hold for."""

from __future__ import annotations

import pytest

from advised import advice, inbound, judged, llama, model, ollama, sglang, vllm
from sparktune.advice.model import Certainty, Connection, Evidence, ModelFacts, Role, Rule, Severity
from sparktune.advice.rules.quantisation import AWQ4, EIGHT, NVFP4
from sparktune.advice.rules.use import MANY, MXFP4, SINGLE

GPT_OSS = model("MXFP4", name="gpt-oss-120b")


def clients(*counts: int) -> Evidence:
    return Evidence(
        connections=tuple(inbound(f"10.0.0.{n}", port=8080, count=c) for n, c in enumerate(counts, 2))
    )


# -- engine against use --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("counts", "reported"), [((8,), True), ((5, 3), True), ((7,), False), ((), False)])
def test_many_clients_on_llama_cpp_are_reported(counts: tuple[int, ...], reported: bool) -> None:  # noqa: FBT001
    found = judged(MANY, llama(), clients(*counts))
    assert (found is not None) is reported
    if found:
        assert "8 connections" in found.what
        assert all(text in found.expect for text in ("60 t/s (7db35a7)", "53 t/s", "36 t/s (0.11.1rc4)"))
        assert "measure" in found.do


def test_connections_that_it_opened_itself_are_no_clients() -> None:
    own = Connection(local="10.0.0.1", remote="10.0.0.2", port=50052, inbound=False, count=20)
    assert judged(MANY, llama(), Evidence(connections=(own,))) is None


def test_many_clients_are_what_vllm_is_for() -> None:
    assert judged(MANY, vllm(), clients(50)) is None
    assert judged(MANY, llama(role=Role.RPC), clients(50)) is None


def test_ollama_and_llama_cpp_python_are_llama_cpp_too() -> None:
    assert judged(MANY, ollama(role=Role.SERVER), clients(8))
    assert judged(MANY, llama(role=Role.PYTHON), clients(8))
    assert judged(MANY, ollama(role=Role.RUNNER), clients(8)) is None  # its only client is Ollama


def test_the_slots_it_was_given_are_named() -> None:
    assert "with 4 slots" in advice(MANY, llama("-np", "4"), clients(9)).what
    assert "slots" not in advice(MANY, llama(), clients(9)).what


def test_a_single_stream_on_the_documents_vllm_is_told_the_documents_figures() -> None:
    found = advice(SINGLE, vllm("openai/gpt-oss-120b", version="0.11.1rc4"), clients(1), model=GPT_OSS)
    assert "compare with llama.cpp" in found.do
    assert found.expect.endswith("vLLM 36 t/s (0.11.1rc4).")
    assert found.certainty is Certainty.REPORTED
    assert found.severity is Severity.INFO


@pytest.mark.parametrize("version", ["0.12.0", "0.19.0", "0.33.0", "0.10.2", None, "0.1.dev5+g1"])
def test_every_other_vllm_is_told_to_measure_both(version: str | None) -> None:
    found = advice(SINGLE, vllm("openai/gpt-oss-120b", version=version), clients(1), model=GPT_OSS)
    assert found.do.startswith("measure both")
    assert "57-60 t/s (0.19.0)" in found.expect
    assert found.certainty is Certainty.DISPUTED


@pytest.mark.parametrize("evidence", [clients(2), clients(1, 1), clients(), Evidence()])
def test_another_number_of_clients_is_no_single_stream(evidence: Evidence) -> None:
    assert judged(SINGLE, vllm("openai/gpt-oss-120b", version="0.11.0"), evidence, model=GPT_OSS) is None


def test_one_client_of_another_model_says_nothing_but_a_limit_of_one_does() -> None:
    assert judged(SINGLE, vllm("qwen", version="0.11.0"), clients(1), model=model()) is None
    assert judged(SINGLE, vllm("qwen", "--max-num-seqs", "1", version="0.11.0"), clients(), model=model())
    assert (
        judged(SINGLE, vllm("qwen", "--max-num-seqs", "2", version="0.11.0"), clients(), model=model())
        is None
    )


def test_gpt_oss_is_known_by_its_command_line_without_its_model_files() -> None:
    assert judged(SINGLE, vllm("openai/gpt-oss-120b", version="0.11.0"), clients(1))


@pytest.mark.parametrize("version", ["0.5.23", "0.5.9", "0.5.8", None])
def test_mxfp4_on_sglang_is_told_which_kernels_to_measure(version: str | None) -> None:
    found = advice(MXFP4, sglang("--model-path", "openai/gpt-oss-120b", version=version), model=GPT_OSS)
    assert "measure" in found.do
    assert "triton_kernel" in found.do
    assert ("--help" in found.do) is (version in ("0.5.8", None))


@pytest.mark.parametrize("backend", ["triton_kernel", "flashinfer_mxfp4"])
def test_mxfp4_with_one_of_its_kernels_is_left_alone(backend: str) -> None:
    one = sglang("--model-path", "openai/gpt-oss-120b", "--moe-runner-backend", backend)
    assert judged(MXFP4, one, model=GPT_OSS) is None


def test_another_kernel_for_mxfp4_is_named() -> None:
    one = sglang("--model-path", "x", "--moe-runner-backend=marlin", version="0.5.23")
    assert "--moe-runner-backend marlin" in advice(MXFP4, one, model=model("MXFP4")).what


def test_other_models_and_engines_are_not_told_about_mxfp4() -> None:
    assert judged(MXFP4, sglang("--model-path", "qwen"), model=model("FP8")) is None
    assert judged(MXFP4, vllm("openai/gpt-oss-120b"), model=GPT_OSS) is None


# -- quantisation --------------------------------------------------------------------------------------------


def test_nvfp4_on_the_documents_vllm_is_told_the_documents_figures() -> None:
    found = advice(NVFP4, vllm("qwen", version="0.11.1rc4"), model=model("NVFP4"))
    assert all(text in found.expect for text in ("18-32 %", "39 against 51 ms", "0.11.1rc4"))
    assert "Since then" not in found.expect
    assert "AWQ 4-bit" in found.do
    assert found.severity is Severity.INFO


@pytest.mark.parametrize("version", ["0.12.0", "0.28.0", "0.10.2", None])
@pytest.mark.parametrize("make", [vllm, sglang])
def test_nvfp4_elsewhere_is_told_to_measure_and_what_was_seen_since(
    make: object, version: str | None
) -> None:
    one = vllm("qwen", version=version) if make is vllm else sglang("--model-path", "qwen", version="0.5.23")
    found = advice(NVFP4, one, model=model("NVFP4"))
    assert found.do.startswith("measure both")
    assert "Since then both ways" in found.expect
    assert found.certainty is Certainty.DISPUTED


def test_awq_led_in_the_documents_vllm_and_is_to_be_measured_elsewhere() -> None:
    assert judged(AWQ4, vllm("qwen", version="0.11.1rc4"), model=model("AWQ 4-bit")) is None
    for version in ("0.28.0", None):
        assert "measure both" in advice(AWQ4, vllm("qwen", version=version), model=model("AWQ 4-bit")).do


@pytest.mark.parametrize(
    ("kind", "do"),
    [
        ("FP8", "if decode is what you wait for, compare with AWQ 8-bit"),
        ("AWQ 8-bit", "if prefill is what you wait for, compare with FP8"),
    ],
)
def test_the_eight_bit_formats_are_good_at_different_things(kind: str, do: str) -> None:
    assert advice(EIGHT, vllm("qwen", version="0.11.0"), model=model(kind)).do == do
    assert advice(EIGHT, vllm("qwen", version="0.19.0"), model=model(kind)).do.startswith("measure both")


@pytest.mark.parametrize("rule", [NVFP4, AWQ4, EIGHT], ids=lambda rule: rule.id)
@pytest.mark.parametrize("kind", ["", "Q4_K_M", "MXFP4", "INT8"])
def test_nothing_is_said_of_formats_nothing_is_known_of(rule: Rule, kind: str) -> None:
    assert judged(rule, vllm("qwen"), model=model(kind)) is None
    assert judged(rule, vllm("qwen"), model=None) is None


def test_llama_cpp_has_formats_of_its_own() -> None:
    gguf = ModelFacts(path="/m.gguf", format="gguf", quantisation="NVFP4")
    assert judged(NVFP4, llama(), model=gguf) is None
