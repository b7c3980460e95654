"""How drifts and those who made them are said on one line, from the published JSON. Imports little."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECOND_US, _MILLISECOND_US = 1_000_000, 1_000


def local_time(text: str) -> str:
    """A published time in the reader's own zone, as journalctl shows it; unchanged if it is none."""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:  # of another version: better raw than nothing
        return text


def describe_writer(by: Mapping[str, Any]) -> str:
    """`cpupower[812] uid 0 in session-3.scope, child of bash[811]`."""
    if by.get("kind") != "process":
        kind, detail = str(by.get("kind", "unknown")), by.get("detail")
        said = f"{kind} ({detail})" if detail else kind
        suspects = ", ".join(by.get("suspects") or ())
        return f"{said} (suspected: {suspects})" if suspects else said
    said = f"{by.get('comm') or '?'}[{by.get('pid')}]"
    if by.get("uid") is not None:
        said += f" uid {by['uid']}"
    if by.get("unit"):
        said += f" in {by['unit']}"
    if by.get("parent"):
        said += f", child of {by['parent']}"
    return said


def describe_took(took_us: int | None) -> str:
    """`412 µs`, `4.1 ms`, `1.2 s`; empty where nothing was healed."""
    if took_us is None:
        return ""
    if took_us < _MILLISECOND_US:
        return f"{took_us} µs"
    if took_us < _SECOND_US:
        return f"{took_us / _MILLISECOND_US:.1f} ms"
    return f"{took_us / _SECOND_US:.1f} s"
