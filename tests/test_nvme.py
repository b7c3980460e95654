"""The nvme area: which disks, what stands on them, what serves a path, what the kernel makes of a value."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines import NVME, READ_AHEAD, held
from sparktune.kernel.mounts import device_of
from sparktune.kernel.root import Root
from sparktune.model import Noticed, Verdict
from sparktune.simulate import tree
from sparktune.tunables.nvme import AREA_NVME, discover, kernel_value, stacked_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from machines import Machine
    from sparktune.tunables.area import Discovery

MOUNTS = "/proc/self/mountinfo"


def found(machine: Machine, config: str = "") -> Discovery:
    tuner = machine.start(config)
    return discover(tuner.host, tuner.settings)


def devices(machine: Machine, config: str = "") -> list[str]:
    return [tunable.device for tunable in found(machine, config).tunables]


def mount(machine: Machine, number: str, point: str) -> None:
    """Add a line to the mount table, as the kernel writes it."""
    path = machine.root.path(MOUNTS)
    with path.open("a") as table:
        table.write(f"900 1 {number} / {point} rw - ext4 /dev/x rw\n")


def stack(machine: Machine, upper: str, lower: str) -> None:
    """Put a device on top of another in `holders`."""
    machine.root.path(f"/sys/block/{lower}/holders/{upper}").mkdir(parents=True)


# -- which disks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        ('["nvme*"]', ["nvme0n1", "nvme1n1"]),
        ('["nvme0*"]', ["nvme0n1"]),
        ('["loop1", "nvme1n1"]', ["loop1", "nvme1n1"]),
        ('["*"]', ["loop0", "loop1", "nvme0n1", "nvme1n1", "zram0"]),
        ('["NVME*"]', []),
        ('["nvme?n[1-4]"]', ["nvme0n1", "nvme1n1"]),
        ("[]", []),
    ],
)
def test_the_disks_are_those_whose_kernel_name_matches(
    globs: str, expected: list[str], build_machine: Callable[..., Machine]
) -> None:
    assert devices(build_machine("two-disks"), f"nvme.devices = {globs}") == expected


def test_no_disk_that_matches_is_absent_and_not_ok(machine: Machine) -> None:
    discovery = found(machine, 'nvme.devices = ["sd*", "vd*"]')
    assert (discovery.tunables, discovery.absent) == ((), "no disk here matches sd*, vd*")


def test_no_glob_at_all_is_absent(machine: Machine) -> None:
    assert found(machine, "nvme.devices = []").absent == "no disk here matches an empty list"


def test_the_hidden_paths_of_a_multipath_disk_are_skipped(build_machine: Callable[..., Machine]) -> None:
    machine = build_machine("multipath")
    hidden = [name for name in machine.root.names("/sys/block") if "c" in name]
    assert hidden
    assert devices(machine) == ["nvme0n1"]
    machine.tune()
    assert [machine.read(f"/sys/block/{name}/queue/read_ahead_kb") for name in hidden] == ["128"] * len(
        hidden
    )


def test_partitions_are_no_disks(machine: Machine) -> None:
    assert devices(machine, 'nvme.devices = ["nvme0n1*"]') == ["nvme0n1"]


# -- what stands on them -------------------------------------------------------------------------------------


def test_luks_and_lvm_on_a_partition_are_found_at_any_depth(build_machine: Callable[..., Machine]) -> None:
    assert devices(build_machine("lvm-luks")) == ["nvme0n1", "dm-0", "dm-1", "dm-2"]


def test_all_of_the_stack_is_written(build_machine: Callable[..., Machine]) -> None:
    machine = build_machine("lvm-luks")
    machine.tune()
    names = ("nvme0n1", "dm-0", "dm-1", "dm-2")
    assert {machine.read(f"/sys/block/{name}/queue/read_ahead_kb") for name in names} == {"8192"}


def test_stacked_false_leaves_what_stands_on_a_disk_alone(build_machine: Callable[..., Machine]) -> None:
    assert devices(build_machine("lvm-luks"), "nvme.stacked = false") == ["nvme0n1"]


def test_an_md_device_over_two_disks_is_held_once(build_machine: Callable[..., Machine]) -> None:
    machine = build_machine("two-disks")
    for disk in ("nvme0n1", "nvme1n1"):
        stack(machine, "md127", disk)
    assert devices(machine) == ["nvme0n1", "nvme1n1", "md127"]


def test_a_loop_of_holders_ends(machine: Machine) -> None:
    stack(machine, "dm-0", "nvme0n1")
    stack(machine, "dm-1", "dm-0")
    stack(machine, "dm-0", "dm-1")
    assert list(stacked_on(machine.root, "nvme0n1")) == ["dm-0", "dm-1"]


@pytest.mark.parametrize("holder", ["bcache0", "drbd1", "dm-x", "mdadm", "nvme9n1"])
def test_only_device_mapper_and_md_count_as_stacked(holder: str, machine: Machine) -> None:
    stack(machine, holder, "nvme0n1")
    assert devices(machine) == ["nvme0n1"]


def test_a_holder_that_vanished_meanwhile_is_absent(machine: Machine) -> None:
    stack(machine, "dm-7", "nvme0n1")
    assert held(machine.tune(), "nvme.dm-7.read_ahead_kb").verdict is Verdict.ABSENT


# -- what serves a path --------------------------------------------------------------------------------------


def test_a_path_on_a_logical_volume_is_that_volume(build_machine: Callable[..., Machine]) -> None:
    config = 'nvme.devices = []\nnvme.paths = ["/models"]'
    assert devices(build_machine("lvm-luks"), config) == ["dm-2"]


def test_a_path_on_a_partition_is_its_disk(machine: Machine) -> None:
    assert devices(machine, 'nvme.devices = []\nnvme.paths = ["/boot/efi/models"]') == ["nvme0n1"]


def test_a_path_on_a_disk_that_is_selected_anyway_is_held_once(machine: Machine) -> None:
    assert devices(machine, 'nvme.paths = ["/", "/home", "/srv/models"]') == ["nvme0n1"]


def test_a_path_on_nfs_is_its_backing_device(machine: Machine) -> None:
    tree.add_nfs(machine.directory, "/models", 52)
    tuner = machine.tune('nvme.paths = ["/models/llama"]')
    one = held(tuner, "nvme.bdi-0:52.read_ahead_kb")
    assert (one.verdict, machine.read("/sys/class/bdi/0:52/read_ahead_kb")) == (Verdict.OK, "8192")
    tuner.engine.restore(None, by="root")
    assert machine.read("/sys/class/bdi/0:52/read_ahead_kb") == "128"


def test_an_nfs_mount_that_comes_later_is_noticed(machine: Machine) -> None:
    tuner = machine.start('nvme.paths = ["/models"]')
    tree.add_nfs(machine.directory, "/models", 52)
    assert tuner.changed_areas() == ["nvme"]
    tuner.discover(["nvme"])
    assert "nvme.bdi-0:52.read_ahead_kb" in tuner.engine.held


def test_a_path_in_memory_has_no_read_ahead_and_a_note_says_so(machine: Machine) -> None:
    discovery = found(machine, 'nvme.paths = ["/run/models"]')
    assert [tunable.device for tunable in discovery.tunables] == ["nvme0n1"]
    (note,) = discovery.notes
    assert note.level == "warning"
    assert note.says.startswith("/run/models: its file system (0:25) has no read-ahead of its own")


def test_without_a_mount_table_a_path_is_a_note(machine: Machine) -> None:
    machine.root.path(MOUNTS).unlink()
    discovery = found(machine, 'nvme.paths = ["/models"]')
    assert [note.says for note in discovery.notes] == ["/models: not mounted here"]


def test_the_mount_table_of_a_machine_full_of_containers_is_read_to_its_end(machine: Machine) -> None:
    for number in range(2000):
        mount(machine, "0:99", f"/var/lib/containers/{number:04}/merged")
    assert machine.root.path(MOUNTS).stat().st_size > 100_000
    tree.add_nfs(machine.directory, "/models", 52)
    assert device_of(machine.root, "/models/llama") == "0:52"


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/models", "8:1"),
        ("/models/llama", "8:1"),
        ("/modelsother", "259:2"),
        ("/models/old/x", "8:2"),
        ("/mnt/two words/x", "8:3"),
        ("/tab\there", "8:4"),
        ("/", "259:2"),
    ],
)
def test_the_longest_mount_point_above_a_path_counts(path: str, number: str, machine: Machine) -> None:
    mount(machine, "8:1", "/models")
    mount(machine, "8:2", "/models/old")
    mount(machine, "8:3", r"/mnt/two\040words")
    mount(machine, "8:4", r"/tab\011here")
    assert device_of(machine.root, path) == number


def test_the_later_of_two_mounts_on_one_point_counts(machine: Machine) -> None:
    mount(machine, "8:1", "/models")
    mount(machine, "8:2", "/models")
    assert device_of(machine.root, "/models") == "8:2"


def test_a_link_is_followed_to_what_serves_it(machine: Machine) -> None:
    mount(machine, "8:1", "/mnt/big")
    machine.root.path("/mnt/big/llama").mkdir(parents=True)
    machine.root.path("/models").symlink_to("mnt/big/llama")
    assert device_of(machine.root, "/models") == "8:1"


def test_a_link_that_leads_to_itself_is_the_file_system_it_lies_on(machine: Machine) -> None:
    machine.root.path("/models").symlink_to("models")
    assert device_of(machine.root, "/models/x") == "259:2"
    assert machine.root.resolve("/models").startswith("/")


def test_damaged_lines_of_the_mount_table_are_skipped(machine: Machine) -> None:
    path = machine.root.path(MOUNTS)
    path.write_bytes(
        b"\n5\n1 2 3\n\xff\xfe \0 x\n7 1 8:\0 / /home rw\n8 1 x / /home rw\n"
        + path.read_bytes()
        + b"9 9 8:9 /"
    )
    assert device_of(machine.root, "/home") == "259:2"


@given(st.binary(max_size=400))
def test_no_mount_table_at_all_is_a_crash(table: bytes) -> None:

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "proc/self/mountinfo"
        path.parent.mkdir(parents=True)
        path.write_bytes(table)
        number = device_of(Root(Path(directory)), "/models")
    assert number is None or isinstance(number, str)


# -- what the kernel makes of a value ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "kept"),
    [(8192, 8192), (8200, 8192), (100, 64), (64, 64), (63, 0), (0, 0), (65536, 65536), (65535, 65472)],
)
def test_a_64k_kernel_counts_in_its_pages(
    asked: int, kept: int, build_machine: Callable[..., Machine]
) -> None:
    (tunable,) = found(build_machine("pages-64k"), f"nvme.read_ahead_kb = {asked}").tunables
    assert tunable.wanted == kept


@pytest.mark.parametrize(("asked", "kept"), [(8192, 8192), (8193, 8192), (7, 4), (3, 0)])
def test_a_4k_kernel_counts_in_its_pages(asked: int, kept: int, machine: Machine) -> None:
    (tunable,) = found(machine, f"nvme.read_ahead_kb = {asked}").tunables
    assert tunable.wanted == kept


def test_a_value_that_is_rounded_is_told(build_machine: Callable[..., Machine]) -> None:
    (note,) = found(build_machine("pages-64k"), "nvme.read_ahead_kb = 100").notes
    assert (note.level, note.says) == (
        "info",
        "this kernel counts read-ahead in pages of 64 KiB: 100 becomes 64",
    )


@given(st.integers(0, 65536), st.sampled_from([4, 16, 64]))
def test_what_the_kernel_keeps_is_the_most_whole_pages_that_fit(asked: int, page: int) -> None:
    kept = kernel_value(asked, page)
    assert kept % page == 0
    assert 0 <= asked - kept < page


@pytest.mark.parametrize(("asked", "levels"), [(16384, []), (16388, ["warning"]), (65536, ["warning"])])
def test_large_values_are_a_warning_that_says_what_they_cost(
    asked: int, levels: list[str], machine: Machine
) -> None:
    notes = found(machine, f"nvme.read_ahead_kb = {asked}").notes
    assert [note.level for note in notes] == levels
    assert all("50 to 500 times slower" in note.says for note in notes)


# -- the same value behind another name ----------------------------------------------------------------------


def test_the_alias_of_each_disk_is_watched_too(machine: Machine) -> None:
    (tunable,) = found(machine).tunables
    number = machine.read("/sys/block/nvme0n1/dev")
    assert tunable.attribute.watched == (
        machine.root.path(READ_AHEAD),
        machine.root.path(f"/sys/class/bdi/{number}/read_ahead_kb"),
    )


@pytest.mark.parametrize("number", ["", "\0", "1:\0", "x", "../../..", "1:2:3"])
def test_a_device_number_that_is_none_costs_no_more_than_the_alias(number: str, machine: Machine) -> None:
    machine.root.path("/sys/block/nvme0n1/dev").write_text(number)
    one = held(machine.tune())
    assert one.verdict is Verdict.OK
    assert one.tunable.attribute.watched == (machine.root.path(READ_AHEAD),)


def test_a_write_through_the_alias_is_a_drift_of_the_same_tunable(machine: Machine) -> None:
    tuner = machine.tune()
    number = machine.read("/sys/block/nvme0n1/dev")
    machine.write(f"/sys/class/bdi/{number}/read_ahead_kb", "64")
    (drift,) = tuner.engine.sweep(Noticed.SWEEP)
    assert (drift.tunable, machine.read(READ_AHEAD)) == (NVME, "8192")


# -- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"\0\0", "no number"),
        (b"\xff\xfe", "no number"),
        (b"8192 kB\n", "no number"),
        (b"9" * 30, "no number"),
        (b"1" * (1 << 20), "longer than 4096 bytes"),
    ],
)
def test_a_value_that_is_none_is_failed_with_what_is_there(
    content: bytes, reason: str, machine: Machine
) -> None:
    machine.root.path(READ_AHEAD).write_bytes(content)
    tuner = machine.tune()
    one = held(tuner)
    assert one.verdict is Verdict.FAILED
    assert reason in one.reason
    assert machine.root.path(READ_AHEAD).read_bytes() == content
    assert held(tuner, "cpuidle.cpu0.state1.disable").verdict is Verdict.OK


def test_a_disk_without_a_queue_is_absent(machine: Machine) -> None:
    machine.root.path(READ_AHEAD).unlink()
    assert held(machine.tune()).verdict is Verdict.ABSENT


# -- what the status says ------------------------------------------------------------------------------------


def test_the_status_names_the_disks_and_counts_the_rest(build_machine: Callable[..., Machine]) -> None:
    tuner = build_machine("two-disks").tune('nvme.devices = ["*"]')
    views = [one for one in tuner.engine.held.values() if one.tunable.area == "nvme"]
    said = AREA_NVME.say(tuner.host, tuner.settings, views)
    assert said == "read_ahead_kb 8192 on loop0, loop1, nvme0n1, nvme1n1 and 1 more"


def test_the_status_says_when_it_holds_nowhere(machine: Machine) -> None:
    tuner = machine.start()
    views = [one for one in tuner.engine.held.values() if one.tunable.area == "nvme"]
    assert AREA_NVME.say(tuner.host, tuner.settings, views) == "read_ahead_kb 8192 holds nowhere"


# -- what a lost event would have told -----------------------------------------------------------------------


@pytest.mark.parametrize("change", ["added", "removed", "replaced"])
def test_a_change_without_an_event_shows_in_the_inventory(
    change: str, build_machine: Callable[..., Machine]
) -> None:
    machine = build_machine("two-disks")
    tuner = machine.start()
    assert tuner.changed_areas() == []
    if change == "added":
        tree.add_disk(machine.directory, "nvme2n1")
    else:
        tree.remove_disk(machine.directory, "nvme1n1")
    if change == "replaced":
        tree.add_disk(machine.directory, "nvme1n1")
    assert tuner.changed_areas() == ["nvme"]
