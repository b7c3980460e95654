"""`sparktune fabric` as a program: on simulated machines, as JSON, and where there is nothing."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from commands import CommandLine
from sparktune.simulate.tree import build, set_carrier

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sparktune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line on a well-configured pair's first machine."""
    build(tmp_path, scenario="healthy-pair")
    return CommandLine(tmp_path, capsys)


def test_a_healthy_pair_is_drawn_port_by_port_and_holds(sparktune: CommandLine) -> None:
    assert sparktune("apply", "--state-dir", sparktune.tree / "state").code == 0
    outcome = sparktune("fabric")
    assert outcome.code == 0, outcome.out
    assert outcome.out.splitlines()[0].startswith("ok: port p0: cabled, 2 of 2 twins up; port p1: no cable")
    assert [line.split()[0] for line in outcome.out.splitlines() if "─" in line] == ["p0", "└─", "p1", "└─"]


def test_as_json_each_twin_has_its_device_and_gid_index(sparktune: CommandLine) -> None:
    twins = sparktune("fabric", "--json").document["ports"][0]["twins"]
    assert [(twin["rdma"], twin["rdma_port"], twin["gid_index"]) for twin in twins] == [
        ("rocep1s0f0", 1, 3),
        ("roceP2p1s0f0", 1, 3),
    ]


def test_what_was_never_applied_is_told_with_what_to_do(sparktune: CommandLine) -> None:
    outcome = sparktune("fabric")
    assert outcome.code == 4
    assert "drift: roce.rocep1s0f0.default_roce_mode: is (not set), expected RoCE v2" in outcome.out
    assert "do: sparktune apply roce.rocep1s0f0.default_roce_mode" in outcome.out


def test_a_pulled_cable_shows_one_twin_without_a_link(sparktune: CommandLine) -> None:
    set_carrier(sparktune.tree, "enP2p1s0f0np0", up=False)
    outcome = sparktune("fabric")
    assert "port p0: cabled, 1 of 2 twins up" in outcome.out
    [twin] = [line for line in outcome.out.splitlines() if "└─ enP2p1s0f0np0" in line]
    assert "DOWN" in twin


def test_without_a_cable_it_says_that_the_chip_is_powered_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path, scenario="no-cable")
    outcome = CommandLine(tmp_path, capsys)("fabric")
    assert outcome.code == 4
    assert outcome.out.startswith("absent: no ConnectX-7 function is here: DGX OS powers it down")
    assert "do: plug a QSFP cable in" in outcome.out


def test_another_machine_is_not_supported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, "not-gb10")
    outcome = CommandLine(tmp_path, capsys)("fabric", "--json")
    assert (outcome.code, outcome.document["presence"], outcome.document["ports"]) == (5, "none", [])


def test_a_device_that_vanished_costs_only_its_own_cells(sparktune: CommandLine) -> None:
    device = sparktune.tree / "sys/class/infiniband/rocep1s0f0"
    shutil.rmtree(device.resolve())
    outcome = sparktune("fabric")
    assert "enP2p1s0f0np0" in outcome.out
    [twin] = [line for line in outcome.out.splitlines() if "┬─ enp1s0f0np0" in line]
    assert " none " in twin
