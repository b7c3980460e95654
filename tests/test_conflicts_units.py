"""Conflicts in what is run: enabled services and their scripts, rc.local, hooks, cron; and known tuners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from machines import READ_AHEAD
from rivals import WANTS, brief

if TYPE_CHECKING:
    from rivals import Rivals

UNIT = "/etc/systemd/system/tune.service"
SCRIPT = "/usr/local/sbin/tune"
SETS = f"/bin/sh -c 'echo 4096 > {READ_AHEAD}'"
SERVICE = f"[Service]\nExecStart={SETS}\n"


def test_a_service_that_writes_our_attribute_is_found_with_its_unit(rivals: Rivals) -> None:
    rivals.serve("tune.service", "/bin/true", SETS)
    found = rivals.only()
    assert (found.who, found.unit, found.file, found.line) == ("tune.service", "tune.service", UNIT, 7)
    assert (found.value, found.wanted, found.agrees) == ("4096", 8192, False)
    assert found.text == f"ExecStart={SETS}"
    assert "systemctl disable --now tune.service" in found.do


@pytest.mark.parametrize("prefix", ["-", "@", "+", "!!", "-+"])
def test_prefixes_of_a_command_line_do_not_hide_it(rivals: Rivals, prefix: str) -> None:
    rivals.serve("tune.service", f"{prefix}{SETS}")
    assert brief(rivals.found()) == [(UNIT, 6, "4096", False)]


@pytest.mark.parametrize("key", ["ExecStartPre", "ExecStartPost", "ExecStop", "ExecReload"])
def test_each_kind_of_command_line_counts(rivals: Rivals, key: str) -> None:
    rivals.enable("tune.service", f"[Service]\n{key}={SETS}\n")
    assert brief(rivals.found()) == [(UNIT, 2, "4096", False)]


def test_a_service_that_is_not_enabled_is_no_conflict(rivals: Rivals) -> None:
    rivals.place(UNIT, SERVICE)
    assert rivals.found() == ()


def test_a_commented_line_is_no_conflict(rivals: Rivals) -> None:
    rivals.enable("tune.service", f"[Service]\n#ExecStart={SETS}\n;ExecStart={SETS}\nExecStart=/bin/true\n")
    assert rivals.found() == ()


def test_reading_an_attribute_is_no_conflict(rivals: Rivals) -> None:
    rivals.serve("tune.service", f"/bin/sh -c 'cat {READ_AHEAD} > /run/read-ahead 2>/dev/null'")
    assert rivals.found() == ()


def test_a_masked_service_is_no_conflict(rivals: Rivals) -> None:
    rivals.enable("tune.service", SERVICE, directory="/usr/lib/systemd/system")
    assert len(rivals.found()) == 1
    rivals.link(UNIT, "/dev/null")
    assert rivals.found() == ()


def test_a_service_masked_until_reboot_is_no_conflict(rivals: Rivals) -> None:
    rivals.enable("tune.service", SERVICE, directory="/usr/lib/systemd/system")
    rivals.place("/run/systemd/system/tune.service", "")
    assert rivals.found() == ()


def test_a_link_that_is_masked_pulls_nothing_in(rivals: Rivals) -> None:
    rivals.place("/usr/lib/systemd/system/tune.service", SERVICE)
    rivals.link("/usr/lib/systemd/system/sysinit.target.wants/tune.service", "../tune.service")
    assert len(rivals.found()) == 1
    rivals.link("/etc/systemd/system/sysinit.target.wants/tune.service", "/dev/null")
    assert rivals.found() == ()


def test_the_owners_unit_replaces_the_packages(rivals: Rivals) -> None:
    rivals.enable("tune.service", SERVICE, directory="/usr/lib/systemd/system")
    rivals.place(UNIT, "[Service]\nExecStart=/bin/true\n")
    assert rivals.found() == ()


def test_a_drop_in_adds_and_resets_command_lines(rivals: Rivals) -> None:
    rivals.enable("tune.service", SERVICE)
    drop_in = f"{UNIT}.d/override.conf"
    rivals.place(drop_in, "[Service]\nExecStart=\nExecStart=/usr/sbin/blockdev --setra 2048 /dev/nvme0n1\n")
    assert brief(rivals.found()) == [(drop_in, 3, "1024", False)]
    rivals.place(drop_in, "[Service]\nExecStart=\nExecStart=/bin/true\n")
    assert rivals.found() == ()


def test_what_a_timer_starts_is_enabled_with_the_timer(rivals: Rivals) -> None:
    rivals.place(UNIT, SERVICE)
    rivals.enable("tune.timer", "[Timer]\nOnBootSec=1min\n")
    assert len(rivals.found()) == 1


def test_a_timer_may_start_a_service_of_another_name(rivals: Rivals) -> None:
    rivals.place(UNIT, SERVICE)
    rivals.enable("later.timer", "[Timer]\nOnBootSec=1min\nUnit=tune.service\n")
    assert [one.unit for one in rivals.found()] == ["tune.service"]


def test_an_instance_uses_its_template(rivals: Rivals) -> None:
    template = "/etc/systemd/system/tune@.service"
    rivals.place(template, "[Service]\nExecStart=/sbin/blockdev --setra 2048 /dev/%i\n")
    rivals.link(f"{WANTS}/tune@nvme0n1.service", template)
    found = rivals.only()
    assert (found.file, found.unit, found.value) == (template, "tune@nvme0n1.service", "1024")


def test_the_script_of_a_service_is_read(rivals: Rivals) -> None:
    rivals.serve("tune.service", f"{SCRIPT} --quiet")
    rivals.place(
        SCRIPT,
        "#!/bin/bash\n"
        "SIZE=1024  # KiB\n"
        "for disk in /sys/block/nvme*n1; do\n"
        '  echo "$SIZE" > "$disk/queue/read_ahead_kb"\n'
        "done\n",
        0o755,
    )
    found = rivals.only()
    assert (found.who, found.file, found.line, found.value) == ("tune.service", SCRIPT, 4, "1024")


def test_a_script_is_found_behind_its_shell(rivals: Rivals) -> None:
    rivals.serve("tune.service", f"/bin/bash -e {SCRIPT}")
    rivals.place(SCRIPT, f"#!/bin/bash\necho 64 | sudo tee {READ_AHEAD} > /dev/null\n")
    assert brief(rivals.found()) == [(SCRIPT, 2, "64", False)]


def test_a_program_that_is_no_script_is_not_looked_into(rivals: Rivals) -> None:
    rivals.serve("tune.service", SCRIPT)
    rivals.place(SCRIPT, f"\x7fELF\necho 64 > {READ_AHEAD}\n", 0o755)
    assert rivals.found() == ()


@pytest.mark.parametrize("place", ["/etc/sysconfig/cpupower", "/etc/default/cpupower"])
def test_options_from_an_environment_file_are_found_there(rivals: Rivals, place: str) -> None:
    rivals.enable(
        "cpupower.service",
        f"[Service]\nEnvironmentFile=-{place}\nExecStart=/usr/bin/cpupower $CPUPOWER_START_OPTS\n",
        directory="/usr/lib/systemd/system",
    )
    rivals.place(place, '# see cpupower(1)\nCPUPOWER_START_OPTS="idle-set -E"\n')
    found = rivals.only()
    assert (found.who, found.file, found.line) == ("cpupower.service", place, 2)
    assert (found.area, found.tunables, found.value, found.agrees) == ("cpuidle", 80, "0", False)
    assert rivals.look().neighbours == ()  # told once


def test_variables_of_a_unit_are_filled_in(rivals: Rivals) -> None:
    rivals.enable(
        "tune.service",
        f'[Service]\nEnvironment="DISK=nvme0n1" SIZE=1024\nExecStart={SETS.replace("4096", "${SIZE}")}\n',
    )
    assert brief(rivals.found()) == [(UNIT, 3, "1024", False)]


def test_an_alias_has_the_drop_ins_of_its_unit(rivals: Rivals) -> None:
    rivals.place(UNIT, "[Service]\nExecStart=/bin/true\n")
    rivals.place(f"{UNIT}.d/more.conf", f"[Service]\nExecStartPost={SETS}\n")
    rivals.link("/etc/systemd/system/alias.service", UNIT)
    rivals.link(f"{WANTS}/alias.service", UNIT)
    assert brief(rivals.found()) == [(f"{UNIT}.d/more.conf", 2, "4096", False)]


def test_setting_the_governor_makes_a_neighbour_and_no_conflict(rivals: Rivals) -> None:
    governor = "[Service]\nExecStart=/usr/bin/cpupower frequency-set -g performance\n"
    rivals.enable("nv-cpu-governor.service", governor, directory="/usr/lib/systemd/system")
    seen = rivals.look()
    assert seen.found == ()
    [neighbour] = seen.neighbours
    assert (neighbour.unit, neighbour.file) == ("nv-cpu-governor.service", WANTS)
    assert "governor" in neighbour.says


def test_tuners_that_are_disabled_are_no_neighbours(rivals: Rivals) -> None:
    for name in ("tlp", "power-profiles-daemon", "tuned", "laptop-mode"):
        rivals.place(f"/usr/lib/systemd/system/{name}.service", "[Service]\nExecStart=/bin/true\n")
    assert rivals.look().neighbours == ()


@pytest.mark.parametrize("mask", ["/dev/null", ""])
def test_a_tuner_that_is_masked_is_no_neighbour(rivals: Rivals, mask: str) -> None:
    rivals.enable("tlp.service", "[Service]\nExecStart=/usr/sbin/tlp init\n", "/usr/lib/systemd/system")
    assert len(rivals.look().neighbours) == 1
    if mask:
        rivals.link("/etc/systemd/system/tlp.service", mask)
    else:
        rivals.place("/etc/systemd/system/tlp.service", "")
    assert rivals.look().neighbours == ()


def test_tlp_sets_nothing_of_ours(rivals: Rivals) -> None:
    rivals.enable("tlp.service", "[Service]\nExecStart=/usr/sbin/tlp init start\n")
    rivals.place("/etc/tlp.conf", 'TLP_ENABLE=1\nDISK_DEVICES="nvme0n1"\nDISK_IOSCHED="mq-deadline"\n')
    seen = rivals.look()
    assert (seen.found, [one.unit for one in seen.neighbours]) == ((), ["tlp.service"])


def test_our_own_units_are_no_rivals(rivals: Rivals) -> None:
    rivals.serve("sparktune.service", SETS)
    assert rivals.found() == ()


def test_rc_local_counts_if_it_can_be_run(rivals: Rivals) -> None:
    rivals.place("/etc/rc.local", f"#!/bin/sh -e\necho 4096 > {READ_AHEAD}\nexit 0\n", 0o755)
    assert brief(rivals.found()) == [("/etc/rc.local", 2, "4096", False)]
    rivals.machine.root.path("/etc/rc.local").chmod(0o644)
    assert rivals.found() == ()


def test_a_hook_for_resume_counts(rivals: Rivals) -> None:
    hook = "/usr/lib/systemd/system-sleep/read-ahead"
    rivals.place(hook, f'#!/bin/sh\n[ "$1" = post ] && echo 128 > {READ_AHEAD}\n', 0o755)
    assert brief(rivals.found()) == [(hook, 2, "128", False)]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("/etc/crontab", "@reboot root blockdev --setra 512 /dev/nvme0n1"),
        ("/etc/cron.d/tune", "*/5 * * * * root blockdev --setra 512 /dev/nvme0n1"),
        ("/var/spool/cron/crontabs/root", "0 4 * * 1 /sbin/blockdev --setra 512 /dev/nvme0n1"),
    ],
)
def test_a_job_of_cron_counts(rivals: Rivals, name: str, line: str) -> None:
    rivals.place(name, f"SHELL=/bin/sh\n# {line}\n{line}\n")
    assert [(one.who, *place) for one, place in zip(rivals.found(), brief(rivals.found()), strict=True)] == [
        ("cron", name, 3, "256", False)
    ]


def test_laptop_mode_sets_the_read_ahead_of_the_disks_it_names(rivals: Rivals) -> None:
    conf = "/etc/laptop-mode/laptop-mode.conf"
    rivals.enable("laptop-mode.service", "[Service]\nExecStart=/usr/sbin/laptop_mode init force\n")
    text = (
        "ENABLE_LAPTOP_MODE_ON_AC=0\n"
        'HD="/dev/[hs]d[abcdefgh] /dev/nvme0n1"\n'
        'PARTITIONS="auto /dev/mapper/*"\n'
        "CONTROL_READAHEAD=1\n"
        "LM_READAHEAD=3072\n"
        "NOLM_READAHEAD=128\n"
    )
    rivals.place(conf, text)
    assert brief(rivals.found()) == [(conf, 6, "128", False)]
    rivals.place(conf, text.replace("ON_AC=0", "ON_AC=1"))
    assert brief(rivals.found()) == [(conf, 5, "3072", False)]
    rivals.place(conf, text.replace("CONTROL_READAHEAD=1", "CONTROL_READAHEAD=0"))
    seen = rivals.look()
    assert (seen.found, [one.unit for one in seen.neighbours]) == ((), ["laptop-mode.service"])


def test_laptop_mode_leaves_nvme_alone_by_default(rivals: Rivals) -> None:
    rivals.enable("laptop-mode.service", "[Service]\nExecStart=/usr/sbin/laptop_mode init force\n")
    rivals.place("/etc/laptop-mode/laptop-mode.conf", "CONTROL_READAHEAD=1\nNOLM_READAHEAD=128\n")
    assert rivals.found() == ()


@pytest.mark.parametrize(
    "words",
    ["cpuidle.off=1", "idle=poll", "nohlt", "processor.max_cstate=1", "intel_idle.max_cstate=0"],
)
def test_words_on_the_kernel_command_line_about_idling_are_told(rivals: Rivals, words: str) -> None:
    rivals.boot(words)
    found = rivals.only()
    assert (found.who, found.file, found.text) == ("kernel command line", "/proc/cmdline", words)
    assert (found.area, found.agrees) == ("cpuidle", None)
    assert found.says
    assert "boot loader" in found.do


@pytest.mark.parametrize("words", ["cpuidle.off=0", "cpuidle.governor=teo", "-- nohlt", "sparktune=on"])
def test_other_words_on_the_kernel_command_line_are_no_conflict(rivals: Rivals, words: str) -> None:
    rivals.boot(words)
    assert rivals.found() == ()


def test_the_command_line_is_told_also_where_there_is_no_idle_state_left(rivals: Rivals) -> None:
    rivals.boot("cpuidle.off=1")
    rivals.configure('[cpuidle]\ncpus = "200"\n')
    found = rivals.only()
    assert (found.tunables, found.attribute, found.wanted) == (0, "", None)
    rivals.configure('[cpuidle]\npolicy = "off"\n')
    assert rivals.found() == ()
