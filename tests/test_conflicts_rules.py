"""Conflicts in udev rules: which rules set something of ours, which do not, and which udev never reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from machines import READ_AHEAD
from rivals import RULES, brief

if TYPE_CHECKING:
    from rivals import Rivals

VENDOR = "/usr/lib/udev/rules.d/60-rival.rules"
SETS = 'SUBSYSTEM=="block", KERNEL=="nvme*", ATTR{queue/read_ahead_kb}="4096"\n'


def test_a_rule_that_sets_another_value_is_found_with_its_line(rivals: Rivals) -> None:
    rivals.place(RULES, f"# a comment\n\n{SETS}")
    found = rivals.only()
    assert (found.who, found.file, found.line, found.text) == ("udev rule", RULES, 3, SETS.strip())
    assert (found.area, found.attribute, found.ids) == ("nvme", READ_AHEAD, ("nvme.nvme0n1.read_ahead_kb",))
    assert (found.value, found.wanted, found.agrees) == ("4096", 8192, False)
    assert found.says == "sets read_ahead_kb of nvme0n1 to 4096 KiB, sparktune holds 8192 KiB"
    assert "udevadm control --reload" in found.do
    assert "nvme.read_ahead_kb" in found.do


def test_a_rule_with_our_value_agrees_and_says_so(rivals: Rivals) -> None:
    rivals.place(RULES, SETS.replace("4096", "8192"))
    found = rivals.only()
    assert found.agrees is True
    assert found.says == "sets read_ahead_kb of nvme0n1 to 8192 KiB, as sparktune does"
    assert found.do.startswith("nothing now")


def test_the_line_of_a_continued_rule_is_the_one_that_sets(rivals: Rivals) -> None:
    rivals.place(
        RULES,
        'ACTION=="add|change", \\\n'
        "# in between\n"
        '  KERNEL=="nvme[0-9]n[0-9]", \\\n'
        '  ATTR{queue/read_ahead_kb}="512"\n',
    )
    found = rivals.only()
    assert (found.line, found.text) == (4, 'ATTR{queue/read_ahead_kb}="512"')


@pytest.mark.parametrize(
    "rule",
    [
        'ATTR{queue/read_ahead_kb}="4096"',
        'ATTR{bdi/read_ahead_kb}="4096"',
        'KERNEL=="sd*|nvme0n1", ATTR{queue/read_ahead_kb}:="4096"',
        'SUBSYSTEM=="bdi", ATTR{read_ahead_kb}="4096"',
        'KERNEL!="sd*", ATTR{queue/rotational}=="0", ATTR{queue/read_ahead_kb}="4096"',
        'ENV{DEVTYPE}=="partition", KERNEL=="nvme0n1p2", ATTR{../queue/read_ahead_kb}="4096"',
        'ENV{ID_MODEL}=="SAMSUNG*", ATTR{queue/read_ahead_kb}="4096"',
        'KERNEL=="nvme*", RUN+="/bin/sh -c \'echo 4096 > /sys/block/%k/queue/read_ahead_kb\'"',
        'KERNEL=="nvme*", RUN+="/bin/sh -c \'echo 4096 > /sys/$devpath/queue/read_ahead_kb\'"'.replace(
            "/sys/$devpath", "/sys$devpath"
        ),
        'KERNEL=="nvme0n1", RUN+="/sbin/blockdev --setra 8192 $devnode"',
        'SUBSYSTEM=="block", RUN+="/sbin/blockdev --setra 8192 /dev/%k"',
    ],
)
def test_each_way_to_set_the_read_ahead_of_our_disk_is_seen(rivals: Rivals, rule: str) -> None:
    rivals.place(RULES, f"{rule}\n")
    assert brief(rivals.found()) == [(RULES, 1, "4096", False)]


@pytest.mark.parametrize(
    "rule",
    [
        f"#{SETS}",
        'KERNEL=="nvme*", ATTR{queue/read_ahead_kb}=="128", ATTR{queue/scheduler}="none"',
        'KERNEL=="sd[a-z]", ATTR{queue/read_ahead_kb}="4096"',
        'KERNEL!="sd*|nvme*", KERNEL!="259:*", ATTR{queue/read_ahead_kb}="4096"',
        'SUBSYSTEM=="scsi", ATTR{queue/read_ahead_kb}="4096"',
        'ATTR{queue/rotational}=="1", ATTR{queue/read_ahead_kb}="4096"',
        'ENV{DEVTYPE}=="partition", ATTR{queue/read_ahead_kb}="4096"',
        'ACTION=="remove", ATTR{queue/read_ahead_kb}="4096"',
        'KERNEL=="loop*", RUN+="/sbin/blockdev --setra 8192 /dev/%k"',
        'KERNEL=="nvme*", RUN+="/sbin/blockdev --getra /dev/%k"',
        'SUBSYSTEM=="bdi", ACTION=="add", PROGRAM="/usr/libexec/nfsrahead %k", ATTR{read_ahead_kb}="%c"',
        'KERNEL!="sd*", GOTO="end"\nATTR{queue/read_ahead_kb}="4096"\nLABEL="end"',
    ],
)
def test_a_rule_that_sets_nothing_of_ours_is_no_conflict(rivals: Rivals, rule: str) -> None:
    rivals.place(RULES, f"{rule}\n")
    assert rivals.found() == ()


@pytest.mark.parametrize("jump", ['KERNEL=="sd*"', 'ACTION!="add|change"', 'ENV{ID_USB_DRIVER}=="uas"'])
def test_a_jump_that_is_not_certain_is_not_taken(rivals: Rivals, jump: str) -> None:
    rivals.place(RULES, f'{jump}, GOTO="end"\n{SETS}LABEL="end"\n')
    assert brief(rivals.found()) == [(RULES, 2, "4096", False)]


def test_idle_states_by_rule_are_found_on_every_cpu(rivals: Rivals) -> None:
    rivals.place(RULES, 'SUBSYSTEM=="cpu", ACTION=="add", ATTR{cpuidle/state1/disable}="0"\n')
    found = rivals.only()
    assert (found.area, found.tunables, found.value, found.agrees) == ("cpuidle", 20, "0", False)
    assert "cpu0, cpu1, cpu2 and 17 more" in found.says


def test_a_value_that_only_udev_knows_is_neither_same_nor_other(rivals: Rivals) -> None:
    rivals.place(RULES, 'KERNEL=="nvme*", PROGRAM="/bin/size", ATTR{queue/read_ahead_kb}="%c"\n')
    found = rivals.only()
    assert (found.value, found.agrees) == (None, None)
    assert "only running it would tell" in found.says


def test_a_file_of_the_owner_replaces_the_one_of_the_same_name(rivals: Rivals) -> None:
    rivals.place(VENDOR, SETS)
    assert brief(rivals.found()) == [(VENDOR, 1, "4096", False)]
    assert f"override it with a {RULES}" in rivals.only().do
    rivals.place(RULES, "# nothing here\n")
    assert rivals.found() == ()


def test_a_file_in_run_goes_before_one_of_the_distribution(rivals: Rivals) -> None:
    rivals.place(VENDOR, SETS)
    rivals.place("/run/udev/rules.d/60-rival.rules", SETS.replace("4096", "1024"))
    assert brief(rivals.found()) == [("/run/udev/rules.d/60-rival.rules", 1, "1024", False)]


def test_a_masked_file_is_not_read(rivals: Rivals) -> None:
    rivals.place(VENDOR, SETS)
    rivals.link(RULES, "/dev/null")
    assert rivals.found() == ()


def test_a_file_with_another_ending_is_not_read(rivals: Rivals) -> None:
    rivals.place(f"{RULES}.disabled", SETS)
    rivals.place("/etc/udev/rules.d/README", SETS)
    assert rivals.found() == ()


def test_a_link_is_followed_within_the_machine_and_not_out_of_it(rivals: Rivals) -> None:
    rivals.place("/opt/tuning/our.rules", SETS)
    rivals.link(RULES, "/opt/tuning/our.rules")
    assert brief(rivals.found()) == [(RULES, 1, "4096", False)]


def test_a_script_that_a_rule_runs_is_read(rivals: Rivals) -> None:
    rivals.place(RULES, 'KERNEL=="nvme*", RUN+="/usr/local/sbin/tune-disk %k"\n')
    script = "#!/bin/sh\nset -e\necho 2048 > /sys/block/$1/queue/read_ahead_kb\n"
    rivals.place("/usr/local/sbin/tune-disk", script, 0o755)
    found = rivals.only()
    assert (found.who, found.file, found.line) == (f"udev, by {RULES}", "/usr/local/sbin/tune-disk", 3)
    assert (found.value, found.agrees) == ("2048", False)


def test_an_area_that_is_off_has_no_conflicts(rivals: Rivals) -> None:
    rivals.place(RULES, SETS)
    rivals.configure('[nvme]\npolicy = "off"\n')
    assert rivals.found() == ()
