"""Looking again some moments after an event: when, at what, and how it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sparktune import settling as settling_module
from sparktune.model import Cause, CauseKind, Noticed
from sparktune.settling import LOOKS_AFTER_S, Settling

if TYPE_CHECKING:
    from collections.abc import Iterable

RESET = Cause(kind=CauseKind.DEVICE, detail="udev change nvme nvme0")
OTHER = Cause(kind=CauseKind.DEVICE, detail="udev change block nvme0n1")


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Looks:
    """What was looked at, and what it was said to be."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[str, ...] | None, Noticed, Cause]] = []

    def __call__(self, names: Iterable[str] | None, noticed: Noticed, cause: Cause) -> None:
        self.seen.append((None if names is None else tuple(names), noticed, cause))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr(settling_module, "time", turned)
    return turned


def run_until(settling: Settling, clock: Clock, end_s: float) -> list[float]:
    """Turn whenever something is due, as the daemon's loop does; the moments."""
    moments = []
    while (due_s := settling.due_s()) is not None and due_s <= end_s:
        clock.now_s = due_s
        moments.append(due_s)
        settling.turn()
    return moments


def test_nothing_is_due_before_an_event(clock: Clock) -> None:
    looks = Looks()
    settling = Settling(looks)
    settling.turn()
    assert settling.due_s() is None
    assert looks.seen == []


def test_an_event_is_followed_by_some_looks_and_then_by_peace(clock: Clock) -> None:
    looks = Looks()
    settling = Settling(looks)
    settling.begin(["nvme"], Noticed.UDEV, RESET)
    moments = run_until(settling, clock, 2000.0)
    assert moments == pytest.approx([1000.0 + after_s for after_s in LOOKS_AFTER_S])
    assert {(names, noticed) for names, noticed, _ in looks.seen} == {(("nvme",), Noticed.UDEV)}
    assert settling.due_s() is None


def test_what_is_found_is_told_with_its_distance_from_the_event(clock: Clock) -> None:
    looks = Looks()
    settling = Settling(looks)
    settling.begin(["nvme"], Noticed.UDEV, RESET)
    clock.now_s += 0.11
    settling.turn()
    [(_, _, cause)] = looks.seen
    assert (cause.kind, cause.detail) == (CauseKind.DEVICE, "0.11 s after udev change nvme nvme0")


def test_looks_that_were_missed_are_not_made_up_for(clock: Clock) -> None:
    looks = Looks()
    settling = Settling(looks)
    settling.begin(None, Noticed.RESUME, RESET)
    clock.now_s += 60
    settling.turn()
    assert [names for names, _, _ in looks.seen] == [None]
    assert settling.due_s() is None


def test_a_newer_event_of_the_same_areas_takes_the_older_one_s_place(clock: Clock) -> None:
    looks = Looks()
    settling = Settling(looks)
    settling.begin(["nvme"], Noticed.UDEV, RESET)
    clock.now_s += 0.5
    settling.begin(["nvme"], Noticed.UDEV, OTHER)
    run_until(settling, clock, 2000.0)
    assert len(looks.seen) == len(LOOKS_AFTER_S)
    assert {cause.detail.partition(" after ")[2] for _, _, cause in looks.seen} == {OTHER.detail}


def test_events_of_different_areas_settle_side_by_side(clock: Clock) -> None:
    looks = Looks()
    settling = Settling(looks)
    settling.begin(["nvme"], Noticed.UDEV, RESET)
    settling.begin(["roce"], Noticed.UDEV, OTHER)
    run_until(settling, clock, 2000.0)
    assert sorted(names[0] for names, _, _ in looks.seen if names) == ["nvme"] * 5 + ["roce"] * 5
