"""`sparktune restore --all --until-start`, by which removing the package puts the originals back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from commands import READ_AHEAD, CommandLine, run_as_nobody, running_daemon
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NVME = "nvme.nvme0n1.read_ahead_kb"
IDLE = "sys/devices/system/cpu/cpu3/cpuidle/state2/disable"
STATE = "var/lib/sparktune"
REMOVE = ("restore", "--all", "--until-start")
MODULES = tuple(
    f"sparktune.{name}" for name in ("cli.restore", "hardware", "kernel.lock", "originals", "restoring")
)


@pytest.fixture
def host(fast_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    tree.build(fast_path / "host")
    return CommandLine(fast_path / "host", capsys)


@pytest.fixture
def tuned(host: CommandLine) -> CommandLine:
    """A host whose daemon has applied everything and was stopped."""
    with running_daemon(host.tree):
        assert host.read(READ_AHEAD) == "8192"
    return host


@contextmanager
def started_again(host: CommandLine) -> Iterator[None]:
    (host.tree / "run/sparktune/status.json").unlink()  # the daemon before left it
    with running_daemon(host.tree):
        yield


def test_everything_is_put_back(tuned: CommandLine) -> None:
    outcome = tuned(*REMOVE)
    assert outcome.code == 0
    assert (tuned.read(READ_AHEAD), tuned.read(IDLE)) == ("128", "0")
    assert not (tuned.tree / "sys/kernel/config/rdma_cm/rocep1s0f0").exists()


def test_a_daemon_that_is_installed_again_in_the_same_boot_applies_again(tuned: CommandLine) -> None:
    tuned(*REMOVE)
    with started_again(tuned):
        assert tuned.read(READ_AHEAD) == "8192"
        assert tuned("explain", NVME, "--json").document["original"] == 128


def test_without_the_flag_it_would_leave_everything_alone(tuned: CommandLine) -> None:
    tuned("restore", "--all")
    with started_again(tuned):
        assert tuned.read(READ_AHEAD) == "128"


def test_what_a_person_had_restored_by_hand_stays_restored(tuned: CommandLine) -> None:
    tuned("restore", NVME)
    tuned(*REMOVE)
    with started_again(tuned):
        assert (tuned.read(READ_AHEAD), tuned.read(IDLE)) == ("128", "1")


def test_a_broken_configuration_does_not_matter(tuned: CommandLine) -> None:
    tuned.configure("this is no TOML")
    assert tuned(*REMOVE).code == 0
    assert tuned.read(READ_AHEAD) == "128"


def test_what_somebody_else_wrote_is_left_and_told(tuned: CommandLine) -> None:
    tuned.write(READ_AHEAD, 512)
    outcome = tuned(*REMOVE)
    assert (outcome.code, tuned.read(READ_AHEAD)) == (4, "512")
    assert "not sparktune's value: left alone" in " ".join(outcome.out.split())


def test_nothing_is_made_where_nothing_was_ever_written(host: CommandLine) -> None:
    outcome = host(*REMOVE)
    assert outcome.code == 0
    assert "nothing to put back" in outcome.out
    assert not (host.tree / STATE).exists()


def test_a_damaged_record_is_told_and_the_rest_is_put_back(tuned: CommandLine) -> None:
    store = tuned.tree / STATE / "originals.jsonl"
    lines = store.read_bytes().splitlines(keepends=True)
    assert b"read_ahead_kb" in lines[0]
    store.write_bytes(b"".join([b"0" * 40 + b"\n", *lines[1:]]))
    outcome = tuned(*REMOVE)
    assert outcome.code == 1
    assert "the record was damaged" in outcome.out
    assert (tuned.read(READ_AHEAD), tuned.read(IDLE)) == ("8192", "0")


def test_a_running_daemon_is_not_worked_against(host: CommandLine) -> None:
    with running_daemon(host.tree):
        outcome = host(*REMOVE)
        assert outcome.code == 1
        assert "systemctl stop sparktune" in outcome.err
        assert host.read(READ_AHEAD) == "8192"


def test_it_is_for_everything_only(tuned: CommandLine) -> None:
    outcome = tuned("restore", "--until-start", NVME)
    assert outcome.code == 2
    assert "hint: sparktune restore --all --until-start" in outcome.err
    assert tuned.read(READ_AHEAD) == "8192"


@pytest.mark.root
def test_only_root_may_do_it_to_the_real_host() -> None:
    outcome = run_as_nobody("--state-dir", "/nonexistent", *REMOVE, modules=MODULES)
    assert outcome.code == 1
    assert "sudo" in outcome.err
