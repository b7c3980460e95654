"""The real daemon as a process on a simulated machine, with everything a test wants to know of it."""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sparktune import control, history
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PATIENCE_S = 20.0
READ_AHEAD = "sys/block/nvme0n1/queue/read_ahead_kb"
NVME = "nvme.nvme0n1.read_ahead_kb"
SMALL = '[cpuidle]\ncpus = "0-1"\n[roce]\npolicy = "off"\n[contest]\nafter = 0\n'
"""One disk and two CPUs: what most tests need."""

FAST = 'sweep = "500ms"\n' + SMALL


def idle_state(cpu: int, state: int = 0) -> str:
    """The file of one idle state."""
    return f"sys/devices/system/cpu/cpu{cpu}/cpuidle/state{state}/disable"


def wait_until(holds: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for something that takes its time; fail if it never comes."""
    end_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end_s, f"it never came: {what}"
        time.sleep(0.005)


@dataclass
class TreeDaemon:
    """One simulated machine and the daemon on it."""

    tree: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @classmethod
    def build(cls, directory: Path, variant: str = "gb10", config: str = SMALL) -> TreeDaemon:
        """Build the machine; its daemon does not run yet."""
        tree.build(directory, variant)
        daemon = cls(directory)
        daemon.configure(config)
        return daemon

    @property
    def run_dir(self) -> Path:
        """Where it publishes."""
        return self.tree / "run/sparktune"

    @property
    def state_dir(self) -> Path:
        """Where it keeps originals, marks and history."""
        return self.tree / "var/lib/sparktune"

    @property
    def log(self) -> str:
        """Everything that all its runs logged."""
        return (self.tree.parent / f"{self.tree.name}.log").read_text()

    def configure(self, text: str) -> None:
        """Write its configuration."""
        (self.tree / "etc/sparktune.toml").write_text(text)

    # -- the process -----------------------------------------------------------------------------------------

    def launch(self, *options: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it and wait for nothing."""
        line = [
            sys.executable, "-m", "sparktune.cli.main", "--root", str(self.tree), "daemon", *options
        ]  # fmt: skip
        (self.run_dir / "status.json").unlink(missing_ok=True)
        with (self.tree.parent / f"{self.tree.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                line,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def start(self, *options: str, **environment: str) -> TreeDaemon:
        """Start it and wait until it has started."""
        self.launch(*options, environment=environment)
        process = self.running
        wait_until(lambda: self.is_published() or process.poll() is not None, "the first status")
        assert process.poll() is None, self.log
        wait_until((self.run_dir / "control.sock").exists, "the control socket")
        return self

    def _has_log(self) -> bool:
        return (self.tree.parent / f"{self.tree.name}.log").exists()

    def is_published(self) -> bool:
        """Whether there is a status."""
        return (self.run_dir / "status.json").exists()

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process."""
        assert self.process is not None
        return self.process

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; its exit code."""
        process = self.running
        process.send_signal(number)
        code = process.wait(PATIENCE_S)
        self.process = None
        return code

    def outlive(self) -> int:
        """The exit code of one that ends by itself."""
        code = self.running.wait(PATIENCE_S)
        self.process = None
        return code

    def close(self) -> None:
        """Make sure it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._has_log():
            assert "Traceback" not in self.log, self.log
            assert "internal error" not in self.log, self.log

    # -- its machine -----------------------------------------------------------------------------------------

    def read(self, name: str = READ_AHEAD) -> str:
        """A file of the machine."""
        return (self.tree / name).read_text().strip()

    def write(self, value: object, name: str = READ_AHEAD) -> None:
        """Write a file of the machine in one call, as to an attribute."""
        write_attribute(self.tree / name, value)

    # -- what it says ----------------------------------------------------------------------------------------

    def published(self, name: str = "status") -> Any:
        """One of its documents."""
        return json.loads((self.run_dir / f"{name}.json").read_bytes())

    def tunable(self, id_: str = NVME) -> dict[str, Any]:
        """One tunable as published."""
        found: list[dict[str, Any]] = [
            one for one in self.published("tunables")["tunables"] if one["id"] == id_
        ]
        return found[0] if found else {"verdict": None}

    def verdict(self, id_: str = NVME) -> str | None:
        """The published verdict on a tunable; None if it is not published."""
        verdict: str | None = self.tunable(id_)["verdict"]
        return verdict

    def await_verdict(self, verdict: str, id_: str = NVME) -> None:
        """Wait for a verdict to be published."""
        wait_until(lambda: self.verdict(id_) == verdict, f"{id_} {verdict}, it is {self.tunable(id_)}")

    def await_value(self, value: object, name: str = READ_AHEAD) -> None:
        """Wait for a value on the machine."""
        wait_until(lambda: self.read(name) == str(value), f"{name} = {value}, it is {self.read(name)}")

    def heal(self, value: object = 64) -> None:
        """Write another value and see it healed."""
        self.write(value)
        self.await_value(8192)

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Ask over the control socket. Raises RefusedError."""
        return control.request(self.run_dir, {"request": what, **arguments})

    def episodes(self, noticed: str = "fanotify") -> list[history.HistoryEpisode]:
        """The stored episodes of a trigger, newest first."""
        page = history.read(
            self.state_dir / "history.db",
            since=None, until=None, tunable=None, limit=1000, cursor=None, show_commands=True,
        )  # fmt: skip
        return [episode for episode in page.episodes if episode.noticed == noticed]

    def await_episodes(self, count: int, noticed: str = "fanotify") -> list[history.HistoryEpisode]:
        """The stored episodes, once there are that many."""
        wait_until(lambda: len(self.episodes(noticed)) >= count, f"{count} episodes by {noticed}")
        return self.episodes(noticed)

    def await_sweeps(self, count: int = 2) -> None:
        """Wait for so many more whole sweeps to be published."""
        seen: set[str] = {self.published()["daemon"]["verified_at"]}

        def has_swept() -> bool:
            seen.add(self.published()["daemon"]["verified_at"])
            return len(seen) > count

        wait_until(has_swept, f"{count} sweeps")


def write_attribute(path: Path, value: object) -> None:
    """Write in one call, as to an attribute: a plain file keeps the rest of a longer value, so cover it."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, f"{value}\n".encode().ljust(os.fstat(descriptor).st_size, b"\n"))
    finally:
        os.close(descriptor)


def write_unseen(path: Path, data: bytes) -> None:
    """Change a file without any event, as the kernel does with its own values: through memory."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[: len(data)] = data


class ServiceManager:
    """Listens as systemd does on NOTIFY_SOCKET."""

    def __init__(self, directory: Path) -> None:
        """Bind the socket."""
        self.path = directory / "notify.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))

    def fill(self) -> None:
        """Fill the queue, so that whoever tells us something waits until we `drain`."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(self.path))
            sender.setblocking(False)  # noqa: FBT003 - the standard library's own
            try:
                while True:
                    sender.send(b"X")
            except BlockingIOError:  # full
                return

    def hear(self, word: str, patience_s: float = PATIENCE_S) -> list[str]:
        """Everything told up to the message that begins with a word."""
        self.socket.settimeout(patience_s)
        heard: list[str] = []
        while not heard or not heard[-1].startswith(word):
            heard.append(self.socket.recv(65536).decode())
        return [message for message in heard if message != "X"]

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()
