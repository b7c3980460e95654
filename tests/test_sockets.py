"""TCP connections of engines: whose they are, how often the kernel is asked, and what is seen when."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gguf_maker import write_model
from passes import Published
from sparktune.kernel.sockets import SocketTables, inodes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparktune.advice.model import Evidence

CHILD = """
    import ctypes, socket, sys
    file, bound = open(sys.argv[1], "rb"), socket.socket()
    bound.bind(("127.0.0.1", 0))
    print(bound.getsockname()[1], flush=True)
    kept = []
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
"""


class Child:
    """A process that does what it is told, line by line."""

    def __init__(self, title: str, model: Path) -> None:
        self.process = subprocess.Popen(
            [title, "-c", textwrap.dedent(CHILD), str(model)],
            executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self.process.pid
        self.port = int(self._answer())

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def told(title: str, tmp_path: Path) -> Iterator[Child]:
    write_model(tmp_path / "tiny.gguf")
    child = Child(title, tmp_path / "tiny.gguf")
    yield child
    child.end()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Child]:
    """A process that calls itself llama-server, has a model open, and a socket that is bound to a port."""
    with told("llama-server", tmp_path) as child:
        yield child


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path)


@pytest.fixture
def ourselves() -> Iterator[int]:
    process = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    yield process
    os.close(process)


def own_inodes() -> frozenset[bytes]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the directory's own
            found.append(str(link.readlink()))
    return inodes_of(found)


def evidence_of(published: Published, pid: int) -> Evidence:
    return next(one.evidence for one in published.advisor.suspects if one.sketch.pid == pid)


def test_both_ends_are_told_and_sockets_of_others_are_left_out(ourselves: int, engine: Child) -> None:
    engine.do("bound.listen()")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("::1", 0), family=10) as six:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0]:
            found = SocketTables().read(ourselves, own_inodes(), uid=os.geteuid())
            assert found is not None
            ends = {(one.local, one.local_port, one.remote_port) for one in found if not one.listening}
            mine = client.getsockname()[1]
            assert {("127.0.0.1", mine, port), ("127.0.0.1", port, mine)} <= ends
            listening = {(one.local, one.local_port) for one in found if one.listening}
            assert {("127.0.0.1", port), ("::1", six.getsockname()[1])} <= listening
            assert engine.port not in {one.local_port for one in found}


def test_the_kernel_is_asked_once_in_a_pass_for_all_in_a_namespace(ourselves: int, engine: Child) -> None:
    other = os.open(f"/proc/{engine.pid}", os.O_PATH | os.O_DIRECTORY)
    tables = SocketTables()
    with socket.create_server(("127.0.0.1", 0)) as server:
        tables.read(other, frozenset({b"1"}), uid=os.geteuid())
        with socket.create_server(("127.0.0.1", 0)) as later:
            ports = [
                {one.local_port for one in one_pass.read(ourselves, own_inodes(), uid=os.geteuid()) or ()}
                for one_pass in (tables, SocketTables())
            ]
            here, there = server.getsockname()[1], later.getsockname()[1]
    os.close(other)
    assert [here in found for found in ports] == [True, True]
    assert [there in found for found in ports] == [False, True]


def test_a_process_without_sockets_asks_the_kernel_for_nothing(ourselves: int) -> None:
    assert SocketTables().read(ourselves, frozenset(), uid=os.geteuid()) == ()


def test_a_new_socket_is_seen_with_the_next_look(published: Published, engine: Child) -> None:
    for _ in range(3):
        published.run_pass()
    assert evidence_of(published, engine.pid).listening == ()
    engine.do("kept.append(socket.create_server(('127.0.0.1', 0)))")
    published.run_pass()
    [port] = evidence_of(published, engine.pid).listening or ()
    assert port != engine.port


def test_a_socket_that_listens_late_is_seen_in_the_second_look(published: Published, engine: Child) -> None:
    published.run_pass()
    engine.do("bound.listen()")
    published.run_pass()
    assert evidence_of(published, engine.pid).listening == (engine.port,)


def test_one_that_listens_much_later_is_seen_when_what_was_found_is_old(
    published: Published, engine: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        published.run_pass()
    engine.do("bound.listen()")
    published.run_pass()
    assert evidence_of(published, engine.pid).listening == ()
    monkeypatch.setattr("sparktune.advice.examination.SOCKETS_FRESH_S", 0.0)
    published.run_pass()
    assert evidence_of(published, engine.pid).listening == (engine.port,)


def test_a_python_program_is_an_engine_once_it_loads_the_library_of_one(
    published: Published, tmp_path: Path
) -> None:
    library = tmp_path / "libllama.so"
    library.write_bytes(Path(sys.modules["_json"].__file__ or "").read_bytes())
    with told(sys.executable, tmp_path) as child:
        for _ in range(3):
            assert child.pid not in {one.pid for one in published.run_pass().engines}
        child.do(f"kept.append(ctypes.CDLL({str(library)!r}))")
        assert child.pid in {one.pid for one in published.run_pass().engines}
