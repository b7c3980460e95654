"""Runs the command line for its tests: in this process where that is enough, else as a real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparktune.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pytest

PATIENCE_S = 30.0
READ_AHEAD = "sys/block/nvme0n1/queue/read_ahead_kb"

for _name in [name for name in os.environ if name.startswith(("SPARKTUNE_", "NO_COLOR"))]:
    del os.environ[_name]  # what a developer has set must not decide tests


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """The command line on one tree, in this process."""

    def __init__(self, tree: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.tree = tree
        self._capture = capture

    def __call__(self, *arguments: str | Path) -> Outcome:
        self._capture.readouterr()
        hook = sys.excepthook
        try:
            code = main(["--root", str(self.tree), *map(str, arguments)])
        finally:
            sys.excepthook = hook
        captured = self._capture.readouterr()
        return Outcome(code, captured.out, captured.err)

    def configure(self, text: str) -> Path:
        path = self.tree / "etc/sparktune.toml"
        path.write_text(text)
        return path

    def write(self, name: str, value: object) -> None:
        (self.tree / name).write_text(f"{value}\n")

    def read(self, name: str) -> str:
        return (self.tree / name).read_text().strip()


def run_process(*arguments: str | Path, **options: Any) -> Outcome:
    """The command line as a process of its own."""
    command = [sys.executable, "-m", "sparktune.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, **options)
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_as_nobody(*arguments: str | Path, modules: Iterable[str]) -> Outcome:
    """The command line as a user who owns nothing; needs root. Imports first: Python itself may be root's."""
    code = f"""
        import importlib, os, sys
        from sparktune.cli.main import main
        for name in {[*modules]!r}:
            importlib.import_module(name)
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        sys.exit(main({[*map(str, arguments)]!r}))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


@contextmanager
def running_daemon(tree: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real daemon on a tree, from its first published status to SIGTERM."""
    command = [sys.executable, "-m", "sparktune.cli.main", "--root", str(tree), "daemon"]
    with (tree / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: (tree / "run/sparktune/status.json").exists() or process.poll() is not None)
        assert process.poll() is None, (tree / "daemon.log").read_text()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def wait_until(holds: Any) -> None:
    """Wait for something that takes its time; fail if it never comes."""
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, "it never came"
        time.sleep(0.02)
