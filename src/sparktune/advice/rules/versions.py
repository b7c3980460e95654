"""Which spelling an engine's build understands, three-valued: what is not known is never guessed.

Facts and their sources: docs/engines.md.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from sparktune.advice.model import EngineKind, Role

if TYPE_CHECKING:
    from sparktune.advice.model import Engine

LOAD_MODE_SINCE = 10105
"""The llama.cpp build that brought `--load-mode`, and kept the old flags with a warning."""

AUTO_SINCE = 10369
"""The build whose default load mode is `auto`, which maps nothing on an integrated GPU."""

LEGACY_GONE = 10875
"""The build that refuses the old flags and ignores their environment variables."""

_LEAST_BUILD = 4000
"""Builds are counted in commits of the clone: a shallow one says 1, a vendored one 0. That says nothing."""

_SHOWN_BUILD = re.compile(r"b?(\d{1,6})(?:-[0-9a-f]{4,40})?")
_RELEASE = re.compile(r"v?(\d{1,6}(?:\.\d{1,6}){1,3})")
_EARLY = re.compile(r"dev|rc|[0-9][ab][0-9]")
_MOST = 100


class Spelling(StrEnum):
    """How a llama.cpp build wants to be told not to map its model."""

    OLD = "old"  # `--no-mmap` alone
    BOTH = "both"  # `--load-mode`, and the old flags with a warning
    NEW = "new"  # `--load-mode` alone: an old flag is a crash loop
    UNKNOWN = "unknown"


def build_of(engine: Engine) -> int | None:
    """The llama.cpp build number of `b6812` or `b6812-7db35a7`; None: not known, or one that says nothing."""
    if engine.kind is not EngineKind.LLAMA_CPP or engine.role is Role.PYTHON:
        return None
    found = _SHOWN_BUILD.fullmatch((engine.version or "")[:_MOST])
    number = int(found.group(1)) if found else 0
    return number if number >= _LEAST_BUILD else None


def spelling_of(engine: Engine) -> Spelling:
    """What the build understands: by its number, else by the texts in its program and libraries.

    Where the two contradict each other (forks, backports) it is what is safe with either, or unknown.
    """
    said, known = _by_build(build_of(engine)), _by_texts(engine.knows)
    if said is known or known is Spelling.UNKNOWN:
        return said
    if said is Spelling.UNKNOWN:
        return known
    return Spelling.UNKNOWN if Spelling.OLD in (said, known) else Spelling.BOTH


def _by_build(number: int | None) -> Spelling:
    if number is None:
        return Spelling.UNKNOWN
    if number < LOAD_MODE_SINCE:
        return Spelling.OLD
    return Spelling.BOTH if number < LEGACY_GONE else Spelling.NEW


def _by_texts(knows: frozenset[str] | None) -> Spelling:
    new, old = "--load-mode" in (knows or ()), "--no-mmap" in (knows or ())
    if new and old:
        return Spelling.BOTH
    if new:
        return Spelling.NEW
    return Spelling.OLD if old else Spelling.UNKNOWN


def release(version: str | None) -> tuple[int, ...] | None:
    """The numbers of `0.11.1rc4.dev7+g123` as `(0, 11, 1)`; None: no release at all, so not known."""
    found = _RELEASE.match((version or "")[:_MOST])
    return tuple(int(part) for part in found.group(1).split(".")) if found else None


def at_least(version: str | None, least: str) -> bool | None:
    """Whether the version is `least` or later; None: not known.

    Not known is also a build from a checkout without tags (`0.1.dev12374+g942309a47`), and a release
    candidate or development version of `least` itself.
    """
    numbers, wanted = release(version), release(least)
    early = _EARLY.search((version or "")[:_MOST].partition("+")[0]) is not None
    if numbers is None or wanted is None or (early and numbers[:2] in ((0, 0), (0, 1))):
        return None
    width = max(len(numbers), len(wanted))
    have, need = _filled(numbers, width), _filled(wanted, width)
    return None if early and have == need else have >= need


def _filled(numbers: tuple[int, ...], width: int) -> tuple[int, ...]:
    return numbers + (0,) * (width - len(numbers))
