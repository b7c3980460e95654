"""Old loading flags and variables of llama.cpp, against a build that refuses or ignores them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, EngineKind, Role, Rule, Severity
from sparktune.advice.rules.saying import find
from sparktune.advice.rules.versions import Spelling, build_of, spelling_of

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts

FLAGS = ("--mmap", "--no-mmap", "--mlock", "--direct-io", "-dio", "--no-direct-io", "-ndio")
VARIABLES = ("LLAMA_ARG_MMAP", "LLAMA_ARG_NO_MMAP", "LLAMA_ARG_MLOCK", "LLAMA_ARG_DIO")

LOCK_SPLIT = 10151
"""The build from which `--load-mode mlock` does not map, and `mmap+mlock` does both."""

_SOURCE = "ggml-org/llama.cpp#20834 (b10105), #26135 (b10151), #28334 (b10875); docs/engines.md"


def _judge_removed(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    flags = _flags(engine)
    if not flags or spelling_of(engine) is not Spelling.NEW:
        return None
    return find(
        REMOVED,
        engine,
        what=f"was started with {_listed(flags)}, which its program as it is on disk does not know any more",
        why=(
            "the next start ends at once with `error: invalid argument`; under a supervisor that is a "
            "crash loop"
        ),
        do=f"before the next start replace {_listed(flags)} by {_replacement(engine, flags)}",
    )


def _judge_deprecated(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    flags, spelling = _flags(engine), spelling_of(engine)
    if not flags or spelling not in (Spelling.BOTH, Spelling.UNKNOWN):
        return None
    if spelling is Spelling.UNKNOWN:
        do = (
            "nothing now. Before an update look whether the new program's `--help` names --load-mode; "
            f"if it does, replace {_listed(flags)} by {_replacement(engine, flags)}"
        )
    else:
        do = f"replace {_listed(flags)} by {_replacement(engine, flags)}: this build knows both"
    return find(
        DEPRECATED,
        engine,
        what=f"was started with {_listed(flags)}",
        why="builds from b10875 on (2026-09-09) refuse these flags and end: an update becomes a crash loop",
        do=do,
    )


def _judge_ignored(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    names = [name for name in VARIABLES if engine.variable(name) is not None]
    if not names or not _is_own(engine) or spelling_of(engine) is not Spelling.NEW:
        return None
    wanted = f"; now it is `{mode}`" if (mode := engine.variable("LLAMA_ARG_LOAD_MODE")) in _MODES else ""
    return find(
        IGNORED,
        engine,
        what=f"has {_listed(names)} in its environment, which its program as it is on disk does not look at",
        why="it is ignored in silence, so the model is loaded in another way than was meant",
        do=f"say it with `LLAMA_ARG_LOAD_MODE` (none, mmap, mlock, mmap+mlock, dio; unset: auto){wanted}",
    )


_MODES = ("auto", "none", "mmap", "mlock", "mmap+mlock", "dio")


def _is_own(engine: Engine) -> bool:
    """Whether the user chose its command line; Ollama chooses that of its runner itself."""
    return engine.kind is EngineKind.LLAMA_CPP and engine.role in (Role.SERVER, Role.COMMAND)


def _flags(engine: Engine) -> list[str]:
    return [flag for flag in FLAGS if engine.has(flag)] if _is_own(engine) else []


def _listed(names: list[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _replacement(engine: Engine, flags: list[str]) -> str:
    """The load mode that does what the flags did; two where it depends on the build."""
    if "--direct-io" in flags or "-dio" in flags:
        return "`--load-mode dio`"
    if "--mlock" not in flags:
        return (
            "`--load-mode none`"
            if "--mmap" not in flags
            else "nothing, or `--load-mode mmap` if it must be mapped"
        )
    number = build_of(engine)
    if spelling_of(engine) is Spelling.NEW or (number is not None and number >= LOCK_SPLIT):
        return "`--load-mode mlock`" if "--no-mmap" in flags else "`--load-mode mmap+mlock`"
    if "--no-mmap" in flags:
        return "`--load-mode mlock`, but only from b10151 on: before it, that maps"
    return "`--load-mode mlock` (before b10151) or `--load-mode mmap+mlock` (from it on)"


REMOVED = Rule(
    id="llama-flag-removed",
    severity=Severity.WARNING,
    looks_for=(
        "llama.cpp with an old loading flag whose program on disk has removed it: updated under its feet."
    ),
    evidence="The command line, and the build number or the texts in the program's own file.",
    recommendation="Replace the flag by `--load-mode` before the next start.",
    expect="It starts again. Nothing changes for the process that runs.",
    versions="llama.cpp b10875 and later. Silent for earlier and for unknown builds.",
    source=_SOURCE,
    certainty=Certainty.SOURCE,
    judge=_judge_removed,
)

DEPRECATED = Rule(
    id="llama-flag-deprecated",
    severity=Severity.INFO,
    looks_for="llama.cpp with a loading flag that a later build refuses.",
    evidence="The command line, and the build number or the texts in the program's own file.",
    recommendation=(
        "Use `--load-mode` where the build knows it; leave the flag where that is not known, until the "
        "update."
    ),
    expect="Updates stop being a risk. Nothing changes for the process that runs.",
    versions=(
        "llama.cpp b10105 to b10874, and unknown builds. Silent for earlier ones, which know nothing else."
    ),
    source=_SOURCE,
    certainty=Certainty.SOURCE,
    judge=_judge_deprecated,
)

IGNORED = Rule(
    id="llama-variable-ignored",
    severity=Severity.WARNING,
    looks_for=(
        "llama.cpp with `LLAMA_ARG_MMAP`, `LLAMA_ARG_NO_MMAP`, `LLAMA_ARG_MLOCK` or `LLAMA_ARG_DIO` in vain."
    ),
    evidence=(
        "These variables by their exact names, and the build number or the texts in the program's own file."
    ),
    recommendation="Use `LLAMA_ARG_LOAD_MODE`.",
    expect="The model is loaded as it was meant.",
    versions="llama.cpp b10875 and later. Silent for earlier and for unknown builds, which obey them.",
    source=_SOURCE,
    certainty=Certainty.SOURCE,
    judge=_judge_ignored,
)
