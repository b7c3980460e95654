"""Devices that reset themselves, leave and come back: NVMe controllers, disks, CPUs.

What the kernel holds is read by `cat`, `cpupower` and a tracing program, what sparktune says by its API.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from vm.disks import (
    count_checked,
    find_disk,
    id_of,
    plug_in,
    pull_out,
    read_ahead_of,
    wait_for_count,
    wait_for_verdict,
    wait_until_left,
)
from vm.guest import READ_AHEAD
from vm.idle_files import CPU1, assert_watched, read_disables
from vm.ledger import Ledger, record
from vm.tracing import trace, trace_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vm.figures import Figures
    from vm.guest import Guest
    from vm.tracing import Trace

WANTED = "8192"
DEFAULT = "128"
NVME = id_of("nvme0n1")
CONTROLLER = "/sys/class/nvme/nvme0"
ORIGINALS = "/var/lib/sparktune/originals.jsonl"
SWEEP_S, SLACK_S = 10.0, 1.0
"""The longest time without a look, and what an emulated CPU takes for one."""


@pytest.fixture
def calm(spark: Guest) -> Iterator[Guest]:
    """The shared guest, with no fight on sparktune's books before and after: it heals five times a minute."""
    spark.run(["sparktune", "apply"])
    yield spark
    spark.run(["sparktune", "apply"])


@pytest.fixture
def slot(calm: Guest) -> Iterator[int]:
    """A free slot for a disk, empty again afterwards."""
    yield 1
    if calm.is_plugged(1):
        pull_out(calm, 1)


@pytest.fixture
def bus(calm: Guest) -> Iterator[Guest]:
    """The shared guest; afterwards its first disk is on the bus again, whatever has happened."""
    yield calm
    calm.run("test -e /sys/block/nvme0n1 || echo 1 > /sys/bus/pci/rescan")
    calm.wait_for_value(READ_AHEAD, WANTED)


def read_originals(guest: Guest, id_: str) -> list[dict[str, Any]]:
    """What the store has for a tunable, oldest first; a checksum stands before each entry."""
    entries = [json.loads(line.partition(" ")[2]) for line in guest.cat(ORIGINALS).splitlines()]
    return [entry for entry in entries if entry["id"] == id_]


def stood_us(traces: Sequence[Trace]) -> list[int]:
    """How long the kernel's own value stood, as often as it was seen."""
    return [time_us for one in traces for time_us in one.stood_us(DEFAULT)]


# -- what a controller does by itself ------------------------------------------------------------------------


def test_a_controller_reset_is_healed_by_its_device_event(calm: Guest, figures: Figures) -> None:
    """Linux 6.1 puts the value back in silence; 6.12.118 keeps it, and then there is nothing to heal."""
    reset = ["sh", "-c", f"echo 1 > {CONTROLLER}/reset_controller"]
    traces: list[Trace] = []
    healed: list[dict[str, Any]] = []
    for _ in range(4):
        calm.run(["sparktune", "apply"])  # a kernel that sets it more than once a reset is no rival
        ledger = Ledger.open(calm)
        traces.append(trace_command(calm, READ_AHEAD, WANTED, reset))
        if calm.platform.keeps_read_ahead:
            assert traces[-1].values == [WANTED]
            assert ledger.new() == []
            continue
        assert traces[-1].went(WANTED, DEFAULT, WANTED), traces
        ledger.await_drifts(NVME)  # whether it was seen or not
        healed += ledger.await_told(NVME, traces[-1], wrong=DEFAULT, wanted=WANTED)
    if calm.platform.keeps_read_ahead:
        return
    by_event = [episode for episode in healed if episode["noticed"] == "udev"]
    assert len(by_event) > len(healed) / 2  # a sweep may come in between now and then
    for episode in by_event:
        assert episode["by"]["detail"].endswith("udev change nvme nvme0"), episode
    record(figures, "NVMe controller reset, from the reset", [one.held_us for one in traces if one.held_us])
    record(figures, "NVMe controller reset, from the wrong value", stood_us(traces))


def test_a_rescan_leaves_no_wrong_value_longer_than_a_sweep(calm: Guest, figures: Figures) -> None:
    """Some kernels put the value back when namespaces are scanned, others do not; none tells of it."""
    ledger = Ledger.open(calm)
    rescan = ["sh", "-c", f"echo 1 > {CONTROLLER}/rescan_controller; sleep 11"]  # longer than a sweep
    seen = trace_command(calm, READ_AHEAD, WANTED, rescan)
    assert seen.went(WANTED, DEFAULT, WANTED), seen
    longest_us = (SWEEP_S + SLACK_S * calm.site.patience) * 1e6
    assert all(stood_us <= longest_us for stood_us in seen.stood_us(DEFAULT)), seen
    healed = ledger.await_told(NVME, seen, wrong=DEFAULT, wanted=WANTED)
    figures.record("read_ahead_kb reset by rescan_controller", len(healed), "times")


def test_another_attribute_of_the_same_queue_is_nobody_s_drift(calm: Guest) -> None:
    name = "/sys/block/nvme0n1/queue/max_sectors_kb"
    before = calm.cat(name)
    ledger = Ledger.open(calm)
    calm.run(f"echo 64 > {name}; sleep 1")
    assert (calm.cat(name), calm.cat(READ_AHEAD)) == ("64", WANTED)
    calm.run(f"echo {before} > {name}")
    assert ledger.new() == []
    assert calm.status()["state"] == "ok"


# -- disks that leave and come -------------------------------------------------------------------------------


def test_a_disk_removed_from_the_bus_is_absent_and_comes_back_with_a_new_original(
    bus: Guest, figures: Figures
) -> None:
    function = bus.out(["readlink", "-f", f"{CONTROLLER}/device"])
    known = len(read_originals(bus, NVME))
    of = count_checked(bus)
    traces = []
    for _ in range(2):
        bus.run(f"echo 1 > {function}/remove")
        wait_until_left(bus, NVME)
        status = wait_for_count(bus, of - 1)
        assert status["areas"]["nvme"] == {"state": "absent", "says": "no disk here matches nvme*"}
        ledger = Ledger.open(bus)
        rescan = ["sh", "-c", "echo 1 > /sys/bus/pci/rescan"]
        traces.append(trace_command(bus, READ_AHEAD, WANTED, rescan))
        assert traces[-1].went(None, DEFAULT, WANTED), traces
        ledger.await_told(NVME, traces[-1], wrong=DEFAULT, wanted=WANTED, applied=1)
        back = wait_for_verdict(bus, NVME, "ok")
        assert back["original"] == 128
    originals = read_originals(bus, NVME)
    assert len({entry["instance"] for entry in originals}) == len(originals) == known + 2
    wait_for_count(bus, of)
    bus.run(["sparktune", "restore", NVME])
    assert bus.cat(READ_AHEAD) == DEFAULT
    bus.run(["sparktune", "apply"])
    assert bus.cat(READ_AHEAD) == WANTED
    record(figures, "PCI rescan, from the new disk", stood_us(traces))


def test_a_disk_that_is_plugged_in_is_tuned_and_counted_until_it_is_pulled_out(
    calm: Guest, slot: int, figures: Figures
) -> None:
    of = count_checked(calm)
    waits_us = []
    for _ in range(3):
        ledger = Ledger.open(calm)
        with trace(calm, read_ahead_of("nvme1n1"), WANTED) as seen:
            assert plug_in(calm, slot) == "nvme1n1"
        assert seen.went(None, DEFAULT, WANTED), seen
        ledger.await_told(id_of("nvme1n1"), seen, wrong=DEFAULT, wanted=WANTED, applied=1)
        waits_us += seen.stood_us(DEFAULT)
        wait_for_verdict(calm, id_of("nvme1n1"), "ok")
        status = wait_for_count(calm, of + 1)
        assert status["checked"]["hold"] == of + 1
        assert status["areas"]["nvme"]["says"] == "read_ahead_kb 8192 on nvme0n1, nvme1n1"
        pull_out(calm, slot)
        wait_until_left(calm, id_of("nvme1n1"))
        assert find_disk(calm, slot) is None
        wait_for_count(calm, of)
    record(figures, "hot-added disk, from its appearance", waits_us)


# -- CPUs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cpu1_online(calm: Guest) -> Iterator[Guest]:
    """The shared guest; afterwards its second CPU is online again."""
    yield calm
    calm.run(f"echo 1 > {CPU1}/online")


def test_a_cpu_that_was_offline_is_held_again(cpu1_online: Guest, figures: Figures) -> None:
    guest = cpu1_online
    held = read_disables(guest, CPU1)
    deepest = max(held)
    id_ = f"cpuidle.cpu1.{deepest.split('/')[-2]}.disable"
    of = count_checked(guest)
    assert held[deepest] == "1"
    original = guest.tunable(id_)["original"]
    guest.run(f"echo 0 > {CPU1}/online")
    wait_for_verdict(guest, id_, "absent", "cpu1 is offline")
    assert guest.cat("/sys/devices/system/cpu/online").split(",")[0].split("-")[0] == "0"
    assert "1" not in guest.cat("/sys/devices/system/cpu/online").replace("-", ",").split(",")
    status = wait_for_count(guest, of - len(held) - 1)  # its states, and the check of their effect
    assert f"only on {guest.platform.cpus - 1} CPUs" in status["areas"]["cpuidle"]["says"]
    assert read_disables(guest, CPU1) == held
    guest.run(f"echo 0 > {deepest}; sleep 1")  # nobody holds it now
    assert guest.cat(deepest) == "0"
    online = trace_command(guest, deepest, "1", ["sh", "-c", f"echo 1 > {CPU1}/online"])
    back = wait_for_verdict(guest, id_, "ok")
    assert back["original"] == original
    assert read_disables(guest, CPU1) == held
    assert "(DISABLED)" in guest.out(["cpupower", "--cpu", "1", "idle-info"])
    wait_for_count(guest, of)
    record(figures, "CPU back online, from the write to `online`", [online.held_us])
    assert_watched(guest, deepest)
