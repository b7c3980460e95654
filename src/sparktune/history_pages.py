"""What `/history` returns, and how it is read from the file: page by page, newest first.

Reading writes nothing, not even beside the file, and keeps nothing open between requests.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Mapping  # noqa: TC003 - pydantic resolves the annotations at run time
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import quote

from sparktune.errors import StoreError, UsageError
from sparktune.frozen import frozen
from sparktune.history_file import SCHEMA_VERSION
from sparktune.published import timestamp
from sparktune.snapshot import DOCUMENTED, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

MOST_A_PAGE = 1_000
"""The largest `limit` of `read`."""

_TIMEOUT_S = 2.0
_CURSOR = re.compile(r"h([0-9a-f]{1,15})")
_BASIC_CODE = 0xFF  # the low byte of an extended SQLite result code
ActionName = Literal["applied", "healed", "reported", "left", "refused"]


@frozen
class HistoryDrift:
    """One transition of one tunable, as it was recorded."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    tunable: str
    """The tunable's id."""
    wanted: int | str | None
    """The configured value."""
    found: int | str | None
    """What was read instead; null when nothing could be read."""
    action: ActionName
    """What was done."""
    reason: str
    """Why nothing was done, or why it failed; empty when healed."""
    took_us: int | None
    """From the wake-up to the verified write, in µs; null unless healed."""


@frozen
class HistoryEpisode:
    """Drifts of one area by one writer within 100 ms, as they were recorded."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    id: int
    """Rises with every episode; never used twice."""
    at: str
    """When the first drift was noticed, RFC 3339 UTC."""
    boot: str
    """The kernel's boot id; empty if it was unknown."""
    area: str
    """The area of all its drifts."""
    noticed: str
    """The trigger: fanotify, inotify, udev, rtnetlink, sweep, resume, start, request, reload."""
    action: ActionName
    """The weightiest of its drifts' actions."""
    count: int
    """How many drifts there were, also beyond those listed."""
    took_us: int | None
    """From the first wake-up to the last verified write, in µs; null unless healed."""
    by: Writer
    """Who did it."""
    loginuid: int | None
    """The writer's audit login uid; null if unset."""
    command: str | None
    """The writer's command line, secrets hidden; null unless it was asked for and seen."""
    parent_command: str | None
    """The same of its parent."""
    drifts: tuple[HistoryDrift, ...]
    """The first 256 drifts, in the order noticed."""


@frozen
class HistoryPage:
    """Episodes, newest first."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    episodes: tuple[HistoryEpisode, ...]
    """At most `limit` of them."""
    next_cursor: str | None
    """Give it as `cursor` to get the next, older page; null on the last one."""


def read(
    path: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    tunable: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
    show_commands: bool = False,
) -> HistoryPage:
    """Episodes, newest first. Works while the daemon runs, when it was stopped and when it was killed.

    Args:
        path: the history's file; the caller needs to read it, not to write its folder.
        since: the earliest moment, inclusive.
        until: the moment before which they were.
        tunable: only episodes with this tunable; `nvme.*` for all whose ids begin so.
        limit: episodes a page, 1 to 1,000.
        cursor: `next_cursor` of the page before; stays valid while episodes are added and deleted.
        show_commands: with command lines, which only root is shown.

    Raises:
        UsageError: the limit or the cursor makes no sense.
        StoreError: the file cannot be read, or is of a newer sparktune.
    """
    if not 1 <= limit <= MOST_A_PAGE:
        raise UsageError(f"limit {limit} is out of range", hint=f"1 to {MOST_A_PAGE}")
    conditions = list(_conditions(since=since, until=until, tunable=tunable, cursor=cursor))
    hint = "members of group sparktune and root may read it; everybody may ask the API"
    try:
        path.stat()
    except FileNotFoundError as error:  # no episode yet, or no daemon ever
        if path.parent.is_dir():
            return HistoryPage(episodes=(), next_cursor=None)
        raise StoreError(
            f"no history: {path.parent} does not exist", hint="has the daemon ever run?"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    if not os.access(path, os.R_OK):
        raise StoreError(f"cannot read {path}: Permission denied", hint=hint)
    try:
        return _read_page(path, conditions, limit, show_commands=show_commands)
    except sqlite3.Error as error:
        raise StoreError(f"cannot read {path}: {error}", hint="is the file damaged?") from error


_Condition = tuple[str, tuple[int | str, ...]]

_DRIFTED = (
    "EXISTS (SELECT 1 FROM drifts WHERE episode = episodes.id"
    " AND tunable IN (SELECT id FROM tunables WHERE {}))"
)


def _conditions(
    *, since: datetime | None, until: datetime | None, tunable: str | None, cursor: str | None
) -> Iterator[_Condition]:
    if since is not None:
        yield "at >= ?", (timestamp(since),)
    if until is not None:
        yield "at < ?", (timestamp(until),)
    if cursor is not None:
        yield "id < ?", (_position(cursor),)
    if tunable is not None:
        if tunable.endswith("*"):
            prefix = tunable[:-1]
            yield _DRIFTED.format("substr(name, 1, ?) = ?"), (len(prefix), prefix)
        else:
            yield _DRIFTED.format("name = ?"), (tunable,)


def _position(cursor: str) -> int:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise UsageError(f"{cursor!r} is no cursor", hint="give next_cursor of the page before, unchanged")
    return int(match[1], 16)


def _read_page(path: Path, conditions: list[_Condition], limit: int, *, show_commands: bool) -> HistoryPage:
    """Read with or without the write-ahead log.

    Without a log nobody has the file open. Then `immutable` needs no write access to the folder, and leaves
    no log behind for somebody who has it. With one, `mode=ro` reads it, also after kill -9; where the log
    cannot be used (a read-only disk), what is in the file itself is better than nothing.
    """
    if not path.with_name(f"{path.name}-wal").exists():
        try:
            return _query(path, "immutable=1", conditions, limit, show_commands=show_commands)
        except sqlite3.DatabaseError:  # a daemon has just started and moved pages: now there is a log
            return _query(path, "mode=ro", conditions, limit, show_commands=show_commands)
    try:
        return _query(path, "mode=ro", conditions, limit, show_commands=show_commands)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & _BASIC_CODE not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        return _query(path, "immutable=1", conditions, limit, show_commands=show_commands)


def _query(
    path: Path, mode: str, conditions: list[_Condition], limit: int, *, show_commands: bool
) -> HistoryPage:
    address = f"file:{quote(str(path.absolute()))}?mode=ro&{mode}"
    with closing(sqlite3.connect(address, uri=True, timeout=_TIMEOUT_S, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")  # one moment for all that is asked
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise StoreError(f"{path} was written by a newer sparktune", hint="upgrade sparktune")
        if version == 0:  # just made, nothing in it yet
            return HistoryPage(episodes=(), next_cursor=None)
        where = " AND ".join(condition for condition, _ in conditions) or "1"
        values = [value for _, some in conditions for value in some]
        # The conditions are this module's own text; what users give is bound.
        chosen = f"SELECT * FROM episodes WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608 - built from constants; every value is bound
        rows = connection.execute(chosen, (*values, limit + 1)).fetchall()
        more, rows = len(rows) > limit, rows[:limit]
        drifts = _read_drifts(connection, [row["id"] for row in rows])
    episodes = tuple(_episode(row, drifts[row["id"]], show_commands=show_commands) for row in rows)
    return HistoryPage(episodes=episodes, next_cursor=f"h{episodes[-1].id:x}" if more else None)


def _read_drifts(connection: sqlite3.Connection, ids: list[int]) -> dict[int, list[HistoryDrift]]:
    drifts: dict[int, list[HistoryDrift]] = {number: [] for number in ids}
    rows = connection.execute(
        "SELECT episode, name, wanted, found, action, reason, took_us FROM drifts"
        " JOIN tunables ON tunables.id = tunable"
        " WHERE episode IN (SELECT value FROM json_each(?)) ORDER BY episode, number",
        (json.dumps(ids),),
    )
    for episode, name, wanted, found, action, reason, took_us in rows:
        drifts[episode].append(
            HistoryDrift(
                tunable=name, wanted=wanted, found=found, action=action, reason=reason, took_us=took_us
            )
        )
    return drifts


def _episode(row: sqlite3.Row, drifts: list[HistoryDrift], *, show_commands: bool) -> HistoryEpisode:
    seen = ("kind", "comm", "pid", "exe", "uid", "unit", "parent", "detail")
    same = ("id", "at", "boot", "area", "noticed", "action", "count", "took_us", "loginuid")
    known: dict[str, Any] = {name: row[name] for name in same}
    by: dict[str, Any] = {name: row[name] for name in seen}
    return HistoryEpisode(
        **known,
        by=Writer(**by, suspects=tuple(json.loads(row["suspects"]))),
        command=row["command"] if show_commands else None,
        parent_command=row["parent_command"] if show_commands else None,
        drifts=tuple(drifts),
    )
