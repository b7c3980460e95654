"""A real engine serves a model that is made here, with and without mmap; the advisor tells the two apart.

llama-cpp-python, built by `make engines`. The advisor goes by the map of the process, not by its flags.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gguf_maker import write_model
from passes import Published

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sparktune.snapshot import Advice, AdviceReport, EngineInfo

PYTHON = Path(__file__).parents[1] / ".venv-engines/bin/python"
pytestmark = pytest.mark.skipif(
    not (PYTHON.parent.parent / ".ready").exists(), reason="no engine is built here: make engines"
)
LARGE = 400 << 20
KEY = "tiger-swordfish-4711"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "large.gguf", layers=2, feed_forward=LARGE // (4 * 64 * 3 * 2))
    yield folder / "large.gguf"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def serve(model: Path) -> Iterator[Callable[..., int]]:
    """Serve the model until it answers; the pid."""
    started = []

    def run(*options: str) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [str(PYTHON), "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", "64"]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--api_key", KEY, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        _await_answer(process, port)
        return process.pid

    yield run
    for process in started:
        process.kill()
        process.wait()


def _await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {KEY}"}
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
                assert json.load(answer)["data"]
                return
        except OSError:  # not yet
            time.sleep(0.2)
    raise AssertionError("the engine does not answer")


@pytest.fixture(scope="module")
def mapped(serve: Callable[..., int]) -> int:
    return serve()


@pytest.fixture(scope="module")
def read(serve: Callable[..., int]) -> int:
    return serve("--use_mmap", "false")


@pytest.fixture(scope="module")
def report(mapped: int, read: int, tmp_path_factory: pytest.TempPathFactory) -> AdviceReport:
    return Published(tmp_path_factory.mktemp("state")).run_pass()


def engine(report: AdviceReport, pid: int) -> EngineInfo:
    [found] = [one for one in report.engines if one.pid == pid]
    return found


def advice(report: AdviceReport, pid: int) -> list[Advice]:
    return [one for one in report.findings if one.pid == pid and one.rule == "llama-mmap"]


def test_both_are_known_with_version_and_model(report: AdviceReport, mapped: int, read: int) -> None:
    for pid in (mapped, read):
        found = engine(report, pid)
        assert (found.kind, found.role, found.version) == ("llama.cpp", "python", "0.2.90")
        assert found.model == "tiny random, F32"
        assert len(found.signs) >= 2


def test_they_are_told_apart_by_the_map(report: AdviceReport, mapped: int, read: int) -> None:
    assert engine(report, mapped).resident_bytes > 0.9 * LARGE  # type: ignore[operator]
    assert engine(report, read).mapped_bytes == 0


def test_only_the_one_that_maps_is_told_to_do_otherwise(report: AdviceReport, mapped: int, read: int) -> None:
    [found] = advice(report, mapped)
    assert "memory-mapped" in found.what
    assert "--use_mmap false" in found.do
    assert advice(report, read) == []


def test_the_key_of_neither_is_told(report: AdviceReport) -> None:
    assert KEY not in repr(report)
