"""A daemon on this machine's own kernel: one loop device and the idle states, put back afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparktune import history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOP = "loop0"
READ_AHEAD = Path(f"/sys/block/{LOOP}/queue/read_ahead_kb")
DISABLES = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpuidle/state*/disable"))
PATIENCE_S = 30.0

CONFIG = f"""
require_gb10 = false
{{top}}
[nvme]
devices = ["{LOOP}"]
[cpuidle]
{{cpuidle}}
[roce]
policy = "off"
[contest]
{{contest}}
"""


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Wait for something that takes its time; fail if it never comes."""
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, f"it never came: {what}"
        time.sleep(0.01)


def shell(command: str) -> int:
    """Run a short-lived shell that writes; returns its pid."""
    process = subprocess.Popen(["sh", "-c", command])
    process.wait()
    return process.pid


def write_by_shell(value: object) -> int:
    """A shell writes read_ahead_kb."""
    return shell(f"echo {value} > {READ_AHEAD}")


@dataclass
class RealHost:
    """One daemon on the real kernel, with directories of its own."""

    directory: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def places(self) -> list[str]:
        """The options that name its places."""
        where = self.directory
        return [
            "--config",
            f"{where}/sparktune.toml",
            "--run-dir",
            f"{where}/run",
            "--state-dir",
            f"{where}/state",
        ]

    def configure(
        self, *, top: str = "", cpuidle: str = 'policy = "off"', contest: str = "after = 0"
    ) -> None:
        """Write the configuration."""
        text = CONFIG.format(top=top, cpuidle=cpuidle, contest=contest)
        (self.directory / "sparktune.toml").write_text(text)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of our commands on it."""
        line = [sys.executable, "-m", "sparktune.cli.main", *self.places, *arguments]
        return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    def start(self) -> None:
        """Start the daemon and wait for its first status."""
        (self.directory / "run" / "status.json").unlink(missing_ok=True)
        line = [sys.executable, "-m", "sparktune.cli.main", *self.places, "daemon"]
        with (self.directory / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log)
        process = self.process
        published = self.directory / "run" / "status.json"
        wait_until(lambda: published.exists() or process.poll() is not None, "the first status")
        assert process.poll() is None, (self.directory / "daemon.log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the daemon with a signal."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code

    def status(self) -> dict[str, Any]:
        """The published status."""
        document: dict[str, Any] = json.loads((self.directory / "run" / "status.json").read_bytes())
        return document

    def episodes(self, noticed: str | None = None) -> list[history.HistoryEpisode]:
        """The stored episodes, newest first."""
        page = history.read(
            self.directory / "state" / "history.db",
            since=None, until=None, tunable=None, limit=1000, cursor=None, show_commands=True,
        )  # fmt: skip
        return [episode for episode in page.episodes if noticed in (None, episode.noticed)]

    def wait_for_episodes(self, count: int, noticed: str) -> list[history.HistoryEpisode]:
        """The stored episodes of a trigger, once there are that many."""
        wait_until(lambda: len(self.episodes(noticed)) >= count, f"{count} episodes by {noticed}")
        return self.episodes(noticed)


@contextmanager
def real_host(directory: Path) -> Iterator[RealHost]:
    """A real host whose loop device and idle states are put back in the end, whatever happened."""
    before = {path: path.read_text() for path in (READ_AHEAD, *DISABLES)}
    (directory / "run").mkdir()
    host = RealHost(directory)
    try:
        yield host
    finally:
        host.stop(signal.SIGKILL)
        for path, value in before.items():
            path.write_text(value)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
