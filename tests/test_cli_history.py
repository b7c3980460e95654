"""`sparktune history`: from the database or the API, once or following, with the daemon or without."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from commands import (
    PATIENCE_S,
    READ_AHEAD,
    CommandLine,
    run_as_nobody,
    running_daemon,
    wait_until,
)
from sparktune.cli.moments import parse_moment
from sparktune.errors import UsageError
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NVME = "nvme.nvme0n1.read_ahead_kb"


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    tree.build(tmp_path / "host")
    return CommandLine(tmp_path / "host", capsys)


def drift_once(host: CommandLine, value: int) -> None:
    """Change a value and wait until its episode is stored."""
    host.write(READ_AHEAD, value)
    wait_until(lambda: f"{value} → 8192" in host("history").out)


@contextmanager
def running_api(host: CommandLine) -> Iterator[str]:
    """The API on the host's directories; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sparktune.cli.main", "--root", str(host.tree), "api"]
    with subprocess.Popen([*command, "--listen", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is not None or answers(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:  # not yet
        return False
    return True


def test_an_episode_says_what_was_changed_by_whom_and_what_was_done(host: CommandLine) -> None:
    with running_daemon(host.tree):
        drift_once(host, 256)
        out = host("history", "--limit", "1").out
    assert ": nvme: 1 value healed in " in out
    assert f"what      {NVME}: 256 → 8192" in out
    assert "who       " in out


def test_the_newest_comes_first_and_the_limit_holds(host: CommandLine) -> None:
    with running_daemon(host.tree):
        drift_once(host, 256)
        drift_once(host, 512)
        episodes = host("history", "--json", "--limit", "2").document["episodes"]
    assert [episode["drifts"][0]["found"] for episode in episodes] == [512, 256]


def test_it_is_there_after_the_daemon_was_stopped_and_after_it_was_killed(host: CommandLine) -> None:
    with running_daemon(host.tree):
        drift_once(host, 256)
    assert "256 → 8192" in host("history").out
    with running_daemon(host.tree) as daemon:
        drift_once(host, 512)
        daemon.kill()
        daemon.wait()
    assert "512 → 8192" in host("history").out


def test_episodes_can_be_chosen_by_tunable_and_time(host: CommandLine) -> None:
    with running_daemon(host.tree):
        drift_once(host, 256)
        chosen = host("history", "--tunable", NVME, "--since", "1h", "--json").document["episodes"]
        assert {episode["area"] for episode in chosen} == {"nvme"}
        assert host("history", "--until", "1h", "--json").document["episodes"] == []
        assert "no episodes match" in host("history", "--until", "1h").out


def test_without_any_history_it_says_so(host: CommandLine) -> None:
    (host.tree / "var/lib/sparktune").mkdir(parents=True)
    outcome = host("history")
    assert outcome.code == 0
    assert "nothing has drifted yet" in outcome.out


def test_follow_prints_an_object_a_line_and_ends_with_0_on_an_interrupt(host: CommandLine) -> None:
    command = [sys.executable, "-m", "sparktune.cli.main", "--root", str(host.tree)]
    with running_daemon(host.tree):
        drift_once(host, 256)
        with subprocess.Popen([*command, "history", "--follow", "--json"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            read_until(process.stdout, 256)
            drift_once(host, 512)
            read_until(process.stdout, 512)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0


def read_until(stream: Any, found: int) -> None:
    """Read lines until an episode of this value comes; the test's own time limit ends it otherwise."""
    while json.loads(stream.readline())["drifts"][0]["found"] != found:
        pass


def test_the_api_gives_the_same_as_the_database(host: CommandLine) -> None:
    with running_daemon(host.tree), running_api(host) as address:
        drift_once(host, 256)
        from_file = host("history", "--json").document
        from_api = host("history", "--json", "--api", address).document
    assert from_api == from_file


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_user_who_may_not_read_the_database_can_ask_the_api(host: CommandLine) -> None:
    modules = ("sparktune.cli.history", "urllib.request", "encodings.idna")
    with running_daemon(host.tree), running_api(host) as address:
        drift_once(host, 256)
        state_dir = host.tree / "var/lib/sparktune"
        arguments = ("--state-dir", state_dir, "history", "--api", address)
        outcome = run_as_nobody(*arguments, modules=modules)
    assert outcome.code == 0
    assert "256 → 8192" in outcome.out


def test_no_api_is_told_with_a_hint(host: CommandLine) -> None:
    outcome = host("history", "--api", "http://127.0.0.1:1")
    assert outcome.code == 3
    assert "is the API running?" in outcome.err


@pytest.mark.parametrize("address", ["nonsense", "ftp://localhost", "http://[", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_told_without_a_traceback(host: CommandLine, address: str) -> None:
    outcome = host("history", "--api", address)
    assert outcome.code in (1, 3)
    assert outcome.err.startswith("sparktune: ")


def test_commands_are_for_root(host: CommandLine) -> None:
    (host.tree / "var/lib/sparktune").mkdir(parents=True)
    assert host("history", "--commands").code == (0 if os.geteuid() == 0 else 2)


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_limit_below_one_is_a_usage_error(host: CommandLine, limit: str) -> None:
    assert host("history", "--limit", limit).code == 2


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "9" * 400, "0001-01-01T00:00:00+14:00"])
def test_what_is_no_moment_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--since"):
        parse_moment(text, name="--since")


def test_a_moment_without_a_zone_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        assert parse_moment("2026-11-23T16:31:00", name="--since").hour == 7
    finally:
        monkeypatch.undo()
        time.tzset()
