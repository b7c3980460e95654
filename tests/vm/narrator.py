"""Says what the run is doing while it does it, past pytest's capturing."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator


class Narrator:
    """Lines with the time since the run began."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Tell it to a stream: standard output, unless another one is given."""
        self._stream = stream or sys.stdout
        self._began_s = time.monotonic()
        self._telling = threading.Lock()

    def say(self, line: str) -> None:
        """One line."""
        passed_s = time.monotonic() - self._began_s
        with self._telling:
            self._stream.write(f"{passed_s:7.1f} s  {line}\n")
            self._stream.flush()

    @contextmanager
    def phase(self, what: str) -> Iterator[None]:
        """Say that something begins, and how long it took, or after what time it failed."""
        began_s = time.monotonic()
        self.say(f"{what} …")
        try:
            yield
        except BaseException:
            self.say(f"{what}: failed after {time.monotonic() - began_s:.1f} s")
            raise
        self.say(f"{what}: {time.monotonic() - began_s:.1f} s")
