"""When to stop fighting, with the times written down instead of waited for."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sparktune.contest import LONGEST_HOLD_S, Contest, ContestRule

RULE = ContestRule(after=5, window_s=60, hold_s=600)
DAY_S = 24 * 3600.0


def heal(contest: Contest, now_s: float, rule: ContestRule = RULE) -> bool:
    """What the engine does for a drift: ask, and count if it may."""
    allowed = contest.allows_heal(now_s, rule)
    if allowed:
        contest.count_heal(now_s)
    return allowed


def fight(contest: Contest, now_s: float, rule: ContestRule = RULE) -> float:
    """Write back until the engine gives up. Returns how long it holds then."""
    for _ in range(rule.after):
        assert heal(contest, now_s, rule)
    assert not heal(contest, now_s, rule)
    return contest.held_until_s - now_s


def test_as_many_heals_as_configured_are_made_and_the_next_drift_is_left() -> None:
    contest = Contest()
    assert [heal(contest, 100.0 + number) for number in range(8)] == [True] * 5 + [False] * 3
    assert contest.held_until_s == 105 + 600


def test_heals_that_are_further_apart_than_the_window_do_not_add_up() -> None:
    contest = Contest()
    assert all(heal(contest, 1000.0 + 15.1 * number) for number in range(200))


def test_heals_just_inside_the_window_add_up() -> None:
    contest = Contest()
    assert [heal(contest, 1000.0 + 12 * number) for number in range(6)] == [True] * 5 + [False]


def test_after_zero_never_stops() -> None:
    contest = Contest()
    assert all(heal(contest, 100.0, replace(RULE, after=0)) for _ in range(10_000))


def test_a_fight_without_end_takes_no_memory_without_end() -> None:
    contest = Contest()
    for number in range(10_000):
        heal(contest, 100.0 + number, replace(RULE, after=0))
    assert len(contest._heals) <= 1000


def test_after_one_stops_at_the_second() -> None:
    contest = Contest()
    assert [heal(contest, 100.0, replace(RULE, after=1)) for _ in range(3)] == [True, False, False]


def test_each_further_hold_is_twice_as_long_up_to_a_day() -> None:
    contest, now_s, holds = Contest(), 1000.0, []
    for _ in range(12):
        holds.append(fight(contest, now_s))
        now_s = contest.held_until_s
    assert holds == [min(600 * 2**number, LONGEST_HOLD_S) for number in range(12)]
    assert holds[-1] == DAY_S


def test_a_first_hold_is_at_most_a_day() -> None:
    assert fight(Contest(), 0.0, replace(RULE, hold_s=DAY_S)) == DAY_S


def test_after_one_quiet_hold_the_next_fight_starts_small_again() -> None:
    contest = Contest()
    fight(contest, 0.0)
    second = fight(contest, contest.held_until_s)
    assert second == 1200
    assert fight(contest, contest.held_until_s + second) == 600


def test_a_pause_shorter_than_the_hold_is_no_peace() -> None:
    contest = Contest()
    first = fight(contest, 0.0)
    assert fight(contest, contest.held_until_s + first - 1) == 1200


def test_during_a_hold_nothing_is_allowed_and_at_its_end_everything_again() -> None:
    contest = Contest()
    fight(contest, 0.0)
    assert contest.is_held(599.9)
    assert not contest.allows_heal(599.9, RULE)
    assert not contest.is_held(600.0)
    assert contest.allows_heal(600.0, RULE)


def test_who_asks_during_a_hold_does_not_make_it_longer() -> None:
    contest = Contest()
    fight(contest, 0.0)
    for now_s in range(0, 600, 10):
        contest.allows_heal(float(now_s), RULE)
    assert contest.held_until_s == 600


def test_ending_a_fight_forgets_it_all() -> None:
    contest = Contest()
    fight(contest, 0.0)
    fight(contest, contest.held_until_s)
    contest.accuse("bash", "bash[811]", 0.0)
    contest.end()
    assert (contest.rivals, contest.is_held(0.0)) == ("", False)
    assert fight(contest, 0.0) == 600


def test_a_rival_with_many_pids_is_named_once_with_the_latest() -> None:
    contest = Contest()
    for pid in range(900, 950):
        contest.accuse("sleep bash[811]", f"sleep[{pid}]", 0.0)
    fight(contest, 0.0)
    assert contest.describe() == "sleep[949] keeps writing it back; left alone for 10 min"


def test_of_several_rivals_the_latest_three_are_named() -> None:
    contest = Contest()
    for name in "abcdb":
        contest.accuse(name, name, 0.0)
    fight(contest, 0.0)
    assert contest.describe() == "c and d and b keep writing it back; left alone for 10 min"


def test_who_wrote_long_before_the_fight_is_no_rival() -> None:
    contest = Contest()
    contest.accuse("old", "old[1]", 0.0)
    contest.accuse("new", "new[2]", 50.0)
    fight(contest, 61.0)
    assert contest.rivals == "new[2]"


def test_a_rival_who_was_not_seen_is_somebody() -> None:
    contest = Contest()
    fight(contest, 0.0)
    assert contest.describe() == "somebody keeps writing it back; left alone for 10 min"


@given(st.lists(st.floats(0, 100_000), max_size=60), st.integers(1, 10))
def test_never_more_heals_than_allowed_within_any_window(gaps: list[float], after: int) -> None:
    rule, contest, now_s, heals = replace(RULE, after=after), Contest(), 0.0, []
    for gap in gaps:
        now_s += gap
        if heal(contest, now_s, rule):
            heals.append(now_s)
    for first in heals:
        assert sum(first <= when <= first + rule.window_s for when in heals) <= after
