"""What command lines set of ours: every spelling that people use, and what only looks like one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from machines import READ_AHEAD
from sparktune.conflicts.commands import Commands, sysctl_path
from sparktune.conflicts.ours import Ours

if TYPE_CHECKING:
    from collections.abc import Callable

    from machines import Machine
    from rivals import Rivals

Seen = tuple[int, str, str]
STATES = "/sys/devices/system/cpu/cpu*/cpuidle/state*/disable"


def seen(rivals: Rivals, *lines: str) -> list[Seen]:
    """How many tunables are set, to what, and how that is meant."""
    commands = Commands(rivals.ours)
    writes = [write for line in lines for write in commands.read(line)]
    return [(len(write.tunables), write.value, write.sense) for write in writes]


@pytest.mark.parametrize(
    "line",
    [
        f"echo 4096 > {READ_AHEAD}",
        f"echo 4096 >{READ_AHEAD}",
        f"echo 4096 &> {READ_AHEAD}",
        f"echo -n '4096' >> {READ_AHEAD}",
        f'printf "%s\\n" 4096 > "{READ_AHEAD}"',
        f"echo 4096 | sudo tee {READ_AHEAD} > /dev/null",
        f"echo 4096|tee -a {READ_AHEAD}",
        f'sh -c "echo 4096 > {READ_AHEAD}"',
        f"bash -c 'sleep 1; echo 4096 > {READ_AHEAD}' 2>/dev/null",
        "echo 4096 > /sys/class/block/nvme0n1/queue/read_ahead_kb",
        "echo 4096 > /sys/block/nvme0n1/bdi/read_ahead_kb",
        "echo 4096 > /sys/class/bdi/259:0/read_ahead_kb",
        "echo 4096 > /sys/dev/block/259:0/queue/read_ahead_kb",
        "for d in /sys/block/nvme*; do echo 4096 > $d/queue/read_ahead_kb; done",
        'for d in nvme0n1 sda; do echo 4096 > "/sys/block/${d}/queue/read_ahead_kb"; done',
        "RA=4096; echo $RA > /sys/block/$DISK/queue/read_ahead_kb",
        "blockdev --setra 8192 /dev/nvme0n1",
        "/usr/sbin/blockdev -q --setra 8192 /dev/nvme0n1p2",
        "blockdev --setfra 8192 /dev/nvme?n?",
        "hdparm -a 8192 /dev/nvme0n1",
        "hdparm -a8192 /dev/nvme0n1",
    ],
)
def test_a_read_ahead_is_seen_in_each_spelling(rivals: Rivals, line: str) -> None:
    assert seen(rivals, line) == [(1, "4096", "equal")]


@pytest.mark.parametrize(
    "line",
    [
        "",
        f"# echo 4096 > {READ_AHEAD}",
        f"true # echo 4096 > {READ_AHEAD}",
        f"cat {READ_AHEAD}",
        f"cat < {READ_AHEAD}",
        f"cat {READ_AHEAD} > /run/saved",
        f"grep 4096 {READ_AHEAD} 2> /dev/null",
        "echo 4096 > /sys/block/sda/queue/read_ahead_kb",
        "echo 4096 > /sys/block/nvme0n1/queue/nr_requests",
        "echo 4096 > read_ahead_kb",
        f"echo a => {READ_AHEAD} -> {READ_AHEAD}",
        "echo 1 > $file",
        "blockdev --getra /dev/nvme0n1",
        "blockdev --setra 8192 /dev/sda",
        "cpupower frequency-set -g performance",
        "cpupower idle-info",
        "cpupower -c all idle-set",
        "cma_roce_mode -d rocep1s0f0 -p 1",
        "sysctl -w vm.swappiness=10",
    ],
)
def test_what_sets_nothing_of_ours_is_not_seen(rivals: Rivals, line: str) -> None:
    assert seen(rivals, line) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cpupower idle-set -D 100", (80, "100", "by latency")),
        ("cpupower idle-set --disable-by-latency=0", (80, "0", "by latency")),
        ("cpupower idle-set -D $LIMIT", (80, "", "unknown")),
        ("cpupower idle-set -E", (80, "0", "equal")),
        ("cpupower --cpu 0-3 idle-set --enable-all", (16, "0", "equal")),
        ("cpupower -c all idle-set -d 3", (20, "1", "equal")),
        ("cpupower -c 5 idle-set -e 1", (1, "0", "equal")),
        (f"for s in {STATES}; do echo 0 > $s; done", (80, "0", "equal")),
        ("echo 1 > /sys/devices/system/cpu/cpu7/cpuidle/state3/disable", (1, "1", "equal")),
        ("echo 1 | tee /sys/devices/system/cpu/cpu*/cpuidle/state[23]/disable", (40, "1", "equal")),
    ],
)
def test_idle_states_are_seen_in_each_spelling(rivals: Rivals, line: str, expected: Seen) -> None:
    assert seen(rivals, line) == [expected]


def test_a_loop_over_several_lines_is_followed(rivals: Rivals) -> None:
    lines = (
        "for cpu in /sys/devices/system/cpu/cpu[0-9]*; do",
        '  for state in "$cpu"/cpuidle/state[1-9]; do',
        '    echo 1 > "$state/disable"',
    )
    assert seen(rivals, *lines) == [(60, "1", "equal")]


@pytest.mark.parametrize(
    ("line", "value", "sense"),
    [
        ("cma_roce_mode -d rocep1s0f0 -p 1 -m 2", "RoCE v2", "equal"),
        ("cma_roce_mode -d rocep1s0f0 -p 1 -m 1", "IB/RoCE v1", "equal"),
        ("cma_roce_mode -d rocep1s0f0 -m $MODE", "", "unknown"),
        (
            "echo 'RoCE v2' > /sys/kernel/config/rdma_cm/rocep1s0f0/ports/1/default_roce_mode",
            "RoCE v2",
            "equal",
        ),
    ],
)
def test_the_roce_mode_is_seen(rivals: Rivals, line: str, value: str, sense: str) -> None:
    assert seen(rivals, line) == [(1, value, sense)]


def test_a_command_whose_output_is_written_has_no_known_value(rivals: Rivals) -> None:
    assert seen(rivals, f"echo $(cat /run/size) > {READ_AHEAD}") == [(1, "", "unknown")]
    assert seen(rivals, f"compute > {READ_AHEAD}") == [(1, "", "unknown")]


def test_devices_of_the_mapper_are_known_by_their_names(build_machine: Callable[..., Machine]) -> None:
    commands = Commands(Ours.of(build_machine("lvm-luks").start()))
    found = {
        node: [one.device for write in commands.read(f"blockdev --setra 64 {node}") for one in write.tunables]
        for node in (
            "/dev/mapper/ubuntu--vg-models",
            "/dev/ubuntu-vg/models",
            "/dev/dm-0",
            "/dev/mapper/none",
        )
    }
    assert found == {
        "/dev/mapper/ubuntu--vg-models": ["dm-2"],
        "/dev/ubuntu-vg/models": ["dm-2"],
        "/dev/dm-0": ["dm-0"],
        "/dev/mapper/none": [],
    }


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("net/ipv4/conf/enp1s0.200/forwarding", "/proc/sys/net/ipv4/conf/enp1s0.200/forwarding"),
        ("net.ipv4.conf.enp1s0/200.forwarding", "/proc/sys/net/ipv4/conf/enp1s0.200/forwarding"),
        ("kernel", "/proc/sys/kernel"),
    ],
)
def test_a_parameter_has_the_path_that_sysctl_gives_it(key: str, path: str) -> None:
    assert sysctl_path(key) == path


def test_words_that_multiply_stay_few(rivals: Rivals) -> None:
    commands = Commands(rivals.ours)
    commands.read(f"for a in {' '.join(map(str, range(40)))}; do true; done")
    assert len(commands.expand("$a$a$a$a$a$a$a$a")) <= 32
    assert commands.expand("$x" * 500) == ["*" * 17]
