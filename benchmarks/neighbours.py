"""TuneD and prometheus-node-exporter, where they are installed: started by us, beside our own figures.

Installs nothing. TuneD runs in a mount namespace of its own with a profile that sets one loop device's
read-ahead, as our daemon does on the real rows; its /etc/tuned is a copy.
"""

from __future__ import annotations

import http.client
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ground import BenchError, kept, read_ahead_file
from processes import Started, find_port, last_line, running
from report import Figures, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from subprocess import Popen

    from ground import Bench

    Neighbour = Callable[[Bench], AbstractContextManager[Started]]

TUNED, EXPORTER = "TuneD", "node-exporter"
_TUNED_ETC, _TUNED_RUN = Path("/etc/tuned"), Path("/run/tuned")
_PROFILE = "sparktune-bench"
_APPLIED = f"static tuning from profile '{_PROFILE}' applied"
_IN_NAMESPACE = 'mount --bind "$1" /etc/tuned && mount -t tmpfs bench /run/tuned && shift && exec "$@"'
_LOOK_AGAIN_S = 0.002
_PATIENCE_S = 20.0
_HTTP_OK = 200


@contextmanager
def open_tuned(bench: Bench) -> Iterator[Started]:
    """TuneD in the foreground without D-Bus, its profile applied. Raises BenchError if it cannot be had."""
    program = _find("tuned")
    attribute = read_ahead_file(bench.find_device())
    directory = bench.disk / "tuned"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(_TUNED_ETC, directory / "etc")
    profile = directory / "etc" / _PROFILE / "tuned.conf"
    profile.parent.mkdir()
    profile.write_text(f"[main]\nsummary=bench\n[sysfs]\n{attribute}=8192\n")
    log = directory / "tuned.log"
    words = [
        "--no-dbus",
        "--no-socket",
        "--profile",
        _PROFILE,
        "--log",
        str(log),
        "--pid",
        str(directory / "pid"),
    ]
    namespace = ["unshare", "--mount", "sh", "-c", _IN_NAMESPACE, "sh", str(directory / "etc")]
    with _directory(_TUNED_RUN), kept(attribute):
        began_s = time.monotonic()
        with running([*namespace, program, *words], log=directory / "output") as process:
            _await(process, directory / "output", lambda: log.exists() and _APPLIED in log.read_text())
            yield Started(process, time.monotonic() - began_s)


@contextmanager
def open_exporter(bench: Bench) -> Iterator[Started]:
    """prometheus-node-exporter on a free port. Raises BenchError if it cannot be had."""
    with open_exporter_with_port(bench) as (started, _):
        yield started


@contextmanager
def open_exporter_with_port(bench: Bench) -> Iterator[tuple[Started, int]]:
    """The same, with its port on 127.0.0.1."""
    program = _find("prometheus-node-exporter")
    port = find_port()
    log = bench.disk / "exporter.log"
    began_s = time.monotonic()
    with running([program, f"--web.listen-address=127.0.0.1:{port}"], log=log) as process:
        _await(process, log, lambda: _answers(port))
        yield Started(process, time.monotonic() - began_s), port


NEIGHBOURS: dict[str, Neighbour] = {TUNED: open_tuned, EXPORTER: open_exporter}
"""Who stands beside us, and how to start each."""


def ask(bench: Bench, question: Callable[[Started], float], *, count: int = 1) -> dict[str, Figures | str]:
    """A figure of each neighbour, each started `count` times; or why there is none."""
    answers: dict[str, Figures | str] = {}
    for name, open_neighbour in NEIGHBOURS.items():
        try:
            found = []
            for _ in range(count):
                with open_neighbour(bench) as started:
                    found.append(question(started))
            answers[name] = summarise(found) if count > 1 else Figures(n=1, most=found[0])
        except BenchError as error:
            answers[name] = str(error)
    return answers


def scrape(port: int, *, count: int) -> Figures:
    """Milliseconds for a GET of /metrics on one connection. Raises BenchError if it does not answer 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    found = []
    try:
        for _ in range(count):
            began_s = time.perf_counter()
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            response.read()
            found.append((time.perf_counter() - began_s) * 1000)
            if response.status != _HTTP_OK:
                raise BenchError(f"failed: /metrics answers {response.status}")
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"failed: /metrics: {error}") from error
    finally:
        connection.close()
    return summarise(found)


@contextmanager
def _directory(directory: Path) -> Iterator[None]:
    """The directory is there: to be mounted on, so it stays empty. Gone at the end if it was not there."""
    made = not directory.exists()
    directory.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if made:
            directory.rmdir()


def _find(name: str) -> str:
    program = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        raise BenchError("not installed")
    return program


def _await(process: Popen[bytes], log: Path, is_ready: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise BenchError(f"did not start: {last_line(log)}")
        time.sleep(_LOOK_AGAIN_S)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == _HTTP_OK
    except (OSError, http.client.HTTPException):  # not listening yet
        return False
    finally:
        connection.close()
