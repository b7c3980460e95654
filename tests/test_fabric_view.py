"""The fabric as the checks share it: what a quiet sweep costs, and what becomes of devices that leave."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from machines import Machine, held
from sparktune.kernel import fabric_view as view_module
from sparktune.kernel.fabric import read_fabric
from sparktune.kernel.fabric_view import FRESH_S, FabricCheck, FabricView
from sparktune.model import Noticed, Reading, ReadingKind, Verdict
from sparktune.tunables.fabric import declare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sparktune.fabric.model import Fabric

ONE, OTHER = "enp1s0f0np0", "enP2p1s0f0np0"


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Opened:
    """Which files this process opens and which directories it lists, while it is asked to note them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.notes = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.notes and event in ("open", "os.listdir", "os.scandir"):
            self.names.append(str(arguments[0]))


@pytest.fixture(scope="module")
def opened() -> Opened:
    return Opened()  # an audit hook stays for ever: one for all


@pytest.fixture
def build(fast_path: Path) -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def make(scenario: str = "healthy-pair", config: str = "") -> Machine:
        machines.append(Machine.build(fast_path / f"tree-{len(machines)}", config=config, scenario=scenario))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


@pytest.mark.parametrize("scenario", ["healthy-pair", "one-twin-down", "unreadable-counter", "no-cable"])
def test_a_quiet_sweep_opens_no_file_of_the_fabric(
    scenario: str, build: Callable[..., Machine], opened: Opened
) -> None:
    tuner = build(scenario).tune()
    for _ in range(2):
        tuner.engine.sweep(Noticed.SWEEP)
    opened.names.clear()
    opened.notes = True
    tuner.engine.sweep(Noticed.SWEEP)
    opened.notes = False
    # configfs fills a descriptor only once, so its files are opened anew each time
    assert [name for name in opened.names if "/kernel/config/" not in name] == []


def test_without_an_event_the_fabric_is_read_once_a_minute(
    build: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, clock = build(), Clock()
    monkeypatch.setattr(view_module, "time", clock)
    view = FabricView(machine.root, read_fabric(machine.root))
    for _ in range(60):  # ten minutes of sweeps
        view.now()
        clock.now_s += 10
    assert view.readings in (9, 10)


def test_a_fabric_that_takes_long_to_read_is_read_less_often(
    build: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, clock = build(), Clock()

    def read_slowly(root: Any) -> Fabric:
        clock.now_s += 0.1
        return read_fabric(root)

    monkeypatch.setattr(view_module, "time", clock)
    monkeypatch.setattr(view_module, "read_fabric", read_slowly)
    view = FabricView(machine.root, read_fabric(machine.root))
    view.expire()
    view.now()
    clock.now_s += 10 * FRESH_S
    view.now()
    assert view.readings == 1
    clock.now_s += 10 * FRESH_S
    view.now()
    assert view.readings == 2


def test_one_event_is_one_reading_for_all_checks(build: Callable[..., Machine]) -> None:
    machine = build()
    view = FabricView(machine.root, read_fabric(machine.root))
    checks = [
        FabricCheck(view, lambda _: Reading(ReadingKind.VALUE, 1), f"/sys/{name}", ("", ""))
        for name in range(9)
    ]
    for check in checks:
        check.expire()
    assert [check.read().value for check in checks] == [1] * 9
    assert view.readings == 1


def test_what_changed_unheard_is_found_by_a_sweep_a_minute_later(
    build: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(view_module, "time", clock)
    machine = build()
    tuner = machine.tune()
    machine.write(f"/sys/class/net/{OTHER}/mtu", "1500")
    assert tuner.engine.sweep(Noticed.SWEEP) == []
    clock.now_s += FRESH_S
    (drift,) = tuner.engine.sweep(Noticed.SWEEP)
    assert (drift.tunable, drift.found) == ("roce.p0.twins_mtu", "1500 and 9000")
    assert drift.reason == f"{ONE} 9000, {OTHER} 1500"
    machine.write(f"/sys/class/net/{OTHER}/mtu", "9000")
    clock.now_s += FRESH_S
    tuner.engine.sweep(Noticed.SWEEP)
    assert held(tuner, "roce.p0.twins_mtu").verdict is Verdict.OK


def test_a_fabric_that_is_read_again_and_is_the_same_is_not_judged_again(
    build: Callable[..., Machine],
) -> None:
    root = build().root
    judged: list[Fabric] = []

    def judge(fabric: Fabric) -> Reading:
        judged.append(fabric)
        return Reading(ReadingKind.VALUE, fabric.functions[0].mtu)

    view = FabricView(root, read_fabric(root))
    check = FabricCheck(view, judge, "the MTU", ("", ""))
    for _ in range(3):
        check.expire()
        assert check.read().value == 9000
    assert (view.readings, len(judged)) == (3, 1)
    root.path(f"/sys/class/net/{ONE}/mtu").write_text("1500\n")
    check.expire()
    assert check.read().value == 1500


def test_a_person_who_asks_is_answered_from_the_kernel_and_not_from_memory(
    build: Callable[..., Machine],
) -> None:
    machine = build()
    tuner = machine.tune()
    machine.write(f"/sys/class/net/{OTHER}/mtu", "1500")
    tuner.engine.apply(["roce.p0.twins_mtu"], Noticed.REQUEST)
    assert held(tuner, "roce.p0.twins_mtu").verdict is Verdict.DRIFT


def test_an_index_that_moved_is_shown_and_is_no_drift(build: Callable[..., Machine]) -> None:
    machine = build()
    tuner = machine.tune()
    port = "/sys/class/infiniband/rocep1s0f0/ports/1"
    for folder in ("gids", "gid_attrs/types", "gid_attrs/ndevs"):
        machine.write(f"{port}/{folder}/5", machine.read(f"{port}/{folder}/3"))
    machine.write(f"{port}/gids/3", ":".join(["0000"] * 8))
    one = held(tuner, "roce.rocep1s0f0.gid")
    tuner.engine.expire([one])
    assert tuner.engine.sweep(Noticed.SWEEP) == []
    assert (one.verdict, one.reason) == (Verdict.OK, "index 5: 192.168.100.10")


def test_a_shared_subnet_asks_for_arp_settings_and_dgx_os_has_them(build: Callable[..., Machine]) -> None:
    machine = build()
    machine.write(f"/sys/class/net/{OTHER}/netlink/addr/ipv4", "192.168.100.11/24")
    tuner = machine.tune()
    assert held(tuner, "roce.p0.twins_subnets").actual == "both in 192.168.100.0/24"
    assert held(tuner, f"roce.{ONE}.arp_ignore").verdict is Verdict.OK
    for name in ("arp_ignore", "arp_announce"):
        machine.write(f"/proc/sys/net/ipv4/conf/all/{name}", "0")
    tuner.engine.expire(tuner.engine.held.values())
    tuner.engine.sweep(Noticed.SWEEP)
    for name in (ONE, OTHER):
        assert held(tuner, f"roce.{name}.arp_ignore").verdict is Verdict.DRIFT
        assert held(tuner, f"roce.{name}.arp_announce").verdict is Verdict.DRIFT


def test_a_function_that_leaves_between_two_looks_costs_only_its_own_checks(
    build: Callable[..., Machine],
) -> None:
    machine = build()
    tuner = machine.tune()
    bdf = machine.root.path("/sys/bus/pci/devices/0002:01:00.0")
    shutil.rmtree(bdf.resolve())
    bdf.unlink()
    tuner.engine.expire(tuner.engine.held.values())
    tuner.engine.sweep(Noticed.SWEEP)
    assert tuner.engine.failures == []
    assert held(tuner, "roce.enP2p1s0f0np0.pcie_width").reason == "PCI function 0002:01:00.0 left"
    assert held(tuner, "roce.rocep1s0f0.port_state").verdict is Verdict.OK
    assert held(tuner, "roce.p0.twins_up").actual == "no twin"
    tuner.discover(["roce"])
    assert held(tuner, "roce.enP2p1s0f0np0.pcie_width").reason.startswith("left at ")


def test_the_expected_rate_is_the_configured_one(build: Callable[..., Machine]) -> None:
    tuner = build(config="expect.link_rate_gbps = 400").tune()
    one = held(tuner, "roce.rocep1s0f0.link_rate")
    assert (one.verdict, one.actual, one.tunable.wanted) == (Verdict.DRIFT, 200, 400)
    assert "expect.link_rate_gbps" in one.tunable.do


def test_globs_choose_the_functions_that_are_checked(build: Callable[..., Machine]) -> None:
    tuner = build(config='roce.devices = ["roceP2*"]').tune()
    devices = {one.tunable.device for one in tuner.engine.held.values() if one.tunable.area == "roce"}
    assert devices == {"roceP2p1s0f0", "roceP2p1s0f1", OTHER, "enP2p1s0f1np1", "p0", "p1", "connectx7"}


def test_on_another_machine_its_pcie_links_are_its_own_business(build: Callable[..., Machine]) -> None:
    machine = build()
    tuner, fabric = machine.start(), read_fabric(machine.root)
    other = replace(tuner.host, verdict="not-gb10")
    ids = [
        [tunable.id for tunable in declare(host, tuner.settings, fabric).tunables]
        for host in (tuner.host, other)
    ]
    pcie = [[id_ for id_ in one if id_.endswith((".pcie_speed", ".pcie_width"))] for one in ids]
    assert [len(one) for one in pcie] == [8, 0]
