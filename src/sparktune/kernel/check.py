"""What all attributes have in common that are only ever read. A check is never written."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.model import Value


class ReadOnly:
    """The writing half of an attribute that has none."""

    makes = ""
    writable = False
    watched: tuple[Path, ...] = ()
    location = ""

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
        raise OSError(errno.EPERM, f"a check cannot be set to {value}", self.location)

    def close(self) -> None:
        """Nothing is open."""
