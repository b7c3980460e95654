"""`sparktune nccl` as a program, on the tree of every scenario."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from commands import CommandLine, Outcome, run_as_nobody, run_process
from sparktune.simulate import tree
from sparktune.simulate.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ask = Callable[..., Outcome]

UNFIT = {"no-cable", "one-twin-down", "zeroconf-twin"}
PAIR = {
    "NCCL_IB_HCA": "=rocep1s0f0,roceP2p1s0f0",
    "NCCL_SOCKET_IFNAME": "=enp1s0f0np0",
    "UCX_NET_DEVICES": "rocep1s0f0:1,roceP2p1s0f0:1",
}


@pytest.fixture(scope="module")
def trees() -> Iterator[Path]:
    """A tree of each scenario, only to be read."""
    with TemporaryDirectory() as name:
        for scenario in SCENARIOS:
            tree.build(Path(name, scenario), scenario=scenario)
        yield Path(name)


@pytest.fixture
def ask(trees: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    return lambda scenario, *arguments: CommandLine(trees / scenario, capsys)("nccl", *arguments)


def variables(outcome: Outcome) -> dict[str, str]:
    return {one["name"]: one["value"] for one in outcome.document["variables"]}


def shell(script: str, root: Path) -> subprocess.CompletedProcess[str]:
    """A shell in whose path `sparktune` is this one."""
    program = f'sparktune() {{ {sys.executable} -m sparktune.cli.main --root "{root}" "$@"; }}'
    environment = {**os.environ, "NCCL_IB_GID_INDEX": "3"}
    command = ["bash", "-euc", f"{program}\n{script}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("scenario", sorted(set(SCENARIOS) - UNFIT - {"mlx5-names"}))
def test_what_costs_no_connection_changes_no_variable(ask: Ask, scenario: str) -> None:
    outcome = ask(scenario, "--json")
    assert outcome.code == 0
    assert outcome.err == ""
    assert variables(outcome) == PAIR


def test_devices_by_number_are_named_by_number(ask: Ask) -> None:
    assert variables(ask("mlx5-names", "--json"))["NCCL_IB_HCA"] == "=mlx5_0,mlx5_2"


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("no-cable", "powered down: no cable is plugged in"),
        ("one-twin-down", "enP2p1s0f0np0 (p0, twin of enp1s0f0np0) has no link"),
        ("zeroconf-twin", "enP2p1s0f0np0 (p0, twin of enp1s0f0np0) would use the self-made address 169"),
    ],
)  # fmt: skip
def test_an_unfit_fabric_exits_with_4_and_says_what_to_mend(ask: Ask, scenario: str, said: str) -> None:
    outcome = ask(scenario)
    assert outcome.code == 4
    assert said in outcome.err
    assert "hint: " in outcome.err
    assert outcome.out.splitlines()[-1] == "false"
    assert all(line.startswith("# ") for line in outcome.out.splitlines()[:-1])


def test_an_unfit_fabric_as_json_has_its_problems(ask: Ask) -> None:
    outcome = ask("one-twin-down", "--format", "json")
    assert outcome.code == 4
    assert outcome.document["fit"] is False
    assert outcome.document["variables"] == []
    assert "enP2p1s0f0np0" in outcome.document["problems"][0]["what"]


def test_different_mtus_are_noted(ask: Ask) -> None:
    assert any("enP2p1s0f0np0 1500" in note for note in ask("mtu-mismatch", "--json").document["notes"])


def test_a_moved_gid_leaves_an_old_nccl_without_a_common_index(ask: Ask) -> None:
    assert "NCCL_IB_GID_INDEX='3'" in ask("healthy-pair", "--nccl-version", "2.20.5").out
    outcome = ask("gid-moved", "--nccl-version", "2.20.5")
    assert outcome.code == 4
    assert "rocep1s0f0 5, roceP2p1s0f0 3" in outcome.err
    assert "use NCCL 2.21 or later" in outcome.err


@pytest.mark.parametrize("form", ["env", "fish"])
def test_a_bad_version_is_a_usage_error_and_fails_in_a_shell_too(ask: Ask, form: str) -> None:
    outcome = ask("healthy-pair", "--nccl-version", "$(reboot)\nreboot", "--format", form)
    assert outcome.code == 2
    assert "is no version of NCCL" in outcome.err
    assert "hint: write it as" in outcome.err
    *comments, last = outcome.out.splitlines()
    assert last == "false"
    assert all(line.startswith("# ") for line in comments)


def test_a_root_that_is_not_there_fails_in_a_shell_too(tmp_path: Path) -> None:
    outcome = run_process("--root", tmp_path / "nowhere", "nccl")
    assert outcome.code == 2
    assert outcome.out.endswith("\nfalse\n")


def test_eval_takes_it_as_it_is(trees: Path) -> None:
    done = shell(
        'eval "$(sparktune nccl)"; echo "$NCCL_IB_HCA ${NCCL_IB_GID_INDEX-unset}"', trees / "healthy-pair"
    )
    assert done.stdout == "=rocep1s0f0,roceP2p1s0f0 unset\n"


def test_eval_of_an_unfit_fabric_ends_a_careful_script(trees: Path) -> None:
    done = shell('eval "$(sparktune nccl)"; echo reached', trees / "one-twin-down")
    assert done.returncode != 0
    assert done.stdout == ""
    assert "has no link" in done.stderr


@pytest.mark.root
def test_any_user_may_ask(trees: Path) -> None:
    trees.chmod(0o755)
    root = trees / "healthy-pair"
    modules = ("sparktune.cli.nccl", "sparktune.places")
    outcome = run_as_nobody("--root", root, "nccl", "--json", modules=modules)
    assert outcome.code == 0, outcome.err
    assert variables(outcome) == PAIR


def test_a_machine_without_a_fabric_says_so(tmp_path: Path) -> None:
    outcome = run_process("--root", tmp_path, "nccl")
    assert outcome.code == 4
    assert "this machine has no ConnectX-7" in outcome.err


def test_names_are_bytes_whatever_the_locale_says(trees: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    outcome = run_process("--root", trees / "healthy-pair", "nccl", "--json", env=environment)
    assert json.loads(outcome.out)["fit"] is True
