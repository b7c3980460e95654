"""The daemon's side of the history: takes episodes at any moment and stores them on a thread of its own.

It never blocks or raises towards the daemon: what cannot be stored is dropped and counted. `history_file`
knows how episodes lie in the file, `history_pages` how they are read.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sparktune.errors import StoreError
from sparktune.history_file import CorruptHistoryError, HistoryFile, is_corrupt, set_aside
from sparktune.history_pages import MOST_A_PAGE, HistoryDrift, HistoryEpisode, HistoryPage, read
from sparktune.model import Episode

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST_A_PAGE", "MOST_QUEUED", "History", "HistoryDrift", "HistoryEpisode", "HistoryPage", "read"]

MOST_QUEUED = 10_000
"""Episodes that may wait for the disk; what comes beyond is dropped and counted."""

_LINGER_S = 0.1  # an episode is 100 ms long as well: bursts are written after they were healed, and in one go
_MOST_A_BATCH = 1_000
_RETENTION_EVERY = 100
_CLOSE_TIMEOUT_S = 5.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class History:
    """The daemon's side: takes episodes at any moment, stores them on a thread of its own.

    The thread sleeps until there is something to store, then waits 100 ms for more and stores all in one
    transaction. A damaged file is set aside; a full disk costs the episodes of that time, which are counted.
    """

    def __init__(
        self, path: Path, *, days: int, rows: int, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.error: str | None = None
        """Why the last attempt to store failed; None after one that worked. For the status."""
        self.set_aside: Path | None = None
        """Where a damaged file was put; None if there was none. For the status."""
        self._path = path
        self._limits = (days, rows)
        self._clock = clock
        self._boot = _boot_id()
        self._queue: queue.SimpleQueue[Episode | threading.Event | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._file: HistoryFile | None = None
        self._closed = False
        self._refused = 0  # counted by callers of `add`
        self._lost = 0  # counted by the thread
        self._unchecked = 0

    @property
    def dropped(self) -> int:
        """How many episodes could not be stored since the start."""
        return self._refused + self._lost

    def start(self) -> None:
        """Open or make the file and enforce the limits, on the thread: this returns at once."""
        self._thread.start()

    def add(self, episode: Episode) -> None:
        """Hand over an episode. Never blocks, never raises; with 10,000 waiting it is dropped and counted."""
        if self._closed or self._queue.qsize() >= MOST_QUEUED:
            self._refused += 1
        else:
            self._queue.put(episode)

    def configure(self, *, days: int, rows: int) -> None:
        """Set other limits; they are enforced soon."""
        self._limits = (days, rows)
        self._unchecked = _RETENTION_EVERY
        self._queue.put(threading.Event())

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything handed over before was stored or dropped; False if that took longer."""
        if not self._thread.is_alive():
            return False
        done = threading.Event()
        self._queue.put(done)
        self._hurry.set()
        return done.wait(timeout_s)

    def close(self) -> None:
        """Store what is waiting and close the file, but wait no longer than 5 s for a disk that hangs."""
        self._closed = True
        if self._thread.is_alive():
            self._queue.put(None)
            self._hurry.set()
            self._thread.join(_CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        self._enforce()
        open_for_more = True
        while open_for_more:
            items = self._collect()
            open_for_more = None not in items
            episodes = [item for item in items if isinstance(item, Episode)]
            if episodes:
                self._store(episodes)
            if self._unchecked >= _RETENTION_EVERY:
                self._enforce()
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()
        self._close_file()

    def _collect(self) -> list[Episode | threading.Event | None]:
        """Sleep until there is something, then take what there is."""
        items = [self._queue.get()]
        if isinstance(items[0], Episode):
            self._hurry.wait(_LINGER_S)
        self._hurry.clear()
        while len(items) < _MOST_A_BATCH:
            try:
                items.append(self._queue.get_nowait())
            except queue.Empty:  # that was all
                break
        return items

    def _store(self, episodes: list[Episode]) -> None:
        if self._attempt(lambda file: file.insert(episodes, self._boot)):
            self._unchecked += len(episodes)
        else:
            self._lost += len(episodes)

    def _enforce(self) -> None:
        days, rows = self._limits
        self._unchecked = 0
        self._attempt(lambda file: file.enforce(self._clock() - timedelta(days=days), rows))

    def _attempt(self, work: Callable[[HistoryFile], None]) -> bool:
        """Do something with the file, after setting a damaged one aside; whether it worked."""
        try:
            try:
                self._work(work)
            except CorruptHistoryError:
                self._close_file()
                self.set_aside = set_aside(self._path, self._clock())
                self._work(work)
        except (StoreError, CorruptHistoryError, sqlite3.Error, OSError) as error:
            # Disk full, read-only, out of descriptors: tried again, from opening on, with the next episode.
            self.error = f"{self._path}: {error}"
            self._close_file()
            return False
        self.error = None
        return True

    def _work(self, work: Callable[[HistoryFile], None]) -> None:
        if self._file is None:
            self._file = HistoryFile(self._path)
        try:
            work(self._file)
        except sqlite3.Error as error:
            if is_corrupt(error):
                raise CorruptHistoryError(str(error)) from error
            raise

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:  # no /proc: episodes of different boots cannot be told apart then
        return ""
