"""The child's answer as a type. It parsed the files of strangers: nothing in it is taken as given."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from sparktune.advice.model import ModelFacts
from sparktune.cpulist import parse_cpu_list
from sparktune.errors import UsageError
from sparktune.frozen import frozen
from sparktune.wording import plain

_MOST_PATH = 4096
_MOST_FILES = 4096
_MOST_GAPS = 16
_MOST_GAP = 200
_SIZE_FIELDS = 3  # mapped, resident, device


@frozen
class Answer:
    """What a child said.

    Attributes:
        models: mapped bytes, resident bytes and device of each mapped model file; None: not readable.
        sizes: sizes of model files, those that are only open too.
        libraries: paths of telling libraries.
        thread_cpus: CPUs that any of the busiest threads may use; None: not known.
        model: what the model's headers say.
        packages: version and place of Python packages.
        knows: which spellings the programs contain; None: not looked.
        gaps: what could not be read, and why.
    """

    models: dict[str, tuple[int, int, str]] | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    thread_cpus: frozenset[int] | None = None
    model: ModelFacts | None = None
    packages: dict[str, tuple[str, str]] = field(default_factory=dict)
    knows: frozenset[str] | None = None
    gaps: tuple[str, ...] = ()


def read_answer(found: dict[str, Any]) -> Answer:
    """The answer; whatever is not of the right type is left out."""
    if "error" in found:
        return Answer(gaps=(f"map and model: {_text(found['error'])[:_MOST_GAP]}",))
    model = found.get("model")
    return Answer(
        models=_models(found.get("models")),
        sizes={_path(path): size for path, size in _items(found.get("sizes")) if _is_count(size)},
        libraries=tuple(map(_path, _texts(found.get("libraries")))),
        thread_cpus=_cpus(_texts(found.get("thread_cpus"))),
        model=_facts(model) if isinstance(model, dict) else None,
        packages=dict(_packages(found.get("packages"))),
        knows=frozenset(_texts(found["knows"])) if isinstance(found.get("knows"), list) else None,
        gaps=tuple(gap[:_MOST_GAP] for gap in _texts(found.get("gaps")))[:_MOST_GAPS],
    )


def _text(value: object) -> str:
    return plain(value, most=_MOST_PATH) if isinstance(value, str) else ""


def _path(value: str) -> str:
    # A process may have any name mapped; it is shown to people, so control characters go here already.
    return plain(value, most=_MOST_PATH)


def _texts(value: object) -> list[str]:
    return (
        [_text(one) for one in value[:_MOST_FILES] if isinstance(one, str)] if isinstance(value, list) else []
    )


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items())[:_MOST_FILES] if isinstance(value, dict) else []


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _cpus(lists: list[str]) -> frozenset[int] | None:
    """All CPUs of some lists; None if there is none, or one is damaged: then nothing is known of all."""
    try:
        return frozenset(cpu for text in lists for cpu in parse_cpu_list(text)) or None
    except UsageError:
        return None


def _models(value: object) -> dict[str, tuple[int, int, str]] | None:
    if not isinstance(value, dict):
        return None
    found: dict[str, tuple[int, int, str]] = {}
    for path, sizes in _items(value):
        if isinstance(sizes, list) and len(sizes) == _SIZE_FIELDS and _is_count(sizes[0]):
            resident = sizes[1] if _is_count(sizes[1]) else 0
            found[_path(path)] = (sizes[0], resident, _text(sizes[2])[:32])
    return found


def _packages(value: object) -> list[tuple[str, tuple[str, str]]]:
    return [
        (_text(name), (_text(told[0])[:60], _text(told[1])))
        for name, told in _items(value)
        if isinstance(told, list) and len(told) == 2  # noqa: PLR2004 - version and place
    ]


def _facts(found: dict[str, Any]) -> ModelFacts:
    def text(key: str) -> str:
        return _text(found.get(key))

    def whole(key: str) -> int | None:
        value = found.get(key)
        return value if _is_count(value) else None

    return ModelFacts(
        path=text("path"),
        format=text("format"),
        architecture=text("architecture"),
        name=text("name"),
        quantisation=text("quantisation"),
        method=text("method"),
        bits=whole("bits"),
        bytes=whole("bytes"),
        largest_bytes=whole("largest_bytes"),
        files=whole("files"),
    )
