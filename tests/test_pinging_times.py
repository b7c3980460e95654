"""When peers are asked: soon after an event, at once on request, and never often."""

from __future__ import annotations

import time

import pytest

from sparktune.kernel.path import Pair, PathAttribute
from sparktune.kernel.root import Root
from sparktune.model import Reading, ReadingKind
from sparktune.pinging import AGAIN_S, EVERY_S, SETTLE_S, Pinging


def way(fixed: Reading | None = None) -> PathAttribute:
    """Over an interface that no machine has: nothing is sent, and that is told."""
    return PathAttribute(Root(), Pair("sparktune-none", "10.99.0.2", 9000), ("", ""), fixed=fixed)


def wait_s(pinging: Pinging) -> float:
    due_s = pinging.due_s()
    assert due_s is not None
    return due_s - time.monotonic()


def finish(pinging: Pinging) -> None:
    while wait_s(pinging) <= 0:
        pinging.turn()


def test_without_peers_nothing_is_ever_due() -> None:
    pinging = Pinging(list, lambda: None)
    pinging.begin()
    pinging.begin(["sparktune-none"])
    pinging.turn()
    assert pinging.due_s() is None


def test_a_link_that_is_down_is_not_asked_over() -> None:
    down = way(Reading(ReadingKind.ABSENT, reason="no carrier"))
    pinging = Pinging(lambda: [down], lambda: None)
    pinging.begin(at_once=True)
    assert pinging.due_s() is None


def test_after_an_event_the_other_end_gets_its_moment() -> None:
    pinging = Pinging(lambda: [way()], lambda: None)
    pinging.begin(["sparktune-none"])
    assert wait_s(pinging) == pytest.approx(SETTLE_S, abs=0.5)


def test_what_was_found_is_told_once_and_asked_again_after_five_minutes() -> None:
    asked, told = way(), []
    pinging = Pinging(lambda: [asked], lambda: told.append(asked.read()))
    for _ in range(2):
        pinging.begin(at_once=True)
        finish(pinging)
    assert [reading.kind for reading in told] == [ReadingKind.ABSENT]
    assert "ENODEV" in told[0].reason
    assert wait_s(pinging) == pytest.approx(EVERY_S, abs=1.0)


def test_a_link_that_keeps_changing_is_not_asked_over_all_the_time_but_on_request_it_is() -> None:
    asked = way()
    pinging = Pinging(lambda: [asked], lambda: None)
    pinging.begin(at_once=True)
    finish(pinging)
    for _ in range(3):
        pinging.begin(["sparktune-none"])
    assert wait_s(pinging) == pytest.approx(AGAIN_S, abs=1.0)
    pinging.begin(at_once=True)
    assert wait_s(pinging) <= 0


def test_other_interfaces_events_ask_nobody() -> None:
    asked = way()
    pinging = Pinging(lambda: [asked], lambda: None)
    pinging.begin(at_once=True)
    finish(pinging)
    pinging.begin(["docker0"])
    assert wait_s(pinging) > AGAIN_S


def test_a_way_of_which_nothing_is_known_is_asked_for_at_the_next_sweep() -> None:
    ways = [way()]
    pinging = Pinging(lambda: ways, lambda: None)
    pinging.begin(())
    assert wait_s(pinging) == pytest.approx(SETTLE_S, abs=0.5)
