"""The file behind the history: how it is opened, laid out, filled and kept small.

Used by one thread of the daemon only; readers have `history.read`. A file that cannot be understood is
renamed, one of a newer sparktune is left alone: nothing is ever deleted here but by age and number.
"""

from __future__ import annotations

import grp
import json
import os
import sqlite3
from contextlib import suppress
from datetime import UTC
from typing import TYPE_CHECKING

from sparktune.errors import StoreError
from sparktune.published import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from sparktune.model import Drift, Episode, Value

SCHEMA_VERSION = 1
"""PRAGMA user_version of the files this writes and reads."""

_GROUP = "sparktune"
_MODE = 0o640
_COMPANIONS = ("-wal", "-shm")
_BUSY_TIMEOUT_S = 2.0
_LARGEST = 2**63 - 1
_BASIC_CODE = 0xFF  # the low byte of an extended SQLite result code

_SETTINGS = """
PRAGMA journal_mode = WAL;          -- readers never block the writer, and kill -9 loses nothing
PRAGMA synchronous = NORMAL;        -- no fsync for each batch: a power cut costs the last few, never the file
PRAGMA journal_size_limit = 4194304;
PRAGMA cache_size = -256;           -- KiB: the daemon's memory is counted
PRAGMA foreign_keys = ON;
"""
_SCHEMA = f"""
BEGIN;
CREATE TABLE episodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, so that cursors stay true
    at TEXT NOT NULL, boot TEXT NOT NULL, area TEXT NOT NULL, noticed TEXT NOT NULL, action TEXT NOT NULL,
    count INTEGER NOT NULL, took_us INTEGER,
    kind TEXT NOT NULL, pid INTEGER, comm TEXT, exe TEXT, uid INTEGER, loginuid INTEGER, unit TEXT,
    command TEXT,
    parent TEXT, parent_exe TEXT, parent_uid INTEGER, parent_command TEXT,
    detail TEXT NOT NULL, suspects TEXT NOT NULL -- a JSON list of comm[pid]
);
CREATE INDEX episodes_by_time ON episodes (at);
CREATE TABLE tunables (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE drifts (
    episode INTEGER NOT NULL REFERENCES episodes (id) ON DELETE CASCADE, number INTEGER NOT NULL,
    tunable INTEGER NOT NULL REFERENCES tunables (id),
    wanted, found, -- without a type: numbers stay numbers, text stays text
    action TEXT NOT NULL, reason TEXT NOT NULL, took_us INTEGER,
    PRIMARY KEY (episode, number)
) WITHOUT ROWID;
CREATE INDEX drifts_by_tunable ON drifts (tunable, episode);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_INSERT_EPISODE = f"INSERT INTO episodes VALUES (NULL{', ?' * 21})"  # noqa: S608 - built from constants of this module only
_INSERT_TUNABLE = "INSERT OR IGNORE INTO tunables (name) VALUES (?)"
_INSERT_DRIFT = "INSERT INTO drifts VALUES (?, ?, (SELECT id FROM tunables WHERE name = ?), ?, ?, ?, ?, ?)"
_DELETE_OLD = "DELETE FROM episodes WHERE at < ?"
_DELETE_MANY = "DELETE FROM episodes WHERE id <= (SELECT id FROM episodes ORDER BY id DESC LIMIT 1 OFFSET ?)"


class CorruptHistoryError(Exception):
    """What lies there is no database, or a damaged one: to be set aside."""


class HistoryFile:
    """An open history. Every method but `close` raises sqlite3.Error when the disk or SQLite refuses.

    Raises:
        CorruptHistoryError: the file is damaged or is no database.
        StoreError: it is of a newer sparktune, or not a history.
        OSError, sqlite3.Error: it cannot be opened or made.
    """

    def __init__(self, path: Path) -> None:
        _make(path)
        self._connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            _check(self._connection, path)
            self._connection.executescript(_SETTINGS)
            if _version(self._connection) == 0:
                self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self.close()
            if is_corrupt(error):
                raise CorruptHistoryError(str(error)) from error
            raise
        except (CorruptHistoryError, StoreError):
            self.close()
            raise

    def insert(self, episodes: Iterable[Episode], boot: str) -> None:
        """Store episodes in one transaction: all or none."""
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            for episode in episodes:
                self._insert(episode, boot)

    def enforce(self, oldest: datetime, rows: int) -> None:
        """Delete what is older than `oldest`, and the oldest beyond `rows` episodes."""
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            self._connection.execute(_DELETE_OLD, (timestamp(oldest),))
            self._connection.execute(_DELETE_MANY, (rows,))

    def close(self) -> None:
        """Close, which also empties the write-ahead log into the file if the disk lets it. Never raises."""
        with suppress(sqlite3.Error):  # a full disk: the log stays and is read next time
            self._connection.close()

    def _insert(self, episode: Episode, boot: str) -> None:
        number = self._connection.execute(_INSERT_EPISODE, _episode_row(episode, boot)).lastrowid
        names = {_storable(drift.tunable) for drift in episode.drifts}
        self._connection.executemany(_INSERT_TUNABLE, ((name,) for name in names))
        rows = ((number, index, *_drift_row(drift)) for index, drift in enumerate(episode.drifts))
        self._connection.executemany(_INSERT_DRIFT, rows)


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether an error says that the file is damaged, and not that the disk or a lock is in the way."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & _BASIC_CODE
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def set_aside(path: Path, moment: datetime) -> Path:
    """Rename a history, with its log, to `history.db.corrupt-20261123T163100Z`; never over another one.

    Raises:
        OSError: the folder cannot be written.
    """
    base = aside = path.with_name(f"{path.name}.corrupt-{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}")
    number = 1
    while aside.exists():
        number += 1
        aside = base.with_name(f"{base.name}-{number}")
    path.rename(aside)
    for suffix in _COMPANIONS:
        with suppress(FileNotFoundError):  # there only after a crash
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _make(path: Path) -> None:
    """Make the file, or mend its mode and group; SQLite gives its companions the same ones."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    try:
        os.fchmod(descriptor, _MODE)
        group = _group()
        if group is not None:
            os.fchown(descriptor, -1, group)
    finally:
        os.close(descriptor)
    for suffix in _COMPANIONS:
        with suppress(FileNotFoundError):  # there only after a crash
            companion = path.with_name(path.name + suffix)
            companion.chmod(_MODE)
            if group is not None:
                os.chown(companion, -1, group, follow_symlinks=False)


def _group() -> int | None:
    """The group whose members may read the history; None if there is none or it is not ours to give."""
    if os.geteuid() != 0:
        return None
    try:
        return grp.getgrnam(_GROUP).gr_gid
    except KeyError:  # started from a checkout, without the package's group
        return None


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer sparktune (schema {version}, this one writes {SCHEMA_VERSION})",
            hint=f"upgrade sparktune, or move {path.name} away to start a new history",
        )
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == 0 and tables:
        raise StoreError(f"{path} is a database, but no history of sparktune", hint="move it away")
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise CorruptHistoryError(str(found))


def _episode_row(episode: Episode, boot: str) -> tuple[Value | None, ...]:
    cause, process, parent = episode.cause, episode.cause.process, episode.cause.parent
    suspects = json.dumps([suspect.label for suspect in cause.suspects])
    seen = ("pid", "comm", "exe", "uid", "loginuid", "unit", "cmdline")
    row = (
        timestamp(episode.at), boot, episode.area, episode.noticed, episode.action, episode.count,
        episode.took_us,
        cause.kind, *(None if process is None else getattr(process, name) for name in seen),
        *((None,) * 4 if parent is None else (parent.label, parent.exe, parent.uid, parent.cmdline)),
        cause.detail, suspects,
    )  # fmt: skip
    return tuple(_storable(value) for value in row)


def _drift_row(drift: Drift) -> tuple[Value | None, ...]:
    row = (drift.tunable, drift.wanted, drift.found, drift.action, drift.reason, drift.took_us)
    return tuple(_storable(value) for value in row)


def _storable(value: Value | None) -> Value | None:
    """The value as SQLite takes it: no lone surrogates, no number beyond 64 bits."""
    if isinstance(value, str):
        return str(value.encode(errors="replace"), "utf-8")
    return value if value is None or abs(value) <= _LARGEST else str(value)
