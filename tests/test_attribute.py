"""Attributes of sysfs and of trees: what each answer of the kernel means, for reading and for writing."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparktune.kernel.attribute import (
    LONGEST,
    FileAttribute,
    FixedAttribute,
    decode,
    describe_error,
    reading_of,
    reopen,
    verdict_of,
)
from sparktune.kernel.identity import identify_directory
from sparktune.kernel.root import Root
from sparktune.model import Reading, ReadingKind, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "/sys/block/disk/queue/read_ahead_kb"
NOWHERE = ("", "")


@pytest.fixture
def root(fast_path: Path) -> Root:
    """A tree with one file: 128."""
    root = Root(fast_path)
    root.path(NAME).parent.mkdir(parents=True)
    root.path(NAME).write_text("128\n")
    return root


@pytest.fixture
def attribute(root: Root) -> Iterator[FileAttribute]:
    attribute = FileAttribute(root, NAME, identity=NOWHERE)
    yield attribute
    attribute.close()


def value(value: int | str) -> Reading:
    return Reading(ReadingKind.VALUE, value)


# -- what bytes mean -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"128\n", 128),
        (b"0", 0),
        (b" 8192 \n", 8192),
        (b"-1\n", -1),
        (b"007\n", 7),
        (b"9" * 20, int("9" * 20)),
    ],
)
def test_a_number_is_a_number(data: bytes, number: int) -> None:
    assert decode(data, "integer") == value(number)


@pytest.mark.parametrize(
    "data",
    [
        b"12 8",
        b"0x80",
        b"1e3",
        b"1.5",
        b"none",
        b"\x00",
        b"128\x00",
        b"\xff",
        b"--1",
        b"+1",
        b"9" * 21,
        b"[8192]",
    ],
)
def test_what_is_no_number_is_failed_and_quoted(data: bytes) -> None:
    reading = decode(data, "integer")
    assert (reading.kind, reading.value) == (ReadingKind.FAILED, None)
    assert reading.reason.startswith("no number: b")
    assert len(reading.reason) < 200


@pytest.mark.parametrize("data", [b"", b"\n", b" \t\n", b"\n\n\n"])
@pytest.mark.parametrize("codec", ["integer", "text"])
def test_nothing_at_all_is_failed(data: bytes, codec: str) -> None:
    reading = decode(data, "text" if codec == "text" else "integer")
    assert reading == Reading(ReadingKind.FAILED, reason="empty")


@pytest.mark.parametrize("data", [b"a\nb", b"a\x1bb", "v\u00b2".encode(), b"\x00", b"\xff\xfe"])
def test_text_is_one_line_of_printable_ascii(data: bytes) -> None:
    assert decode(data, "text").kind is ReadingKind.FAILED


def test_more_than_a_page_is_no_attribute() -> None:
    assert decode(b"1" * (LONGEST + 1), "text").kind is ReadingKind.FAILED
    assert decode(b"x" * LONGEST, "text").kind is ReadingKind.VALUE


@given(st.binary(max_size=LONGEST + 10))
def test_no_bytes_at_all_make_it_raise(data: bytes) -> None:
    for reading in (decode(data, "integer"), decode(data, "text")):
        assert (reading.kind is ReadingKind.VALUE) == (reading.value is not None)
        assert (reading.kind is ReadingKind.VALUE) == (reading.reason == "")


@given(st.integers(-(2**63), 2**64 - 1))
def test_every_number_of_the_kernel_is_read_as_it_was_written(number: int) -> None:
    assert decode(b"%d\n" % number, "integer") == value(number)


# -- what errors mean ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reading", "writing"),
    [
        (errno.ENOENT, ReadingKind.ABSENT, Verdict.ABSENT),
        (errno.ENODEV, ReadingKind.ABSENT, Verdict.ABSENT),
        (errno.ENXIO, ReadingKind.ABSENT, Verdict.ABSENT),
        (errno.ENOTDIR, ReadingKind.ABSENT, Verdict.ABSENT),
        (errno.EPERM, ReadingKind.BLOCKED, Verdict.BLOCKED),
        (errno.EACCES, ReadingKind.BLOCKED, Verdict.BLOCKED),
        (errno.EROFS, ReadingKind.BLOCKED, Verdict.BLOCKED),
        (errno.EINVAL, ReadingKind.FAILED, Verdict.BLOCKED),
        (errno.ERANGE, ReadingKind.FAILED, Verdict.BLOCKED),
        (errno.EOPNOTSUPP, ReadingKind.FAILED, Verdict.BLOCKED),
        (errno.EIO, ReadingKind.FAILED, Verdict.FAILED),
        (errno.EISDIR, ReadingKind.FAILED, Verdict.FAILED),
        (errno.ENOMEM, ReadingKind.FAILED, Verdict.FAILED),
        (errno.EMFILE, ReadingKind.FAILED, Verdict.FAILED),
    ],
)
def test_each_error_has_a_meaning_for_reading_and_one_for_writing(
    code: int, reading: ReadingKind, writing: Verdict
) -> None:
    error = OSError(code, os.strerror(code))
    assert reading_of(error, NAME).kind is reading
    name = "EOPNOTSUPP" if code == errno.EOPNOTSUPP else errno.errorcode[code]  # Python says ENOTSUP
    assert reading_of(error, NAME).reason == f"read {NAME}: {os.strerror(code)} ({name})"
    assert verdict_of(error) is writing


def test_an_error_without_a_number_is_described_too() -> None:
    assert describe_error(OSError("odd"), "read it") == "read it: odd (?)"


# -- reading -------------------------------------------------------------------------------------------------


def test_a_value_is_read_anew_each_time(attribute: FileAttribute, root: Root) -> None:
    assert attribute.read() == value(128)
    root.path(NAME).write_text("64\n")
    assert attribute.read() == value(64)
    assert attribute.last == 64


def test_what_cannot_be_read_leaves_no_last_value(attribute: FileAttribute, root: Root) -> None:
    attribute.read()
    root.path(NAME).write_bytes(b"?")
    attribute.read()
    assert attribute.last is None


def test_a_missing_file_is_absent_and_read_again_once_it_is_there(
    attribute: FileAttribute, root: Root
) -> None:
    root.path(NAME).unlink()
    assert attribute.read().kind is ReadingKind.ABSENT
    root.path(NAME).write_text("64\n")
    assert attribute.read() == value(64)


def test_a_file_that_was_replaced_is_opened_again(attribute: FileAttribute, root: Root) -> None:
    attribute.read()
    root.path(NAME).unlink()
    root.path(NAME).write_text("64\n")
    assert attribute.read() == value(64)
    attribute.write(8192)
    assert root.path(NAME).read_text() == "8192\n"


def test_a_directory_in_its_place_is_failed(attribute: FileAttribute, root: Root) -> None:
    root.path(NAME).unlink()
    root.path(NAME).mkdir()
    assert attribute.read().kind is ReadingKind.FAILED
    assert "EISDIR" in attribute.read().reason
    assert not attribute.holds(128)
    with pytest.raises(IsADirectoryError):
        attribute.write(1)


def test_a_fifo_in_its_place_is_failed_without_waiting(attribute: FileAttribute, root: Root) -> None:
    root.path(NAME).unlink()
    os.mkfifo(root.path(NAME))
    assert attribute.read().kind is ReadingKind.FAILED
    assert not attribute.holds(128)
    attribute.close()
    with pytest.raises(OSError, match="No such device"):  # nobody reads at the other end
        attribute.write(1)


def test_a_socket_a_dangling_link_and_a_loop_of_links_are_readings(
    attribute: FileAttribute, root: Root
) -> None:
    path = root.path(NAME)
    path.unlink()
    path.symlink_to("nowhere")
    assert attribute.read().kind is ReadingKind.ABSENT
    path.unlink()
    path.symlink_to(path.name)
    assert attribute.read().kind is ReadingKind.FAILED


def test_a_megabyte_is_failed(attribute: FileAttribute, root: Root) -> None:
    root.path(NAME).write_bytes(b"1" * (1 << 20))
    assert attribute.read() == Reading(
        ReadingKind.FAILED, reason=f"longer than {LONGEST} bytes: no attribute of ours"
    )


def test_a_parent_that_became_a_file_is_absent(attribute: FileAttribute, root: Root) -> None:
    queue = root.path(NAME).parent
    queue.rename(queue.with_name("old"))
    queue.write_text("")
    assert attribute.read().kind is ReadingKind.ABSENT


# -- the cheap question --------------------------------------------------------------------------------------


def test_holds_says_yes_only_for_the_value_that_is_there(attribute: FileAttribute, root: Root) -> None:
    for _ in range(2):  # the careful way, then the cheap one
        assert attribute.holds(128)
        assert not attribute.holds(8192)
    root.path(NAME).write_text("8192\n")
    assert not attribute.holds(128)
    assert attribute.holds(8192)
    assert attribute.last == 8192


def test_holds_is_not_fooled_by_another_way_to_write_the_same_number(
    attribute: FileAttribute, root: Root
) -> None:
    attribute.holds(128)
    root.path(NAME).write_text("0128\n")
    assert attribute.holds(128)
    root.path(NAME).write_text("1280\n")
    assert not attribute.holds(128)


def test_holds_says_no_when_the_file_is_gone_though_it_is_still_open(
    attribute: FileAttribute, root: Root
) -> None:
    assert attribute.holds(128)
    assert attribute.holds(128)
    root.path(NAME).unlink()
    assert not attribute.holds(128)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100), st.integers(0, 70000))
def test_holds_and_read_never_disagree(
    attribute: FileAttribute, root: Root, data: bytes, wanted: int
) -> None:
    root.path(NAME).write_bytes(data)
    assert attribute.holds(wanted) == (attribute.read().value == wanted)
    assert attribute.holds(wanted) == (attribute.read().value == wanted)


# -- writing -------------------------------------------------------------------------------------------------


def test_a_shorter_value_leaves_nothing_of_a_longer_one(attribute: FileAttribute, root: Root) -> None:
    for number in (65536, 8, 8192, 0, 128):
        attribute.write(number)
        assert root.path(NAME).read_text() == f"{number}\n"


def test_at_no_moment_of_a_write_is_there_a_third_value(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a tree a write is two calls: what is there between them must read as the new value already."""
    root.path(NAME).write_text("65536\n")
    attribute = FileAttribute(root, NAME, identity=NOWHERE)
    between = []

    def look_then_cut(descriptor: int, length: int) -> None:
        between.append(decode(root.path(NAME).read_bytes(), "integer"))
        os.truncate(root.path(NAME), length)

    monkeypatch.setattr(os, "ftruncate", look_then_cut)
    attribute.write(8)
    attribute.close()
    assert between == [value(8)]


def test_writes_are_counted(attribute: FileAttribute) -> None:
    attribute.write(1)
    attribute.write(2)
    assert attribute.writes == 2


def test_a_text_is_written_as_it_is(root: Root) -> None:
    attribute = FileAttribute(root, NAME, identity=NOWHERE, codec="text")
    attribute.write("IB/RoCE v1")
    assert attribute.read() == value("IB/RoCE v1")
    assert attribute.kind == "file:text"
    attribute.close()


def test_a_write_to_a_file_that_is_gone_says_so(attribute: FileAttribute, root: Root) -> None:
    attribute.write(1)
    root.path(NAME).unlink()
    with pytest.raises(FileNotFoundError):
        attribute.write(2)
    assert attribute.writes == 1


# -- the hot path --------------------------------------------------------------------------------------------


def test_an_exchange_gives_what_it_overwrote(attribute: FileAttribute, root: Root) -> None:
    attribute.write(8192)
    attribute.read()
    root.path(NAME).write_text("65536\n")
    assert attribute.exchange(b"8192\n") == b"65536\n"
    assert root.path(NAME).read_text() == "8192\n"
    assert attribute.writes == 2


def test_an_exchange_writes_nothing_when_the_value_holds(attribute: FileAttribute, root: Root) -> None:
    attribute.write(8192)
    attribute.read()
    before = root.path(NAME).stat().st_mtime_ns
    assert attribute.exchange(b"8192\n") is None
    assert (root.path(NAME).stat().st_mtime_ns, attribute.writes) == (before, 1)


def test_an_exchange_that_cannot_be_made_leaves_it_to_a_closer_look(attribute: FileAttribute) -> None:
    assert attribute.exchange(b"8192\n") is None
    assert attribute.writes == 0


# -- devices that are replaced -------------------------------------------------------------------------------


@pytest.fixture
def bound(root: Root) -> Iterator[FileAttribute]:
    """An attribute that knows which device it belongs to."""
    attribute = FileAttribute(root, NAME, identity=identify_directory(root, "/sys/block/disk"))
    yield attribute
    attribute.close()


def replace_device(root: Root) -> None:
    """Another device under the same name; the old one's directory stays, so that no inode is used twice."""
    disk = root.path("/sys/block/disk")
    disk.rename(disk.with_name("old"))
    root.path(NAME).parent.mkdir(parents=True)
    root.path(NAME).write_text("256\n")
    (disk.with_name("old") / "queue/read_ahead_kb").unlink()


def test_another_device_under_the_same_name_is_not_read_as_ours(bound: FileAttribute, root: Root) -> None:
    assert bound.read() == value(128)
    replace_device(root)
    reading = bound.read()
    assert reading.kind is ReadingKind.ABSENT
    assert "another one has its name" in reading.reason
    assert not bound.holds(256)


@pytest.mark.parametrize("opened", [True, False])
def test_another_device_under_the_same_name_is_not_written(
    opened: bool,  # noqa: FBT001 - a parameter
    bound: FileAttribute,
    root: Root,
) -> None:
    if opened:
        bound.write(128)
    replace_device(root)
    with pytest.raises(OSError, match="another one has its name"):
        bound.write(8192)
    assert root.path(NAME).read_text() == "256\n"


# -- a real kernel that refuses ------------------------------------------------------------------------------


def real(path: Path) -> FileAttribute:
    return FileAttribute(Root(), str(path), identity=NOWHERE)


def test_a_file_that_cannot_be_read_is_failed_with_the_kernels_word() -> None:
    attribute = real(Path("/proc/self/mem"))  # EIO at offset 0: nothing is mapped there
    assert attribute.read() == Reading(
        ReadingKind.FAILED, reason="read /proc/self/mem: Input/output error (EIO)"
    )
    assert not attribute.holds(0)
    attribute.close()


def test_a_write_that_the_kernel_calls_invalid_is_blocked(tmp_path: Path) -> None:
    attribute = real(Path("/proc/self/oom_score_adj"))
    with pytest.raises(OSError, match="Invalid argument") as caught:
        attribute.write(5000)  # -1000 to 1000
    assert verdict_of(caught.value) is Verdict.BLOCKED
    attribute.close()


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Mount a directory over itself, read-only."""
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


@pytest.mark.root
def test_a_read_only_file_system_is_blocked(root: Root, fast_path: Path) -> None:
    attribute = FileAttribute(root, NAME, identity=NOWHERE)
    with read_only(fast_path):
        with pytest.raises(OSError, match="Read-only file system") as caught:
            attribute.write(1)
        assert verdict_of(caught.value) is Verdict.BLOCKED
        assert attribute.read() == value(128)
        attribute.close()


@pytest.mark.root
def test_an_immutable_file_is_blocked(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_text("128\n")
    if subprocess.run(["chattr", "+i", path], check=False, capture_output=True).returncode:
        pytest.skip("this file system has no immutable files")
    attribute = real(path)
    try:
        with pytest.raises(PermissionError) as caught:
            attribute.write(1)
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    assert verdict_of(caught.value) is Verdict.BLOCKED
    attribute.close()


@pytest.mark.root
@pytest.mark.real_kernel
def test_a_loop_devices_read_ahead_is_rounded_to_pages_by_the_real_kernel() -> None:
    name = "/sys/block/loop3/queue/read_ahead_kb"
    if not Path(name).exists():
        pytest.skip("no loop3 here")
    attribute = FileAttribute(Root(), name, identity=identify_directory(Root(), "/sys/block/loop3"))
    before = attribute.read().value
    assert isinstance(before, int)
    page = os.sysconf("SC_PAGE_SIZE") // 1024
    try:
        attribute.write(256 + page // 2)
        assert attribute.read() == value(256)
        assert attribute.holds(256)
        with pytest.raises(OSError, match="Invalid argument"):
            attribute.write("many")
    finally:
        attribute.write(before)
        attribute.close()


# -- descriptors ---------------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


def test_closing_releases_both_descriptors_and_using_opens_them_again(attribute: FileAttribute) -> None:
    before = descriptors()
    attribute.read()
    attribute.write(1)
    assert descriptors() == before + 2
    attribute.close()
    attribute.close()
    assert descriptors() == before
    assert attribute.read() == value(1)


def test_failing_leaves_no_descriptor_behind(bound: FileAttribute, root: Root) -> None:
    before = descriptors()
    replace_device(root)
    for _ in range(50):
        bound.read()
        bound.holds(1)
        with pytest.raises(OSError, match="another one"):
            bound.write(1)
    assert descriptors() == before


def test_reading_and_sweeping_open_nothing_anew(attribute: FileAttribute) -> None:
    attribute.read()
    attribute.write(128)
    before = descriptors()
    for _ in range(100):
        attribute.read()
        attribute.holds(128)
        attribute.write(128)
    assert descriptors() == before


# -- made again, and never there -----------------------------------------------------------------------------


def test_each_reading_of_configfs_is_asked_of_the_kernel(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor of configfs repeats its first answer for ever; so every reading opens one of its own."""
    name = "/sys/kernel/config/rdma_cm/rocep1s0f0/ports/1/default_roce_mode"
    root.path(name).parent.mkdir(parents=True)
    root.path(name).write_text("RoCE v2\n")
    before = len(list(Path("/proc/self/fd").iterdir()))
    opened: list[str] = []
    real_open = os.open

    def counting(path: str, flags: int) -> int:
        opened.append(str(path))
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", counting)
    attribute = FileAttribute(root, name, identity=NOWHERE, codec="text")
    assert [attribute.read(), attribute.holds("RoCE v2"), attribute.exchange(b"RoCE v2\n")] == [
        value("RoCE v2"),
        True,
        None,
    ]
    assert len(opened) >= 3
    monkeypatch.undo()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("codec", ["integer", "text"])
def test_an_attribute_can_be_made_again_from_what_is_stored_of_it(codec: str, root: Root) -> None:
    made = FileAttribute(root, NAME, identity=NOWHERE, codec="text" if codec == "text" else "integer")
    again = reopen(root, made.kind, made.location, made.identity, made.makes)
    assert again.read() == made.read()
    assert (again.kind, again.watched) == (made.kind, made.watched)
    made.close()
    again.close()


def test_what_cannot_be_there_says_why_and_cannot_be_written() -> None:
    attribute = FixedAttribute(NAME, Reading(ReadingKind.ABSENT, reason="cpu3 is offline"))
    assert attribute.read().reason == "cpu3 is offline"
    assert not attribute.holds(1)
    assert attribute.exchange(b"1\n") is None
    with pytest.raises(OSError, match="cannot be set to 1") as caught:
        attribute.write(1)
    assert verdict_of(caught.value) is Verdict.ABSENT
