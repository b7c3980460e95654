"""What the keeper makes of devices that leave step by step, and of writes in the middle of a sweep."""

from __future__ import annotations

import subprocess
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from machines import Machine, held
from sparktune import engine as engine_module
from sparktune import tuner as tuner_module
from sparktune.keeper import Keeper
from sparktune.logs import get_logger
from sparktune.model import Cause, CauseKind, Noticed, Verdict
from sparktune.parrying import Parrying
from sparktune.places import Places
from sparktune.recorder import Recorder
from sparktune.simulate import tree
from sparktune.supervision import Supervisor
from sparktune.tunables.nvme import AREA_NVME
from sparktune.watches import Watches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sparktune.hardware import Host
    from sparktune.settings import Settings
    from sparktune.tunables.area import Discovery
    from sparktune.tuner import Tuner

UPPER, LOWER = "dm-2", "dm-0"
ID = f"nvme.{UPPER}.read_ahead_kb"
READ_AHEAD = f"/sys/block/{UPPER}/queue/read_ahead_kb"
LINKS = (f"/sys/block/{LOWER}/holders/{UPPER}", f"/sys/block/{UPPER}/slaves/{LOWER}")
BACKING = Cause(kind=CauseKind.DEVICE, detail="udev remove bdi 253:2")
BLOCK = Cause(kind=CauseKind.DEVICE, detail=f"udev remove block {UPPER}")
SWEEP = Cause(kind=CauseKind.UNKNOWN)


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr(engine_module, "time", turned)
    return turned


def keep(machine: Machine, tuner: Tuner, run_dir: Path) -> Keeper:
    """A keeper that holds what a tuner holds."""
    log = get_logger()
    places = Places(root=machine.root, config=machine.config, run_dir=run_dir, state_dir=machine.state_dir)
    watches = Watches(log)
    return Keeper(tuner, Recorder(tuner, places, watches, log), watches, Supervisor(), log)


@pytest.fixture
def stack(build_machine: Callable[..., Machine]) -> Machine:
    """A disk with LUKS and two logical volumes on it."""
    return build_machine("lvm-luks")


@pytest.fixture
def tuner(stack: Machine) -> Tuner:
    return stack.tune()


@pytest.fixture
def keeper(stack: Machine, tuner: Tuner, fast_path: Path) -> Keeper:
    return keep(stack, tuner, fast_path)


def detach(machine: Machine) -> None:
    """The first step of the removal of a mapped device: it lets go of what it stood on (__dm_destroy)."""
    for link in LINKS:
        machine.root.path(link).unlink()


def attach(machine: Machine) -> None:
    """It stands on it again."""
    for link, target in zip(LINKS, (UPPER, LOWER), strict=True):
        machine.root.path(link).symlink_to(machine.root.path(f"/sys/block/{target}").resolve())


# -- a stacked device that is taken apart --------------------------------------------------------------------


def test_a_mapped_device_that_is_looked_for_while_it_is_taken_apart_is_absent_in_the_end(
    stack: Machine, tuner: Tuner, keeper: Keeper
) -> None:
    """Its bdi is told to be removed while it is still in /sys/block, and no longer above its disk."""
    detach(stack)
    keeper.rediscover(["nvme"], Noticed.UDEV, BACKING)
    assert stack.read(READ_AHEAD) == "8192"
    tree.remove_disk(stack.directory, UPPER)
    keeper.rediscover(["nvme"], Noticed.UDEV, BLOCK)
    assert held(tuner, ID).verdict is Verdict.ABSENT
    assert held(tuner, ID).reason.startswith("left at 20")


def test_the_sweep_finds_that_it_left_if_the_last_event_is_lost(
    stack: Machine, tuner: Tuner, keeper: Keeper
) -> None:
    detach(stack)
    keeper.rediscover(["nvme"], Noticed.UDEV, BACKING)
    tree.remove_disk(stack.directory, UPPER)
    keeper.sweep(Noticed.SWEEP, SWEEP)
    assert held(tuner, ID).reason.startswith("left at 20")


def test_what_stays_but_stands_on_no_disk_of_ours_any_more_is_put_back_a_little_later(
    stack: Machine, tuner: Tuner, keeper: Keeper, clock: Clock
) -> None:
    detach(stack)
    keeper.rediscover(["nvme"], Noticed.UDEV, BACKING)
    clock.now_s += AREA_NVME.patience_s - 0.1
    keeper.sweep(Noticed.SWEEP, SWEEP)
    assert (stack.read(READ_AHEAD), held(tuner, ID).verdict) == ("8192", Verdict.OK)
    clock.now_s += 0.2
    keeper.sweep(Noticed.SWEEP, SWEEP)
    assert stack.read(READ_AHEAD) == "128"
    assert ID not in tuner.engine.held


def test_what_was_found_again_meanwhile_stays_held(
    stack: Machine, tuner: Tuner, keeper: Keeper, clock: Clock
) -> None:
    detach(stack)
    keeper.rediscover(["nvme"], Noticed.UDEV, BACKING)
    attach(stack)
    keeper.sweep(Noticed.SWEEP, SWEEP)
    clock.now_s += 2 * AREA_NVME.patience_s
    detach(stack)
    keeper.rediscover(["nvme"], Noticed.UDEV, BACKING)
    assert (stack.read(READ_AHEAD), held(tuner, ID).verdict) == ("8192", Verdict.OK)


def test_a_reload_lets_go_at_once_of_what_is_no_longer_wanted(
    stack: Machine, tuner: Tuner, keeper: Keeper
) -> None:
    tuner.reconfigure(stack.effective("nvme.stacked = false"))
    keeper.apply_all(Noticed.RELOAD, SWEEP)
    assert stack.read(READ_AHEAD) == "128"
    assert ID not in tuner.engine.held


# -- the sweep as the net ------------------------------------------------------------------------------------


def test_a_mapped_device_that_gets_its_table_without_an_event_is_tuned_by_the_next_sweep(
    stack: Machine, fast_path: Path
) -> None:
    detach(stack)
    tuner = stack.tune()
    assert ID not in tuner.engine.held
    attach(stack)
    keep(stack, tuner, fast_path).sweep(Noticed.SWEEP, SWEEP)
    assert stack.read(READ_AHEAD) == "8192"
    assert held(tuner, ID).verdict is Verdict.OK


@pytest.mark.parametrize("change", ["leaves", "comes"])
def test_what_changes_while_the_area_is_looked_at_is_found_by_the_next_sweep(
    change: str,
    build_machine: Callable[..., Machine],
    monkeypatch: pytest.MonkeyPatch,
    fast_path: Path,
) -> None:
    machine = build_machine("two-disks")
    if change == "comes":
        tree.remove_disk(machine.directory, "nvme1n1")

    def discover(host: Host, settings: Settings, device: str | None = None) -> Discovery:
        found = AREA_NVME.discover(host, settings, device)
        if change == "leaves":
            tree.remove_disk(machine.directory, "nvme1n1")
        else:
            tree.add_disk(machine.directory, "nvme1n1")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(tuner_module, "AREAS", (replace(AREA_NVME, discover=discover),))
        tuner = machine.tune()
    keep(machine, tuner, fast_path).sweep(Noticed.SWEEP, SWEEP)
    one = held(tuner, "nvme.nvme1n1.read_ahead_kb")
    if change == "leaves":
        assert one.reason.startswith("left at 20")
    else:
        assert (one.verdict, one.actual) == (Verdict.OK, 8192)


@pytest.mark.root
def test_who_writes_while_the_sweep_looks_for_devices_is_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, fast_path: Path
) -> None:
    tuner = machine.tune()
    keeper = keep(machine, tuner, fast_path)
    keeper.catch_up = Parrying(keeper).catch_up
    assert keeper.watches.open() is not None
    keeper.watches.synchronise(tuner.engine.held.values())
    path = machine.root.path(held(tuner).tunable.attribute.location)

    def inventory(host: Host, settings: Settings) -> object:
        subprocess.run(["dd", f"of={path}", "conv=notrunc", "status=none"], input=b"64  ", check=True)
        return AREA_NVME.inventory(host, settings)

    monkeypatch.setattr(tuner_module, "AREAS", (replace(AREA_NVME, inventory=inventory),))
    with closing(keeper.watches):
        keeper.sweep(Noticed.SWEEP, SWEEP)
    drift = held(tuner).last_drift
    assert drift is not None
    assert (drift.found, drift.action, drift.by.kind) == (64, "healed", "process")
