"""Drifts become episodes: one area, one writer, 100 ms."""

from __future__ import annotations

import pytest

from sparktune.episodes import LONGEST_S, MOST_LISTED, QUIET_S, Episodes
from sparktune.model import Action, Cause, CauseKind, Drift, Noticed, Process

BASH = Cause(kind=CauseKind.PROCESS, process=Process(pid=811, comm="bash"))
OTHER = Cause(kind=CauseKind.PROCESS, process=Process(pid=812, comm="bash"))
UNKNOWN = Cause(kind=CauseKind.UNKNOWN)


def drift(number: int = 0, action: Action = Action.HEALED, took_us: int | None = 80) -> Drift:
    return Drift(
        tunable=f"cpuidle.cpu{number}.state1.disable", wanted=1, found=0, action=action, took_us=took_us
    )


@pytest.fixture
def episodes() -> Episodes:
    return Episodes()


def add(
    episodes: Episodes,
    now_s: float,
    *drifts: Drift,
    cause: Cause = BASH,
    area: str = "cpuidle",
    noticed: Noticed = Noticed.FANOTIFY,
) -> None:
    episodes.add(area, noticed, cause, drifts or (drift(),), now_s=now_s)


def test_drifts_of_one_writer_within_100_ms_are_one_episode(episodes: Episodes) -> None:
    for number in range(80):
        add(episodes, 10 + number * 0.001, drift(number))
    (episode,) = episodes.close(now_s=11)
    assert (episode.count, len(episode.drifts), episode.cause) == (80, 80, BASH)
    assert [found.tunable for found in episode.drifts[:2]] == [drift(0).tunable, drift(1).tunable]


def test_an_episode_is_open_until_100_ms_after_its_last_drift(episodes: Episodes) -> None:
    add(episodes, 10.0)
    add(episodes, 10.09)
    assert episodes.due_s() == pytest.approx(10.09 + QUIET_S)
    assert episodes.close(now_s=10.15) == []
    assert len(episodes.close(now_s=10.2)) == 1
    assert episodes.due_s() is None


def test_a_drift_after_100_quiet_ms_begins_another_episode(episodes: Episodes) -> None:
    add(episodes, 10.0)
    first = episodes.close(now_s=10.101)
    add(episodes, 10.11)
    assert [len(found) for found in (first, episodes.close(now_s=11))] == [1, 1]


def test_a_writer_who_never_pauses_gives_an_episode_every_two_seconds(episodes: Episodes) -> None:
    closed = 0
    for number in range(1000):
        now_s = 10 + number * 0.01
        closed += len(episodes.close(now_s=now_s))
        add(episodes, now_s)
    assert closed == int(10 / LONGEST_S) - 1


@pytest.mark.parametrize(
    "other",
    [{"cause": OTHER}, {"area": "nvme"}, {"noticed": Noticed.SWEEP}, {"cause": UNKNOWN}],
    ids=["writer", "area", "trigger", "unknown"],
)
def test_another_writer_area_or_trigger_is_another_episode(
    other: dict[str, object], episodes: Episodes
) -> None:
    add(episodes, 10.0)
    add(episodes, 10.0, **other)  # type: ignore[arg-type] # one keyword each, of the right type
    assert len(episodes.close(now_s=11)) == 2


def test_a_reused_pid_with_another_name_is_another_writer(episodes: Episodes) -> None:
    add(episodes, 10.0)
    add(episodes, 10.0, cause=Cause(kind=CauseKind.PROCESS, process=Process(pid=811, comm="tee")))
    assert len(episodes.close(now_s=11)) == 2


def test_two_unknown_causes_with_different_details_stay_apart(episodes: Episodes) -> None:
    add(episodes, 10.0, cause=Cause(kind=CauseKind.DEVICE, detail="udev change block nvme0n1"))
    add(episodes, 10.0, cause=Cause(kind=CauseKind.DEVICE, detail="udev change block nvme1n1"))
    assert len(episodes.close(now_s=11)) == 2


def test_the_weightiest_action_stands_for_the_episode(episodes: Episodes) -> None:
    actions = (Action.HEALED, Action.REFUSED, Action.LEFT, Action.APPLIED)
    add(episodes, 10.0, *(drift(number, action) for number, action in enumerate(actions)))
    assert episodes.close(now_s=11)[0].action is Action.REFUSED


def test_it_took_as_long_as_the_slowest_heal(episodes: Episodes) -> None:
    add(episodes, 10.0, drift(0, took_us=80), drift(1, took_us=140), drift(2, took_us=None))
    assert episodes.close(now_s=11)[0].took_us == 140


def test_what_was_not_healed_took_no_time(episodes: Episodes) -> None:
    add(episodes, 10.0, drift(0, Action.REPORTED, took_us=80), drift(1, Action.LEFT, took_us=90))
    assert episodes.close(now_s=11)[0].took_us is None


def test_at_most_256_drifts_are_listed_and_all_are_counted(episodes: Episodes) -> None:
    add(episodes, 10.0, *(drift(number) for number in range(1000)))
    (episode,) = episodes.close(now_s=11)
    assert (len(episode.drifts), episode.count) == (MOST_LISTED, 1000)


def test_at_the_end_everything_is_closed(episodes: Episodes) -> None:
    add(episodes, 10.0)
    add(episodes, 10.0, cause=OTHER)
    assert len(episodes.close(now_s=float("inf"))) == 2
