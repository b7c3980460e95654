"""Engine against use: many clients on llama.cpp, one on vLLM, and SGLang's kernels for MXFP4.

The figures are those of the user's document. They hold for its versions; for others the advice is to measure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, EngineKind, Role, Rule, Severity
from sparktune.advice.rules.groups import leads
from sparktune.advice.rules.saying import find
from sparktune.advice.rules.versions import at_least
from sparktune.wording import plain

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts

MANY_CLIENTS = 8
"""A browser alone keeps up to six connections open."""

_FIGURES = (
    "gpt-oss-120b, one stream, small context: llama.cpp 60 t/s (7db35a7), SGLang 53 t/s (Triton kernels), "
    "vLLM 36 t/s (0.11.1rc4)"
)
_SINCE = "Since then vLLM: 33-34 t/s (0.15.1), 57-60 t/s (0.19.0), 59.5 t/s (with CUTLASS kernels, June 2026)"
_MXFP4_BACKENDS = ("triton_kernel", "flashinfer_mxfp4")


def _clients(evidence: Evidence) -> int:
    return sum(one.count for one in evidence.connections or () if one.inbound)


def _is_gpt_oss(engine: Engine, model: ModelFacts | None) -> bool:
    texts = [model.architecture, model.name, model.path] if model else []
    texts.append(engine.option("--model", "-m", "--model-path") or "")
    texts += engine.arguments[:_FIRST_WORDS]
    return any("gptoss" in text.lower().replace("-", "").replace("_", "") for text in texts)


_FIRST_WORDS = 6
"""`vllm serve openai/gpt-oss-120b` has its model among these."""


def _judge_many(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    clients = _clients(evidence)
    if (
        engine.kind not in (EngineKind.LLAMA_CPP, EngineKind.OLLAMA)
        or engine.role not in (Role.SERVER, Role.PYTHON)
        or clients < MANY_CLIENTS
    ):
        return None
    slots = engine.option("-np", "--parallel") or engine.variable("LLAMA_ARG_N_PARALLEL")
    return find(
        MANY,
        engine,
        what=f"serves {clients} connections at once" + (f" with {plain(slots)} slots" if slots else ""),
        why="llama.cpp is at its best for one user; vLLM and SGLang schedule many requests in one batch",
        do=(
            "measure your own load on vLLM or SGLang as well; on llama.cpp as many slots (`--parallel`) as "
            "there are requests at once"
        ),
    )


def _judge_single(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    if engine.kind is not EngineKind.VLLM or not leads(engine, host):
        return None
    limited = engine.option("--max-num-seqs") == "1"
    single = evidence.connections is not None and _clients(evidence) == 1
    if not limited and not (single and _is_gpt_oss(engine, model)):
        return None
    holds = at_least(engine.version, "0.11.0") and at_least(engine.version, "0.12.0") is False
    return find(
        SINGLE,
        engine,
        what="is limited to one request at a time (--max-num-seqs 1)"
        if limited
        else "has one client connected",
        why="what vLLM is built for, many requests in one batch, does not come into play with one stream",
        do=(
            "if it stays at one stream, compare with llama.cpp, and with SGLang for MXFP4"
            if holds
            else "measure both, llama.cpp and this vLLM: the known figures are not for this version"
        ),
        expect=f"{_FIGURES}."
        if holds
        else f"{_FIGURES}. {_SINCE}. Which one leads depends on version and kernels.",
        certainty=Certainty.REPORTED if holds else Certainty.DISPUTED,
    )


def _judge_mxfp4(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    if engine.kind is not EngineKind.SGLANG or not leads(engine, host):
        return None
    if not _is_gpt_oss(engine, model) and (model is None or model.quantisation != "MXFP4"):
        return None
    backend = engine.option("--moe-runner-backend")
    if backend in _MXFP4_BACKENDS:
        return None
    known = at_least(engine.version, "0.5.9")
    spelled = "`--moe-runner-backend triton_kernel` and `flashinfer_mxfp4`"
    if known:
        do = f"measure {spelled}"
    else:
        do = f"look whether `--help` names them, and measure {spelled} (both are in 0.5.9 and later)"
    return find(
        MXFP4,
        engine,
        what=f"serves an MXFP4 model with --moe-runner-backend {plain(backend)}"
        if backend
        else ("serves an MXFP4 model and leaves the choice of its MoE kernels to SGLang"),
        why="which kernels multiply the experts decides about decode on GB10; SGLang has several for MXFP4",
        do=do,
    )


MANY = Rule(
    id="llama-many-clients",
    severity=Severity.INFO,
    looks_for="llama.cpp or Ollama with many clients at once.",
    evidence="Eight or more established connections to a port it listens on.",
    recommendation="Measure your own load on vLLM or SGLang as well.",
    expect=(
        f"More tokens for all clients together, perhaps fewer for each. {_FIGURES}: with one stream it is "
        "the other way round."
    ),
    versions=(
        "The document says it of llama.cpp 7db35a7 and vLLM 0.11.1rc4. For other versions nothing "
        "comparable is known: hence measure."
    ),
    source="The user's document; github.com/ggml-org/llama.cpp/discussions/16578",
    certainty=Certainty.REPORTED,
    judge=_judge_many,
)

SINGLE = Rule(
    id="vllm-single-stream",
    severity=Severity.INFO,
    looks_for="vLLM for a single stream.",
    evidence="`--max-num-seqs 1`; for gpt-oss also a single client connection at the moment of looking.",
    recommendation="vLLM 0.11: compare with llama.cpp and SGLang. Other versions: measure both.",
    expect=f"{_FIGURES}. {_SINCE}.",
    versions=(
        "The figures hold for vLLM 0.11.x and llama.cpp 7db35a7; for every other version it says: measure "
        "both."
    ),
    source=(
        "The user's document; NVIDIA/dgx-spark-playbooks#79 (0.15.1); spark-arena/recipe-registry#17; a "
        "user's benchmark of 0.19.0 (docs/engines.md)"
    ),
    certainty=Certainty.DISPUTED,
    judge=_judge_single,
)

MXFP4 = Rule(
    id="sglang-mxfp4",
    severity=Severity.INFO,
    looks_for="SGLang that serves an MXFP4 model without one of its MXFP4 kernels being asked for.",
    evidence="config.json or the model's name, and `--moe-runner-backend`.",
    recommendation="Measure `triton_kernel` and `flashinfer_mxfp4`.",
    expect=(
        f"{_FIGURES}. With Triton 3.6 the Triton kernels fell to 35-36 t/s on sm120; flashinfer_mxfp4 was "
        "measured on GB10 in August 2026."
    ),
    versions=(
        "Both names are in 0.5.9 to 0.5.23; for earlier and unknown versions it says so and asks to look."
    ),
    source=(
        "The user's document; sgl-project/sglang srt/server_args.py of 0.5.9, srt/arg_groups/choices.py of "
        "0.5.23, #24281, #36364"
    ),
    certainty=Certainty.DISPUTED,
    judge=_judge_mxfp4,
)
