"""The commands that change something: apply, restore, pause, resume, reload; and verify, which must not."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from commands import (
    READ_AHEAD,
    CommandLine,
    run_as_nobody,
    run_process,
    running_daemon,
    wait_until,
)
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NVME = "nvme.nvme0n1.read_ahead_kb"
IDLE = "sys/devices/system/cpu/cpu3/cpuidle/state2/disable"


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    tree.build(tmp_path / "host")
    return CommandLine(tmp_path / "host", capsys)


@pytest.fixture
def served(host: CommandLine) -> Iterator[CommandLine]:
    """A host with a running daemon."""
    with running_daemon(host.tree):
        yield host


def test_apply_without_a_daemon_writes_here_and_says_that_nothing_holds_it(host: CommandLine) -> None:
    outcome = host("apply")
    assert outcome.code == 0
    assert host.read(READ_AHEAD) == "8192"
    assert "nvme.nvme0n1.read_ahead_kb" in outcome.out
    assert "no daemon runs: nothing holds these values" in outcome.out


def test_apply_can_be_told_what(host: CommandLine) -> None:
    outcome = host("apply", "nvme", "--json")
    assert [item["tunable"] for item in outcome.document["written"]] == [NVME]
    assert host.read(IDLE) == "0"


def test_apply_goes_through_the_daemon_when_it_runs(served: CommandLine) -> None:
    outcome = served("apply", "--json")
    assert outcome.code == 0
    assert outcome.document == {"daemon": True, "written": [], "status": outcome.document["status"]}


def test_apply_of_an_unknown_name_is_a_usage_error_with_and_without_a_daemon(host: CommandLine) -> None:
    outcome = host("apply", "nvme.nvme0n1.read_ahead")
    assert (outcome.code, "did you mean" in outcome.err) == (2, True)
    with running_daemon(host.tree):
        outcome = host("apply", "nvme.nvme0n1.read_ahead")
    assert (outcome.code, "did you mean" in outcome.err) == (2, True)


def test_apply_on_another_machine_writes_nothing_and_exits_5(host: CommandLine) -> None:
    tree.build(host.tree, "not-gb10")
    before = host.read(READ_AHEAD)
    outcome = host("apply")
    assert outcome.code == 5
    assert "require_gb10 = false" in outcome.err
    assert host.read(READ_AHEAD) == before


def test_apply_while_switched_off_writes_nothing(host: CommandLine) -> None:
    host.write("proc/cmdline", "sparktune=off")
    assert host("apply").code == 2
    assert host.read(READ_AHEAD) == "128"


def test_apply_with_an_invalid_configuration_writes_nothing(host: CommandLine) -> None:
    host.configure("nonsense = 1\n")
    outcome = host("apply")
    assert outcome.code == 2
    assert "unknown key" in outcome.err
    assert host.read(READ_AHEAD) == "128"


def test_apply_of_what_cannot_be_read_exits_4(host: CommandLine) -> None:
    host.write(READ_AHEAD, "no number")
    assert host("apply", "nvme").code == 4


def test_apply_that_cannot_store_the_original_writes_nothing_and_exits_1(host: CommandLine) -> None:
    blocked = host.tree / "var/lib/sparktune/.originals.jsonl.new"
    blocked.mkdir(parents=True)  # even root cannot open a directory for writing
    outcome = host("apply", "nvme")
    assert outcome.code == 1
    assert "cannot write" in outcome.err
    assert host.read(READ_AHEAD) == "128"


def test_two_at_once_are_refused_whatever_run_directory_they_use(served: CommandLine, tmp_path: Path) -> None:
    outcome = served("--run-dir", tmp_path / "other", "apply")
    assert outcome.code == 1
    assert "another sparktune already tunes this host" in outcome.err


@pytest.mark.parametrize("arguments", [["apply"], ["restore", "--all"]])
def test_the_real_host_is_changed_by_root_only(arguments: list[str]) -> None:
    options = ("--run-dir", "/nonexistent/run", "--state-dir", "/nonexistent/state")
    if os.geteuid() == 0:
        modules = ("sparktune.cli.apply", "sparktune.cli.restore", "sparktune.cli.local")
        outcome = run_as_nobody(*options, *arguments, modules=modules)
    else:
        outcome = run_process(*options, *arguments)
    assert outcome.code == 1
    assert "sudo" in outcome.err


def test_restore_wants_to_be_told_what(host: CommandLine) -> None:
    for arguments in (("restore",), ("restore", "--all", "nvme")):
        outcome = host(*arguments)
        assert outcome.code == 2
        assert "hint: sparktune restore --all" in outcome.err


def test_restore_puts_back_what_apply_wrote_and_both_work_without_a_daemon(host: CommandLine) -> None:
    host("apply")
    outcome = host("restore", "--all", "--json")
    assert outcome.code == 0
    assert (host.read(READ_AHEAD), host.read(IDLE)) == ("128", "0")
    assert not (host.tree / "sys/kernel/config/rdma_cm/rocep1s0f0").exists()
    assert {item["outcome"] for item in outcome.document["outcomes"]} <= {"restored", "already"}


def test_restore_works_with_a_broken_configuration(host: CommandLine) -> None:
    host("apply")
    host.configure("this is no TOML")
    assert host("restore", "--all").code == 0
    assert host.read(READ_AHEAD) == "128"


def test_restore_leaves_alone_what_somebody_else_wrote_and_exits_4(host: CommandLine) -> None:
    host("apply")
    host.write(READ_AHEAD, 512)
    outcome = host("restore", "nvme")
    assert outcome.code == 4
    assert host.read(READ_AHEAD) == "512"
    assert "left" in outcome.out


def test_restore_through_the_daemon_is_not_healed_and_ends_with_apply(served: CommandLine) -> None:
    outcome = served("restore", NVME)
    assert outcome.code == 0
    assert served.read(READ_AHEAD) == "128"
    assert "restored by" in served("explain", NVME).out
    assert served("apply", NVME).code == 0
    assert served.read(READ_AHEAD) == "8192"


def test_restore_where_nothing_was_written_says_so(host: CommandLine) -> None:
    outcome = host("restore", "--all")
    assert outcome.code == 0
    assert "nothing" in outcome.out


def test_a_pause_stops_healing_and_resume_heals(served: CommandLine) -> None:
    outcome = served("pause", "--for", "10m", "nvme")
    assert outcome.code == 0
    assert "paused for 10m: nvme" in outcome.out
    served.write(READ_AHEAD, 256)
    wait_until(lambda: "256" in served("explain", NVME).out)
    assert served.read(READ_AHEAD) == "256"
    outcome = served("resume", "nvme")
    assert (outcome.code, "resumed: nvme" in outcome.out) == (0, True)
    assert served.read(READ_AHEAD) == "8192"


def test_resuming_what_was_not_paused_says_so(served: CommandLine) -> None:
    assert "nothing of that was paused" in served("resume").out


@pytest.mark.parametrize("duration", ["tomorrow", "10", "-5m", "0s", "999999h"])
def test_an_impossible_pause_is_a_usage_error(served: CommandLine, duration: str) -> None:
    assert served("pause", "--for", duration).code == 2


@pytest.mark.parametrize("arguments", [["pause"], ["resume"], ["reload"]])
def test_what_only_a_daemon_can_do_exits_3_without_one(host: CommandLine, arguments: list[str]) -> None:
    outcome = host(*arguments)
    assert outcome.code == 3
    assert "hint: start it" in outcome.err


def test_reload_takes_over_a_new_value(served: CommandLine) -> None:
    served.configure("[nvme]\nread_ahead_kb = 4096\n")
    outcome = served("reload")
    assert (outcome.code, outcome.out.splitlines()[0]) == (0, "reloaded, 1 write")
    assert served.read(READ_AHEAD) == "4096"


def test_reload_of_a_bad_file_exits_2_with_every_problem_and_changes_nothing(served: CommandLine) -> None:
    served.configure("[nvme]\nread_ahead_kb = -1\nnonsense = 2\n")
    outcome = served("reload")
    assert outcome.code == 2
    assert ":2: nvme.read_ahead_kb" in outcome.err
    assert ":3: nvme.nonsense" in outcome.err
    assert served.read(READ_AHEAD) == "8192"


def test_verify_judges_without_writing(host: CommandLine) -> None:
    outcome = host("verify", NVME)
    assert outcome.code == 4
    assert "drift: 0 of 1 hold; checked 1 of 1" in outcome.out
    assert host.read(READ_AHEAD) == "128"


def test_verify_of_an_applied_host_checks_everything_the_effect_included(host: CommandLine) -> None:
    host("apply")
    outcome = host("verify", "--json")
    assert outcome.code == 0
    checked = outcome.document["checked"]
    assert checked["read"] == checked["of"] == checked["hold"] > 105
    assert outcome.document["not_holding"] == []


def test_verify_lists_what_it_did_not_check_with_the_reason(host: CommandLine) -> None:
    outcome = host("verify", "roce")
    found = re.search(
        r"^roce.rocep1s0f1.port_state and \d+ more +\d+ +no carrier on port p1", outcome.out, re.MULTILINE
    )
    assert found, outcome.out


def test_verify_sees_that_a_disabled_state_was_entered_between_its_readings(host: CommandLine) -> None:
    host("apply")
    entered = "cpuidle.cpu3.entered"
    usage = host.tree / "sys/devices/system/cpu/cpu3/cpuidle/state2/usage"
    with counting(usage):
        outcome = host("verify", "cpuidle", "--json")
    assert outcome.code == 4
    assert [item["id"] for item in outcome.document["not_holding"]] == [entered]


def test_verify_on_another_machine_exits_5(host: CommandLine) -> None:
    tree.build(host.tree, "not-gb10")
    assert host("verify", "nvme").code == 5


def test_explain_says_everything_with_and_without_a_daemon(host: CommandLine) -> None:
    without = host("explain", NVME, "--json").document
    assert (without["actual"], without["verdict"], without["layer"]) == (128, "drift", "default")
    with running_daemon(host.tree):
        outcome = host("explain", NVME)
        document = host("explain", NVME, "--json").document
    assert (document["actual"], document["original"], document["verdict"]) == (8192, 128, "ok")
    for label in ("why", "source", "risk", "original", "wanted", "actual", "verdict", "set by"):
        assert f"\n{label} " in outcome.out


def test_explain_says_what_disabling_everything_means_and_that_its_watts_are_unknown(
    host: CommandLine,
) -> None:
    outcome = host("explain", "cpuidle.cpu0.state3.disable")
    said = " ".join(outcome.out.split())
    assert "all idle states are disabled" in said
    assert "What it costs in watts is not known" in said


def test_explain_of_an_unknown_id_offers_the_nearest(host: CommandLine) -> None:
    outcome = host("explain", "cpuidle.cpu0.state9.disable")
    assert outcome.code == 2
    assert "cpuidle.cpu0.state" in outcome.err


@contextmanager
def counting(usage: Path) -> Iterator[None]:
    """A CPU that goes on entering an idle state."""
    ended = Event()

    def enter() -> None:
        while not ended.wait(0.2):
            usage.write_text(f"{int(usage.read_text()) + 7}\n")

    thread = Thread(target=enter)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
