"""The write-ahead store: what it knows after a crash, and how much damage it survives."""

from __future__ import annotations

import os
import resource
import signal
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import children
from sparktune.errors import StoreError
from sparktune.originals import Original, Originals

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.model import Value

BOOT = "4f0c"


def original(number: int = 1, *, value: Value | None = 128, ours: tuple[Value, ...] = (8192,)) -> Original:
    return Original(
        id=f"nvme.nvme{number}n1.read_ahead_kb",
        boot_id=BOOT,
        path=f"/sys/devices/pci0004:00/nvme{number}n1",
        instance=f"inode:/sys/devices/pci0004:00/nvme{number}n1=4711",
        kind="file:integer",
        location=f"/sys/block/nvme{number}n1/queue/read_ahead_kb",
        makes="",
        value=value,
        ours=ours,
        at="2026-11-23T17:00:00.000000Z",
    )


ALL = tuple(original(number) for number in range(1, 5))
KEY = original().key


@pytest.fixture
def path(fast_path: Path) -> Path:
    return fast_path / "originals.jsonl"


def opened(path: Path, *, boot: str = BOOT, repair: bool = True) -> Originals:
    return Originals(path, boot, repair=repair)


def stored(path: Path) -> Originals:
    """Four originals on disk."""
    store = opened(path)
    store.record(ALL)
    return store


def corrupt(path: Path) -> list[Path]:
    return sorted(path.parent.glob("originals.jsonl.corrupt-*"))


# -- write-ahead ---------------------------------------------------------------------------------------------


def test_what_is_recorded_is_there_after_a_restart(path: Path) -> None:
    stored(path)
    assert opened(path).all() == ALL


def test_the_first_recorded_value_stays(path: Path) -> None:
    store = opened(path)
    store.record([original(value=128, ours=(8192,))])
    store.settle(KEY, 8192)
    store.record([original(value=8192, ours=(4096,))])
    assert opened(path).find(KEY) == original(value=128, ours=(8192, 4096))


def test_a_restart_never_replaces_the_original_by_a_value_of_our_own(path: Path) -> None:
    opened(path).record([original(value=128)])
    opened(path).record([original(value=8192, ours=(4096,))])
    assert opened(path).all() == (original(value=128, ours=(8192, 4096)),)


def test_a_value_that_was_recorded_but_never_written_gives_way_to_what_is_there_now(path: Path) -> None:
    store = opened(path)
    store.record([original(value=128)])
    assert store.covers(KEY, 8192, found=128)
    assert not store.covers(KEY, 8192, found=256)
    store.record([original(value=256)])
    assert opened(path).all() == (original(value=256),)


def test_a_directory_that_was_planned_gets_its_value_later(path: Path) -> None:
    planned = replace(original(value=None), makes="/sys/kernel/config/rdma_cm/rocep1s0f0")
    opened(path).record([planned])
    opened(path).record([replace(planned, value="RoCE v2", makes="")])
    assert opened(path).all() == (replace(planned, value="RoCE v2"),)


def test_after_a_write_only_what_was_read_back_is_ours(path: Path) -> None:
    store = stored(path)
    store.record([original(value=128, ours=(4096,))])
    store.settle(KEY, 4096)
    store.save()
    entry = opened(path).find(KEY)
    assert entry is not None
    assert entry.ours == (4096,)


def test_what_was_settled_reaches_the_disk_only_with_save(path: Path) -> None:
    store = stored(path)
    before = path.read_bytes()
    store.settle(KEY, 4096)
    assert path.read_bytes() == before
    store.save()
    assert path.read_bytes() != before


def test_saving_what_did_not_change_writes_nothing(path: Path) -> None:
    store = stored(path)
    number = path.stat().st_ino
    store.save()
    store.record(ALL)
    assert path.stat().st_ino == number


def test_a_write_is_covered_only_by_an_original_that_counts_it_as_ours(path: Path) -> None:
    store = stored(path)
    assert store.covers(KEY, 8192, found=128)
    assert not store.covers(KEY, 4096, found=128)
    assert not store.covers("another", 8192, found=128)


def test_at_most_eight_values_count_as_ours_the_latest_ones(path: Path) -> None:
    store = opened(path)
    for value in range(20):
        store.record([original(ours=(value,))])
    (entry,) = store.all()
    assert entry.ours == tuple(range(12, 20))


def test_what_is_forgotten_is_gone_after_a_restart(path: Path) -> None:
    stored(path).forget([KEY])
    assert opened(path).all() == ALL[1:]


def test_originals_of_another_boot_are_not_ours(path: Path) -> None:
    stored(path)
    assert opened(path, boot="another").all() == ()


def test_only_its_owner_can_read_the_file(path: Path) -> None:
    stored(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_withdrawn_original_is_gone(path: Path) -> None:
    store = stored(path)
    store.withdraw(KEY)
    store.save()
    assert opened(path).all() == ALL[1:]


def test_an_original_of_something_written_cannot_be_withdrawn(path: Path) -> None:
    store = stored(path)
    store.settle(KEY, 8192)
    store.withdraw(KEY)
    assert store.all() == ALL


def test_an_original_of_an_earlier_process_cannot_be_withdrawn(path: Path) -> None:
    stored(path)
    store = opened(path)
    store.withdraw(KEY)
    assert store.all() == ALL


# -- a disk that is full -------------------------------------------------------------------------------------


def test_what_cannot_be_stored_is_not_remembered_either(path: Path) -> None:
    store = stored(path)
    (path.parent / ".originals.jsonl.new").mkdir()
    with pytest.raises(StoreError, match=r"cannot write .*originals\.jsonl: Is a directory"):
        store.record([original(9)])
    assert store.all() == ALL
    assert opened(path).all() == ALL


def _fill_up_and_record(path: Path) -> int:
    """In a child: no file may grow beyond 500 bytes; 0 if the store said so and kept what it had."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    store = opened(path)
    try:
        store.record([original(9)])
    except StoreError as error:
        named = "File too large" in error.message and "is there room on the disk" in error.hint
        return 0 if named and store.all() == ALL[:1] else 1
    return 2


def test_a_file_that_cannot_grow_leaves_the_old_one_whole(path: Path) -> None:
    opened(path).record(ALL[:1])
    before = path.read_bytes()
    assert 250 < len(before) < 500
    assert children.run(lambda: _fill_up_and_record(path)) == 0
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["originals.jsonl"]


# -- damage --------------------------------------------------------------------------------------------------


def test_a_whole_file_is_not_set_aside(path: Path) -> None:
    stored(path)
    assert opened(path).set_aside is None
    assert corrupt(path) == []


def test_an_empty_file_is_an_empty_store(path: Path) -> None:
    path.touch()
    assert opened(path).all() == ()
    assert corrupt(path) == []


def test_a_damaged_file_is_set_aside_as_it_was(path: Path) -> None:
    stored(path)
    damaged = path.read_bytes()[:-20]
    path.write_bytes(damaged)
    store = opened(path)
    assert store.set_aside is not None
    assert store.set_aside.read_bytes() == damaged
    assert store.all() == ALL[:3]


def test_who_only_looks_sets_nothing_aside(path: Path) -> None:
    path.write_bytes(b"damaged")
    store = opened(path, repair=False)
    assert (store.all(), store.set_aside, path.read_bytes()) == ((), None, b"damaged")


def test_what_was_readable_is_on_disk_again_before_anything_else_happens(path: Path) -> None:
    stored(path)
    path.write_bytes(b"damaged\n" + path.read_bytes())
    opened(path)  # and killed right after
    assert opened(path).all() == ALL
    assert len(corrupt(path)) == 1


def test_a_damaged_file_stays_in_its_place_while_nothing_can_replace_it(path: Path) -> None:
    stored(path)
    path.write_bytes(b"damaged\n" + path.read_bytes())
    (path.parent / ".originals.jsonl.new").mkdir()
    opened(path)
    (path.parent / ".originals.jsonl.new").rmdir()
    assert opened(path).all() == ALL


def test_every_truncation_keeps_every_line_that_is_whole(path: Path) -> None:
    stored(path)
    whole = path.read_bytes()
    ends = [index for index, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        store = opened(path, repair=False)
        assert store.all() == ALL[: sum(end <= length for end in ends)], length


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a real file."""
    path = tmp_path_factory.mktemp("originals") / "originals.jsonl"
    stored(path)
    return path.read_bytes().splitlines(keepends=True)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_costs_at_most_the_line_it_is_in(
    data: st.DataObject, lines: list[bytes], path: Path
) -> None:
    whole = bytearray(b"".join(lines))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    ends = [sum(map(len, lines[: count + 1])) for count in range(len(lines))]
    hit = sum(end <= place for end in ends)
    kept = opened(path, repair=False).all()
    others = [entry for number, entry in enumerate(ALL) if number != hit]
    assert [entry for entry in kept if entry != ALL[hit]] == others


@pytest.mark.parametrize("place", range(4))
def test_a_lost_newline_costs_nothing(place: int, lines: list[bytes], path: Path) -> None:
    damaged = [line[:-1] + b"x" if number == place else line for number, line in enumerate(lines)]
    path.write_bytes(b"".join(damaged))
    store = opened(path)
    assert store.all() == ALL
    assert store.set_aside is not None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=300), place=st.integers(0, 4))
def test_junk_between_lines_costs_no_line(junk: bytes, place: int, lines: list[bytes], path: Path) -> None:
    path.write_bytes(b"".join([*lines[:place], junk, b"\n", *lines[place:]]))
    assert opened(path, repair=False).all() == ALL


@pytest.mark.parametrize(
    "junk",
    [
        b"\0" * 100_000,
        b"[" * 200_000,
        b"00000000 " + b"[" * 200_000,
        b"00000000 " + b'{"a":' * 200_000,
        b"00000000 {}\n",
        b"ffffffff null\n",
        b"\xff\xfe\x00" * 1000,
        os.urandom(1 << 20),
    ],
    ids=["zeros", "brackets", "array", "nested", "braces", "null", "binary", "random"],
)
def test_junk_of_any_kind_never_crashes_and_is_set_aside(junk: bytes, path: Path) -> None:
    path.write_bytes(junk)
    store = opened(path)
    assert store.all() == ()
    assert store.set_aside is not None
    store.record(ALL)
    assert opened(path).all() == ALL


def test_a_line_with_a_right_checksum_and_wrong_fields_is_not_an_original(path: Path) -> None:
    path.write_bytes(b'99914b93 {}\n2b1d0b3c {"ours": 3}\n')
    assert opened(path).all() == ()


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_set_aside_without_waiting(kind: str, path: Path) -> None:
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    store = opened(path)
    assert (store.all(), len(corrupt(path))) == ((), 1)
    store.record(ALL)
    assert opened(path).all() == ALL


def test_at_most_five_damaged_files_are_kept_the_newest_ones(path: Path) -> None:
    for number in range(8):
        path.write_bytes(b"damaged %d\n" % number)
        opened(path)
    assert [file.read_bytes() for file in corrupt(path)] == [
        b"damaged %d\n" % number for number in range(3, 8)
    ]
