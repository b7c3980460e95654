"""Which appearance of a device an original belongs to."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sparktune.kernel.identity import identify_directory, identify_disk, is_still_there, was_replaced
from sparktune.kernel.root import Root
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from machines import Machine

DISK = "/sys/block/nvme0n1"


def test_a_disk_is_known_by_its_place_in_the_hardware(machine: Machine) -> None:
    path, instance = identify_disk(machine.root, DISK)
    assert path == "/sys/devices/pci0004:00/0004:00:00.0/0004:01:00.0/nvme/nvme0/nvme0n1"
    assert instance == f"diskseq:{DISK}/diskseq={machine.read(f'{DISK}/diskseq')}"


def test_a_disk_that_was_added_again_is_another_instance_at_the_same_place(machine: Machine) -> None:
    before = identify_disk(machine.root, DISK)
    assert is_still_there(machine.root, before[1])
    tree.remove_disk(machine.directory, "nvme0n1")
    assert not is_still_there(machine.root, before[1])
    tree.add_disk(machine.directory, "nvme0n1")
    after = identify_disk(machine.root, DISK)
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert not is_still_there(machine.root, before[1])
    assert is_still_there(machine.root, after[1])


def test_without_diskseq_a_disk_is_known_by_its_inode(machine: Machine) -> None:
    machine.root.path(f"{DISK}/diskseq").unlink()
    path, instance = identify_disk(machine.root, DISK)
    assert instance == f"inode:{DISK}={machine.root.path(path).stat().st_ino}"
    assert is_still_there(machine.root, instance)


@pytest.mark.parametrize("link", [DISK, "/sys/class/infiniband/rocep1s0f0"])
def test_a_device_whose_link_is_gone_has_left_though_its_directory_is_still_there(
    link: str, machine: Machine
) -> None:
    path, instance = (identify_disk if link == DISK else identify_directory)(machine.root, link)
    assert is_still_there(machine.root, instance)
    machine.root.path(link).unlink()
    assert machine.root.exists(path)
    assert not is_still_there(machine.root, instance)


def test_two_disks_are_two_instances(build_machine: Callable[..., Machine]) -> None:
    machine = build_machine("two-disks")
    first, second = (identify_disk(machine.root, f"/sys/block/{name}") for name in ("nvme0n1", "nvme1n1"))
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_a_cpu_that_was_offline_is_the_same_instance(machine: Machine) -> None:
    before = identify_directory(machine.root, "/sys/devices/system/cpu/cpu3")
    for online in (False, True):
        tree.set_cpu_online(machine.directory, 3, online=online)
    assert identify_directory(machine.root, "/sys/devices/system/cpu/cpu3") == before


def test_what_was_gone_when_it_was_identified_is_never_there(machine: Machine) -> None:
    for identity in (identify_directory(machine.root, "/sys/none"), identify_disk(machine.root, "/sys/none")):
        assert not is_still_there(machine.root, identity[1])


def test_a_diskseq_that_vanishes_while_it_is_read_is_never_there(machine: Machine) -> None:
    assert not is_still_there(machine.root, "diskseq:/sys/none/diskseq=None")


@pytest.mark.parametrize(
    "instance", ["", "x", "diskseq:", "inode:", "inode:/sys", "ifindex:lo=1", "inode:\0=1"]
)
def test_an_instance_nobody_made_is_never_there(instance: str, machine: Machine) -> None:
    assert not is_still_there(machine.root, instance)


def test_only_a_known_kind_of_instance_can_have_been_replaced(machine: Machine) -> None:
    assert not was_replaced(machine.root, "")
    assert not was_replaced(machine.root, "bench/1")
    assert was_replaced(machine.root, "inode:/sys/none=5")
    assert not was_replaced(machine.root, identify_disk(machine.root, DISK)[1])


@pytest.mark.root
@pytest.mark.real_kernel
def test_a_loop_device_keeps_its_identity_when_a_file_is_attached(tmp_path: Path) -> None:
    """Its diskseq changes then, and its queue with our value stays."""
    free = subprocess.run(["losetup", "--find"], check=True, capture_output=True, text=True).stdout.strip()
    name = f"/sys/block/{Path(free).name}"
    if not Path(name).exists():
        pytest.skip("no free loop device here")
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 1 << 20)
    read_ahead = Path(f"{name}/queue/read_ahead_kb")
    original = read_ahead.read_text()
    before, sequence = identify_disk(Root(), name), Root().read(f"{name}/diskseq")
    subprocess.run(["losetup", free, image], check=True)
    try:
        if sequence is not None:
            assert Root().read(f"{name}/diskseq") != sequence
        assert identify_disk(Root(), name) == before
        assert is_still_there(Root(), before[1])
    finally:
        subprocess.run(["losetup", "--detach", free], check=True)
        read_ahead.write_text(original)  # some kernels raise it when a file is attached
