"""The API as a process: its sockets, its signals, its sleep, and clients that behave badly."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from documents import publish_everything
from sparktune.api.connection import MOST_CONNECTIONS
from sparktune.api.sockets import bind_sockets
from sparktune.errors import SparktuneError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., "Process"]

CHILD = """
import os, sys
from pathlib import Path
from sparktune.api import connection, server
from sparktune.errors import SparktuneError
directory, listen, patience_s = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if patience_s:
    connection.PATIENCE_S = float(patience_s)
if "LISTEN_FDS" in os.environ:
    os.environ["LISTEN_PID"] = str(os.getpid())
host, _, port = listen.rpartition(":")
address = (host, int(port)) if listen else None
try:
    sys.exit(server.serve(run_dir=directory, state_dir=directory, listen=address))
except SparktuneError as error:
    sys.exit(f"{error.message} | {error.hint} | {error.exit_code}")
"""
GET = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
WAIT_S = 20


class Process:
    """A served API and the ways to talk to it."""

    def __init__(self, child: subprocess.Popen[str], ports: list[int]) -> None:
        self.child = child
        self.ports = ports

    def connect(self, host: str = "127.0.0.1", port: int | None = None) -> socket.socket:
        connection = socket.create_connection((host, port or self.ports[0]), timeout=WAIT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, request: bytes = GET) -> bytes:
        """Everything that comes until the server closes or has answered one request."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_answer(connection)

    def stop(self) -> tuple[int, str]:
        """SIGTERM; gives the exit code and what it wrote to stderr."""
        self.child.send_signal(signal.SIGTERM)
        _out, errors = self.child.communicate(timeout=WAIT_S)
        return self.child.returncode, errors

    def count_switches(self) -> int:
        """How often the process gave up the CPU by itself: each is a wake-up."""
        text = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)[0])

    def count_descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.child.pid}/fd").iterdir()))


HISTORY = GET.replace(b"/status", b"/history")


def read_answer(connection: socket.socket, *, without_body: bool = False) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
        head, separator, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if separator and (without_body or (length and len(body) >= int(length[1]))):
            break
    return data


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts API processes over a published snapshot; waits for READY=1."""
    publish_everything(tmp_path)
    with contextlib.ExitStack() as stack:
        bell = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        bell.bind(str(tmp_path / "notify"))
        bell.settimeout(WAIT_S)

        def launch(
            listen: str = "", *, hosts: tuple[str, ...] = ("127.0.0.1",), patience_s: str = ""
        ) -> Process:
            passed = [] if listen else [stack.enter_context(bind_sockets(host, 0)[0]) for host in hosts]
            child = stack.enter_context(spawn(tmp_path, listen, passed, patience_s))
            stack.callback(child.kill)
            assert bell.recv(64) == b"READY=1"
            return Process(child, [each.getsockname()[1] for each in passed])

        yield launch


def spawn(
    directory: Path, listen: str, passed: list[socket.socket], patience_s: str = ""
) -> subprocess.Popen[str]:
    """A child with the sockets as descriptors 3 and up, as systemd passes them."""
    environment = {**os.environ, "NOTIFY_SOCKET": str(directory / "notify")}
    shell = 'exec "$@"'
    if passed:
        environment["LISTEN_FDS"] = str(len(passed))
        shell = " ".join(f"exec {3 + at}<&{each.fileno()};" for at, each in enumerate(passed)) + shell
    return subprocess.Popen(
        ["bash", "-c", shell, "sh", sys.executable, "-c", CHILD, str(directory), listen, patience_s],
        env=environment,
        pass_fds=[each.fileno() for each in passed],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fail(directory: Path, listen: str) -> str:
    """What a process that cannot start says."""
    with spawn(directory, listen, []) as child:
        _out, errors = child.communicate(timeout=WAIT_S)
        assert child.returncode == 1
    return errors


def find_port() -> int:
    with bind_sockets("127.0.0.1", 0)[0] as listener:
        return int(listener.getsockname()[1])


def test_it_answers_on_the_sockets_systemd_passes(start: Start, tmp_path: Path) -> None:
    published = (tmp_path / "status.json").read_bytes()
    assert start().ask().endswith(b"\r\n\r\n" + published)


def test_it_answers_on_both_loopbacks_when_both_are_passed(start: Start) -> None:
    require_ipv6()
    process = start(hosts=("127.0.0.1", "::1"))
    for host, port in zip(("127.0.0.1", "::1"), process.ports, strict=True):
        with process.connect(host, port) as connection:
            connection.sendall(GET)
            assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


def require_ipv6() -> None:
    try:
        bind_sockets("::1", 0)[0].close()
    except SparktuneError:
        pytest.skip("this machine has no IPv6 loopback")


def test_localhost_is_every_loopback_there_is(start: Start) -> None:
    port = find_port()
    process = start(f"localhost:{port}")
    process.connect("127.0.0.1", port).close()
    require_ipv6()
    process.connect("::1", port).close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an empty network name space")
def test_localhost_is_127_0_0_1_alone_where_there_is_no_ipv6() -> None:
    code = (
        "from sparktune.api.sockets import bind_sockets\n"
        "print([each.getsockname() for each in bind_sockets('localhost', 9300)])"
    )
    shown = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[('127.0.0.1', 9300)]\n"


def test_answers_are_sent_at_once() -> None:
    listener = bind_sockets("127.0.0.1", 0)[0]
    with listener:
        assert listener.proto == socket.IPPROTO_TCP  # asyncio sets TCP_NODELAY only then


def test_sigterm_ends_it_with_0_and_without_a_word(start: Start) -> None:
    process = start()
    process.ask()
    assert process.ask(HISTORY).startswith(b"HTTP/1.1 200 ")  # on a thread
    assert process.stop() == (0, "")


def test_sigterm_waits_for_no_idle_and_no_half_request(start: Start) -> None:
    process = start()
    with process.connect() as idle, process.connect() as half:
        idle.sendall(GET)
        read_answer(idle)
        half.sendall(b"GET /status HTT")
        begun = time.monotonic()
        assert process.stop() == (0, "")
        assert time.monotonic() - begun < 5


def test_a_port_in_use_is_named_with_what_to_do(tmp_path: Path) -> None:
    with bind_sockets("127.0.0.1", 0)[0] as taken:
        port = taken.getsockname()[1]
        errors = fail(tmp_path, f"localhost:{port}")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in errors
    assert "ss -ltnp" in errors
    assert "Traceback" not in errors


def test_without_passed_sockets_it_says_how_to_listen(tmp_path: Path) -> None:
    errors = fail(tmp_path, "")
    assert "systemd passed no sockets" in errors
    assert "--listen localhost:9300" in errors


def test_a_passed_descriptor_that_does_not_listen_is_refused(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as unconnected,
        spawn(tmp_path, "", [unconnected]) as child,
    ):
        _out, errors = child.communicate(timeout=WAIT_S)
    assert "descriptor 3, passed by systemd, cannot be used: it does not listen" in errors


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_a_usage_error(port: int) -> None:
    with pytest.raises(UsageError, match="cannot listen on port"):
        bind_sockets("localhost", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 300, "\0"])
def test_a_host_that_is_none_is_a_usage_error(host: str) -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        bind_sockets(host, 0)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(SparktuneError, match=re.escape(os.strerror(errno.EADDRNOTAVAIL))):
        bind_sockets("192.0.2.1", 0)


@pytest.mark.alone
def test_an_idle_process_sleeps(start: Start) -> None:
    process = start()
    process.ask()
    process.ask(HISTORY)
    time.sleep(0.5)
    before = process.count_switches()
    time.sleep(3)  # uvicorn's own loop would wake 30 times
    assert process.count_switches() - before <= 1


def test_answers_are_dated_although_nothing_ticks(start: Start) -> None:
    process = start()
    first, later = get_date(process.ask()), datetime.now(UTC)
    time.sleep(1.2)
    assert first < get_date(process.ask())
    assert abs((later - first).total_seconds()) < 5


def get_date(answer: bytes) -> datetime:
    found = re.search(rb"date: ([^\r]+)", answer)
    assert found
    return parsedate_to_datetime(found[1].decode())


def test_head_leaves_the_connection_usable(start: Start) -> None:
    with start().connect() as connection:
        connection.sendall(GET.replace(b"GET", b"HEAD"))
        head = read_answer(connection, without_body=True)
        connection.sendall(GET)
        got = read_answer(connection)
    assert head.endswith(b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ")
    assert head == got.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" or get_date(head) != get_date(got)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /%ff%00%0a HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000, 400),
        (b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabcde", 405),
    ],
)
def test_odd_requests_get_their_answer_in_json(start: Start, request_bytes: bytes, status: int) -> None:
    process = start()
    answer = process.ask(request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b'"error": ' in answer
    assert process.ask().startswith(b"HTTP/1.1 200 ")
    assert process.stop() == (0, "")


def test_garbage_after_a_last_request_ends_only_that_connection(start: Start) -> None:
    process = start()
    with process.connect() as connection:
        connection.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"garbage" * 100)
        with contextlib.suppress(ConnectionResetError):
            read_answer(connection)
        with contextlib.suppress(OSError):
            connection.sendall(b"more garbage")
    assert process.ask().startswith(b"HTTP/1.1 200 ")
    assert process.stop() == (0, "")


def test_a_websocket_client_gets_an_ordinary_answer(start: Start) -> None:
    upgrade = b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n"
    assert start().ask(GET.replace(b"\r\n\r\n", upgrade)).startswith(b"HTTP/1.1 200 ")


def test_slow_and_silent_clients_do_not_block_others(start: Start) -> None:
    process = start()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(process.connect()) for _ in range(3 * MOST_CONNECTIONS)]
        for half in crowd[::2]:
            with contextlib.suppress(OSError):  # dropped already to make room
                half.sendall(b"GET /status HTTP/1.1\r\nHost: loc")
        begun = time.monotonic()
        assert process.ask().startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - begun < 2


def test_there_are_never_more_connections_than_the_limit(start: Start) -> None:
    process = start()
    before = process.count_descriptors()
    with contextlib.ExitStack() as stack:
        for _ in range(3 * MOST_CONNECTIONS):
            stack.enter_context(process.connect())
        process.ask()
        time.sleep(0.2)  # the asking connection and the dropped ones are closed in the next turns of the loop
        assert process.count_descriptors() - before <= MOST_CONNECTIONS


def test_a_client_that_trickles_is_dropped(start: Start) -> None:
    with start(patience_s="0.5").connect() as connection, pytest.raises(ConnectionError):
        send_for_ever(connection, b"G")


def test_a_client_that_does_not_read_is_dropped(start: Start) -> None:
    with start(patience_s="1").connect() as connection, pytest.raises(ConnectionError):
        send_for_ever(connection, GET * 100)


def send_for_ever(connection: socket.socket, data: bytes) -> None:
    """Send again and again, never read; comes back after 10 s, which is too long."""
    connection.settimeout(0.2)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(TimeoutError):  # the server reads no more
            connection.sendall(data)
        time.sleep(0.05)
