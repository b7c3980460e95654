"""What people read of each scenario: `fabric`, `plan`, `verify` and `nccl`, as golden files read by eye.

`plan` first, then all others after `apply`: what they tell is what sparktune cannot or may not mend. To renew
the files after a change that was meant, run this with UPDATE_GOLDEN=1, and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from commands import CommandLine
from sparktune.simulate import tree
from sparktune.simulate.scenarios import SCENARIOS

if TYPE_CHECKING:
    from commands import Outcome

GOLDEN = Path(__file__).parent / "golden" / "scenarios"
COMMANDS = (("plan", "roce"), ("apply",), ("fabric",), ("verify", "roce"), ("nccl",))
KEPT = ("fabric", "plan", "verify", "nccl")

ASKED = {
    "no-dcb": {"SPARKTUNE_ROCE__PFC_PRIORITIES": "[3]", "SPARKTUNE_ROCE__TRUST": "dscp"},
    "mtu-mismatch": {"SPARKTUNE_ROCE__MTU": "9000"},
}
"""What `plan` is asked for as well, because it is off by default."""


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def shown(arguments: tuple[str, ...], outcome: Outcome) -> str:
    """The command with its exit code, then all it printed."""
    return f"$ sparktune {' '.join(arguments)}   (exit code {outcome.code})\n{outcome.out}{outcome.err}"


def test_what_people_read_of_a_scenario_is_what_was_read_by_eye(
    scenario: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.build(tmp_path / "host", scenario=scenario)
    host = CommandLine(tmp_path / "host", capsys)
    printed = {command[0]: shown(command, host(*command)) for command in COMMANDS}
    compare(scenario, {name: printed[name] for name in KEPT})


@pytest.mark.parametrize("scenario", ASKED)
def test_what_people_ask_for_is_planned_with_what_it_takes(
    scenario: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree.build(tmp_path / "host", scenario=scenario)
    host = CommandLine(tmp_path / "host", capsys)
    for name, value in ASKED[scenario].items():
        monkeypatch.setenv(name, value)
    asked = "".join(f"$ export {name}='{value}'\n" for name, value in ASKED[scenario].items())
    compare(scenario, {"plan-asked": asked + shown(("plan", "roce"), host("plan", "roce"))})


def compare(scenario: str, printed: dict[str, str]) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        for name, text in printed.items():
            (GOLDEN / f"{scenario}.{name}.txt").write_text(text)
    for name, text in printed.items():
        assert text == golden(scenario, name)


def golden(scenario: str, name: str) -> str:
    return (GOLDEN / f"{scenario}.{name}.txt").read_text()


def test_a_moved_gid_changes_what_fabric_shows_and_not_what_nccl_needs() -> None:
    assert golden("gid-moved", "fabric") != golden("healthy-pair", "fabric")
    assert golden("gid-moved", "nccl") == golden("healthy-pair", "nccl")


@pytest.mark.parametrize(
    ("scenario", "name", "says"),
    [
        ("one-twin-down", "nccl", "(exit code 4)"),
        ("one-twin-down", "nccl", "enP2p1s0f0np0 (p0, twin of enp1s0f0np0) has no link"),
        ("zeroconf-twin", "nccl", "(exit code 4)"),
        ("no-cable", "nccl", "plug in the QSFP cable"),
        ("mtu-mismatch", "fabric", "enp1s0f0np0 9000, enP2p1s0f0np0 1500"),
        ("mtu-mismatch", "nccl", "enp1s0f0np0 9000, enP2p1s0f0np0 1500"),
        ("pcie-x2", "fabric", "roce.enP2p1s0f0np0.pcie_width: is 2, expected 4"),
        ("mlx5-names", "nccl", "NCCL_IB_HCA='=mlx5_0,mlx5_2'"),
        ("unreadable-counter", "verify", "hw_counters/out_of_sequence: Is a directory (EISDIR)"),
        ("stale-configfs", "verify", "rdma_cm/rocep1s0f0/ports/1/default_roce_mode"),
        ("no-dcb", "plan-asked", "a kernel without CONFIG_DCB"),
        ("mtu-mismatch", "plan-asked", "One-sided, it breaks traffic"),
        ("mtu-mismatch", "plan-asked", "/etc/netplan/40-cx7.yaml, then run: sudo netplan apply"),
        ("healthy-pair", "verify", "(exit code 0)"),
        ("healthy-pair", "fabric", "(exit code 0)"),
    ],
)
def test_the_owner_of_two_sparks_reads(scenario: str, name: str, says: str) -> None:
    assert says in golden(scenario, name)


def test_every_golden_file_belongs_to_a_scenario() -> None:
    kept = {f"{scenario}.{name}.txt" for scenario in SCENARIOS for name in KEPT}
    assert {path.name for path in GOLDEN.iterdir()} == kept | {f"{name}.plan-asked.txt" for name in ASKED}
