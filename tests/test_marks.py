"""Pauses and restored marks: over restarts, reboots, damaged files and full disks."""

from __future__ import annotations

import json
import os
import time
import zlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparktune.errors import StoreError
from sparktune.marks import Marks

if TYPE_CHECKING:
    from pathlib import Path

BOOT = "4f0c"
ID = "nvme.nvme0n1.read_ahead_kb"


@pytest.fixture
def path(fast_path: Path) -> Path:
    return fast_path / "marks.json"


def opened(path: Path, *, boot: str = BOOT, repair: bool = True) -> Marks:
    return Marks(path, boot, repair=repair)


def filled(path: Path) -> Marks:
    marks = opened(path)
    marks.pause(["nvme"], for_s=3600, by="root")
    marks.mark_restored([ID], by="root", at="2026-11-23T17:00:00.000000Z")
    return marks


def corrupt(path: Path) -> list[Path]:
    return sorted(path.parent.glob("marks.json.corrupt-*"))


@pytest.mark.parametrize("target", ["*", "nvme", ID])
def test_a_pause_covers_everything_an_area_or_one_tunable(target: str, path: Path) -> None:
    marks = opened(path)
    marks.pause([target], for_s=60, by="root")
    covers = {
        "this": marks.find_pause("nvme", ID) is not None,
        "neighbour": marks.find_pause("nvme", "nvme.nvme1n1.read_ahead_kb") is not None,
        "other area": marks.find_pause("roce", "roce.rocep1s0f0.default_roce_mode") is not None,
    }
    assert covers == {"this": True, "neighbour": target != ID, "other area": target == "*"}


def test_of_several_pauses_the_longest_counts(path: Path) -> None:
    marks = opened(path)
    marks.pause([ID], for_s=60, by="root")
    marks.pause(["nvme"], for_s=600, by="uid 1000")
    marks.pause(["*"], for_s=6, by="root")
    pause = marks.find_pause("nvme", ID)
    assert pause is not None
    assert pause.by == "uid 1000"


def test_a_pause_ends_by_itself(path: Path) -> None:
    marks = opened(path)
    marks.pause([ID], for_s=0.01, by="root")
    time.sleep(0.02)
    assert marks.find_pause("nvme", ID) is None
    assert marks.next_end_s() == 0
    assert marks.drop_ended()
    assert not marks.drop_ended()
    assert (marks.pauses(), marks.next_end_s()) == ((), None)


def test_the_next_end_is_that_of_the_shortest_pause(path: Path) -> None:
    marks = opened(path)
    marks.pause(["nvme"], for_s=600, by="root")
    marks.pause(["roce"], for_s=60, by="root")
    assert marks.next_end_s() == pytest.approx(60, abs=1)


def test_the_end_of_a_pause_is_shown_as_a_time_of_day_to_the_second(path: Path) -> None:
    marks = opened(path)
    marks.pause(["nvme"], for_s=3600, by="root")
    until = marks.pauses()[0].until()
    assert until.microsecond == 0
    assert abs(until - datetime.now(UTC) - timedelta(hours=1)) < timedelta(seconds=2)


def test_resume_ends_the_pauses_it_names_and_tells_which(path: Path) -> None:
    marks = opened(path)
    marks.pause(["nvme", "roce"], for_s=60, by="root")
    assert marks.resume(["nvme", "cpuidle"]) == ("nvme",)
    assert [pause.target for pause in marks.pauses()] == ["roce"]
    assert [pause.target for pause in opened(path).pauses()] == ["roce"]


def test_resuming_everything_ends_every_pause(path: Path) -> None:
    marks = opened(path)
    marks.pause(["nvme", ID], for_s=60, by="root")
    assert set(marks.resume(["*"])) == {"nvme", ID}
    assert opened(path).pauses() == ()


def test_marks_survive_a_restart(path: Path) -> None:
    before = filled(path)
    after = opened(path)
    assert after.pauses() == before.pauses()
    assert after.find_restored(ID) == before.find_restored(ID) is not None


def test_marks_end_with_the_boot(path: Path) -> None:
    filled(path)
    after = opened(path, boot="another")
    assert (after.pauses(), after.find_restored(ID), after.set_aside) == ((), None, None)


def test_a_cleared_mark_is_gone_after_a_restart(path: Path) -> None:
    filled(path).clear_restored([ID, "nobody"])
    assert opened(path).find_restored(ID) is None


def test_clearing_what_is_not_marked_writes_nothing(path: Path) -> None:
    opened(path).clear_restored([ID])
    assert opened(path).resume(["*"]) == ()
    assert not path.exists()


def test_what_cannot_be_stored_has_not_happened(path: Path) -> None:
    marks = filled(path)
    before = path.read_bytes()
    (path.parent / ".marks.json.new").mkdir()
    with pytest.raises(StoreError):
        marks.pause(["roce"], for_s=60, by="root")
    with pytest.raises(StoreError):
        marks.resume(["*"])
    with pytest.raises(StoreError):
        marks.mark_restored(["another"], by="root", at="")
    with pytest.raises(StoreError):
        marks.clear_restored([ID])
    assert [pause.target for pause in marks.pauses()] == ["nvme"]
    assert (marks.find_restored("another"), marks.find_restored(ID) is None) == (None, False)
    assert path.read_bytes() == before


# -- damage --------------------------------------------------------------------------------------------------


def test_every_truncation_counts_as_none_and_is_set_aside(path: Path) -> None:
    filled(path)
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        marks = opened(path)
        assert (marks.pauses(), marks.find_restored(ID)) == ((), None)
        assert marks.set_aside is not None
        assert not path.exists()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_flipped_byte_never_changes_a_mark(place: float, bits: int, path: Path) -> None:
    before = filled(path).pauses()
    damaged = bytearray(path.read_bytes())
    damaged[int(place * len(damaged))] ^= bits
    path.write_bytes(damaged)
    marks = opened(path, repair=False)
    assert marks.pauses() in ((), before)
    restored = marks.find_restored(ID)
    assert restored is None or restored.by == "root"


@pytest.mark.parametrize(
    "junk",
    [b"", b"null", b"5", b'"text"', b"[]", b"{}", b"[" * 200_000, b"\0" * 4096, os.urandom(1 << 20), b"\xff"],
    ids=["empty", "null", "number", "text", "list", "object", "brackets", "zeros", "random", "no UTF-8"],
)
def test_junk_of_any_kind_counts_as_none_and_is_set_aside(junk: bytes, path: Path) -> None:
    path.write_bytes(junk)
    marks = opened(path)
    assert marks.pauses() == ()
    assert [file.read_bytes() for file in corrupt(path)] == [junk]
    marks.pause(["*"], for_s=60, by="root")
    assert len(opened(path).pauses()) == 1


def document(**changes: Any) -> bytes:
    """A stored document with a right checksum, whatever is in it."""
    body = {"boot_id": BOOT, "pauses": [], "restored": []} | changes
    checksum = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    return json.dumps(body | {"checksum": checksum}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"pauses": [{"target": "*", "until_s": float("inf"), "by": "root"}]},
        {"pauses": [{"target": "*", "until_s": "soon", "by": "root"}]},
        {"pauses": [{"target": "*", "by": "root"}]},
        {"pauses": [{"target": [], "until_s": 1.0, "by": "root"}]},
        {"pauses": 5},
        {"restored": ["text"]},
        {"restored": [{"id": ID}]},
        {"restored": [{"id": ID, "by": "root", "at": "", "more": 1}]},
        {"boot_id": None, "pauses": None},
    ],
)
def test_a_document_of_the_wrong_shape_is_no_crash(changes: dict[str, Any], path: Path) -> None:
    path.write_bytes(document(**changes))
    marks = opened(path)
    assert marks.find_pause("nvme", ID) is None
    assert marks.next_end_s() is None


def test_a_document_of_the_right_shape_is_read(path: Path) -> None:
    path.write_bytes(document(restored=[{"id": ID, "by": "root", "at": ""}]))
    assert opened(path).find_restored(ID) is not None


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_set_aside_without_waiting(kind: str, path: Path) -> None:
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    marks = opened(path)
    assert len(corrupt(path)) == 1
    marks.pause(["*"], for_s=60, by="root")
    assert len(opened(path).pauses()) == 1


def test_who_only_looks_sets_nothing_aside(path: Path) -> None:
    path.write_bytes(b"damaged")
    assert opened(path, repair=False).pauses() == ()
    assert path.read_bytes() == b"damaged"
