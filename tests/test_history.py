"""The history: stored off the heal path, readable whether the daemon runs, was stopped or was killed."""

from __future__ import annotations

import grp
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import TypeAdapter

from sparktune import history_file
from sparktune.errors import StoreError, UsageError
from sparktune.history import MOST_QUEUED, History, HistoryPage, read
from sparktune.model import Action, Cause, CauseKind, Drift, Episode, Noticed, Process
from sparktune.published import encode
from sparktune.snapshot import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SHELL = Process(
    pid=812,
    comm="sh",
    exe="/usr/bin/dash",
    uid=1000,
    loginuid=1001,
    unit="session-3.scope",
    cmdline="sh -c echo 128 > /sys/block/nvme0n1/queue/read_ahead_kb",
)
PARENT = Process(pid=811, comm="bash", exe="/usr/bin/bash", uid=1000, cmdline="-bash")

DAEMON = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_history
from sparktune.history import History
history = History(Path(sys.argv[1]), days=30, rows=10_000)
history.start()
history.add(test_history.make_episode())
assert history.flush(10)
print("stored", flush=True)
sys.stdin.read()
"""


def make_drift(tunable: str = "nvme.nvme0n1.read_ahead_kb", found: int | str | None = 128) -> Drift:
    return Drift(tunable=tunable, wanted=8192, found=found, action=Action.HEALED, took_us=93)


def make_episode(*drifts: Drift, at: datetime | None = None, cause: Cause | None = None) -> Episode:
    drifts = drifts or (make_drift(),)
    return Episode(
        at=at or datetime.now(UTC),
        area="nvme",
        noticed=Noticed.FANOTIFY,
        cause=cause or Cause(kind=CauseKind.PROCESS, process=SHELL, parent=PARENT),
        action=Action.HEALED,
        drifts=drifts,
        count=len(drifts),
        took_us=120,
    )


@contextmanager
def running(
    path: Path, *, days: int = 30, rows: int = 10_000, clock: Callable[[], datetime] | None = None
) -> Iterator[History]:
    history = History(path, days=days, rows=rows, clock=clock or (lambda: datetime.now(UTC)))
    history.start()
    try:
        yield history
    finally:
        history.close()


def read_as_nobody(path: Path) -> bytes:
    """How many episodes another user sees; what stopped them otherwise."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, b"%d" % len(read(path).episodes))
        except (OSError, StoreError) as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:  # noqa: PTH123 - a descriptor
        os.waitpid(child, 0)
        return answer.read()


def store(path: Path, *episodes: Episode) -> None:
    with running(path) as history:
        for episode in episodes:
            history.add(episode)
        assert history.flush(10)
        assert history.error is None


@contextmanager
def daemon(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", DAEMON, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stored\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def test_an_episode_is_read_back_as_it_was_added(path: Path) -> None:
    store(path, make_episode(at=NOON))
    (episode,) = read(path, show_commands=True).episodes
    assert (episode.id, episode.at, episode.area) == (1, "2026-11-23T12:00:00.000000Z", "nvme")
    assert (episode.noticed, episode.action, episode.count, episode.took_us) == ("fanotify", "healed", 1, 120)
    assert episode.by == Writer(
        kind="process",
        comm="sh",
        pid=812,
        exe="/usr/bin/dash",
        uid=1000,
        unit="session-3.scope",
        parent="bash[811]",
    )
    assert episode.loginuid == 1001
    assert episode.command == SHELL.cmdline
    assert episode.parent_command == "-bash"
    assert episode.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_the_drifts_of_an_episode_keep_their_order_and_repeats(path: Path) -> None:
    names = ["cpuidle.cpu1.state1", "cpuidle.cpu0.state1", "cpuidle.cpu1.state1"]
    store(path, make_episode(*(make_drift(name) for name in names)))
    (episode,) = read(path).episodes
    assert [drift.tunable for drift in episode.drifts] == names


@pytest.mark.parametrize("found", [64, "64", "RoCE v2", None])
def test_values_come_back_with_their_type(path: Path, found: int | str | None) -> None:
    store(path, make_episode(make_drift(found=found)))
    assert repr(read(path).episodes[0].drifts[0].found) == repr(found)


def test_a_drift_keeps_what_was_done_and_why(path: Path) -> None:
    drift = Drift(tunable="a.b.c", wanted="x", found="y", action=Action.REFUSED, reason="EPERM")
    store(path, make_episode(drift))
    stored = read(path).episodes[0].drifts[0]
    assert (stored.wanted, stored.action, stored.reason, stored.took_us) == ("x", "refused", "EPERM", None)


def test_suspects_stay_apart_from_what_was_seen(path: Path) -> None:
    suspects = (Process(pid=77, comm="tuned"), Process(pid=78))
    store(path, make_episode(cause=Cause(kind=CauseKind.UNKNOWN, detail="sweep", suspects=suspects)))
    by = read(path).episodes[0].by
    assert by == Writer(kind="unknown", detail="sweep", suspects=("tuned[77]", "?[78]"))


def test_command_lines_are_shown_only_when_asked_for(path: Path) -> None:
    store(path, make_episode())
    page = read(path)
    assert page.episodes[0].command is None
    assert page.episodes[0].parent_command is None
    assert "echo 128" not in encode(page)


def test_pages_lead_from_the_newest_to_the_oldest(path: Path) -> None:
    store(path, *(make_episode(make_drift(f"nvme.n{number}.x")) for number in range(5)))
    seen, cursor = [], None
    while True:
        page = read(path, limit=2, cursor=cursor)
        seen += [episode.drifts[0].tunable for episode in page.episodes]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"nvme.n{number}.x" for number in (4, 3, 2, 1, 0)]


def test_a_cursor_stays_true_while_episodes_are_added(path: Path) -> None:
    store(path, *(make_episode() for _ in range(4)))
    first = read(path, limit=2)
    store(path, *(make_episode() for _ in range(3)))
    second = read(path, limit=2, cursor=first.next_cursor)
    assert [episode.id for episode in first.episodes + second.episodes] == [4, 3, 2, 1]


def test_a_page_that_ends_with_the_last_episode_has_no_cursor(path: Path) -> None:
    store(path, make_episode(), make_episode())
    assert read(path, limit=2).next_cursor is None


@pytest.mark.parametrize("cursor", ["", "7", "h", "hx", "h1 OR 1", "h" + "f" * 40])
def test_a_foreign_cursor_is_refused(path: Path, cursor: str) -> None:
    with pytest.raises(UsageError, match="no cursor"):
        read(path, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_out_of_range_is_refused(path: Path, limit: int) -> None:
    with pytest.raises(UsageError, match="out of range"):
        read(path, limit=limit)


def test_since_is_inclusive_and_until_is_not(path: Path) -> None:
    store(path, *(make_episode(at=NOON + timedelta(seconds=second)) for second in range(4)))
    page = read(path, since=NOON + timedelta(seconds=1), until=NOON + timedelta(seconds=3))
    assert [episode.id for episode in page.episodes] == [3, 2]


@pytest.mark.parametrize(
    ("tunable", "ids"),
    [
        ("nvme.nvme0n1.read_ahead_kb", [1]),
        ("nvme.nvme0n1", []),
        ("nvme.*", [3, 1]),
        ("nvme.nvme_n1.*", [3]),  # LIKE's wildcard is a letter here
        ("*", [3, 2, 1]),
        ("*.read_ahead_kb", []),  # only a trailing one counts
    ],
)
def test_the_tunable_is_matched_whole_or_by_its_beginning(path: Path, tunable: str, ids: list[int]) -> None:
    names = ("nvme.nvme0n1.read_ahead_kb", "cpuidle.cpu0.state1", "nvme.nvme_n1.read_ahead_kb")
    store(path, *(make_episode(make_drift(name)) for name in names))
    assert [episode.id for episode in read(path, tunable=tunable).episodes] == ids


def test_an_episode_found_by_one_tunable_is_shown_whole(path: Path) -> None:
    store(path, make_episode(make_drift("a.b.c"), make_drift("a.b.d")))
    assert len(read(path, tunable="a.b.d").episodes[0].drifts) == 2


def test_text_and_numbers_sqlite_cannot_take_are_stored_all_the_same(path: Path) -> None:
    cause = Cause(kind=CauseKind.PROCESS, process=Process(pid=1, comm="\udcff\x00'\";--"))
    store(path, make_episode(make_drift("a.\ud800.c", found=10**30), cause=cause))
    (episode,) = read(path).episodes
    assert episode.drifts[0].tunable == "a.?.c"
    assert episode.drifts[0].found == str(10**30)
    assert episode.by.comm == "?\x00'\";--"


def test_it_is_read_while_the_daemon_runs(path: Path) -> None:
    with daemon(path):
        assert len(read(path).episodes) == 1


def test_it_is_read_after_the_daemon_was_killed(path: Path) -> None:
    with daemon(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert Path(f"{path}-wal").stat().st_size > 0  # what is read lies in the log alone
        assert len(read(path).episodes) == 1


def test_a_daemon_that_was_killed_goes_on_with_its_history(path: Path) -> None:
    with daemon(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    store(path, make_episode())
    assert [episode.id for episode in read(path).episodes] == [2, 1]


def test_reading_a_stopped_history_leaves_nothing_beside_it(path: Path) -> None:
    store(path, make_episode())
    read(path)
    assert os.listdir(path.parent) == ["history.db"]  # noqa: PTH208 - names are compared


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("state", ["running", "stopped", "killed"])
def test_a_user_who_may_not_write_the_folder_can_read_it(state: str) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own are closed to other users
    try:
        folder.chmod(0o755)
        path = folder / "history.db"
        with daemon(path) as process:
            if state == "stopped":
                process.communicate()
                with running(path):
                    pass
            elif state == "killed":
                process.kill()
                process.wait()
            for file in folder.glob("history.db*"):
                os.chown(file, -1, NOBODY)
            assert read_as_nobody(path) == b"1"
    finally:
        shutil.rmtree(folder)


def test_a_history_that_has_no_episode_yet_is_an_empty_page(path: Path) -> None:
    assert read(path) == HistoryPage(episodes=(), next_cursor=None)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        read(tmp_path / "nowhere" / "history.db")


def test_a_file_that_is_no_database_is_an_error_for_readers(path: Path) -> None:
    path.write_bytes(b"\x00garbage" * 1000)
    with pytest.raises(StoreError, match="cannot read"):
        read(path)


@pytest.mark.parametrize("damage", ["garbage", "half", "tail", "scribbled"])
def test_a_damaged_file_is_set_aside_and_a_new_one_started(path: Path, damage: str) -> None:
    store(path, *(make_episode(make_drift(f"nvme.n{number}.x")) for number in range(200)))
    whole = path.read_bytes()
    damaged = {
        "garbage": b"\x00garbage" * 1000,
        "half": whole[: len(whole) // 2],
        "tail": whole[:50],
        "scribbled": whole[:4096] + b"\xff" * 8192 + whole[12288:],
    }[damage]
    path.write_bytes(damaged)
    with running(path, clock=lambda: NOON) as history:
        history.add(make_episode())
        assert history.flush(10)
        assert (history.error, history.dropped) == (None, 0)
    assert len(read(path).episodes) == 1
    assert path.with_name("history.db.corrupt-20261123T120000Z").read_bytes() == damaged


def test_damage_while_it_runs_costs_no_episode(path: Path) -> None:
    with running(path, rows=1) as history:
        for number in range(99):
            history.add(make_episode(make_drift(f"nvme.n{number}.x")))
        assert history.flush(10)
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        whole = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (len(whole) - 4096))
        # the file changed behind SQLite's back: only a fresh page cache sees it, as after a write of another
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 1")
        connection.close()
        for _ in range(3):
            history.add(make_episode())
        assert history.flush(10)
        assert (history.error, history.dropped) == (None, 0)
    assert len(read(path).episodes) >= 1
    assert len(list(path.parent.glob("*.corrupt-*Z"))) == 1


def test_setting_aside_never_replaces_what_was_set_aside_before(path: Path) -> None:
    for content in (b"first" * 2000, b"second" * 2000):
        path.write_bytes(content)
        with running(path, clock=lambda: NOON) as history:
            assert history.flush(10)
    kept = {file.read_bytes() for file in path.parent.glob("history.db.corrupt-*")}
    assert kept == {b"first" * 2000, b"second" * 2000}


def test_a_history_of_a_newer_sparktune_is_left_alone(path: Path) -> None:
    store(path, make_episode())
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = path.read_bytes()
    with running(path) as history:
        history.add(make_episode())
        assert history.flush(10)
        assert "newer sparktune" in (history.error or "")
        assert history.dropped == 1
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match="newer sparktune"):
        read(path)


def test_a_foreign_database_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE precious (x)")
    connection.close()
    with running(path) as history:
        assert history.flush(10)
        assert "no history of sparktune" in (history.error or "")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]
    connection.close()


@contextmanager
def file_size_limited(size: int) -> Iterator[None]:
    """As a full disk: what grows beyond is refused. Python ignores SIGXFSZ, so that write gives EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_does_not_fit_is_counted_and_storing_goes_on_once_there_is_room(path: Path) -> None:
    with running(path) as history:
        assert history.flush(10)
        with file_size_limited(Path(f"{path}-wal").stat().st_size):
            history.add(make_episode())
            assert history.flush(10)
            assert history.error
            assert history.dropped == 1
        history.add(make_episode())
        assert history.flush(10)
        assert not history.error
    assert history.dropped == 1
    assert len(read(path).episodes) == 1


@needs_root
@pytest.mark.root
def test_a_full_disk_is_named_and_costs_only_the_episodes_of_that_time(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", tmp_path], check=True)
    try:
        path, ballast = tmp_path / "history.db", tmp_path / "ballast"
        with running(path) as history:
            history.add(make_episode())
            assert history.flush(10)
            with pytest.raises(OSError, match="No space"):
                ballast.write_bytes(b"x" * 2**20)
            for _ in range(50):
                history.add(make_episode())
            assert history.flush(10)
            assert "full" in (history.error or "")
            assert history.dropped == 50
            ballast.unlink()
            history.add(make_episode())
            assert history.flush(10)
            assert history.error is None
        assert len(read(path).episodes) == 2
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_folder_that_is_missing_at_the_start_may_come_later(tmp_path: Path) -> None:
    path = tmp_path / "later" / "history.db"
    with running(path) as history:
        history.add(make_episode())
        assert history.flush(10)
        assert "No such file" in (history.error or "")
        path.parent.mkdir()
        history.add(make_episode())
        assert history.flush(10)
        assert (history.error, history.dropped) == (None, 1)
    assert len(read(path).episodes) == 1


def test_only_so_many_episodes_are_kept(path: Path) -> None:
    with running(path, rows=150) as history:
        for _ in range(600):
            history.add(make_episode())
        assert history.flush(10)
    episodes = read(path, limit=1000).episodes
    assert len(episodes) <= 250  # enforced every hundred
    assert episodes[0].id == 600


def test_what_is_too_old_goes_at_the_start_and_takes_its_drifts_along(path: Path) -> None:
    store(path, make_episode(at=NOON - timedelta(days=8)), make_episode(at=NOON - timedelta(days=6)))
    with running(path, days=7, clock=lambda: NOON) as history:
        assert history.flush(10)
    assert [episode.id for episode in read(path).episodes] == [2]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT DISTINCT episode FROM drifts").fetchall() == [(2,)]
    connection.close()


def test_other_limits_are_enforced_without_a_restart(path: Path) -> None:
    with running(path) as history:
        for _ in range(50):
            history.add(make_episode())
        assert history.flush(10)
        history.configure(days=30, rows=10)
        assert history.flush(10)
        assert len(read(path).episodes) == 10


def test_a_number_is_never_used_twice_even_after_all_were_deleted(path: Path) -> None:
    store(path, make_episode(at=NOON - timedelta(days=99)))
    with running(path, days=1, clock=lambda: NOON) as history:
        history.add(make_episode(at=NOON))
        assert history.flush(10)
    assert [episode.id for episode in read(path).episodes] == [2]


def test_more_than_can_wait_is_dropped_and_counted(path: Path) -> None:
    history = History(path, days=30, rows=100_000)  # not started: nothing is taken out
    episode = make_episode()
    for _ in range(MOST_QUEUED + 3):
        history.add(episode)
    assert history.dropped == 3


def test_what_comes_after_the_end_is_dropped_and_counted(path: Path) -> None:
    history = History(path, days=30, rows=100)
    history.start()
    history.close()
    history.add(make_episode())
    assert history.dropped == 1


def test_what_waits_at_the_end_is_stored(path: Path) -> None:
    with running(path) as history:
        for _ in range(1500):
            history.add(make_episode())
    assert read(path).episodes[0].id == 1500


def test_flushing_a_history_that_was_never_started_says_no(path: Path) -> None:
    assert History(path, days=1, rows=1).flush(0) is False


def test_closing_twice_or_unstarted_does_nothing(path: Path) -> None:
    history = History(path, days=1, rows=100)
    history.close()
    history.close()
    assert not path.exists()


def test_episodes_that_come_together_are_stored_together(path: Path) -> None:
    with running(path) as history:
        assert history.flush(10)
        log = Path(f"{path}-wal")
        before = log.stat().st_size
        for _ in range(100):
            history.add(make_episode())
        assert history.flush(10)
        assert log.stat().st_size - before < 100 * 4096  # one transaction, not a hundred


@pytest.mark.alone
def test_the_thread_sleeps_while_there_is_nothing_to_do(path: Path) -> None:
    with running(path) as history:
        assert history.flush(10)
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "history")
        status = Path(f"/proc/self/task/{thread.native_id}/status")
        time.sleep(0.05)
        before = status.read_text().split("voluntary_ctxt_switches")[1]
        time.sleep(0.5)
        assert status.read_text().split("voluntary_ctxt_switches")[1] == before


def test_only_owner_and_group_may_read_the_files(path: Path) -> None:
    path.touch(mode=0o666)
    with running(path) as history:
        history.add(make_episode())
        assert history.flush(10)
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("history.db", "history.db-wal", "history.db-shm"), "0o640")


@needs_root
@pytest.mark.root
def test_the_files_belong_to_the_group_that_may_read_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_file, "_GROUP", "daemon")
    with running(path) as history:
        history.add(make_episode())
        assert history.flush(10)
        groups = {file.name: file.stat().st_gid for file in path.parent.iterdir()}
    gid = grp.getgrnam("daemon").gr_gid
    assert groups == dict.fromkeys(("history.db", "history.db-wal", "history.db-shm"), gid)


def test_a_page_is_true_to_its_schema(path: Path) -> None:
    store(path, make_episode())
    page = read(path)
    adapter = TypeAdapter(HistoryPage)
    assert adapter.validate_json(encode(page)) == page
    properties = adapter.json_schema()["$defs"]["HistoryEpisode"]["properties"]
    assert all(entry.get("description") or "$ref" in json.dumps(entry) for entry in properties.values())


def test_reading_needs_neither_pydantic_nor_structlog() -> None:
    unwanted = "{'pydantic', 'structlog', 'sparktune.redaction'}"
    program = f"import sys, sparktune.history; print({unwanted} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
