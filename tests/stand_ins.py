"""Starts real processes that look and behave like engines: name, command line, files, ports and devices."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = Path(__file__).with_name("stand_in.py")
INTERPRETER = Path(sys.executable).resolve()
ROOM = 2048
"""So long a command line may be that is written over the own one."""


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """An engine's process as its documentation shows it.

    Attributes:
        line: its command line; the first word is its program, in the folder of the test.
        knows: texts that its program contains, as the builds of llama.cpp do.
        maps: files it maps, and how many bytes of each it reads.
        opens: files it has open.
        port: the TCP port it listens on; 0: none.
        host: where it listens.
        connects: host and port of those it connects to.
        devices: files below /dev that it has open; needs root.
        memlock: RLIMIT_MEMLOCK in bytes, and no capability; 0: as it comes.
        binds: folders that only it sees at another place, as in a container; needs root.
        cpus: those that it may run on; empty: all.
        environment: what is added to its environment.
        netns: the network namespace it runs in; needs root.
        title: it wrote its command line over its own one, as setproctitle does; so does every native program
            here, for the interpreter would take the engine's options for its own.
    """

    line: tuple[str, ...]
    knows: tuple[str, ...] = ()
    maps: dict[str, int] = field(default_factory=dict)
    opens: tuple[str, ...] = ()
    port: int = 0
    host: str = "127.0.0.1"
    connects: tuple[tuple[str, int], ...] = ()
    devices: tuple[str, ...] = ()
    memlock: int = 0
    cpus: tuple[int, ...] = ()
    binds: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    netns: str = ""
    title: bool = False


class Stage:
    """A folder with programs of engines, and the processes that run from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._programs = 0
        self._modules = folder / "modules"
        for name in (
            "vllm/entrypoints/openai/api_server",
            "sglang/launch_server",
            "llama_cpp/server/__main__",
        ):
            path = (self._modules / name).with_suffix(".py")
            path.parent.mkdir(parents=True)
            shutil.copy(PROGRAM, path)
        self.script = folder / "bin/vllm"
        self.script.parent.mkdir()
        self.script.write_text(f"#!{sys.executable}\n{PROGRAM.read_text()}")
        self.script.chmod(0o755)

    def start(self, one: StandIn) -> int:
        """Start a process and wait until it does what it is to do; its pid."""
        command, program, shown = self._command(one)
        environment = {
            **os.environ, **one.environment, "PYTHONHOME": sys.base_prefix, "PYTHONPATH": str(self._modules),
            "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or "",
        }  # fmt: skip
        enter = ["ip", "netns", "exec", one.netns] if one.netns else []
        process = subprocess.Popen(
            [*enter, *([str(program), *command[1:]] if one.netns else command)],
            executable=None if one.netns else program, cwd=self.folder, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._started.append(process)
        told = {
            "line": shown, "maps": one.maps, "opens": one.opens, "port": one.port, "host": one.host,
            "connects": one.connects, "devices": one.devices, "memlock": one.memlock, "cpus": one.cpus,
            "binds": one.binds,
        }  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(told).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        return process.pid

    def _command(self, one: StandIn) -> tuple[Sequence[str], Path, Sequence[str]]:
        """What is executed, by which program, and the line it writes over its own; empty: none."""
        first = one.line[0]
        if first.startswith("python"):
            return one.line, Path(sys.executable), ()
        if first == "vllm":
            return [str(self.script), *one.line[1:]], self.script, ()
        room = ["x" * ROOM]
        if one.title:
            return [first, str(PROGRAM), *room], Path(sys.executable), one.line
        assert not first.startswith("/"), "programs are made in the folder of the test"
        # Each program is a copy of its own: builds differ in the texts they contain.
        self._programs += 1
        program = self.folder / f"build-{self._programs}" / first
        program.parent.mkdir(parents=True)
        shutil.copy(INTERPRETER, program)
        with program.open("ab") as file:
            file.write(b"\0".join((b"", *(text.encode() for text in one.knows), b"")))
        return [first, str(PROGRAM), *room], program, one.line

    def close(self) -> None:
        """End all of them."""
        for process in self._started:
            process.kill()
            with suppress(BrokenPipeError):
                process.communicate()
        self._started.clear()
        for path in self.folder.glob("build-*"):
            shutil.rmtree(path)


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
