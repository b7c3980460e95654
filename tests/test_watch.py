"""Who wrote to which file: fanotify with the pid, inotify without, and what becomes of lost events."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

import children
from machines import NVME, READ_AHEAD, held
from sparktune import watches as watches_module
from sparktune.kernel import watch as watch_module
from sparktune.kernel.watch import FanotifyWatch, InotifyWatch, Watch, WriteEvent, open_watch
from sparktune.model import Noticed
from sparktune.simulate import tree
from sparktune.watches import Watches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from machines import Machine

NOBODY = 65534


def fanotify() -> FanotifyWatch:
    try:
        return FanotifyWatch()
    except OSError as error:
        pytest.skip(f"no fanotify here: {error}")


@pytest.fixture(params=["fanotify", "inotify"])
def watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    opened: Watch = fanotify() if request.param == "fanotify" else InotifyWatch()
    yield opened
    opened.close()


@pytest.fixture
def file(fast_path: Path) -> Path:
    path = fast_path / "value"
    path.write_text("128\n")
    return path


def events(watch: Watch) -> list[WriteEvent]:
    """What has queued up; waits for the first of them."""
    select.select([watch.fileno()], [], [], 5)
    found = list(watch.read())
    for event in found:
        event.close()
    return found


def write(path: Path, text: str = "1") -> None:
    """Somebody else writes, once."""

    def write_once() -> int:
        descriptor = os.open(path, os.O_WRONLY)
        return 0 if os.write(descriptor, text.encode()) else 1

    assert children.run(write_once) == 0


# -- both kinds ----------------------------------------------------------------------------------------------


def test_a_write_is_seen_with_the_inode(watch: Watch, file: Path) -> None:
    inode = watch.add(file)
    assert inode == (file.stat().st_dev, file.stat().st_ino)
    write(file)
    assert {event.inode for event in events(watch)} == {inode}


def test_a_write_through_another_name_is_seen(watch: Watch, file: Path) -> None:
    inode = watch.add(file)
    alias = file.with_name("alias")
    alias.hardlink_to(file)
    write(alias)
    assert {event.inode for event in events(watch)} == {inode}


def test_reading_is_no_event(watch: Watch, file: Path) -> None:
    watch.add(file)
    file.read_text()
    assert list(watch.read()) == []


def test_nothing_to_read_does_not_wait(watch: Watch) -> None:
    assert list(watch.read()) == []


def test_what_is_no_longer_watched_is_not_seen(watch: Watch, file: Path) -> None:
    inode = watch.add(file)
    watch.remove(file, inode)
    write(file)
    assert list(watch.read()) == []


def test_watching_twice_gives_each_event_once(watch: Watch, file: Path) -> None:
    watch.add(file)
    watch.add(file)
    write(file)
    assert len(events(watch)) == 1


def test_a_missing_file_cannot_be_watched(watch: Watch, file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        watch.add(file.with_name("missing"))


def test_removing_a_file_that_is_gone_or_replaced_is_no_error(watch: Watch, file: Path) -> None:
    inode = watch.add(file)
    file.unlink()
    watch.remove(file, inode)
    file.write_text("another\n")
    watch.remove(file, inode)
    list(watch.read())


def test_a_file_made_anew_is_another_inode_and_can_be_watched(watch: Watch, file: Path) -> None:
    first = watch.add(file)
    file.rename(file.with_name("old"))
    file.write_text("128\n")
    second = watch.add(file)
    assert first != second
    list(watch.read())
    write(file)
    assert [event.inode for event in events(watch)] == [second]


def test_the_event_of_a_deleted_inotify_file_names_nobody(file: Path) -> None:
    watch = InotifyWatch()
    watch.add(file)
    file.unlink()
    assert events(watch) == []
    watch.close()


def test_a_queue_that_ran_over_says_that_anything_may_have_changed(file: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip(f"the queue takes {limit} events here")
    other = file.with_name("other")
    other.write_text("")
    watch = InotifyWatch()
    watch.add(file)
    watch.add(other)
    descriptors = [os.open(path, os.O_WRONLY) for path in (file, other)]
    for number in range(limit + 10):  # in turns: equal events that follow each other are merged
        os.pwrite(descriptors[number % 2], b"1", 0)
    seen = [event.inode for _ in range(limit) for event in watch.read()]
    assert seen[-1] is None
    assert len(seen) == limit + 1
    for descriptor in descriptors:
        os.close(descriptor)
    watch.close()


# -- fanotify ------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_fanotify_names_the_writer(file: Path) -> None:
    watch = fanotify()
    watch.add(file)
    with subprocess.Popen(["sh", "-c", f"echo 64 > {file}"]) as shell:
        pid = shell.pid
    assert {event.pid for event in events(watch)} == {pid}
    watch.close()


@pytest.mark.root
def test_fanotify_leaves_out_what_we_write_ourselves(file: Path) -> None:
    watch = fanotify()
    inode = watch.add(file)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    file.write_text("64\n")
    assert events(watch) == []
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above
    write(file)
    assert [event.inode for event in events(watch)] == [inode]
    watch.close()


@pytest.mark.root
def test_the_pidfd_of_an_event_is_the_writers(file: Path) -> None:
    watch = fanotify()
    watch.add(file)
    reading, writing = os.pipe()
    child = children.fork(lambda: children.hold_open(file, b"64\n", writing))
    children.await_word(reading)
    (event,) = list(watch.read())
    if event.pidfd is None:
        pytest.skip("this kernel has no pidfds in fanotify events")
    assert f"Pid:\t{child}\n" in Path(f"/proc/self/fdinfo/{event.pidfd}").read_text()
    event.close()
    children.kill(child)
    os.close(reading)
    os.close(writing)
    watch.close()


@pytest.mark.root
def test_an_event_of_a_writer_that_is_gone_is_an_event_all_the_same(file: Path) -> None:
    watch = fanotify()
    inode = watch.add(file)
    subprocess.run(["sh", "-c", f"echo 64 > {file}"], check=True)
    found = list(watch.read())
    assert {event.inode for event in found} == {inode}
    assert all(event.pidfd is None or event.pidfd < 0 for event in found)
    for event in found:
        event.close()
    watch.close()


@pytest.mark.root
def test_closing_an_event_twice_releases_its_descriptors_once(file: Path) -> None:
    watch = fanotify()
    watch.add(file)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    write(file)
    for event in watch.read():
        event.close()
        event.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above
    watch.close()


@pytest.mark.root
def test_an_event_whose_file_cannot_be_opened_counts_as_an_overflow(file: Path) -> None:
    """The kernel opens the file for us when we read the event, and drops the event when that fails."""

    def starve() -> int:
        watch = FanotifyWatch()
        inode = watch.add(file)
        write(file)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, 4096))
        starved = [event.inode for event in watch.read()]
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        write(file)
        return 0 if starved == [None] and [event.inode for event in watch.read()] == [inode] else 1

    assert children.run(starve) == 0


@pytest.mark.root
@pytest.mark.real_kernel
def test_a_device_that_leaves_before_its_event_is_read_kills_nobody() -> None:
    control = Path("/dev/loop-control")
    if not control.exists():
        pytest.skip("no loop devices here")
    add, remove = 0x4C80, 0x4C81

    descriptor = os.open(control, os.O_RDWR)
    number = fcntl.ioctl(descriptor, add, 77)
    name = Path(f"/sys/block/loop{number}/queue/read_ahead_kb")
    watch = fanotify()
    try:
        inode = watch.add(name)
        write(name, "64\n")
    finally:
        fcntl.ioctl(descriptor, remove, number)
        os.close(descriptor)
    seen = events(watch)
    assert {event.inode for event in seen} <= {None, inode}
    assert seen
    watch.close()


# -- which of them -------------------------------------------------------------------------------------------


@pytest.mark.root
def test_root_gets_fanotify() -> None:
    watch = open_watch()
    assert watch is not None
    assert watch.name == "fanotify+pid"
    watch.close()


@pytest.mark.root
def test_who_may_not_use_fanotify_gets_inotify() -> None:
    def ask() -> int:
        os.setuid(NOBODY)
        watch = open_watch()
        return 0 if watch is not None and watch.name == "inotify" else 1

    assert children.run(ask) == 0


def test_who_may_use_neither_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Watch:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(watch_module, "FanotifyWatch", refuse)
    monkeypatch.setattr(watch_module, "InotifyWatch", refuse)
    assert open_watch() is None


# -- from events to tunables ---------------------------------------------------------------------------------


@pytest.fixture
def watches() -> Iterator[Watches]:
    watches = Watches(structlog.get_logger())
    watches.open()
    yield watches
    watches.close()


def tell(watches: Watches) -> list[str]:
    """The ids of the tunables that were written."""
    found = []
    for event in watches.read():
        found += [one.tunable.id for one in watches.find(event)]
        event.close()
    return list(dict.fromkeys(found))


def shell(text: str) -> None:
    subprocess.run(["sh", "-c", text], check=True)


def test_a_write_is_mapped_to_its_tunable(watches: Watches, machine: Machine) -> None:
    tuner = machine.start()
    watches.synchronise(tuner.engine.held.values())
    shell(f"echo 64 > {machine.root.path(READ_AHEAD)}")
    assert tell(watches) == [NVME]


def test_a_write_through_the_bdi_alias_is_mapped_to_the_same(watches: Watches, machine: Machine) -> None:
    tuner = machine.start()
    watches.synchronise(tuner.engine.held.values())
    number = machine.read("/sys/block/nvme0n1/dev")
    shell(f"echo 64 > {machine.root.path(f'/sys/class/bdi/{number}/read_ahead_kb')}")
    assert tell(watches) == [NVME]


@pytest.mark.root
def test_a_write_of_our_own_is_nobodys(watches: Watches, machine: Machine) -> None:
    tuner = machine.start()
    watches.synchronise(tuner.engine.held.values())
    tuner.engine.apply(None, Noticed.START)
    assert tell(watches) == []


def test_checks_are_not_watched(watches: Watches, machine: Machine) -> None:
    tuner = machine.start()
    watches.synchronise(tuner.engine.held.values())
    shell(f"echo 5 > {machine.root.path('/sys/devices/system/cpu/cpu0/cpuidle/state2/usage')}")
    assert tell(watches) == []


def test_a_burst_over_many_files_finds_all_of_them(watches: Watches, machine: Machine) -> None:
    tuner = machine.start()
    watches.synchronise(tuner.engine.held.values())
    files = machine.root.path("/sys/devices/system/cpu/cpu*/cpuidle/state*/disable")
    shell(f"for file in {files}; do echo 1 > $file; done")
    found = {id_ for _ in range(3) for id_ in tell(watches)}  # one read gives some hundred events
    assert len(found) == 80


def test_a_device_that_came_is_watched_after_the_next_synchronisation(
    watches: Watches, build_machine: Callable[..., Machine]
) -> None:
    machine = build_machine()
    tuner = machine.start()
    watches.synchronise(tuner.engine.held.values())
    tree.add_disk(machine.directory, "nvme1n1")
    tuner.discover(["nvme"])
    watches.synchronise(tuner.engine.held.values())
    shell(f"echo 64 > {machine.root.path('/sys/block/nvme1n1/queue/read_ahead_kb')}")
    assert tell(watches) == ["nvme.nvme1n1.read_ahead_kb"]


def test_what_was_released_is_no_longer_watched(watches: Watches, machine: Machine) -> None:
    tuner = machine.start()
    watches.synchronise(tuner.engine.held.values())
    tuner.reconfigure(machine.effective("nvme.devices = []"))
    tuner.discover()
    watches.synchronise(tuner.engine.held.values())
    shell(f"echo 64 > {machine.root.path(READ_AHEAD)}")
    assert tell(watches) == []


def test_a_device_that_left_and_came_back_is_watched_again(watches: Watches, machine: Machine) -> None:
    tuner = machine.start()
    watches.synchronise(tuner.engine.held.values())
    tree.remove_disk(machine.directory, "nvme0n1")
    tuner.discover(["nvme"])
    watches.synchronise(tuner.engine.held.values())
    tree.add_disk(machine.directory, "nvme0n1")
    tuner.discover(["nvme"])
    watches.synchronise(tuner.engine.held.values())
    tell(watches)
    shell(f"echo 64 > {machine.root.path(READ_AHEAD)}")
    assert tell(watches) == [NVME]
    assert held(tuner).tunable.id == NVME


def test_what_cannot_be_watched_is_left_to_the_sweep(watches: Watches, machine: Machine) -> None:
    tuner = machine.start()
    path = machine.root.path(READ_AHEAD)
    path.unlink()
    path.symlink_to(path.name)  # a loop: no file to watch, no crash
    watches.synchronise(tuner.engine.held.values())
    shell(f"echo 1 > {machine.root.path('/sys/devices/system/cpu/cpu0/cpuidle/state2/disable')}")
    assert tell(watches) == ["cpuidle.cpu0.state2.disable"]


def test_without_any_watch_everything_is_left_to_the_sweep(machine: Machine) -> None:
    watches = Watches(structlog.get_logger())
    watches.synchronise(machine.start().engine.held.values())
    assert (watches.events, list(watches.read())) == ("sweep only", [])
    watches.close()


def test_a_file_of_configfs_is_kept_open_while_it_is_watched(
    watches: Watches, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its inode, and the mark on it, would go with the last one who closes it."""
    monkeypatch.setattr(watches_module, "_FLEETING", str(machine.directory))
    tuner = machine.start()
    path = machine.root.path(READ_AHEAD).resolve()
    before = count_open(path)
    for _ in range(2):
        watches.synchronise(tuner.engine.held.values())
        assert count_open(path) == before + 1
    watches.synchronise([])
    assert count_open(path) == before


def test_a_watched_file_that_is_another_one_by_now_is_noticed(
    watches: Watches, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches_module, "_FLEETING", str(machine.directory))
    states = machine.start().engine.held.values()
    path = machine.root.path("/sys/devices/system/cpu/cpu0/cpuidle/state1/disable")
    watches.synchronise(states)
    assert not watches.are_outdated()
    path.unlink()
    assert watches.are_outdated()
    watches.synchronise(states)  # it is missing
    assert not watches.are_outdated()
    path.write_text("0\n")
    assert watches.are_outdated()
    watches.synchronise(states)
    shell(f"echo 0 > {path}")
    assert tell(watches) == ["cpuidle.cpu0.state1.disable"]


def count_open(path: Path) -> int:
    """How many descriptors of ours are that file."""
    links = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return links.count(path)


def test_the_trigger_is_named_after_the_watch(watches: Watches) -> None:
    expected = Noticed.FANOTIFY if watches.events == "fanotify+pid" else Noticed.INOTIFY
    assert watches.noticed is expected
    watches.close()
    assert watches.events == "sweep only"
