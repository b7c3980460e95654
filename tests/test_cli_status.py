"""`sparktune status`: the published state for people and programs, fresh, stale and missing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from commands import READ_AHEAD, CommandLine, running_daemon, wait_until
from documents import DRIFT, NOT_HOLDING, make_status
from sparktune.published import encode, exit_code, fetch, publish
from sparktune.simulate import tree
from sparktune.snapshot import Notice

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.snapshot import Status


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    (tmp_path / "run/sparktune").mkdir(parents=True)
    return CommandLine(tmp_path, capsys)


def announce(host: CommandLine, status: Status) -> bytes:
    """Publish a status; the bytes as they lie there."""
    run_dir = host.tree / "run/sparktune"
    publish(run_dir, "status", encode(status))
    return (run_dir / "status.json").read_bytes()


def test_the_first_line_is_state_and_summary_and_the_order_is_that_of_the_api(host: CommandLine) -> None:
    warning = Notice(area="cpuidle", level="info", says="a PM QoS request", do="")
    announce(host, replace(make_status(), drifts=(DRIFT,), not_holding=(NOT_HOLDING,), warnings=(warning,)))
    out = host("status").out
    assert out.startswith("degraded: checked 3 of 3")
    parts = ("host ", "config ", "daemon ", "AREA", "does not hold:", "latest drifts:", "a PM QoS request")
    places = [out.index(part) for part in parts]
    assert places == sorted(places)


def test_what_does_not_hold_comes_with_reason_and_remedy(host: CommandLine) -> None:
    announce(host, replace(make_status(), not_holding=(NOT_HOLDING,)))
    out = host("status").out
    assert "roce.rocep1s0f0.default_roce_mode: contested, is IB/RoCE v1, wanted RoCE v2" in out
    assert "why  somebody writes it back" in out
    assert "do   stop the rival" in out


def test_a_drift_names_who_did_it_and_how_long_the_heal_took(host: CommandLine) -> None:
    announce(host, replace(make_status(), drifts=(DRIFT,)))
    said = " ".join(host("status").out.split())
    assert "cpuidle: 60 tunables: 0 → 1, healed in 4.1 ms; by cpupower[812] uid 0, child of bash[811]" in said


@pytest.mark.parametrize(
    ("state", "code"),
    [("ok", 0), ("paused", 0), ("drift", 4), ("degraded", 4), ("starting", 4), ("unsupported", 5)],
)
def test_the_exit_code_says_the_state(host: CommandLine, state: str, code: int) -> None:
    status = replace(make_status(), state=state, not_holding=())  # type: ignore[arg-type] # each is one of its names
    announce(host, status)
    assert host("status", "--short").code == code
    assert exit_code(state) == code


def test_a_pause_that_hides_a_drift_is_no_success(host: CommandLine) -> None:
    announce(host, replace(make_status(), state="paused", not_holding=(NOT_HOLDING,)))
    assert host("status", "--short").code == 4


def test_short_is_one_line(host: CommandLine) -> None:
    announce(host, make_status())
    assert host("status", "--short").out.count("\n") == 1


def test_json_is_what_was_published_byte_by_byte(host: CommandLine) -> None:
    raw = announce(host, make_status())
    assert host("status", "--json").out.encode() == raw


def test_a_stale_status_is_down_and_says_since_when_and_what_it_said(host: CommandLine) -> None:
    announce(host, make_status(age_s=95))
    outcome = host("status")
    assert outcome.code == 3
    assert outcome.out.startswith("down: the daemon has been silent since ")
    assert "1 min ago" in outcome.out
    assert "Its last snapshot said: checked 3 of 3" in outcome.out


def test_the_json_of_a_stale_status_differs_in_state_and_summary_only(host: CommandLine) -> None:
    published = json.loads(announce(host, make_status(age_s=95)))
    outcome = host("status", "--json")
    assert outcome.code == 3
    document = outcome.document
    assert document["state"] == "down"
    changed = {key for key in published if published[key] != document[key]}
    assert changed == {"state", "summary"}


def test_unsupported_does_not_become_stale(host: CommandLine) -> None:
    raw = announce(host, replace(make_status(age_s=9999), state="unsupported"))
    outcome = host("status", "--json")
    assert outcome.code == 5
    assert outcome.out.encode() == raw


def test_without_a_daemon_the_hint_says_how_to_look(host: CommandLine) -> None:
    outcome = host("status")
    assert outcome.code == 3
    assert outcome.out == ""
    assert "no published state" in outcome.err
    assert "hint: is the daemon running?" in outcome.err


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"state": "ok", "summary": 3, "host": null}', "\0"])
def test_a_damaged_status_is_told_and_never_a_traceback(host: CommandLine, text: str) -> None:
    (host.tree / "run/sparktune/status.json").write_text(text)
    for arguments in (("status",), ("status", "--short"), ("status", "--json")):
        outcome = host(*arguments)
        assert outcome.code in (3, 4)
        assert "Traceback" not in outcome.err


def test_on_a_real_daemon_it_agrees_with_the_published_file_and_all_lists_every_tunable(
    host: CommandLine,
) -> None:
    (host.tree / "run/sparktune").rmdir()
    (host.tree / "run").rmdir()
    tree.build(host.tree)
    with running_daemon(host.tree):
        outcome = host("status", "--all")
        tunables = fetch(host.tree / "run/sparktune", "tunables").data["tunables"]
        assert outcome.code == 0
        assert all(f"\n{entry['id']} " in outcome.out for entry in tunables)
        host.write(READ_AHEAD, 128)
        wait_until(lambda: "healed" in host("status").out)
        assert host.read(READ_AHEAD) == "8192"
    assert host("status", "--short").code in (0, 3)  # fresh for three sweeps, then down
