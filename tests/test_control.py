"""The control socket against clients that are slow, silent, talkative, many, foreign or talk garbage."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import children
from sparktune import control
from sparktune.control import LONGEST_REQUEST, MOST_CLIENTS, SOCKET_NAME, ControlServer, Peer, request
from sparktune.errors import DaemonNotRunningError, RefusedError, SparktuneError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = 65534


def answer(message: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """What stands for the daemon here: it says who asked for what, or refuses."""
    if message.get("request") == "refuse":
        raise UsageError(f"unknown name: {message.get('name')}", hint="another name")
    if message.get("request") == "much":
        return {"ok": True, "text": "x" * 3_000_000}
    return {"ok": True, "by": str(peer), "pid": peer.pid, "request": message.get("request")}


@pytest.fixture
def server(fast_path: Path) -> Iterator[ControlServer]:
    server = ControlServer(fast_path, answer)
    yield server
    server.close()


def turn(server: ControlServer, clients: set[int], *, writing: frozenset[int] = frozenset()) -> set[int]:
    """One turn of an event loop like the daemon's; what is to be waited for to become writable."""
    ready, writable, _ = select.select([server.fileno(), *clients], list(writing), [], 0.05)
    waiting = set(writing)
    for descriptor in {*ready, *writable}:
        if descriptor == server.fileno():
            client = server.accept()
            if client is not None:
                clients.add(client)
            continue
        waiting.discard(descriptor)
        if server.serve(descriptor):
            waiting.add(descriptor)
        if not server.knows(descriptor):
            clients.discard(descriptor)
    server.drop_slow()
    clients.intersection_update({number for number in clients if server.knows(number)})
    return waiting & clients


@contextmanager
def serving(server: ControlServer) -> Iterator[None]:
    """Serve from a thread for as long as the block lasts."""
    ended = threading.Event()

    def loop() -> None:
        clients: set[int] = set()
        waiting: set[int] = set()
        while not ended.is_set():
            waiting = turn(server, clients, writing=frozenset(waiting))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def connected(directory: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(directory / SOCKET_NAME))
        yield client


def read_line(client: socket.socket) -> dict[str, Any]:
    """One answer; nothing follows it."""
    with client.makefile("rb") as stream:
        line = stream.readline()
        assert stream.read() == b""
    return dict(json.loads(line))


def ask(directory: Path, data: bytes) -> dict[str, Any]:
    """Send bytes, read one line."""
    with connected(directory) as client:
        client.sendall(data)
        return read_line(client)


# -- questions and answers -----------------------------------------------------------------------------------


def test_a_question_gets_its_answer_and_the_asker_is_known(fast_path: Path, server: ControlServer) -> None:
    with serving(server):
        got = request(fast_path, {"request": "apply"})
    assert got == {
        "ok": True,
        "by": "root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
        "pid": os.getpid(),
        "request": "apply",
    }


def test_a_refusal_comes_with_hint_and_exit_code(fast_path: Path, server: ControlServer) -> None:
    with serving(server), pytest.raises(RefusedError) as caught:
        request(fast_path, {"request": "refuse", "name": "nvme9"})
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
        "unknown name: nvme9",
        "another name",
        2,
    )


def test_names_that_are_no_text_at_all_make_the_trip_and_break_nothing(
    fast_path: Path, server: ControlServer
) -> None:
    name = os.fsdecode(b"nvme\xff")
    with serving(server):
        for _ in range(2):
            with pytest.raises(RefusedError, match="unknown name: nvme"):
                request(fast_path, {"request": "refuse", "name": name})


def test_an_answer_of_megabytes_arrives_whole(fast_path: Path, server: ControlServer) -> None:
    with serving(server):
        assert len(request(fast_path, {"request": "much"})["text"]) == 3_000_000


def test_without_a_daemon_the_message_says_so(fast_path: Path) -> None:
    with pytest.raises(DaemonNotRunningError, match="no daemon listens"):
        request(fast_path, {"request": "apply"})


def test_a_socket_that_a_killed_daemon_left_is_no_daemon_and_no_obstacle(fast_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(fast_path / SOCKET_NAME))
    left.close()
    with pytest.raises(DaemonNotRunningError):
        request(fast_path, {"request": "apply"})
    server = ControlServer(fast_path, answer)
    with serving(server):
        assert request(fast_path, {"request": "apply"})["ok"]
    server.close()


def test_closing_removes_the_socket_and_its_clients(fast_path: Path, server: ControlServer) -> None:
    with connected(fast_path) as client:
        turn(server, set())
        server.close()
        assert not (fast_path / SOCKET_NAME).exists()
        assert client.recv(1) == b""


def test_a_daemon_that_dies_without_an_answer_is_told(fast_path: Path, server: ControlServer) -> None:
    def close_at_once() -> None:
        descriptor = server.accept()
        assert descriptor is not None
        server.close()

    thread = threading.Timer(0.05, close_at_once)
    thread.start()
    with pytest.raises(RefusedError):
        request(fast_path, {"request": "apply"})
    thread.join()


def test_a_run_directory_with_too_long_a_name_is_told_before_anything_is_made(fast_path: Path) -> None:
    deep = fast_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(SparktuneError, match="too long for a socket") as caught:
        ControlServer(deep, answer)
    assert "--run-dir" in caught.value.hint
    with pytest.raises(SparktuneError):
        request(deep, {})


def test_a_directory_in_the_sockets_place_is_told(fast_path: Path) -> None:
    (fast_path / SOCKET_NAME).mkdir()
    with pytest.raises(SparktuneError, match="cannot listen on"):
        ControlServer(fast_path, answer)


# -- who may ask ---------------------------------------------------------------------------------------------


def test_only_its_owner_may_use_the_socket(fast_path: Path, server: ControlServer) -> None:
    assert (fast_path / SOCKET_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.root
def test_another_user_cannot_even_connect(fast_path: Path, server: ControlServer) -> None:
    fast_path.chmod(0o755)

    def connect() -> int:
        os.setuid(NOBODY)
        try:
            request(fast_path, {"request": "apply"})
        except RefusedError as error:
            return 0 if "only root" in error.message and "sudo" in error.hint else 1
        return 2

    with serving(server):
        assert children.run(connect) == 0


@pytest.mark.root
def test_another_user_who_gets_hold_of_the_socket_is_refused_and_named(
    fast_path: Path, server: ControlServer
) -> None:
    fast_path.chmod(0o755)
    (fast_path / SOCKET_NAME).chmod(0o666)  # somebody was careless

    def connect() -> int:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            request(fast_path, {"request": "apply"})
        except RefusedError as error:
            return 0 if error.message == "only root may change the host" else 1
        return 2

    with serving(server):
        child = children.fork(connect)
        assert children.wait(child) == 0
    assert server.refused == [Peer(pid=child, uid=NOBODY, gid=NOBODY)]


@pytest.mark.root
def test_a_descriptor_that_root_passed_on_still_counts_as_roots(
    fast_path: Path, server: ControlServer
) -> None:
    """The kernel notes who connected, not who writes: giving the connection away is giving the right away."""
    with connected(fast_path) as client, serving(server):

        def speak() -> int:
            os.setuid(NOBODY)
            client.sendall(b'{"request": "apply"}\n')
            return 0 if b'"by": "root"' in client.recv(4096) else 1

        assert children.run(speak) == 0


# -- clients that do not behave ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"null\n",
        b"5\n",
        b'"apply"\n',
        b"[]\n",
        b"{\n",
        b"\xff\xfe\n",
        b"\0" * 100 + b"\n",
        b"[" * 60_000 + b"\n",
        b'{"request": "apply"\n',
        b'{"a":' * 10_000 + b"\n",
        b"9" * 10_000 + b"\n",
    ],
)
def test_garbage_is_answered_with_what_was_expected(
    line: bytes, fast_path: Path, server: ControlServer
) -> None:
    with serving(server):
        assert ask(fast_path, line) == {"ok": False, "error": "no JSON object on one line"}


def test_half_a_surrogate_pair_is_answered_and_costs_no_daemon(
    fast_path: Path, server: ControlServer
) -> None:
    with serving(server):
        got = ask(fast_path, b'{"request": "refuse", "name": "\\ud800"}\n')
        assert (got["ok"], got["error"]) == (False, "unknown name: \ud800")
        assert ask(fast_path, b'{"request": "\\udfff"}\n')["request"] == "\udfff"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_no_bytes_at_all_cost_the_daemon(data: bytes, fast_path: Path, server: ControlServer) -> None:
    clients: set[int] = set()
    with connected(fast_path) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        for _ in range(3):
            turn(server, clients)
    assert clients == set()


def test_a_client_that_says_nothing_is_dropped_when_its_time_is_over(
    fast_path: Path, server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE_S", 0.05)
    clients: set[int] = set()
    with connected(fast_path) as client:
        turn(server, clients)
        assert len(clients) == 1
        due_s = server.due_s()
        assert due_s is not None
        assert due_s - time.monotonic() < 0.06
        time.sleep(0.06)
        server.drop_slow()
        assert client.recv(1) == b""
        assert server.due_s() is None


def test_a_client_that_drips_bytes_does_not_get_more_time(
    fast_path: Path, server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE_S", 0.1)
    clients: set[int] = set()
    began_s = time.monotonic()
    with connected(fast_path) as client:
        turn(server, clients)
        while clients and time.monotonic() - began_s < 5:
            client.sendall(b" ")
            turn(server, clients)
    assert time.monotonic() - began_s < 1


def test_a_client_that_never_ends_its_line_is_dropped_at_64_kib(
    fast_path: Path, server: ControlServer
) -> None:
    clients: set[int] = set()
    with connected(fast_path) as client:
        turn(server, clients)
        client.setblocking(False)  # noqa: FBT003 - socket's own signature
        sent = 0
        while sent <= LONGEST_REQUEST or clients:
            try:
                sent += client.send(b"x" * 16384)
            except BlockingIOError:
                pass
            except OSError:
                break
            turn(server, clients)
        assert clients == set()
        assert sent < 4 * LONGEST_REQUEST


def test_a_client_that_leaves_without_a_word_costs_nothing(fast_path: Path, server: ControlServer) -> None:
    clients: set[int] = set()
    with connected(fast_path):
        turn(server, clients)
    turn(server, clients)
    assert clients == set()


def test_a_client_that_asks_and_leaves_does_not_kill_the_daemon(
    fast_path: Path, server: ControlServer
) -> None:
    clients: set[int] = set()
    with connected(fast_path) as client:
        client.sendall(b'{"request": "much"}\n')
    for _ in range(3):
        turn(server, clients)
    assert clients == set()


def test_a_client_that_does_not_read_its_answer_holds_up_nobody(
    fast_path: Path, server: ControlServer
) -> None:
    with connected(fast_path) as deaf, serving(server):
        deaf.sendall(b'{"request": "much"}\n')
        began_s = time.monotonic()
        assert request(fast_path, {"request": "apply"})["ok"]
        assert time.monotonic() - began_s < 1


def test_more_than_one_line_gets_one_answer(fast_path: Path, server: ControlServer) -> None:
    with serving(server), connected(fast_path) as client:
        client.sendall(b'{"request": "a"}\n{"request": "b"}\n')
        assert read_line(client)["request"] == "a"


def test_a_line_that_comes_in_pieces_is_one_question(fast_path: Path, server: ControlServer) -> None:
    with serving(server), connected(fast_path) as client:
        for byte in b'{"request": "slow"}\n':
            client.sendall(bytes([byte]))
        assert read_line(client)["request"] == "slow"


def test_of_too_many_clients_the_last_are_told_to_try_again(fast_path: Path, server: ControlServer) -> None:
    clients: set[int] = set()
    silent = [socket.socket(socket.AF_UNIX) for _ in range(MOST_CLIENTS)]
    for client in silent:
        client.connect(str(fast_path / SOCKET_NAME))
        turn(server, clients)
    with serving(server), pytest.raises(RefusedError, match="too many requests at once, try again"):
        request(fast_path, {"request": "apply"})
    for client in silent:
        client.close()
    for _ in range(3):
        turn(server, clients)
    with serving(server):
        assert request(fast_path, {"request": "apply"})["ok"]


def test_a_hundred_clients_one_after_the_other_leave_no_descriptor_behind(
    fast_path: Path, server: ControlServer
) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    with serving(server):
        for number in range(100):
            assert request(fast_path, {"request": str(number)})["request"] == str(number)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above
