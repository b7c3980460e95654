"""What CPUs do when idle, beyond the `disable` files: entries into disabled states, and PM QoS requests."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from sparktune.kernel.attribute import reading_of
from sparktune.model import Reading, ReadingKind, Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sparktune.kernel.attribute import FileAttribute
    from sparktune.kernel.root import Root

_CPU_DMA_LATENCY = "/dev/cpu_dma_latency"
_MOST_HOLDERS = 5
_USAGE_BYTES = 64
_MOST_DIGITS = 20  # of an unsigned long long
_S32 = struct.Struct("=i")


class EnteredStates:
    """A check: how often the CPU entered states that were disabled the whole time since the last reading.

    Starts anew whenever one of the states was written by us or last seen enabled: what was entered then was
    allowed then, and that drift has been told already. So the states' own tunables must be looked at first.
    The kernel counts when a state is left, so the first entry after a start may be one from before it.
    """

    kind = "entered"
    makes = ""
    writable = False
    watched: tuple[Path, ...] = ()

    def __init__(
        self,
        root: Root,
        location: str,
        identity: tuple[str, str],
        states: Sequence[tuple[FileAttribute, str]],
    ) -> None:
        """Describe the check; `states` are the disabled states' `disable` attributes and `usage` files."""
        self.location = location
        self.identity = identity
        self._disables = tuple(disable for disable, _ in states)
        self._names = tuple(usage for _, usage in states)
        self._paths = tuple(root.path(usage) for usage in self._names)
        self._readers: list[int] = []
        self._baseline: int | None = None
        self._texts: list[bytes] = []
        self._may_be_inside = True
        self._writes = -1

    def read(self) -> Reading:
        """Entries since the last reading; absent where this reading can only be the start."""
        try:
            usage = self._count()
        except OSError as error:
            self.close()
            return reading_of(error, self.location)
        if usage is None:
            self.close()
            return Reading(ReadingKind.FAILED, reason=f"no number in one of {self.location}")
        steady = self._is_steady()
        before, self._baseline = self._baseline, usage
        self._writes = sum(disable.writes for disable in self._disables)
        if not steady or before is None:
            self._may_be_inside = True
            return Reading(ReadingKind.ABSENT, reason="counting from now; judged at the next sweep")
        entered = max(usage - before, 0)
        if entered and self._may_be_inside:
            self._may_be_inside = False
            entered -= 1
        return Reading(ReadingKind.VALUE, entered)

    def holds(self, wanted: Value) -> bool:
        """Whether nothing was entered since the last reading; if something was, `read` will tell how much."""
        if self._baseline is None or wanted != 0:
            return False
        try:
            texts = [os.pread(reader, _USAGE_BYTES, 0) for reader in self._readers]
        except OSError:  # read() says what it means
            return False
        return texts == self._texts and self._is_steady()

    def _is_steady(self) -> bool:
        writes = 0
        for disable in self._disables:
            if disable.last != 1:
                return False
            writes += disable.writes
        return writes == self._writes

    def exchange(self, wanted: bytes) -> bytes | None:
        """A check is never written."""

    def preparation(self) -> tuple[str, ...]:
        """A check prepares nothing."""
        return ()

    def prepare(self) -> None:
        """A check prepares nothing."""

    def unprepare(self) -> None:
        """A check prepared nothing."""

    def write(self, value: Value) -> None:
        """A check is never written. Raises OSError (always)."""
        raise OSError(1, f"a check cannot be set to {value}", self.location)

    def close(self) -> None:
        """Release the descriptors; the next reading is a new start."""
        for reader in self._readers:
            with suppress(OSError):  # only read from
                os.close(reader)
        self._readers, self._texts = [], []
        self._baseline = None

    def _count(self) -> int | None:
        if not self._readers:
            for path in self._paths:
                self._readers.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        total = 0
        self._texts = [os.pread(reader, _USAGE_BYTES, 0) for reader in self._readers]
        for text in map(bytes.strip, self._texts):
            if not text.isdigit() or len(text) > _MOST_DIGITS:  # no count must not look like "not entered"
                return None
            total += int(text)
        return total


def qos_latency_us(root: Root) -> int | None:
    """The effective system-wide PM QoS latency; None where it cannot be read (or in a tree).

    Opening the file makes a request of one's own, with the default that limits nothing, for as long as it
    is open. Source: Documentation/power/pm_qos_interface.rst.
    """
    data = root.read_bytes(_CPU_DMA_LATENCY)
    if data is None or len(data) < _S32.size:
        return None
    return int(_S32.unpack_from(data)[0])


def qos_holders(root: Root) -> str:
    """`comm[pid], …` of the processes that keep /dev/cpu_dma_latency open, or `a process not visible`."""
    import psutil

    found = [
        f"{process.info['name'] or '?'}[{process.pid}]"
        for process in psutil.process_iter(["name"])
        if process.pid != os.getpid() and _holds_open(root, process.pid)
    ]
    return ", ".join(found[:_MOST_HOLDERS]) or "a process not visible to us"


def _holds_open(root: Root, pid: int) -> bool:
    for number in root.names(f"/proc/{pid}/fd"):
        with suppress(OSError):  # closed in between
            if str(root.path(f"/proc/{pid}/fd/{number}").readlink()) == _CPU_DMA_LATENCY:
                return True
    return False
