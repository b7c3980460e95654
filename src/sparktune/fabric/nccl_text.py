"""A suggestion as text for shells, for nccl.conf, and as JSON. Whatever is in it, a shell may evaluate it.

Where the fabric is not fit, the text for shells is comments and `false`: `eval` then fails too.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from sparktune.published import encode
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sparktune.fabric.suggestion import Problem, Removal, Setting, Suggestion

FORMATS = ("env", "json", "nccl.conf", "fish")
"""What `--format` takes."""

_FOR_SHELLS = frozenset({"env", "fish"})
_WIDEST = 100
_QUOTES_AND_BACKSLASHES = re.compile(r"(['\\]+)")


def render(suggestion: Suggestion, form: str) -> str:
    """The text in one of the `FORMATS`, ending with a newline."""
    if form == "json":
        return encode(suggestion) + "\n"
    if not suggestion.fit:
        return refuse(["the fabric is not fit for NCCL", *tell(suggestion.problems)], form)
    lines = _comment(_head(suggestion), form)
    for note in suggestion.notes:
        lines += ["", *_comment(f"note: {note}", form)]
    for setting in suggestion.variables:
        lines += ["", *_set(setting, form)]
    for removal in suggestion.unset:
        lines += ["", *_unset(removal, form)]
    return "\n".join(lines) + "\n"


def refuse(sentences: Iterable[str], form: str) -> str:
    """Why there is nothing to set: comments, and for shells a command that fails. Empty for JSON."""
    if form == "json":
        return ""
    lines = [line for sentence in sentences for line in _comment(sentence, form)]
    return "\n".join([*lines, *(["false"] if form in _FOR_SHELLS else [])]) + "\n"


def tell(problems: Iterable[Problem]) -> list[str]:
    """Sentences for problems, one each: what is wrong, and what mends it."""
    return [f"{one.what}; to mend it: {one.do}" for one in problems]


def quote(text: str) -> str:
    """One word of sh, bash, zsh and fish alike: fish knows escapes in quotes, so there are none in them."""
    parts = [part for part in _QUOTES_AND_BACKSLASHES.split(text) if part]
    if not parts:
        return "''"
    return "".join(
        "".join(f"\\{letter}" for letter in part) if part[0] in "'\\" else f"'{part}'" for part in parts
    )


def _head(suggestion: Suggestion) -> str:
    return (
        f"For NCCL {suggestion.nccl_version}, and UCX, on this node as it is now. Names and state differ "
        "from node to node: run this on each."
    )


def _set(setting: Setting, form: str) -> list[str]:
    comment = _comment(setting.reason, form)
    if form == "env":
        return [*comment, f"export {setting.name}={quote(setting.value)}"]
    if form == "fish":
        return [*comment, f"set -gx {setting.name} {quote(setting.value)}"]
    if setting.name.startswith("NCCL_"):
        return [*comment, f"{setting.name}={setting.value}"]
    return _comment(f"{setting.name} is not NCCL's: set it in the environment, to {setting.value}", form)


def _unset(removal: Removal, form: str) -> list[str]:
    comment = _comment(removal.reason, form)
    if form == "env":
        return [*comment, f"unset {removal.name}"]
    if form == "fish":
        return [*comment, f"set -e {removal.name}"]
    return [
        *comment,
        *_comment(f"so {removal.name} must be neither here nor in the environment: remove it", form),
    ]


def _comment(text: str, form: str) -> list[str]:
    """A sentence as lines of comment. In nccl.conf without `=`: NCCL before 2.26 knows no comments there."""
    safe = plain(text, most=len(text))
    if form == "nccl.conf":
        safe = safe.replace("=", ":")
    return textwrap.wrap(
        safe,
        width=_WIDEST,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
