"""How fast the API answers, over what a live daemon publishes, on one kept connection."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from ground import BenchError
from neighbours import EXPORTER, open_exporter_with_port, scrape
from processes import api, daemon
from report import Figures, Limit, Row, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ground import Bench

_REQUEST = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
_LENGTH = b"content-length:"
_END = b"\r\n\r\n"
_WARM_UP, _REQUESTS, _QUICK_REQUESTS = 200, 10_000, 3_000
_SCRAPES, _QUICK_SCRAPES = 200, 50
_BUDGET_MS = 0.5
_LARGEST = 1 << 20


def measure(bench: Bench) -> Iterator[Row]:
    """GET /status by a raw socket client, and /metrics beside node-exporter's."""
    setup = bench.simulate("api")
    count = bench.pick(_REQUESTS, _QUICK_REQUESTS)
    scrapes = bench.pick(_SCRAPES, _QUICK_SCRAPES)
    with daemon(setup), api(setup) as (_, port):
        bench.say(f"{count:,} requests")
        _request(port, _WARM_UP)
        latencies, took_s = _request(port, count)
        bench.say(f"{scrapes} scrapes")
        ours = scrape(port, count=scrapes)
    status = summarise(latencies)
    limits = (Limit(f"p50 ≤ {_BUDGET_MS:g}", status.p50 or 0.0, _BUDGET_MS),)
    yield Row(measure="GET /status, one connection", unit="ms", figures=status, limits=limits)
    yield Row(measure="GET /status, one connection", unit="/s", figures=Figures(count, count / took_s))
    theirs = _scrape_exporter(bench, scrapes)
    ratio = (ours.p50 or 0.0) / theirs.p50 if isinstance(theirs, Figures) and theirs.p50 else None
    yield Row(measure="GET /metrics", unit="ms", figures=ours, beside={EXPORTER: theirs}, ratio=ratio)


def _scrape_exporter(bench: Bench, count: int) -> Figures | str:
    try:
        with open_exporter_with_port(bench) as (_, port):
            return scrape(port, count=count)
    except BenchError as error:
        return str(error)


def _request(port: int, count: int) -> tuple[list[float], float]:
    """Latencies in ms, and how many seconds all of them took."""
    latencies = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began_s = time.perf_counter()
        for _ in range(count):
            sent_s = time.perf_counter()
            connection.sendall(_REQUEST)
            _receive(connection)
            latencies.append((time.perf_counter() - sent_s) * 1000)
        return latencies, time.perf_counter() - began_s


def _receive(connection: socket.socket) -> None:
    """One whole answer. Raises BenchError if it is not 200."""
    data = connection.recv(_LARGEST)
    while _END not in data and data:
        data += connection.recv(_LARGEST)
    head, _, body = data.partition(_END)
    if not head.startswith(b"HTTP/1.1 200"):
        raise BenchError(f"failed: /status answers {head[:60]!r}")
    length = int(head.lower().partition(_LENGTH)[2].split(b"\r\n")[0])
    received = len(body)
    while received < length:
        received += len(connection.recv(_LARGEST)) or length
