"""Durations as people write them in the configuration and on the command line: "500ms", "10s", "10m", "1h".

Must stay free of pydantic: the command line imports it.
"""

from __future__ import annotations

import re

from sparktune.errors import UsageError
from sparktune.wording import quoted

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_PARTS_OF_A_SECOND = {"ms": 1000}
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """Seconds of a duration: a number and one of the units ms, s, m, h, nothing between them.

    Raises:
        UsageError: it is no duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{quoted(text)} is no duration", hint='write a number and a unit: "500ms", "10s", "10m" or "1h"'
        )
    number, unit = float(match[1]), match[2]
    if unit in _PARTS_OF_A_SECOND:
        return number / _PARTS_OF_A_SECOND[unit]
    return number * _SECONDS[unit]
