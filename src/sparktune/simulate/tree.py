"""Builds the /sys, /proc and /etc of a simulated machine, and changes them the way a kernel would.

Only ever writes into a directory that is empty or that it built before. What needs a kernel does not happen
by itself: a directory made in `/sys/kernel/config/rdma_cm` stays empty until the attribute writer fills it.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from sparktune.errors import SparktuneError, UsageError
from sparktune.frozen import frozen
from sparktune.simulate import disks, fabric, processors, software
from sparktune.simulate.pci import build_function
from sparktune.simulate.scenarios import SCENARIOS
from sparktune.simulate.variants import MACHINES, Machine
from sparktune.simulate.writer import TreeWriter

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

VARIANTS: Mapping[str, str] = {name: machine.about for name, machine in MACHINES.items()}
"""The machines that can be built, each with a line about it."""

MARKER = ".sparktune-simulated"
"""The file that tells a simulated tree from somebody's directory; it remembers what was built."""


def build(directory: Path, variant: str = "gb10", *, scenario: str = "") -> None:
    """Build a machine in an empty or missing directory, or anew in one that was built before.

    The boot id is a fresh one each time. Files of others in /etc, such as a sparktune.toml, stay.

    Args:
        directory: where.
        variant: one of `VARIANTS`; of no matter if there is a scenario, which brings its machine.
        scenario: one of `SCENARIOS`.

    Raises:
        UsageError: there is no such variant or scenario.
        SparktuneError: the directory holds something else, or cannot be written.
    """
    memory = _Memory(variant=variant, scenario=scenario)
    machine = _machine(memory)
    try:
        _claim(directory)
        writer = TreeWriter(directory)
        _remember(writer, replace(memory, sequence=len(machine.disks)))
        _build(writer, machine)
        for name in SCENARIOS[scenario].gone if scenario else ():
            writer.make_socket(name)
    except OSError as error:
        raise SparktuneError(
            f"cannot build a simulated machine in {directory}: {error.strerror or error}",
            hint="choose a directory you can write, on a disk with room for 3,000 small files",
        ) from error


def add_disk(directory: Path, name: str) -> None:
    """Put a disk in, as the variant has it, or a plain one; its diskseq is one nobody had before.

    Raises:
        UsageError: it is there already, or nothing is known under that name.
        SparktuneError: this is no simulated machine.
    """
    writer, memory = _open(directory)
    known = {disk.name: disk for disk in _machine(memory).disks}
    if writer.exists(f"/sys/block/{name}"):
        raise UsageError(f"the simulated machine already has a disk {name}", hint="take it out first")
    memory = replace(memory, sequence=memory.sequence + 1)
    disks.build_disk(writer, known.get(name) or disks.default_disk(name), sequence=memory.sequence)
    _remember(writer, memory)


def remove_disk(directory: Path, name: str) -> None:
    """Take a disk out. Raises UsageError if it is not there."""
    disks.remove_disk(_open(directory)[0], name)


def set_cpu_online(directory: Path, cpu: int, *, online: bool) -> None:
    """Take a CPU offline or bring it back. Raises UsageError for CPU 0 and those that are not there."""
    writer, memory = _open(directory)
    processors.set_cpu_online(writer, _machine(memory).processor, cpu, online=online)


def set_carrier(directory: Path, netdev: str, *, up: bool) -> None:
    """Plug or pull the cable of one interface, not of its twin. Raises UsageError if it is not there."""
    writer, memory = _open(directory)
    fabric.set_carrier(writer, _machine(memory).interfaces, netdev, up=up)


def add_nfs(directory: Path, mount_point: str, number: int) -> None:
    """Mount a file system over the network: bdi `0:NUMBER`, and its line in mountinfo."""
    software.add_nfs(_open(directory)[0], mount_point, number)


@frozen
class _Memory:
    variant: str
    scenario: str = ""
    sequence: int = 0


def _build(writer: TreeWriter, machine: Machine) -> None:
    for name in ("net", "nvme", "bdi", "block"):
        writer.make_directory(f"/sys/class/{name}")
    if "ib_core" in machine.software.modules:  # the module makes its class, with or without a device
        writer.make_directory("/sys/class/infiniband")
    processors.build_cpus(writer, machine.processor)
    for function in machine.functions:
        build_function(writer, function)
    for interface in machine.interfaces:
        fabric.build_interface(writer, interface)
    fabric.build_arp(writer, is_dgx_os=machine.software.is_dgx_os)
    for controller in machine.controllers:
        disks.build_controller(writer, controller)
    for sequence, disk in enumerate(machine.disks, start=1):
        disks.build_disk(writer, disk, sequence=sequence)
    software.build_software(writer, machine.software)


def _machine(memory: _Memory) -> Machine:
    if memory.scenario:
        check_name("scenario", memory.scenario, SCENARIOS)
        return SCENARIOS[memory.scenario].machine
    check_name("variant", memory.variant, VARIANTS)
    return MACHINES[memory.variant]


def check_name(kind: str, name: str, known: Collection[str]) -> None:
    """Raise UsageError, with the nearest names as its hint, if there is no such variant or scenario."""
    if name in known:
        return
    near = get_close_matches(name[:40], known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    raise UsageError(f"there is no {kind} {name[:40]!r}", hint=hint)


def _claim(directory: Path) -> None:
    """Make sure that what is about to be overwritten is ours, and clear it."""
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / MARKER).is_file():
        _clear(directory)
    elif any(directory.iterdir()):
        raise SparktuneError(
            f"{directory} is not empty and holds no simulated machine: nothing was written",
            hint="give an empty directory, or one that does not exist yet",
        )


def _clear(directory: Path) -> None:
    machines = (*MACHINES.values(), *(scenario.machine for scenario in SCENARIOS.values()))
    further = {name[1:] for one in machines for name in (*one.software.files, *one.software.links)}
    names = ("sys", "proc", *(f"etc/{name}" for name in software.FILES_IN_ETC), *further)
    for path in (directory / name for name in names):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            with suppress(FileNotFoundError, NotADirectoryError):  # not of the machine that was there
                path.unlink()
    for name in further:
        with suppress(OSError):  # not empty, or not there: others keep files in it
            os.removedirs((directory / name).parent)


def _remember(writer: TreeWriter, memory: _Memory) -> None:
    known = {"variant": memory.variant, "scenario": memory.scenario, "diskseq": memory.sequence}
    writer.write("", {MARKER: json.dumps(known)})


def _open(directory: Path) -> tuple[TreeWriter, _Memory]:
    """A writer for a tree that was built, and what it remembers."""
    try:
        memory: dict[str, Any] = json.loads((directory / MARKER).read_text())
        return TreeWriter(directory), _Memory(
            variant=memory["variant"], scenario=memory.get("scenario", ""), sequence=memory["diskseq"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:  # no marker, or not one of ours
        raise SparktuneError(
            f"{directory} holds no simulated machine", hint="build one there first: sparktune simulate"
        ) from error
