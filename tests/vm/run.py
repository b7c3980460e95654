"""What the workers of one run share: its directory, its output, and the line on which they say what they do.

Workers are pytest-xdist's: each has a guest of its own and takes the next scenario when it is done with one.
Without them (`-n 0`) the one process is everything.
"""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vm.narrator import Narrator
from vm.workshop import claim_output, start_undertaker

if TYPE_CHECKING:
    import subprocess

MOST_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One process's part of a run.

    Attributes:
        directory: the run's own, for what its workers hand to each other; gone afterwards.
        logs: where the logs of this process's guests stay.
        narrator: says what this process does.
    """

    directory: Path
    logs: Path
    narrator: Narrator

    @classmethod
    def take(cls, given: dict[str, Any]) -> Share:
        """That of a worker, of what `Run.give` gave it."""
        line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        line.connect(given["line"])

        def tell(text: str) -> None:
            line.send(f"{given['workerid']}  {text}".encode()[:MOST_BYTES])

        logs = Path(given["output"], "logs", given["workerid"])
        logs.mkdir()
        return cls(directory=Path(given["directory"]), logs=logs, narrator=Narrator(tell))


class Run:
    """The whole run, as the process knows it that was started for it."""

    def __init__(self, preferred: Path, narrator: Narrator) -> None:
        """Claim the output directory, or one beside it; make the run's own."""
        self._stack = ExitStack()
        self.output = self._stack.enter_context(claim_output(preferred))
        directory = Path(tempfile.mkdtemp(prefix="sparktune-vm-run-"))
        self._undertaker: subprocess.Popen[bytes] = start_undertaker(directory)
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(str(directory / "line"))
        self.share = Share(directory=directory, logs=self.output / "logs", narrator=narrator)
        threading.Thread(target=self._listen, name="workers' line", daemon=True).start()

    def give(self, given: dict[str, Any]) -> None:
        """Tell a worker what it needs to take its share."""
        directory = self.share.directory
        given.update(directory=str(directory), line=str(directory / "line"), output=str(self.output))

    def close(self) -> None:
        """Remove the run's directory, and let another run have the output."""
        self._undertaker.communicate()
        self._stack.close()

    def _listen(self) -> None:
        while True:
            self.share.narrator.say(self._line.recv(MOST_BYTES).decode(errors="replace"))
