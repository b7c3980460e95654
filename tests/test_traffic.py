"""A twin that moves nothing while its twin does: a finding only if one process holds queue pairs on both."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from machines import Machine, held
from sparktune.fabric.growth import QUIET_S
from sparktune.kernel.counters import EVERY_S
from sparktune.kernel.fabric import read_fabric
from sparktune.kernel.queuepairs import QueuePairs
from sparktune.kernel.traffic import MUCH_BYTES, TOGETHER, TwinTraffic
from sparktune.model import Reading, ReadingKind, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE, OTHER = "rocep1s0f0", "roceP2p1s0f0"
MUCH_WORDS = MUCH_BYTES // 4
HOLDER = "812 python3 77"


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Traffic:
    """The check on a machine whose counters and queue pairs are set by hand."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.clock = Clock()
        ports = [one.rdma for one in read_fabric(machine.root).ports[0].functions if one.rdma is not None]
        self.check = TwinTraffic(machine.root, ports, ("", ""), self.owners, self.clock)
        self.asked = 0
        self.error = 0
        self.check.read()

    def owners(self, device: str) -> frozenset[str]:
        self.asked += 1
        if self.error:
            raise OSError(self.error, "refused")
        return QueuePairs(self.machine.root, device).owners()

    def hold(self, *devices: str) -> None:
        for device in devices:
            self.machine.write(f"/sys/class/infiniband/{device}/netlink/qps", HOLDER)

    def move(self, device: str, words: int) -> None:
        name = f"/sys/class/infiniband/{device}/ports/1/counters/port_xmit_data"
        self.machine.write(name, str(int(self.machine.read(name)) + words))

    def after(self, seconds: float = EVERY_S) -> Reading:
        self.clock.now_s += seconds
        return self.check.read()


@pytest.fixture
def traffic(fast_path: Path) -> Iterator[Traffic]:
    machine = Machine.build(fast_path / "pair", scenario="healthy-pair")
    yield Traffic(machine)
    machine.close()


def test_the_first_reading_is_a_start_and_idle_twins_hold(traffic: Traffic) -> None:
    assert traffic.check.read().kind is ReadingKind.ABSENT
    assert traffic.after().value == TOGETHER
    assert traffic.check.holds(TOGETHER)
    assert traffic.asked == 0


def test_a_silent_twin_is_told_with_the_process_that_holds_both(traffic: Traffic) -> None:
    traffic.hold(ONE, OTHER)
    traffic.move(ONE, MUCH_WORDS)
    reading = traffic.after()
    assert reading.value == f"{OTHER} moves nothing"
    assert reading.reason.startswith(f"{ONE} moved 0.1 GB since the last look, {OTHER} nothing; ")
    assert reading.reason.endswith("python3[812] holds both")


def test_a_silent_twin_that_nobody_uses_together_with_the_other_is_no_finding(traffic: Traffic) -> None:
    traffic.hold(ONE)
    traffic.move(ONE, MUCH_WORDS)
    reading = traffic.after()
    assert (reading.value, reading.reason.endswith("nobody holds queue pairs on both")) == (TOGETHER, True)


@pytest.mark.parametrize(("one", "other"), [(MUCH_WORDS, 1), (MUCH_WORDS - 1, 0)])
def test_a_little_on_either_side_is_no_finding(one: int, other: int, traffic: Traffic) -> None:
    traffic.hold(ONE, OTHER)
    traffic.move(ONE, one)
    traffic.move(OTHER, other)
    assert traffic.after().value == TOGETHER
    assert traffic.asked == 0


def test_it_is_told_until_both_move_or_ten_minutes_have_passed(traffic: Traffic) -> None:
    traffic.hold(ONE, OTHER)
    traffic.move(ONE, MUCH_WORDS)
    told = traffic.after()
    assert traffic.after() == told
    traffic.move(ONE, 5)
    traffic.move(OTHER, 5)
    assert traffic.after().value == TOGETHER
    traffic.move(ONE, MUCH_WORDS)
    assert traffic.after().value == told.value
    assert traffic.after(QUIET_S).value == TOGETHER


def test_who_holds_queue_pairs_may_be_impossible_to_tell(traffic: Traffic) -> None:
    traffic.error = errno.EPERM
    traffic.move(ONE, MUCH_WORDS)
    reading = traffic.after()
    assert reading.kind is ReadingKind.ABSENT
    assert "who holds both cannot be told" in reading.reason


def test_counters_that_cannot_be_read_are_not_read_twice(traffic: Traffic) -> None:
    name = traffic.machine.root.path(f"/sys/class/infiniband/{ONE}/ports/1/counters/port_xmit_data")
    name.unlink()
    assert traffic.after().kind is ReadingKind.ABSENT
    name.write_text("0\n")
    assert traffic.after().kind is ReadingKind.ABSENT


def test_the_check_is_declared_for_every_pair_of_twins(fast_path: Path) -> None:
    machine = Machine.build(fast_path / "declared", scenario="healthy-pair")
    tuner = machine.tune()
    assert held(tuner, "roce.p0.twins_traffic").verdict is Verdict.ABSENT
    assert "counting from now" in held(tuner, "roce.p0.twins_traffic").reason
    machine.close()
