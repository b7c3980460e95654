"""Counters of errors as checks: told by growth, read seldom, never twice where reading fails."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from machines import Machine, held
from sparktune.fabric.growth import QUIET_S
from sparktune.kernel import statistics as statistics_module
from sparktune.kernel.counters import EVERY_S, CounterCheck, read_number
from sparktune.kernel.lockdown import add_lockdown
from sparktune.kernel.root import Root
from sparktune.kernel.statistics import DriverStatistics
from sparktune.model import Noticed, ReadingKind, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOST = "roce.rocep1s0f0.out_of_sequence"
FILE = "/sys/class/infiniband/rocep1s0f0/ports/1/hw_counters/out_of_sequence"
DISCARDS = "roce.enp1s0f0np0.rx_discards_phy"
STATISTICS = "/sys/class/net/enp1s0f0np0/netlink/ethtool/statistics"


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Counter:
    """A counter of a fake kernel: how often it was read, and what it answers."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self.reads = 0
        self.error = 0

    def __call__(self) -> int:
        self.reads += 1
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return self.value


def check(counter: Counter, clock: Clock) -> CounterCheck:
    return CounterCheck(counter, "/sys/…/out_of_sequence", ("", ""), clock)


def test_the_first_reading_is_a_start_and_no_verdict() -> None:
    reading = check(Counter(7), Clock()).read()
    assert reading.kind is ReadingKind.ABSENT
    assert "counting from now" in reading.reason


def test_growth_is_told_with_its_number_and_since_when_until_it_is_quiet() -> None:
    counter, clock = Counter(7), Clock()
    one = check(counter, clock)
    one.read()
    clock.now_s += EVERY_S
    assert one.read().value == 0
    counter.value = 12
    clock.now_s += EVERY_S
    reading = one.read()
    assert reading.value == 5
    assert reading.reason.startswith("grew by 5 since 2")
    clock.now_s += QUIET_S - 1
    assert one.read() == reading
    clock.now_s += EVERY_S
    assert (one.read().value, one.read().reason) == (0, "")


def test_a_counter_is_read_once_a_minute_however_often_it_is_asked() -> None:
    counter, clock = Counter(), Clock()
    one = check(counter, clock)
    for _ in range(60):
        one.read()
        one.holds(0)
        clock.now_s += 10
    assert counter.reads == 10


def test_after_an_event_it_is_read_at_once() -> None:
    counter, clock = Counter(), Clock()
    one = check(counter, clock)
    one.read()
    counter.value = 3
    one.expire()
    assert one.read().value == 3
    assert not one.holds(0)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (errno.EIO, ReadingKind.ABSENT, "not read again until its device comes back"),
        (errno.EINVAL, ReadingKind.ABSENT, "not read again until its device comes back"),
        (errno.EOPNOTSUPP, ReadingKind.ABSENT, "the driver does not tell"),
        (errno.ENOENT, ReadingKind.ABSENT, "the driver does not tell"),
        (errno.ENODEV, ReadingKind.ABSENT, "the driver does not tell"),
        (errno.EPERM, ReadingKind.BLOCKED, "Operation not permitted (EPERM)"),
    ],
)
def test_a_counter_that_fails_is_not_read_twice(error: int, kind: ReadingKind, said: str) -> None:
    counter, clock = Counter(), Clock()
    counter.error = error
    one = check(counter, clock)
    for _ in range(5):
        reading = one.read()
        assert reading.kind is kind
        assert said in reading.reason
        assert not one.holds(0)
        one.expire()
        clock.now_s += EVERY_S
    assert counter.reads == 1


def test_what_was_counted_survives_another_discovery_and_what_failed_too() -> None:
    counter, clock = Counter(5), Clock()
    former, heir = check(counter, clock), check(counter, clock)
    former.read()
    heir.inherit(former)
    counter.value = 9
    clock.now_s += EVERY_S
    assert heir.read().value == 4
    counter.error = errno.EIO
    clock.now_s += EVERY_S
    heir.read()
    last = check(counter, clock)
    last.inherit(heir)
    reads = counter.reads
    last.expire()
    last.read()
    assert counter.reads == reads


@pytest.mark.parametrize("text", ["N/A (no PMA)", "", "-1", "9" * 21, "\x1b[31m"])
def test_what_is_no_count_is_an_error_and_never_a_zero(text: str, tmp_path: Path) -> None:
    (tmp_path / "counter").write_text(text)
    with pytest.raises(OSError, match="no number") as caught:
        read_number(Root(tmp_path), "/counter")
    assert "\x1b" not in str(caught.value)


def test_a_counter_that_lockdown_refuses_is_blocked_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/security").mkdir(parents=True)
    (tmp_path / "sys/kernel/security/lockdown").write_text("none [integrity] confidentiality\n")

    def refuse() -> int:
        raise add_lockdown(Root(tmp_path), OSError(errno.EPERM, "Operation not permitted", "/sys/counter"))

    reading = CounterCheck(refuse, "/sys/counter", ("", ""), Clock()).read()
    assert reading.kind is ReadingKind.BLOCKED
    assert "lockdown (integrity)" in reading.reason


# -- on a machine --------------------------------------------------------------------------------------------


@pytest.fixture
def machine(fast_path: Path) -> Iterator[Machine]:
    built = Machine.build(fast_path / "pair", scenario="healthy-pair")
    yield built
    built.close()


@pytest.mark.parametrize(("id_", "file"), [(LOST, FILE), (DISCARDS, f"{STATISTICS}/rx_discards_phy")])
def test_growth_on_a_machine_is_a_drift_that_names_the_number(id_: str, file: str, machine: Machine) -> None:
    tuner = machine.tune()
    machine.write(file, "41")
    one = held(tuner, id_)
    tuner.engine.expire([one])
    (drift,) = [drift for drift in tuner.engine.sweep(Noticed.SWEEP) if drift.tunable == id_]
    assert (drift.found, one.verdict) == (41, Verdict.DRIFT)
    assert drift.reason.startswith("grew by 41 since ")


def test_one_unreadable_counter_costs_only_itself(fast_path: Path) -> None:
    machine = Machine.build(fast_path / "sick", scenario="unreadable-counter")
    tuner = machine.tune()
    tuner.engine.expire(tuner.engine.held.values())
    tuner.engine.sweep(Noticed.SWEEP)
    counters = {id_: one for id_, one in tuner.engine.held.items() if id_.startswith("roce.rocep1s0f0.")}
    assert counters[LOST].verdict is Verdict.ABSENT
    assert "not read again" in counters[LOST].reason
    assert counters["roce.rocep1s0f0.packet_seq_err"].verdict is Verdict.OK
    (note,) = [note for note in tuner.notes() if "cannot be read" in note.says]
    assert (note.level, "rocep1s0f0.out_of_sequence" in note.says) == ("info", True)
    machine.close()


# -- the driver's own statistics -----------------------------------------------------------------------------


def test_a_gate_that_cannot_be_read_keeps_the_driver_from_being_asked(tmp_path: Path) -> None:
    statistics = DriverStatistics(Root(tmp_path), "eth0", ["rx_discards_phy"], "/gate")
    with pytest.raises(FileNotFoundError):
        statistics.get("rx_discards_phy")


def test_a_name_that_the_driver_does_not_have_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_module, "_ask", lambda *_: {"rx_discards_phy": 3})
    statistics = DriverStatistics(Root(), "eth0", ["rx_discards_phy", "missing"])
    assert statistics.get("rx_discards_phy") == 3
    with pytest.raises(FileNotFoundError):
        statistics.get("missing")


def test_a_real_interface_is_asked_for_its_statistics_or_says_that_it_has_none() -> None:
    statistics = DriverStatistics(Root(), "lo", ["rx_discards_phy"])
    with pytest.raises(OSError, match=r".") as caught:
        statistics.get("rx_discards_phy")
    assert caught.value.errno in (errno.EOPNOTSUPP, errno.ENOENT)
