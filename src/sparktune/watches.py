"""Which tunables each watched inode belongs to. Maps events; opens nothing but the watch itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sparktune.kernel.watch import open_watch
from sparktune.model import Noticed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from sparktune.held import Held
    from sparktune.kernel.watch import Inode, Watch, WriteEvent


_FLEETING = "/sys/kernel/config/"
"""configfs forgets the inode of a file that nobody has open, and with it the mark."""


class Watches:
    """The write watch of all tunables."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        """Start without a watch."""
        self._log = log
        self._watch: Watch | None = None
        self._paths: dict[Path, Inode] = {}
        self._tunables: dict[Inode, list[Held]] = {}
        self._pins: dict[Path, int] = {}
        self._missing: set[Path] = set()
        self._complained: set[Path] = set()

    def open(self) -> int | None:
        """Open the best watch there is. Returns its descriptor; None where only the sweep is left."""
        self._watch = open_watch()
        return None if self._watch is None else self._watch.fileno()

    @property
    def events(self) -> str:
        """How changes are seen: `fanotify+pid`, `inotify`, `sweep only`."""
        return "sweep only" if self._watch is None else self._watch.name

    @property
    def noticed(self) -> Noticed:
        """The trigger its events are."""
        return Noticed.INOTIFY if self.events == "inotify" else Noticed.FANOTIFY

    def read(self) -> Iterable[WriteEvent]:
        """The events that have queued up."""
        return () if self._watch is None else self._watch.read()

    def find(self, event: WriteEvent) -> Iterable[Held]:
        """The tunables an event is about; none for an overflow."""
        return () if event.inode is None else self._tunables.get(event.inode, ())

    def synchronise(self, states: Iterable[Held]) -> None:
        """Watch exactly these tunables' inodes; a file that is not there yet is left to the next time."""
        if self._watch is None:
            return
        tunables: dict[Inode, list[Held]] = {}
        paths: dict[Path, Inode] = {}
        self._missing.clear()
        for held in states:
            for path in held.tunable.attribute.watched if not held.tunable.is_check else ():
                inode = self._add(self._watch, path)
                if inode is not None:
                    paths[path] = inode
                    tunables.setdefault(inode, []).append(held)
        for path, inode in self._paths.items():
            if inode not in tunables:
                self._watch.remove(path, inode)
        self._paths, self._tunables = paths, tunables
        for path in self._pins.keys() - paths.keys():
            os.close(self._pins.pop(path))

    def are_outdated(self) -> bool:
        """Whether a file was made since `synchronise`, or one of configfs is another one by now."""
        made = any(os.access(path, os.F_OK) for path in self._missing)
        return made or any(os.fstat(pin).st_nlink == 0 for pin in self._pins.values())

    def _add(self, watch: Watch, path: Path) -> Inode | None:
        try:
            if str(path).startswith(_FLEETING):
                self._pin(path)
            return watch.add(path)
        except (FileNotFoundError, NotADirectoryError):  # made later, or gone: the sweep will ask again
            self._missing.add(path)
            return None
        except OSError as error:  # out of marks, or forbidden: the sweep covers it
            if path not in self._complained:
                self._complained.add(path)
                self._log.warning("not watched, the sweep covers it", file=str(path), error=str(error))
            return None

    def _pin(self, path: Path) -> None:
        """Keep the inode as it is now, by a descriptor that can neither read nor write. Raises OSError."""
        pin = os.open(path, os.O_PATH | os.O_CLOEXEC)
        before, self._pins[path] = self._pins.get(path), pin
        if before is not None:
            os.close(before)

    def close(self) -> None:
        """Stop watching."""
        while self._pins:
            os.close(self._pins.popitem()[1])
        if self._watch is not None:
            self._watch.close()
            self._watch = None
