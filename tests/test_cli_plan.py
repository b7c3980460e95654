"""`sparktune plan`: golden files for every simulated machine, and what it says about what it leaves alone.

To renew the golden files after a change that was meant: UPDATE_GOLDEN=1 pytest tests/test_cli_plan.py
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from commands import READ_AHEAD, CommandLine, run_as_nobody, running_daemon, wait_until
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parent / "golden" / "plan"
UNSUPPORTED = {"not-gb10"}


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    tree.build(tmp_path / "host")
    return CommandLine(tmp_path / "host", capsys)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may look into; pytest's own are for their owner only."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def everything_in(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a directory, with its mtime and content."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("variant", tree.VARIANTS)
def test_the_plan_for_each_machine_is_the_one_that_was_read_by_eye(host: CommandLine, variant: str) -> None:
    tree.build(host.tree, variant)
    outcome = host("plan")
    golden = GOLDEN / f"{variant}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(outcome.out)
    assert outcome.code == (5 if variant in UNSUPPORTED else 0)
    assert outcome.out == golden.read_text()


def test_every_golden_file_belongs_to_a_machine() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(tree.VARIANTS)


def test_a_plan_writes_nothing_at_all(host: CommandLine) -> None:
    before = everything_in(host.tree)
    assert host("plan").code == 0
    assert host("plan", "--json", "--verbose").code == 0
    assert everything_in(host.tree) == before
    assert not (host.tree / "var/lib/sparktune").exists()


def test_no_path_of_the_tree_is_shown(host: CommandLine) -> None:
    assert str(host.tree) not in host("plan", "--verbose").out


def test_apply_writes_exactly_what_the_plan_said(host: CommandLine) -> None:
    planned = host("plan", "--json").document["writes"]
    written = host("apply", "--json").document["written"]
    assert {(item["id"], item["found"], item["wanted"]) for item in planned} == {
        (item["tunable"], item["found"], item["wanted"]) for item in written
    }


def test_after_apply_nothing_is_planned_and_the_originals_are_known(host: CommandLine) -> None:
    host("apply")
    assert host("plan").out.rstrip().endswith("0 writes, 85 as wanted already; nothing was written.")
    host.write(READ_AHEAD, 256)
    (write,) = host("plan", "--json").document["writes"]
    assert (write["found"], write["original"], write["original_is"]) == (256, 128, "on disk")


def test_sixty_writes_of_one_kind_are_one_entry_for_people_and_all_are_listed_on_request(
    host: CommandLine,
) -> None:
    short, long = host("plan", "cpuidle").out, host("plan", "cpuidle", "--verbose").out
    assert short.count("/disable") == 4
    assert "cpu{0-19}" in short
    assert long.count("/disable") == 80
    assert "/sys/devices/system/cpu/cpu7/cpuidle/state2/disable" in long


def test_a_plan_can_be_asked_for_one_tunable(host: CommandLine) -> None:
    document = host("plan", "nvme.nvme0n1.read_ahead_kb", "--json").document
    assert [write["id"] for write in document["writes"]] == ["nvme.nvme0n1.read_ahead_kb"]
    assert list(document["areas"]) == ["nvme"]


def test_an_absent_area_can_be_asked_for(host: CommandLine) -> None:
    tree.build(host.tree, "no-cable")
    outcome = host("plan", "roce")
    assert outcome.code == 4  # nothing was there to be checked
    assert "absent    no ConnectX-7 here" in outcome.out


def test_what_a_write_would_disturb_now_is_named_with_its_risk(host: CommandLine) -> None:
    host.configure("roce.mtu = 9000\n")
    qps = host.tree / "sys/class/infiniband/rocep1s0f0/netlink/qps"
    qps.write_text("812 ib_write_bw 90\n")
    outcome = host("plan", "roce.enp1s0f0np0.mtu")
    said = " ".join(outcome.out.split())
    assert "disturbs queue pairs of ib_write_bw[812] on rocep1s0f0" in said
    assert "One-sided, it breaks traffic" in said
    document = host("plan", "roce.enp1s0f0np0.mtu", "--json").document
    assert document["writes"][0]["disturbs"] == "queue pairs of ib_write_bw[812] on rocep1s0f0"
    qps.write_text("")
    assert "disturbs running traffic, for a moment" in " ".join(
        host("plan", "roce.enp1s0f0np0.mtu").out.split()
    )


def test_an_unknown_name_is_a_usage_error_with_the_nearest_one(host: CommandLine) -> None:
    outcome = host("plan", "nvme.nvme0.read_ahead_kb")
    assert outcome.code == 2
    assert "did you mean nvme.nvme0n1.read_ahead_kb?" in outcome.err


def test_an_invalid_configuration_is_told_with_file_and_line(host: CommandLine) -> None:
    path = host.configure("[nvme]\nread_ahead_kb = true\n")
    outcome = host("plan")
    assert outcome.code == 2
    assert f"{path}:2: nvme.read_ahead_kb: expected a whole number" in outcome.err
    assert "hint: " in outcome.err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[nvme]\npolicy = "report"\n', 'policy = "report" in [nvme]: reported, not written'),
        ('[nvme]\npolicy = "off"\n', 'policy = "off" in [nvme]'),
        ('mode = "report"\n', 'mode = "report": reported, not written'),
    ],
)
def test_what_a_policy_leaves_alone_is_listed_with_the_policy(
    host: CommandLine, text: str, reason: str
) -> None:
    host.configure(text)
    document = host("plan", "nvme", "--json").document
    assert document["writes"] == []
    assert [(item["found"], item["reason"]) for item in document["left"]] == [(128, reason)]


def test_the_off_switch_of_the_kernel_command_line_empties_the_plan(host: CommandLine) -> None:
    host.write("proc/cmdline", "root=/dev/nvme0n1p2 sparktune=off")
    outcome = host("plan")
    assert "sparktune=off is on the kernel command line" in outcome.out
    assert "0 writes" in outcome.out


def test_a_machine_that_is_tuned_on_request_has_an_ordinary_plan(host: CommandLine) -> None:
    tree.build(host.tree, "not-gb10")
    host.configure("require_gb10 = false\n")
    outcome = host("plan")
    assert outcome.code == 0
    assert "NOTHING" not in outcome.out


def test_what_cannot_be_read_is_left_with_the_reason(host: CommandLine) -> None:
    host.write(READ_AHEAD, "no number")
    (left,) = host("plan", "nvme", "--json").document["left"]
    assert left["found"] is None
    assert "no number" in left["reason"]


def test_a_value_above_what_is_defensible_is_warned_about(host: CommandLine) -> None:
    path = host.configure("[nvme]\nread_ahead_kb = 65536\n")
    outcome = host("plan", "nvme")
    assert "warning   read_ahead_kb = 65536 is above 16384" in outcome.out
    assert f"set by    nvme.read_ahead_kb ({path})" in " ".join(outcome.out.split("\n            "))


def test_a_paused_or_restored_tunable_is_planned_with_what_apply_would_end(host: CommandLine) -> None:
    with running_daemon(host.tree):
        assert host("restore", "nvme").code == 0
        assert host("pause", "--for", "1h", "cpuidle").code == 0
        host.write("sys/devices/system/cpu/cpu3/cpuidle/state1/disable", 0)
        wait_until(lambda: host("verify", "cpuidle.cpu3.state1.disable").out.startswith("DOES NOT HOLD"))
        outcome = host("plan", "--json")
    ends = {write["id"]: write["ends"] for write in outcome.document["writes"]}
    assert ends["nvme.nvme0n1.read_ahead_kb"].startswith("restored by ")
    assert ends["cpuidle.cpu3.state1.disable"].startswith("paused by ")
    assert outcome.document["daemon_runs"] is True


def test_a_plan_says_whether_a_daemon_runs(host: CommandLine) -> None:
    assert "No daemon is running here" in host("plan").out
    with running_daemon(host.tree):
        assert "No daemon is running here" not in host("plan").out


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_user_who_may_not_read_the_originals_is_told_so(
    open_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.build(open_directory / "host")
    host = CommandLine(open_directory / "host", capsys)
    host("apply")
    host.write(READ_AHEAD, 256)
    modules = ("sparktune.cli.plan", "sparktune.requests")
    outcome = run_as_nobody("--root", host.tree, "plan", "nvme", "--json", modules=modules)
    (write,) = outcome.document["writes"]
    assert write["original"] is None
    assert "only root may read" in write["original_is"]
