"""The roce area, first part: one value in configfs, with the directory as a planned write."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from machines import held
from sparktune.kernel.fabric import read_fabric
from sparktune.model import Noticed, Verdict
from sparktune.simulate import tree
from sparktune.tunables import rdma_cm
from sparktune.tunables.roce import AREA_ROCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from machines import Machine
    from sparktune.tunables.area import Discovery

CM = "/sys/kernel/config/rdma_cm"
FIRST = "roce.rocep1s0f0.default_roce_mode"
MODE = f"{CM}/rocep1s0f0/ports/1/default_roce_mode"
V1 = 'roce.default_roce_mode = "IB/RoCE v1"'


def found(machine: Machine, config: str = "") -> Discovery:
    """What the part on RDMA-CM declares."""
    tuner = machine.start(config)
    return rdma_cm.declare(tuner.host, tuner.settings, read_fabric(machine.root))


def remove_device(machine: Machine, name: str) -> str:
    """Take an RDMA device out; what is needed to put it in again."""
    directory = machine.root.resolve(f"/sys/class/infiniband/{name}")
    machine.root.path(f"/sys/class/infiniband/{name}").unlink()
    shutil.move(machine.root.path(directory), machine.directory / name)
    return directory


def add_device(machine: Machine, name: str, directory: str) -> None:
    """Put it in again: new inodes, as the kernel would give it."""
    shutil.copytree(machine.directory / name, machine.root.path(directory), symlinks=True)
    link = machine.root.path(f"/sys/class/infiniband/{name}")
    link.symlink_to(machine.root.path(directory))


# -- what is there -------------------------------------------------------------------------------------------


def test_every_port_of_every_device_has_its_mode(machine: Machine) -> None:
    assert [tunable.id for tunable in found(machine).tunables] == [
        f"roce.{name}.default_roce_mode"
        for name in ("roceP2p1s0f0", "roceP2p1s0f1", "rocep1s0f0", "rocep1s0f1")
    ]


def test_globs_select_devices(machine: Machine) -> None:
    tunables = found(machine, 'roce.devices = ["roceP2*"]').tunables
    assert {tunable.device for tunable in tunables} == {"roceP2p1s0f0", "roceP2p1s0f1"}


def test_a_second_port_has_an_id_of_its_own(machine: Machine) -> None:
    port = f"{machine.root.resolve('/sys/class/infiniband/rocep1s0f0')}/ports/2"
    machine.root.path(port).mkdir()
    machine.write(f"{port}/link_layer", "Ethernet")
    ids = [tunable.id for tunable in found(machine).tunables if tunable.device == "rocep1s0f0"]
    assert ids == [FIRST, f"{FIRST}_2"]


def test_an_infiniband_port_has_no_roce_mode(machine: Machine) -> None:
    for name in machine.root.names("/sys/class/infiniband"):
        machine.write(f"/sys/class/infiniband/{name}/ports/1/link_layer", "InfiniBand")
    discovery = found(machine)
    assert (discovery.tunables, discovery.absent) == ((), "no port of an RDMA device is Ethernet")


def test_without_a_cable_the_area_is_absent_and_says_that_this_is_normal(
    build_machine: Callable[..., Machine],
) -> None:
    tuner = build_machine("no-cable").start()
    discovery = AREA_ROCE.discover(tuner.host, tuner.settings)
    assert discovery.tunables == ()
    assert "DGX OS powers the ConnectX-7 down while no QSFP cable is plugged in" in discovery.absent


def test_without_rdma_cm_the_area_is_absent_with_what_to_do(machine: Machine) -> None:
    machine.root.path(CM).rmdir()
    assert "modprobe rdma_cm" in found(machine).absent


def test_without_configfs_the_area_is_absent(machine: Machine) -> None:
    shutil.rmtree(machine.root.path("/sys/kernel/config"))
    assert found(machine).absent == "this kernel has no configfs"


def test_globs_that_match_nothing_are_absent_with_the_names_there_are(machine: Machine) -> None:
    absent = found(machine, 'roce.devices = ["mlx5_*"]').absent
    assert absent.startswith("none of roceP2p1s0f0, ")
    assert absent.endswith("is selected by roce.devices")


# -- the planned directory -----------------------------------------------------------------------------------


def test_the_plan_shows_the_directory_and_makes_none(machine: Machine) -> None:
    tuner = machine.start('roce.devices = ["rocep1s0f0"]\n' + V1)
    (planned,) = tuner.engine.plan(["roce"])
    assert (planned.before, planned.found) == ((f"mkdir {CM}/rocep1s0f0",), "(not set)")
    assert machine.root.names(CM) == ()


def test_looking_without_healing_makes_no_directory(machine: Machine) -> None:
    tuner = machine.start('mode = "report"')
    tuner.engine.apply(None, Noticed.REQUEST)
    tuner.engine.sweep(Noticed.SWEEP)
    assert machine.root.names(CM) == ()
    assert held(tuner, FIRST).verdict is Verdict.DRIFT


def test_applying_makes_it_and_writes_what_differs(machine: Machine) -> None:
    tuner = machine.tune(V1)
    assert machine.read(MODE) == "IB/RoCE v1"
    one = held(tuner, FIRST)
    original = tuner.engine.originals.find(one.key)
    assert original is not None
    assert (original.value, original.makes, original.ours) == (
        "RoCE v2",
        f"{CM}/rocep1s0f0",
        ("IB/RoCE v1",),
    )


def test_where_the_kernels_default_is_wanted_nothing_is_written_into_it(machine: Machine) -> None:
    tuner = machine.tune()
    attribute = held(tuner, FIRST).tunable.attribute
    assert held(tuner, FIRST).verdict is Verdict.OK
    assert getattr(attribute, "writes", None) == 0


def test_a_directory_that_somebody_removed_is_made_again(machine: Machine) -> None:
    tuner = machine.tune(V1)
    shutil.rmtree(machine.root.path(f"{CM}/rocep1s0f0"))
    (drift,) = tuner.engine.sweep(Noticed.SWEEP)
    assert (drift.tunable, drift.found, machine.read(MODE)) == (FIRST, "(not set)", "IB/RoCE v1")
    tuner.engine.restore(["roce"], by="root")
    assert machine.root.names(CM) == ()


def test_a_directory_that_cannot_be_made_is_told_and_made_later(machine: Machine) -> None:
    machine.root.path(CM).rmdir()
    machine.root.path(CM).write_text("")  # no directory: mkdir gives ENOTDIR
    tuner = machine.tune(V1)
    one = held(tuner, FIRST)
    assert one.verdict is Verdict.ABSENT
    machine.root.path(CM).unlink()
    machine.root.path(CM).mkdir()
    tuner.engine.sweep(Noticed.SWEEP)
    assert (one.verdict, machine.read(MODE)) == (Verdict.OK, "IB/RoCE v1")


@pytest.mark.parametrize(
    "content", [b"", b"\0\x01", b"RoCE\nv2", "RoCE v\u00b2\n".encode(), b"x" * (1 << 20)]
)
def test_a_mode_that_is_no_text_is_failed_and_not_written(content: bytes, machine: Machine) -> None:
    machine.root.path(MODE).parent.mkdir(parents=True)
    machine.root.path(MODE).write_bytes(content)
    assert held(machine.tune(V1), FIRST).verdict is Verdict.FAILED
    assert machine.root.path(MODE).read_bytes() == content


# -- devices that come and go --------------------------------------------------------------------------------


def test_a_device_that_left_is_absent_and_no_directory_is_made_for_it(machine: Machine) -> None:
    tuner = machine.start(V1)
    remove_device(machine, "rocep1s0f0")
    tuner.engine.apply(None, Noticed.START)
    assert held(tuner, FIRST).verdict is Verdict.ABSENT
    assert "rocep1s0f0" not in machine.root.names(CM)


def test_a_device_that_came_back_has_a_new_original(machine: Machine) -> None:
    tuner = machine.tune(V1)
    before = held(tuner, FIRST).key
    directory = remove_device(machine, "rocep1s0f0")
    tuner.discover(["roce"])
    shutil.rmtree(machine.root.path(f"{CM}/rocep1s0f0"))  # the value dies with the device
    add_device(machine, "rocep1s0f0", directory)
    (adoption,) = tuner.discover(["roce"])
    assert FIRST in [one.tunable.id for one in adoption.added]
    tuner.engine.apply([FIRST], Noticed.UDEV)
    assert held(tuner, FIRST).key != before
    assert tuner.engine.originals.find(held(tuner, FIRST).key) is not None


def test_a_device_replaced_without_an_event_shows_in_the_inventory(machine: Machine) -> None:
    tuner = machine.start()
    directory = remove_device(machine, "rocep1s0f0")
    add_device(machine, "rocep1s0f0", directory)
    assert tuner.changed_areas() == ["roce"]


def test_rdma_cm_that_is_loaded_later_shows_in_the_inventory(machine: Machine) -> None:
    machine.root.path(CM).rmdir()
    tuner = machine.start()
    machine.root.path(CM).mkdir()
    assert tuner.changed_areas() == ["roce"]
    tuner.discover(["roce"])
    assert FIRST in tuner.engine.held


def test_a_carrier_that_goes_changes_no_mode(machine: Machine) -> None:
    tuner = machine.tune(V1)
    tree.set_carrier(machine.directory, "enp1s0f0np0", up=False)
    tuner.engine.sweep(Noticed.SWEEP)
    assert held(tuner, FIRST).verdict is Verdict.OK
    assert machine.read(MODE) == "IB/RoCE v1"


# -- what is said --------------------------------------------------------------------------------------------


def test_nothing_that_is_said_promises_anything_for_nccl(machine: Machine) -> None:
    tuner = machine.tune()
    views = [one for one in tuner.engine.held.values() if one.tunable.area == "roce"]
    said = AREA_ROCE.say(tuner.host, tuner.settings, views)
    assert said.startswith("RDMA-CM default mode RoCE v2 on 4 of 4 ports (NCCL does not ask it); ")
    modes = [one for one in views if one.tunable.key == "roce.default_roce_mode"]
    assert all("NCCL is not affected" in one.tunable.risk for one in modes)


def test_the_state_of_each_port_is_said_in_few_words(machine: Machine) -> None:
    tuner = machine.tune()
    views = [one for one in tuner.engine.held.values() if one.tunable.area == "roce"]
    said = AREA_ROCE.say(tuner.host, tuner.settings, views)
    assert said.endswith("; p0: both up, 200 Gb/s, RDMA MTU 1024, GID index 3 and 3; p1: no cable")
