"""What can be asked in a query string, and how moments are written there. Unknown parameters are refused."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sparktune.durations import parse_duration
from sparktune.errors import UsageError
from sparktune.snapshot import VerdictName  # noqa: TC001 - FastAPI resolves the annotations at run time
from sparktune.wording import plain, quoted

_LOST_PLUS = re.compile(r" ([0-9]{2}:[0-9]{2})$")
_MOMENT = "RFC 3339 with a zone (`2026-11-23T16:31:00Z`), or an age (`30s`, `10m`, `1h`)"


class TunablesQuery(BaseModel):
    """Which tunables."""

    model_config = ConfigDict(extra="forbid")
    area: str | None = Field(None, description="Only this area: `nvme`, `cpuidle`, `roce`.")
    verdict: VerdictName | None = Field(None, description="Only those with this verdict.")


class AdviceQuery(BaseModel):
    """Advice for which process."""

    model_config = ConfigDict(extra="forbid")
    pid: int | None = Field(None, ge=1, le=4194304, description="Only this process.")


class HistoryQuery(BaseModel):
    """Which episodes, and how many at once."""

    model_config = ConfigDict(extra="forbid")
    since: str | None = Field(None, description=f"Not older than this: {_MOMENT}.")
    until: str | None = Field(None, description=f"Older than this: {_MOMENT}.")
    tunable: str | None = Field(
        None, description="Only episodes with this tunable; `nvme.*`: with any of these."
    )
    limit: int = Field(100, ge=1, le=1000, description="At most this many.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


class NcclQuery(BaseModel):
    """For which NCCL, and as what."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["json", "env", "nccl.conf", "fish"] = Field(
        "json", description="All but `json` are plain text, failures too: safe to evaluate whatever happens."
    )
    nccl_version: str | None = Field(None, description="`2.20.5`; without: any NCCL from 2.21 on.")


def parse_moment(text: str, *, name: str) -> datetime:
    """A moment in UTC from RFC 3339 or an age such as `1h`.

    Raises:
        UsageError: it is neither; `name` is the parameter it was given for.
    """
    with suppress(UsageError):  # no age: then it must be a moment
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    try:
        # in a query string an unescaped "+02:00" arrives as " 02:00"
        moment = datetime.fromisoformat(_LOST_PLUS.sub(r"+\1", text))
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        reason = "no zone is given"
    except (ValueError, OverflowError) as error:  # OverflowError: out of the calendar once in UTC
        reason = plain(str(error))
    raise UsageError(f"{name}: {quoted(text)} is no moment: {reason}", hint=f"write {_MOMENT}")
