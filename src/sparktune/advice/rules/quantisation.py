"""What is known about quantisations on GB10. Never more than information: results went both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, EngineKind, Rule, Severity
from sparktune.advice.rules.groups import leads
from sparktune.advice.rules.saying import find
from sparktune.advice.rules.versions import at_least

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts

_THEN = (
    "vLLM 0.11.1rc4, Qwen3-VL-235B on two Sparks: AWQ 4-bit had 18-32 % more throughput than NVFP4, 39 "
    "against 51 ms between tokens; NVFP4 is within 1 % of FP8's accuracy"
)
_SINCE = (
    "Since then both ways: NVFP4 20 % faster than AWQ (Qwen3-Next-80B, patched vLLM), FP8 53.8 against "
    "NVFP4 40.8 t/s (Qwen3.6-35B-A3B), NVFP4 38.6-40.9 against FP8 25.7 t/s (Qwen3-8B); vLLM of July 2026 "
    "picks CUTLASS kernels for NVFP4 on GB10"
)
_EIGHT = "vLLM 0.11.1rc4: FP8 leads in prefill, AWQ 8-bit slightly in decode"


def _of_document(engine: Engine) -> bool:
    """Whether it is a vLLM of the document's time: 0.11.x."""
    return (
        engine.kind is EngineKind.VLLM
        and at_least(engine.version, "0.11.0") is True
        and at_least(engine.version, "0.12.0") is False
    )


def _kind(engine: Engine, model: ModelFacts | None, host: HostFacts) -> str:
    """The model's quantisation, of an engine that these rules are about; else empty."""
    if model is None or engine.kind not in (EngineKind.VLLM, EngineKind.SGLANG) or not leads(engine, host):
        return ""
    return model.quantisation


def _judge_nvfp4(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    if _kind(engine, model, host) != "NVFP4":
        return None
    then = _of_document(engine)
    return find(
        NVFP4,
        engine,
        what="serves an NVFP4 model",
        why=(
            "which kernel this build picks on GB10 decides; FP4 shrinks the bytes of each token, not "
            "always the time"
        ),
        do=(
            "compare with an AWQ 4-bit version of the model"
            if then
            else "measure both, NVFP4 and AWQ 4-bit or FP8, with your own model and this version"
        ),
        expect=f"{_THEN}." if then else f"{_THEN}. {_SINCE}.",
        certainty=Certainty.REPORTED if then else Certainty.DISPUTED,
    )


def _judge_awq4(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    if _kind(engine, model, host) != "AWQ 4-bit" or _of_document(engine):
        return None
    return find(
        AWQ4,
        engine,
        what="serves an AWQ 4-bit model",
        why="in vLLM 0.11 that was the fastest; kernels for NVFP4 have come since",
        do="measure both, AWQ 4-bit and NVFP4, if there is an NVFP4 version of the model",
    )


def _judge_eight(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    kind = _kind(engine, model, host)
    if kind not in ("FP8", "AWQ 8-bit"):
        return None
    other = "AWQ 8-bit" if kind == "FP8" else "FP8"
    then = _of_document(engine)
    better = "decode" if other == "AWQ 8-bit" else "prefill"
    return find(
        EIGHT,
        engine,
        what=f"serves an {kind} model",
        why="8-bit formats differ in what they are good at: reading long prompts, or writing",
        do=f"if {better} is what you wait for, compare with {other}"
        if then
        else f"measure both, {kind} and {other}",
        certainty=Certainty.REPORTED if then else Certainty.DISPUTED,
    )


_SOURCE = (
    "The user's document; NVIDIA's DGX Spark forum, thread 353069; Avarok-Cybersecurity/dgx-vllm; "
    "vllm-project/recipes#632 and #918; docs/engines.md"
)

NVFP4 = Rule(
    id="quantisation-nvfp4",
    severity=Severity.INFO,
    looks_for="vLLM or SGLang with an NVFP4 model.",
    evidence="quantization_config of the model's config.json.",
    recommendation="vLLM 0.11: compare with AWQ 4-bit. Others: measure both.",
    expect=f"{_THEN}. {_SINCE}.",
    versions="The document's figures hold for vLLM 0.11.x; for every other version it says: measure both.",
    source=_SOURCE,
    certainty=Certainty.DISPUTED,
    judge=_judge_nvfp4,
)

AWQ4 = Rule(
    id="quantisation-awq4",
    severity=Severity.INFO,
    looks_for="vLLM or SGLang with an AWQ 4-bit model.",
    evidence="quantization_config of the model's config.json.",
    recommendation="Measure both, AWQ 4-bit and NVFP4.",
    expect=f"{_THEN}. {_SINCE}.",
    versions="Silent for vLLM 0.11.x, where AWQ 4-bit led; measure both for others.",
    source=_SOURCE,
    certainty=Certainty.DISPUTED,
    judge=_judge_awq4,
)

EIGHT = Rule(
    id="quantisation-8bit",
    severity=Severity.INFO,
    looks_for="vLLM or SGLang with an FP8 or AWQ 8-bit model.",
    evidence="quantization_config of the model's config.json.",
    recommendation="vLLM 0.11: FP8 for prefill, AWQ 8-bit for decode. Others: measure both.",
    expect=f"{_EIGHT}. {_SINCE}.",
    versions="It holds for vLLM 0.11.x; for every other version it says: measure both.",
    source=_SOURCE,
    certainty=Certainty.DISPUTED,
    judge=_judge_eight,
)
