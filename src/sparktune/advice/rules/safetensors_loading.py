"""How vLLM and SGLang load safetensors: lazily from a mapping, whole shards at once, or prefetched.

Whole shards are recommended only where the memory suffices by far; where that is not known, prefetch is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, EngineKind, Rule, Severity
from sparktune.advice.rules.groups import leads, members
from sparktune.advice.rules.saying import GIB, find, path, size
from sparktune.advice.rules.versions import at_least

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts

LEAST_MODEL = 2 * GIB
"""A smaller model loads in seconds either way."""

WELL_BELOW = 0.5
"""Shards in flight may take at most this part of MemAvailable."""

SGLANG_SHARDS = 10
"""In memory at once when nothing is mapped: eight threads' and two more. `num_threads` is not read."""

_LAZY_FORMATS = (None, "auto", "safetensors", "hf")


def _judge_vllm(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    if engine.kind is not EngineKind.VLLM:
        return None
    lazy = engine.option("--safetensors-load-strategy", "--safetensors_load_strategy") in (None, "lazy")
    said = _said(engine, evidence, model, host, lazy=lazy)
    do = _vllm(engine, model, host) if said else ""
    if not said or not do:
        return None
    return find(VLLM, engine, what=said, why=_WHY, do=do, certainty=_certainty(evidence))


def _judge_sglang(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    if engine.kind is not EngineKind.SGLANG:
        return None
    lazy = not engine.has("--weight-loader-disable-mmap", "--weight-loader-prefetch-checkpoints")
    said = _said(engine, evidence, model, host, lazy=lazy)
    do = _sglang(engine, model, host) if said else ""
    if not said or not do:
        return None
    return find(SGLANG, engine, what=said, why=_WHY, do=do, certainty=_certainty(evidence))


_WHY = (
    "each tensor is a page fault of its own, and a GPU copies from file-backed pages 4 KiB at a time: "
    "minutes where seconds would do, and read-ahead alone does not cure that"
)


def _mapped(evidence: Evidence) -> str:
    """The mapping of a safetensors file that is in memory now; empty if there is none."""
    found = [
        one
        for one in evidence.models or ()
        if one.path.endswith(".safetensors") and one.mapped_bytes and one.resident_bytes
    ]
    if not found:
        return ""
    largest = max(found, key=lambda one: one.resident_bytes or 0)
    return (
        f"is loading {path(largest.path)} lazily: the file is mapped, {size(largest.resident_bytes or 0)} "
        "of it resident"
    )


def _said(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts, *, lazy: bool
) -> str:
    """What it does, if it loads lazily; empty: it does not, or that is not known, or the model is small."""
    if model is not None and (model.format == "gguf" or (model.bytes or LEAST_MODEL) < LEAST_MODEL):
        return ""
    prefetches = engine.option("--safetensors-load-strategy") == "prefetch" or engine.has(
        "--weight-loader-prefetch-checkpoints"
    )
    if (mapped := _mapped(evidence)) and not prefetches:
        return mapped
    if not lazy or not leads(engine, host) or len(engine.arguments) < len(("program", "option")):
        return ""
    if engine.option("--load-format", "--load_format") not in _LAZY_FORMATS:
        return ""
    named = f" ({size(model.bytes)} of weights)" if model and model.bytes else ""
    return f"loads its model lazily{named}: nothing on its command line asks for anything else"


def _certainty(evidence: Evidence) -> Certainty:
    return Certainty.REPORTED if _mapped(evidence) else Certainty.DOCUMENTED


def _room(model: ModelFacts | None, host: HostFacts, loaders: int) -> tuple[bool, str]:
    """Whether whole shards fit by far, and the reckoning for people."""
    if model is None or not model.largest_bytes or host.available_bytes is None:
        return False, "whether whole shards would fit into memory is not known"
    need = model.largest_bytes * loaders
    fits = need <= WELL_BELOW * host.available_bytes
    reckoning = (
        f"the largest shard of {size(model.largest_bytes)} times {loaders} in flight is {size(need)}, "
        f"{'well below' if fits else 'too near to'} the {size(host.available_bytes)} available"
    )
    return fits, reckoning


def _vllm(engine: Engine, model: ModelFacts | None, host: HostFacts) -> str:
    """What to do, in what this version understands; empty: nothing is known for it."""
    workers = sum("worker" in one.name.lower() for one in members(engine, host))
    fits, reckoning = _room(model, host, max(1, workers))
    eager, prefetch = "`--safetensors-load-strategy eager`", "`--safetensors-load-strategy prefetch`"
    faster = "`--load-format instanttensor` (its package is needed) is faster still"
    knows = at_least(engine.version, "0.10.2"), at_least(engine.version, "0.18.0")
    if knows[0] is None:
        older = f"0.10.2 and later: {eager}" if fits else "earlier ones have only eager, so update them"
        return (
            "the version is not known, and an unknown value ends it at the start. 0.18.0 and later: "
            f"{prefetch}; {older}: {reckoning}"
        )
    if knows[1]:
        first = f"{eager} or {prefetch}" if fits else f"{prefetch}, not eager"
        return f"{first}: {reckoning}. {faster}"
    if knows[0] is False:
        return _before_strategies(engine)
    if knows[1] is None:
        return f"{eager}: {reckoning}" if fits else f"{prefetch} from the release 0.18.0 on: {reckoning}"
    update = f"update to 0.18.0 or later for {prefetch}"
    return f"{eager}: {reckoning}" if fits else f"{update}; not eager here: {reckoning}"


def _before_strategies(engine: Engine) -> str:
    if at_least(engine.version, "0.8.4"):
        return (
            "`--load-format fastsafetensors` (its package is needed, and more memory: measure), or update; "
            "load strategies came with 0.10.2"
        )
    return ""


_DOUBT = "its own help expects prefetch to help on network storage, not on a local NVMe"
_DOUBTS = f"without mmap it has been slower as well, and {_DOUBT}"


def _sglang(engine: Engine, model: ModelFacts | None, host: HostFacts) -> str:
    fits, reckoning = _room(model, host, SGLANG_SHARDS)
    whole, prefetch = "`--weight-loader-disable-mmap`", "`--weight-loader-prefetch-checkpoints`"
    knows = at_least(engine.version, "0.4.8"), at_least(engine.version, "0.5.11")
    if knows[0] is False:
        return ""
    if knows[0] is None:
        also = f"; 0.4.8 and later: {whole}" if fits else ""
        return (
            "the version is not known, and an unknown flag ends it at the start. 0.5.11 and later: "
            f"{prefetch}{also} ({reckoning})"
        )
    if knows[1]:
        first = f"{whole}, or {prefetch}" if fits else f"{prefetch}, not {whole}"
        return f"{first}: {reckoning}. Measure: {_DOUBTS if fits else _DOUBT}"
    if fits:
        return f"{whole}: {reckoning}. Measure: it has been slower than mmap as well"
    return f"update to 0.5.11 or later for {prefetch}; not {whole} here: {reckoning}"


VLLM = Rule(
    id="vllm-lazy-load",
    severity=Severity.WARNING,
    looks_for="vLLM that loads its safetensors lazily, from a mapping.",
    evidence=(
        "A mapped and resident *.safetensors file while it loads, whatever the command line says; "
        "afterwards the command line: no `--safetensors-load-strategy` but lazy, no `--load-format` of its "
        "own."
    ),
    recommendation=(
        "`--safetensors-load-strategy eager` where the largest shard times the loaders is at most half of "
        "MemAvailable, `prefetch` everywhere else; `--load-format instanttensor` is a faster loader."
    ),
    expect=(
        "Qwen3-Next-80B-FP8, kernel 6.17: lazy 8:41, eager 1:28. Eight Sparks, 102 GiB each: lazy about 60 "
        "minutes, prefetch about 12. Eager costs a shard of memory for each worker, prefetch page cache "
        "that the kernel can drop."
    ),
    versions=(
        "eager from 0.10.2, prefetch and instanttensor from 0.18.0, both named where the version is not "
        "known; fastsafetensors from 0.8.4; silent before."
    ),
    source=(
        "vllm-project/vllm#24469 (0.10.2), #36012 and #36139 (0.18.0), vllm/config/load.py at 030eb665, "
        "#40988; users' load times"
    ),
    certainty=Certainty.REPORTED,
    judge=_judge_vllm,
)

SGLANG = Rule(
    id="sglang-lazy-load",
    severity=Severity.WARNING,
    looks_for="SGLang that loads its safetensors lazily, from a mapping.",
    evidence=(
        "A mapped and resident *.safetensors file while it loads, whatever the command line says; "
        "afterwards the command line: neither `--weight-loader-disable-mmap` nor "
        "`--weight-loader-prefetch-checkpoints`."
    ),
    recommendation=(
        "`--weight-loader-disable-mmap` where the largest shard times the shards in flight (ten) is "
        "at most half of MemAvailable, else "
        "`--weight-loader-prefetch-checkpoints`."
    ),
    expect=(
        "Qwen3-32B elsewhere: 4:18 with mmap, 0:32 without; 562 s against 104 s have been seen the other "
        "way round. Ten shards in memory at once have ended in an out-of-memory kill on Sparks."
    ),
    versions=(
        "disable-mmap from 0.4.8, prefetch from 0.5.11 (read in the releases), both named where the "
        "version is not known; silent before 0.4.8."
    ),
    source=(
        "sgl-project/sglang#7469, #20843, #30146; srt/server_args.py of 0.4.8, 0.5.10 and 0.5.11, "
        "srt/model_loader/weight_utils.py of 0.5.23"
    ),
    certainty=Certainty.REPORTED,
    judge=_judge_sglang,
)
