"""The layers of the configuration: main file, drop-ins, `[[host]]` blocks; split and merged.

It does not know which keys there are: judging values is `settings.py`'s. Free of pydantic.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from sparktune.configfile import Document, FileStamp, list_drop_ins, parse, read_file
from sparktune.errors import ConfigurationError, Problem
from sparktune.frozen import frozen
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sparktune.keylines import KeyPath


@frozen
class Layer:
    """Some values and where they come from.

    Attributes:
        label: `/etc/sparktune.toml`, `/etc/sparktune.toml [[host]] 2`, `SPARKTUNE_MODE`.
        values: keys and tables of keys, as written.
        document: the file; None for the environment.
        place: where in the document: () or ("host", 2).
        match: the globs of a `[[host]]` block; None for a layer that always applies.
    """

    label: str
    values: dict[str, Any]
    document: Document | None = None
    place: KeyPath = ()
    match: tuple[str, ...] | None = None

    def applies_to(self, host_names: Iterable[str]) -> bool:
        """Whether it applies to the host of these names."""
        if self.match is None:
            return True
        names = [name.lower() for name in host_names]
        return any(_matches(name, glob.lower()) for glob in self.match for name in names)

    def problem(self, path: KeyPath, message: str, hint: str = "") -> Problem:
        """Something wrong at a key of this layer; `path` counts from the layer's own top."""
        prefix = f"host[{self.place[1]}]." if self.place else ""
        key = prefix + ".".join(plain(part) for part in path if isinstance(part, str))
        return Problem(
            file=self.document.name if self.document else self.label,
            line=self.document.line(self.place + path) if self.document else 0,
            key=key.removesuffix("."),
            message=message,
            hint=hint,
        )


@frozen
class Stack:
    """All layers that lie in files.

    Attributes:
        layers: the plain keys of all files, then the host blocks of all files; later wins.
        stamps: the main file and the drop-ins that are there.
        problems: what was wrong already: unreadable, no TOML, a host block without `match`.
    """

    layers: tuple[Layer, ...]
    stamps: tuple[FileStamp, ...]
    problems: tuple[Problem, ...]


def read_stack(path: Path) -> Stack:
    """Read the main file and its drop-ins. Never raises for what is in them: see `Stack.problems`."""
    problems: list[Problem] = []
    stamps: list[FileStamp] = []
    plain_layers: list[Layer] = []
    host_layers: list[Layer] = []
    try:
        drop_ins = list_drop_ins(path)
    except ConfigurationError as error:
        drop_ins = ()
        problems += error.problems
    for file in (path, *drop_ins):
        try:
            content, stamp = read_file(file)
            if content is not None or file is path:
                stamps.append(stamp)
            document = parse(file, content or b"")
        except ConfigurationError as error:
            problems += error.problems
            continue
        problems += _split(document, plain_layers, host_layers)
    return Stack(layers=(*plain_layers, *host_layers), stamps=tuple(stamps), problems=tuple(problems))


def merge(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Lay valid layers over each other, later over earlier, key by key; lists are replaced as a whole.

    Returns:
        the merged values, and for each dotted key that was set the label of the layer that won.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for key, value in layer.values.items():
            if isinstance(value, dict):
                merged.setdefault(key, {}).update(value)
                origins.update({f"{key}.{inner}": layer.label for inner in value})
            else:
                merged[key] = value
                origins[key] = layer.label
    return merged, origins


def _split(document: Document, plain_layers: list[Layer], host_layers: list[Layer]) -> list[Problem]:
    """Add the document's layers to the two lists; what is wrong with its host blocks."""
    values = {key: value for key, value in document.tables.items() if key != "host"}
    top = Layer(label=document.name, values=values, document=document)
    plain_layers.append(top)
    blocks = document.tables.get("host", [])
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        hint = "write [[host]], with two brackets"
        return [top.problem(("host",), "expected blocks of keys that begin with [[host]]", hint)]
    problems = []
    for number, block in enumerate(blocks, start=1):
        layer = Layer(
            label=f"{document.name} [[host]] {number}",
            values={key: value for key, value in block.items() if key != "match"},
            document=document,
            place=("host", number),
            match=_globs(block.get("match")),
        )
        if not layer.match:  # it applies to nobody, and its other keys are judged all the same
            message = "must be a host name glob or a list of them" if "match" in block else "is missing"
            hint = 'write match = "spark-*" or match = ["spark-9f8f", "lab-0[34]"]'
            problems.append(layer.problem(("match",), message, hint))
        host_layers.append(layer)
    return problems


def _globs(match: object) -> tuple[str, ...]:
    """The globs of a block's `match`; empty when it is none."""
    globs: list[Any] = match if isinstance(match, list) else [match]
    return tuple(globs) if all(isinstance(glob, str) and glob for glob in globs) else ()


def _matches(name: str, glob: str) -> bool:
    # Thousands of plain names in a fleet's file are not worth a compiled pattern each.
    return fnmatchcase(name, glob) if re.search(r"[*?\[]", glob) else name == glob
