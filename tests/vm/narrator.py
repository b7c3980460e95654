"""Says what the run is doing while it does it, past pytest's capturing."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Narrator:
    """Says lines."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Say them by calling something with each."""
        self._tell = tell

    @classmethod
    def to(cls, stream: TextIO) -> Narrator:
        """On a stream, with the time since now."""
        began_s = time.monotonic()
        telling = threading.Lock()

        def tell(line: str) -> None:
            with telling:
                stream.write(f"{time.monotonic() - began_s:7.1f} s  {line}\n")
                stream.flush()

        return cls(tell)

    def say(self, line: str) -> None:
        """One line."""
        self._tell(line)

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
