"""The environment as the last configuration layer: SPARKTUNE_NVME__READ_AHEAD_KB and its like.

Turns text into the TOML type of the key and no further: judging values is `settings.py`'s.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from sparktune.errors import Problem
from sparktune.layers import Layer
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "SPARKTUNE_"
DIRECTORIES = ("SPARKTUNE_RUN_DIR", "SPARKTUNE_STATE_DIR")
"""The two variables that are no configuration keys; the command line reads them."""

_OFF = "off"
"""The default of a key that takes a number, a list or a word: which one, its text shows."""
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def variable(key: str) -> str:
    """The variable of a dotted key: `nvme.read_ahead_kb` is SPARKTUNE_NVME__READ_AHEAD_KB."""
    return PREFIX + key.replace(".", "__").upper()


def read_environment(
    environ: Mapping[str, str], defaults: Mapping[str, object]
) -> tuple[tuple[Layer, ...], tuple[Problem, ...]]:
    """One layer for each SPARKTUNE_* variable, in the order of their names, and the unknown ones as problems.

    Args:
        environ: all variables.
        defaults: by dotted key; the type of a default says how the text of its variable is read.
    """
    keys = {variable(key): key for key in defaults}
    layers: list[Layer] = []
    problems: list[Problem] = []
    for name in sorted(environ):
        if name in keys:
            key = keys[name]
            section, _, leaf = key.rpartition(".")
            value = _typed(environ[name], defaults[key])
            layers.append(Layer(label=name, values={section: {leaf: value}} if section else {leaf: value}))
        elif name.startswith(PREFIX) and name not in DIRECTORIES:
            problems.append(_unknown(name, (*keys, *DIRECTORIES)))
    return tuple(layers), tuple(problems)


def _unknown(name: str, known: tuple[str, ...]) -> Problem:
    from difflib import get_close_matches

    close = get_close_matches(name[:100], known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"unset it; one of those known is {known[0]}"
    return Problem(file=plain(name), line=0, key="", message="unknown environment variable", hint=hint)


def _typed(text: str, default: object) -> Any:
    """The text as the default's TOML type; the text itself where it is none, for the validation to refuse."""
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text, text)
    if isinstance(default, int):
        return int(text) if _WHOLE.fullmatch(text) else text
    if isinstance(default, tuple):
        return _list(text)
    if default == _OFF:
        return int(text) if _WHOLE.fullmatch(text) else _list(text) if text.startswith("[") else text
    return text


def _list(text: str) -> Any:
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",")] if text.strip() else []
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON: refused as the text it is
        return text
