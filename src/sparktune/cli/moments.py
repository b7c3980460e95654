"""Moments as people write them on the command line: an age, or RFC 3339; without a zone it is local time."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sparktune.durations import parse_duration
from sparktune.errors import UsageError
from sparktune.wording import quoted

_HINT = 'write an age such as "30s", "10m" or "1h", or a time such as 2026-11-23T16:31:00Z'


def parse_moment(text: str, *, name: str) -> datetime:
    """A moment in UTC.

    Raises:
        UsageError: it is none; `name` is the option it was given for.
    """
    with suppress(UsageError):  # no age: then it must be a time
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:  # the latter two: out of the calendar
        raise UsageError(f"{name}: {quoted(text)} is no moment", hint=_HINT) from error
