"""/history over a real history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from asking import Served, ask
from schema_check import check_answer
from sparktune.history import History
from sparktune.model import Action, Cause, CauseKind, Drift, Episode, Noticed, Process
from sparktune.published import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from sparktune.api.guard import Guard


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("run"))


@pytest.fixture
def run_dir(served: Served) -> Path:
    return served.publish()


@pytest.fixture
def api(served: Served, run_dir: Path) -> Guard:
    assert run_dir.is_dir()
    return served.api


@pytest.fixture
def episodes(run_dir: Path) -> Iterator[list[str]]:
    """The moments of three episodes in the history, oldest first, two hours apart from one another."""
    moments = [datetime.now(UTC) - timedelta(hours=hours) for hours in (5, 3, 1)]
    store = History(run_dir / "history.db", days=30, rows=100)
    store.start()
    for number, moment in enumerate(moments):
        store.add(make_episode(moment, f"nvme.nvme{number}n1.read_ahead_kb"))
    store.close()
    yield [timestamp(moment) for moment in moments]
    for file in run_dir.glob("history.db*"):
        file.unlink()


def make_episode(at: datetime, tunable: str) -> Episode:
    process = Process(pid=812, comm="sh", uid=0, cmdline="sh -c secret")
    return Episode(
        at=at,
        area="nvme",
        noticed=Noticed.FANOTIFY,
        cause=Cause(kind=CauseKind.PROCESS, process=process),
        action=Action.HEALED,
        drifts=(Drift(tunable=tunable, wanted=8192, found=128, action=Action.HEALED, took_us=90),),
        count=1,
        took_us=90,
    )


def moments_of(answer: httpx.Response) -> list[str]:
    return [episode["at"] for episode in answer.json()["episodes"]]


def test_the_history_is_newest_first_and_as_the_schema_says(api: Guard, episodes: list[str]) -> None:
    answer = ask(api, "/history")
    assert moments_of(answer) == episodes[::-1]
    check_answer(ask(api, "/openapi.json").json(), "/history", "get", answer)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("since=2h", [2]),
        ("until=2h", [1, 0]),
        ("since=4h&until=2h", [1]),
        ("tunable=nvme.nvme0n1.read_ahead_kb", [0]),
        ("limit=2", [2, 1]),
    ],
)
def test_the_history_is_narrowed(api: Guard, episodes: list[str], query: str, expected: list[int]) -> None:
    assert moments_of(ask(api, f"/history?{query}")) == [episodes[index] for index in expected]


@pytest.mark.parametrize("escaped", ["%2B00:00", "+00:00", "Z"])
def test_moments_are_taken_as_rfc_3339_also_with_a_lost_plus(
    api: Guard, episodes: list[str], escaped: str
) -> None:
    moment = episodes[1].removesuffix("Z") + escaped
    assert moments_of(ask(api, f"/history?since={moment}")) == [episodes[2], episodes[1]]


def test_a_cursor_leads_to_the_next_page(api: Guard, episodes: list[str]) -> None:
    cursor = ask(api, "/history?limit=2").json()["next_cursor"]
    answer = ask(api, f"/history?limit=2&cursor={cursor}")
    assert (moments_of(answer), answer.json()["next_cursor"]) == (episodes[:1], None)


def test_a_foreign_cursor_is_422(api: Guard, episodes: list[str]) -> None:
    assert episodes
    assert ask(api, "/history?cursor=7").status_code == 422


def test_the_history_shows_no_command_line(api: Guard, episodes: list[str]) -> None:
    assert episodes
    assert "secret" not in ask(api, "/history").text


def test_a_damaged_history_is_503_with_a_hint(api: Guard, episodes: list[str], run_dir: Path) -> None:
    assert episodes
    (run_dir / "history.db").write_bytes(b"no database" * 1000)
    answer = ask(api, "/history")
    assert answer.status_code == 503
    assert answer.json()["hint"]
