"""How llama.cpp, llama-cpp-python and Ollama load their model: mapped, or read.

Judged by what is mapped and resident. No spelling is given to a build that does not understand it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, EngineKind, Role, Rule, Severity
from sparktune.advice.rules.saying import MIB, find, path, size
from sparktune.advice.rules.versions import AUTO_SINCE, Spelling, at_least, build_of, spelling_of
from sparktune.wording import plain

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts, ModelFile

LEAST_RESIDENT = 256 * MIB
"""At the 250 MB/s of copies from file-backed pages this is a second: less is not worth advice."""

MOST_OF_MEMORY = 0.85
"""A model larger than this part of the memory runs because it is mapped: nothing is said about it."""

_OLD = "`--no-mmap`"
_NEW = "`--load-mode none`, or `--load-mode dio` (direct I/O, which leaves nothing in the page cache)"
_PYTHON = (
    "with llama-cpp-python: `Llama(…, use_mmap=False)`, or `--use_mmap false` for its server; another "
    "program that has llama.cpp inside has a switch of its own for it"
)
_OLLAMA = (
    "in the Modelfile `PARAMETER use_mmap false`, or `use_mmap: false` among the options of the request; "
    "then load the model anew"
)
_OLLAMA_SELF = "0.32.6 and later load by direct I/O on an integrated GPU by themselves"


def _judge_mapping(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    mapped = _largest_resident(evidence)
    if engine.kind not in (EngineKind.LLAMA_CPP, EngineKind.OLLAMA) or mapped is None:
        return None
    resident, whole = mapped.resident_bytes or 0, mapped.size_bytes or mapped.mapped_bytes
    if resident < LEAST_RESIDENT or _needs_mapping(whole, host):
        return None
    of = f" of {size(whole)}" if whole >= resident else ""
    return find(
        MAPPING,
        engine,
        what=f"has its model {path(mapped.path)} memory-mapped, {size(resident)}{of} of it resident",
        severity=Severity.INFO if evidence.gpu is False else None,
        why=(
            "it has no GPU open now, where mapping does no harm; with one, " if evidence.gpu is False else ""
        )
        + (
            "a GPU copies from file-backed pages 4 KiB at a time, about 250 MB/s even when all of it is "
            "cached, and while it loads the model is in memory twice; read-ahead alone does not cure that"
        ),
        do=_how(engine),
        expect=f"{MAPPING.expect} This machine runs kernel {plain(host.kernel)}.",
    )


def _largest_resident(evidence: Evidence) -> ModelFile | None:
    mapped = [one for one in evidence.models or () if one.mapped_bytes and one.resident_bytes is not None]
    return max(mapped, key=lambda one: one.resident_bytes or 0, default=None)


def _needs_mapping(whole: int, host: HostFacts) -> bool:
    return host.memory_bytes is not None and whole > MOST_OF_MEMORY * host.memory_bytes


def _how(engine: Engine) -> str:
    if engine.kind is EngineKind.OLLAMA or engine.role is Role.RUNNER:
        of_ollama = engine.version if engine.kind is EngineKind.OLLAMA else None
        update = {True: "", False: f". Or update: {_OLLAMA_SELF}", None: f". {_OLLAMA_SELF}"}
        return _OLLAMA + update[at_least(of_ollama, "0.32.6")]
    if engine.role is Role.PYTHON:
        return _PYTHON
    return {
        Spelling.OLD: f"add {_OLD} (this build does not know --load-mode)",
        Spelling.BOTH: f"{_without(engine)}{_NEW}",
        Spelling.NEW: f"{_without(engine)}{_NEW}",
        Spelling.UNKNOWN: (
            "the build is not known, and the wrong spelling ends it at the start. If its `--help` names "
            f"--load-mode (b10105 and later): {_NEW}. If it does not: {_OLD}"
        ),
    }[spelling_of(engine)]


def _without(engine: Engine) -> str:
    """What to take away first: an option or variable that asks for the mapping."""
    asks = [f"`{name} {value}`" for name in ("--load-mode", "-lm") if (value := _asks(engine.option(name)))]
    if value := _asks(engine.variable("LLAMA_ARG_LOAD_MODE")):
        asks.append(f"`LLAMA_ARG_LOAD_MODE={value}`")
    number = build_of(engine)
    automatic = number is not None and number >= AUTO_SINCE
    if not asks:
        return "add "
    default = ": the default, auto, maps nothing on an integrated GPU" if automatic else ""
    return (
        f"take {' and '.join(asks)} away{default}. If that is not enough, "
        if automatic
        else (f"instead of {' and '.join(asks)}: ")
    )


def _asks(mode: str | None) -> str:
    return mode if mode in ("mmap", "mmap+mlock") else ""


MAPPING = Rule(
    id="llama-mmap",
    severity=Severity.WARNING,
    looks_for="llama.cpp, llama-cpp-python or Ollama's runner with a large resident mapping of its model.",
    evidence=(
        "256 MiB or more of the model are mapped and resident (/proc/PID/smaps), whatever the command line "
        "says; not if the model is larger than 85 % of the memory, for then it runs because it is mapped. "
        "Information only while it has no GPU open."
    ),
    recommendation=(
        "Load it without mmap, in the spelling that the build understands: `--no-mmap` before b10105, "
        "`--load-mode none` or `dio` from then on, both where the build is not known; `use_mmap` in "
        "llama-cpp-python and Ollama."
    ),
    expect=(
        "Load time of gpt-oss-120b on a Spark, with and without mmap: kernel 6.11 1:44 and 0:56, kernel "
        "6.17 1:30 and 0:22. What was read is then the process's own memory, which the kernel cannot drop "
        "as it drops a mapping."
    ),
    versions="llama.cpp of any build; llama-cpp-python 0.3.x; Ollama of any version.",
    source=(
        "ggml-org/llama.cpp#20834 (b10105), #26081 (b10369), #28334 (b10875), tools/server/README.md at "
        "00dc8057; llama_cpp/llama.py at v0.3.35; ollama llm/llama_server.go at v0.32.6; users' load times"
    ),
    certainty=Certainty.REPORTED,
    judge=_judge_mapping,
)
