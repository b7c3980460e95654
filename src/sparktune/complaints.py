"""What pydantic found wrong, said for people: what was expected, what was found, what to write instead.

No text of pydantic may reach a user, and no value is shown uncut.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sparktune.frozen import frozen
from sparktune.wording import plain, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

    from sparktune.errors import Problem
    from sparktune.layers import Layer

_MOST_GUESSES = 50
"""Nearest keys are looked for this often in one layer; after that a hostile file would only cost time."""
_LONGEST_GUESS = 60
_LARGE = 10**18
_SIZE = re.compile(r"([0-9]{1,9}) ?([KMG])(?:i?B)?", re.IGNORECASE)
_KIB = {"K": 1, "M": 1024, "G": 1024 * 1024}
_TIME = re.compile(r"([0-9]{1,9}) ?(?:us|µs)")


@frozen
class Key:
    """One configuration key, as far as complaints need it.

    Attributes:
        name: dotted.
        expected: what can be written, for "expected …".
        default: its default.
        choices: the words it takes, if it takes only some.
    """

    name: str
    expected: str
    default: object
    choices: tuple[str, ...] = ()


def complain(layer: Layer, errors: Iterable[ErrorDetails], keys: Mapping[str, Key]) -> list[Problem]:
    """The problems of one layer, one for each offending value."""
    problems: dict[tuple[int | str, ...], Problem] = {}
    guesses = 0
    for error in errors:
        path = tuple(error["loc"][:3] if error["loc"][0] in _sections(keys) else error["loc"][:1])
        # A union complains once for each of its members: one sentence is enough.
        if len(path) == 3 and isinstance(path[2], str):  # noqa: PLR2004 - a pair and its rest
            path = path[:2]
        if path in problems:
            continue
        if error["type"] == "extra_forbidden":
            guesses += 1
            hint = _nearest(path, keys, is_block=bool(layer.place)) if guesses <= _MOST_GUESSES else ""
            problems[path] = layer.problem(_counted(path), "unknown key", hint)
        else:
            problems[path] = _wrong_value(layer, path, error, keys)
    return list(problems.values())


def describe(value: object) -> str:
    """A value as TOML spells it, cut: `true`, `8192.0`, `"8M"`, `a list`."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool | float):
        return str(value).lower()
    if isinstance(value, int):  # Python refuses to spell out numbers of more than 4300 digits
        return str(value) if abs(value) < _LARGE else "a number of more than 18 digits"
    names = {"dict": "table"}
    name = type(value).__name__
    return f"a {names.get(name, name)}"  # list, date, time, datetime


def _wrong_value(
    layer: Layer, path: tuple[int | str, ...], error: ErrorDetails, keys: Mapping[str, Key]
) -> Problem:
    name = ".".join(part for part in path if isinstance(part, str))
    value = _written(layer, path)
    found = describe(value)
    if name not in keys:
        first = next(key for key in keys if key.startswith(f"{name}."))
        hint = f"its keys are written one by one: {first} = …"
        return layer.problem(_counted(path), f"expected a table of keys, found {found}", hint)
    if error["type"] == "too_long":
        found += f" of more than {error['ctx']['max_length']}"
    is_item = isinstance(path[-1], int)
    hint = error.get("ctx", {}).get("hint") or ("" if is_item else _hint(keys[name], value))
    return layer.problem(_counted(path), f"expected {keys[name].expected}, found {found}", hint)


def _written(layer: Layer, path: tuple[int | str, ...]) -> Any:
    """The value as it was written; pydantic's `input` may be converted already."""
    value: Any = layer.values
    for part in path:
        value = value[part]
    return value


def _hint(key: Key, value: Any) -> str:
    if isinstance(key.default, bool):
        return "" if isinstance(value, dict | list) else "write true or false, without quotes"
    if isinstance(key.default, tuple):
        return f"write [{quoted(value)}]" if isinstance(value, str) else ""
    if isinstance(value, str):
        return _hint_for_text(key, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _hint_for_number(key, value)
    return ""


def _hint_for_number(key: Key, value: Any) -> str:
    if isinstance(key.default, float) and 0 < value < _LARGE:
        return f'a duration is text with a unit: write "{value:g}s"'
    if isinstance(key.default, int) and isinstance(value, float) and value.is_integer():
        return f"write {describe(int(value))}"
    return ""


def _hint_for_text(key: Key, text: str) -> str:
    """For text where a number or one of some words was expected."""
    if isinstance(key.default, int):
        size, time = _SIZE.fullmatch(text), _TIME.fullmatch(text)
        if size and key.name.endswith("_kb"):
            return f"write {int(size[1]) * _KIB[size[2].upper()]}, in KiB"
        if time and key.name.endswith("_us"):
            return f"write {int(time[1])}, in µs"
        if re.fullmatch(r"-?[0-9]{1,18}", text):
            return f"write {int(text)}, without quotes"
    if isinstance(key.default, float) and re.fullmatch(r"[0-9]{1,9}", text):
        return f'say which unit: "{text}s"'
    if key.choices:
        close = _closest(text.lower(), {choice.lower(): choice for choice in key.choices})
        return f"did you mean {quoted(close)}?" if close else ""
    return ""


def _nearest(path: tuple[int | str, ...], keys: Mapping[str, Key], *, is_block: bool) -> str:
    """The nearest valid key: one of the same table, else one of the same name in another table."""
    leaf = str(path[-1])
    if len(leaf) > _LONGEST_GUESS:
        return ""
    elsewhere = {name.rpartition(".")[2]: name for name in reversed(list(keys))}
    if path[0] in _sections(keys):
        near = [name for name in keys if name.startswith(f"{path[0]}.")]
    else:
        near = [
            *(name for name in keys if "." not in name),
            *_sections(keys),
            *(["match"] if is_block else []),
        ]
    here = {name.rpartition(".")[2]: name for name in near}
    close = elsewhere.get(leaf) or _closest(leaf.lower(), here) or _closest(leaf.lower(), elsewhere)
    return f"did you mean {plain(close)}?" if close else f"known here: {', '.join(here)}"


def _closest(word: str, known: Mapping[str, str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word[:_LONGEST_GUESS], known, n=1)
    return known[close[0]] if close else ""


def _sections(keys: Mapping[str, Key]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.partition(".")[0] for name in keys if "." in name))


def _counted(path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """List elements are counted from 0 by pydantic, from 1 by `KeyLines`."""
    return tuple(part + 1 if isinstance(part, int) else part for part in path)
