"""Conflicts in tmpfiles.d, sysctl.d and sysfs.conf, with the files and lines that others override."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from machines import READ_AHEAD
from rivals import brief
from sparktune.kernel.attribute import FileAttribute
from sparktune.model import Tunable

if TYPE_CHECKING:
    from rivals import Rivals

TMPFILE = "/etc/tmpfiles.d/tune.conf"
SYSCTL = "/etc/sysctl.d/50-tune.conf"
VENDOR = "/usr/lib/sysctl.d/50-tune.conf"
ARP_IGNORE = "/proc/sys/net/ipv4/conf/enp1s0f0np0/arp_ignore"


def parameter(rivals: Rivals, location: str) -> Tunable:
    """A kernel parameter as a tunable: none of ours is one yet."""
    *_, device, name = location.split("/")
    return Tunable(
        id=f"roce.{device}.{name}",
        area="roce",
        device=device,
        attribute=FileAttribute(rivals.ours.root, location, identity=("net", "1")),
        wanted=1,
        why="",
        source="",
        key="roce.arp_ignore",
    )


@pytest.fixture
def parameters(rivals: Rivals) -> Rivals:
    """Two kernel parameters are held as well."""
    other = ARP_IGNORE.replace("enp1s0f0np0", "enP2p1s0f0np0")
    rivals.hold_also(parameter(rivals, ARP_IGNORE), parameter(rivals, other))
    return rivals


# -- tmpfiles.d ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["w", "w+", "w!", "w-"])
def test_a_line_that_writes_is_found(rivals: Rivals, kind: str) -> None:
    rivals.place(TMPFILE, f"# read-ahead\n{kind} {READ_AHEAD} - - - - 4096\n")
    found = rivals.only()
    assert (found.who, found.file, found.line) == ("tmpfiles.d", TMPFILE, 2)
    assert (found.value, found.wanted, found.agrees) == ("4096", 8192, False)


def test_globs_and_quotes_are_read_as_systemd_reads_them(rivals: Rivals) -> None:
    text = 'w "/sys/block/nvme*/queue/read_ahead_kb" - - - - "8192"\n'
    rivals.place(TMPFILE, text)
    assert brief(rivals.found()) == [(TMPFILE, 1, "8192", True)]


@pytest.mark.parametrize(
    "line",
    [
        f"#w {READ_AHEAD} - - - - 4096",
        f"z {READ_AHEAD} 0644 root root - -",
        "w /sys/block/sda/queue/read_ahead_kb - - - - 4096",
        f"w {READ_AHEAD}",
        f'w "{READ_AHEAD} - - - - 4096',
    ],
)
def test_other_lines_of_tmpfiles_are_no_conflict(rivals: Rivals, line: str) -> None:
    rivals.place(TMPFILE, f"{line}\n")
    assert rivals.found() == ()


def test_a_tmpfiles_file_of_the_distribution_is_overridden_by_name(rivals: Rivals) -> None:
    vendor = "/usr/lib/tmpfiles.d/tune.conf"
    rivals.place(vendor, f"w {READ_AHEAD} - - - - 4096\n")
    assert brief(rivals.found()) == [(vendor, 1, "4096", False)]
    assert f"override it with a {TMPFILE}" in rivals.only().do
    rivals.link(TMPFILE, "/dev/null")
    assert rivals.found() == ()


# -- sysctl.d ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "net.ipv4.conf.enp1s0f0np0.arp_ignore",
        "net/ipv4/conf/enp1s0f0np0/arp_ignore",
        "-net.ipv4.conf.enp1s0f0np0.arp_ignore",
    ],
)
def test_a_kernel_parameter_is_found_by_each_spelling(parameters: Rivals, key: str) -> None:
    parameters.place(SYSCTL, f"; a comment\n{key} = 2\n")
    found = parameters.only()
    assert (found.who, found.file, found.line) == ("sysctl.d", SYSCTL, 2)
    assert (found.attribute, found.value, found.wanted, found.agrees) == (ARP_IGNORE, "2", 1, False)


def test_a_pattern_counts_for_all_but_what_has_a_line_of_its_own(parameters: Rivals) -> None:
    parameters.place(
        SYSCTL, "net.ipv4.conf.*.arp_ignore = 2\nnet.ipv4.conf.enp1s0f0np0.arp_ignore = 1\nvm.swappiness=10\n"
    )
    found = parameters.found()
    assert brief(found) == [(SYSCTL, 1, "2", False), (SYSCTL, 2, "1", True)]
    assert [one.ids for one in found] == [
        ("roce.enP2p1s0f0np0.arp_ignore",),
        ("roce.enp1s0f0np0.arp_ignore",),
    ]


def test_a_parameter_that_is_excluded_is_not_set_by_a_pattern(parameters: Rivals) -> None:
    parameters.place(SYSCTL, "net.ipv4.conf.*.arp_ignore = 2\n-net.ipv4.conf.enp1s0f0np0.arp_ignore\n")
    assert [one.ids for one in parameters.found()] == [("roce.enP2p1s0f0np0.arp_ignore",)]


def test_of_several_files_the_last_by_name_counts(parameters: Rivals) -> None:
    parameters.place(SYSCTL, "net.ipv4.conf.enp1s0f0np0.arp_ignore = 2\n")
    later = "/usr/lib/sysctl.d/90-other.conf"
    parameters.place(later, "net.ipv4.conf.enp1s0f0np0.arp_ignore = 1\n")
    assert brief(parameters.found()) == [(later, 1, "1", True)]


def test_a_sysctl_file_of_the_distribution_is_overridden_by_name(parameters: Rivals) -> None:
    parameters.place(VENDOR, "net.ipv4.conf.enp1s0f0np0.arp_ignore = 2\n")
    assert len(parameters.found()) == 1
    parameters.place(SYSCTL, "# nothing\n")
    assert parameters.found() == ()


def test_the_old_file_counts_last_and_once(parameters: Rivals) -> None:
    parameters.place(SYSCTL, "net.ipv4.conf.enp1s0f0np0.arp_ignore = 1\n")
    parameters.place("/etc/sysctl.conf", "net.ipv4.conf.enp1s0f0np0.arp_ignore = 2\n")
    assert brief(parameters.found()) == [("/etc/sysctl.conf", 1, "2", False)]
    parameters.machine.root.path("/etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    assert brief(parameters.found()) == [("/etc/sysctl.d/99-sysctl.conf", 1, "2", False)]


def test_without_a_kernel_parameter_of_ours_these_files_are_not_even_read(rivals: Rivals) -> None:
    rivals.place(SYSCTL, "net.ipv4.conf.all.arp_ignore = 2\n")
    before = rivals.look().files
    rivals.place("/etc/sysctl.d/51-more.conf", "vm.swappiness = 1\n")
    assert rivals.look().files == before


def test_a_kernel_parameter_is_found_wherever_else_it_is_set(parameters: Rivals) -> None:
    parameters.boot("sysctl.net.ipv4.conf.enp1s0f0np0.arp_ignore=2")
    parameters.serve("tune.service", "/sbin/sysctl -q -w net.ipv4.conf.enp1s0f0np0.arp_ignore=3")
    parameters.place("/etc/udev/rules.d/60-net.rules", 'SUBSYSTEM=="net", RUN+="/bin/tune"\n')
    parameters.place("/bin/tune", f"#!/bin/sh\necho 4 > {ARP_IGNORE}\n", 0o755)
    try:
        values = {one.who: one.value for one in parameters.found()}
    finally:
        parameters.machine.root.path("/bin/tune").unlink()
    assert values == {
        "kernel command line": "2",
        "tune.service": "3",
        "udev, by /etc/udev/rules.d/60-net.rules": "4",
    }


# -- sysfsutils ----------------------------------------------------------------------------------------------


def test_sysfs_conf_counts_where_the_package_is_enabled(rivals: Rivals) -> None:
    conf = "/etc/sysfs.d/disk.conf"
    rivals.place(
        conf, "# mode block/nvme0n1/queue/read_ahead_kb = 0600\nblock/nvme*/queue/read_ahead_kb = 512\n"
    )
    assert rivals.found() == ()
    rivals.link("/etc/rcS.d/S01sysfsutils", "../init.d/sysfsutils")
    rivals.place("/run/systemd/generator.late/sysfsutils.service", "[Service]\nExecStart=/bin/true\n")
    found = rivals.only()
    assert (found.who, found.file, found.line, found.value) == ("sysfsutils", conf, 2, "512")
    rivals.link("/etc/systemd/system/sysfsutils.service", "/dev/null")
    assert rivals.found() == ()
