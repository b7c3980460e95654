"""Counters of errors by what they grew: told at once, kept for ten quiet minutes, and not told too often."""

from __future__ import annotations

from sparktune.fabric.growth import QUIET_S, Growth


def take(growth: Growth, *values: tuple[float, int]) -> list[int]:
    return [growth.take(value, now_s) for now_s, value in values]


def test_what_a_counter_had_before_says_nothing() -> None:
    assert take(Growth(), (0, 1_000_000), (60, 1_000_000)) == [0, 0]


def test_growth_is_told_at_once_with_its_number_and_since_when() -> None:
    growth = Growth()
    assert take(growth, (0, 7), (60, 7), (120, 10)) == [0, 0, 3]
    assert (growth.since_s, growth.grew_s) == (120, 120)


def test_growth_is_told_until_ten_quiet_minutes_have_passed() -> None:
    growth = Growth()
    last_s = 60.0
    told = take(growth, (0, 0), (last_s, 5), (last_s + QUIET_S - 1, 5), (last_s + QUIET_S, 5))
    assert told == [0, 5, 5, 0]


def test_the_next_growth_after_a_quiet_time_counts_from_there() -> None:
    growth = Growth()
    told = take(growth, (0, 0), (60, 5), (60 + QUIET_S, 5), (5000, 7))
    assert told == [0, 5, 0, 2]
    assert growth.since_s == 5000


def test_a_counter_that_goes_on_growing_is_told_when_it_doubled_or_after_ten_minutes() -> None:
    told = take(Growth(), (0, 0), (60, 10), (120, 15), (180, 20), (240, 25), (800, 26))
    assert told == [0, 10, 10, 20, 20, 26]


def test_a_counter_that_was_reset_counts_from_zero() -> None:
    assert take(Growth(), (0, 100), (60, 3), (120, 0)) == [0, 3, 3]


def test_a_reset_to_zero_alone_is_no_growth() -> None:
    assert take(Growth(), (0, 100), (60, 0), (120, 4)) == [0, 0, 4]
