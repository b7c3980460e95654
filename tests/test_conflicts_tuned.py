"""Conflicts with TuneD: which options of its active profiles count, and where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from machines import READ_AHEAD
from rivals import brief

if TYPE_CHECKING:
    from rivals import Rivals

CONF = "/etc/tuned/mine/tuned.conf"
VENDOR = "/usr/lib/tuned/profiles/base/tuned.conf"
DAEMON = "[Service]\nType=dbus\nPIDFile=/run/tuned/tuned.pid\nExecStart=/usr/sbin/tuned -l -P\n"


@pytest.fixture
def tuned(rivals: Rivals) -> Rivals:
    """TuneD is enabled, its profile is `mine`."""
    rivals.enable("tuned.service", DAEMON, directory="/usr/lib/systemd/system")
    rivals.place("/etc/tuned/active_profile", "mine\n")
    return rivals


def test_a_read_ahead_is_found_in_the_active_profile(tuned: Rivals) -> None:
    tuned.place(CONF, "[main]\nsummary=mine\n\n[disk]\nreadahead=4096\n")
    found = tuned.only()
    assert (found.who, found.unit) == ("TuneD, profile mine", "tuned.service")
    assert (found.file, found.line, found.text) == (CONF, 5, "readahead=4096")
    assert (found.attribute, found.value, found.wanted) == (READ_AHEAD, "4096", 8192)
    assert (found.agrees, "tuned-adm profile" in found.do) == (False, True)


@pytest.mark.parametrize(
    ("written", "value", "agrees"),
    [
        ("readahead = 8192", "8192", True),
        ("readahead=16384 s", "8192", True),
        ("readahead=>4096", "4096", True),
        ("readahead=>16384", "16384", False),
        ("readahead_multiply=2", None, None),
        ("readahead=${size}", None, None),
        ("readahead=512 # small", "512", False),
    ],
)
def test_a_read_ahead_is_judged_as_tuned_means_it(
    tuned: Rivals, written: str, value: str | None, agrees: object
) -> None:
    tuned.place(CONF, f"[disk]\n{written}\n")
    assert brief(tuned.found()) == [(CONF, 2, value, agrees)]


def test_a_profile_of_a_tuned_that_is_not_enabled_is_no_conflict(rivals: Rivals) -> None:
    rivals.place("/usr/lib/systemd/system/tuned.service", DAEMON)
    rivals.place("/etc/tuned/active_profile", "mine\n")
    rivals.place(CONF, "[disk]\nreadahead=4096\n")
    seen = rivals.look()
    assert (seen.found, seen.neighbours) == ((), ())


def test_a_tuned_that_runs_counts_without_being_enabled(rivals: Rivals) -> None:
    rivals.place("/etc/tuned/active_profile", "mine\n")
    rivals.place(CONF, "[disk]\nreadahead=4096\n")
    rivals.place("/run/tuned/tuned.pid", "4711")
    assert rivals.found() == ()  # killed, and its file left behind
    process = rivals.machine.root.path("/proc/4711")
    process.mkdir()
    try:
        assert brief(rivals.found()) == [(CONF, 2, "4096", False)]
    finally:
        process.rmdir()


def test_only_the_active_profile_counts(tuned: Rivals) -> None:
    tuned.place(CONF, "[main]\nsummary=nothing\n")
    tuned.place("/etc/tuned/other/tuned.conf", "[disk]\nreadahead=4096\n")
    seen = tuned.look()
    assert (seen.found, [one.says for one in seen.neighbours]) == ((), ["TuneD, profile mine"])


def test_commented_and_disabled_options_are_no_conflict(tuned: Rivals) -> None:
    tuned.place(CONF, "[disk]\n#readahead=4096\n[more]\ntype=disk\nenabled=false\nreadahead=128\n")
    assert tuned.found() == ()


def test_an_included_profile_counts_and_is_named(tuned: Rivals) -> None:
    tuned.place(CONF, "[main]\ninclude=base\n")
    tuned.place(VENDOR, "[disk]\nreadahead=4096\n")
    found = tuned.only()
    assert (found.file, found.line) == (VENDOR, 2)
    assert found.who == "TuneD, profile base (included by mine)"


def test_what_the_including_profile_sets_replaces_what_is_included(tuned: Rivals) -> None:
    tuned.place(CONF, "[main]\ninclude=base\n\n[disk]\nreadahead=1024\n")
    tuned.place(VENDOR, "[disk]\nreadahead=4096\n")
    assert brief(tuned.found()) == [(CONF, 5, "1024", False)]


@pytest.mark.parametrize("option", ["replace=1", "drop=readahead"])
def test_what_is_replaced_or_dropped_is_no_conflict(tuned: Rivals, option: str) -> None:
    tuned.place(CONF, f"[main]\ninclude=base\n\n[disk]\n{option}\nelevator=none\n")
    tuned.place(VENDOR, "[disk]\nreadahead=4096\n")
    assert tuned.found() == ()


def test_profiles_that_include_each_other_end(tuned: Rivals) -> None:
    tuned.place(CONF, "[main]\ninclude=base\n[disk]\nreadahead=1024\n")
    tuned.place(VENDOR, "[main]\ninclude=mine\n")
    assert brief(tuned.found()) == [(CONF, 4, "1024", False)]


def test_the_owners_profile_goes_before_the_one_of_the_package(tuned: Rivals) -> None:
    tuned.place("/usr/lib/tuned/mine/tuned.conf", "[disk]\nreadahead=4096\n")
    tuned.place(CONF, "[disk]\nreadahead=1024\n")
    assert brief(tuned.found()) == [(CONF, 2, "1024", False)]


def test_devices_that_are_left_out_are_no_conflict(tuned: Rivals) -> None:
    tuned.place(CONF, "[disk]\ndevices=sd*\nreadahead=4096\n")
    assert tuned.found() == ()
    tuned.place(CONF, "[disk]\ndevices=!nvme0n1\nreadahead=4096\n")
    assert tuned.found() == ()
    tuned.place(CONF, "[disk]\ndevices=!sda, nvme*\nreadahead=4096\n")
    assert len(tuned.found()) == 1


def test_a_path_below_sys_counts_with_its_variable(tuned: Rivals) -> None:
    tuned.place(
        CONF, "[variables]\nsize=2048\n[sysfs]\n/sys/block/nvme*/queue/read_ahead_kb=${size}\n/sys/x/y=1\n"
    )
    found = tuned.only()
    assert (found.line, found.text) == (4, "/sys/block/nvme*/queue/read_ahead_kb=${size}")
    assert (found.value, found.agrees) == ("2048", False)


@pytest.mark.parametrize(
    ("written", "limit_us"),
    [
        ("99", 99),
        ("433", 433),
        ("cstate.id_no_zero:1|3", 42),
        ("cstate.id_no_zero:0|7", 7),
        ("cstate.name:XYZ|cstate.id:3|10", 433),
        ("cstate.name:LPI-2", 231),
    ],
)
def test_a_forced_latency_is_told_in_microseconds(tuned: Rivals, written: str, limit_us: int) -> None:
    tuned.place(CONF, f"[cpu]\nforce_latency={written}\n")
    tuned.configure("[cpuidle]\ndisable_latency_us = 500\n")  # all four states are left on
    found = tuned.only()
    assert (found.area, found.attribute) == ("cpuidle", "/dev/cpu_dma_latency")
    assert (found.tunables, found.value) == (80, str(limit_us))
    assert f"idle states above {limit_us} µs" in found.says
    assert found.agrees is (limit_us >= 433)


def test_a_forced_latency_agrees_where_we_have_the_same_states_off(tuned: Rivals) -> None:
    tuned.place(CONF, "[cpu]\nforce_latency=5\n")
    tuned.configure("[cpuidle]\ndisable_latency_us = 42\n")
    assert tuned.only().agrees is True


def test_no_forced_latency_is_no_conflict(tuned: Rivals) -> None:
    tuned.place(CONF, "[cpu]\nforce_latency=cstate.name:XYZ|None\ngovernor=performance\n")
    assert tuned.found() == ()


def test_a_limit_of_single_cpus_counts(tuned: Rivals) -> None:
    tuned.configure("[cpuidle]\ndisable_latency_us = 500\n")
    tuned.place(CONF, "[cpu]\ndevices=cpu0, cpu1\npm_qos_resume_latency_us=n/a\n")
    found = tuned.only()
    assert (found.tunables, found.value, found.agrees) == (8, "0", False)
    tuned.place(CONF, "[cpu]\npm_qos_resume_latency_us=0\n")
    assert tuned.found() == ()


def test_the_script_of_a_profile_is_read(tuned: Rivals) -> None:
    tuned.place(CONF, "[script]\nscript=${i:PROFILE_DIR}/script.sh\n")
    script = "/etc/tuned/mine/script.sh"
    tuned.place(script, "#!/bin/bash\nstart() {\n  cpupower idle-set -d 1\n}\n", 0o755)
    found = tuned.only()
    assert (found.who, found.file, found.line) == ("TuneD, profile mine", script, 3)
    assert (found.tunables, found.value, found.agrees) == (20, "1", True)


def test_a_profile_that_is_not_there_costs_nothing(tuned: Rivals) -> None:
    tuned.place("/etc/tuned/active_profile", "gone -also-gone\n")
    assert [one.says for one in tuned.look().neighbours] == ["TuneD, profile gone -also-gone"]


def test_a_folder_of_profiles_of_ones_own_counts(tuned: Rivals) -> None:
    tuned.place("/etc/tuned/tuned-main.conf", "profile_dirs = /usr/lib/tuned/profiles,/opt/profiles\n")
    tuned.place("/opt/profiles/mine/tuned.conf", "[disk]\nreadahead=256\n")
    assert brief(tuned.found()) == [("/opt/profiles/mine/tuned.conf", 2, "256", False)]
