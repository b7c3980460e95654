"""Link events: what they touch is looked at, at once and again a moment later; nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from machines import Machine, held
from sparktune import links as links_module
from sparktune.keeper import Keeper
from sparktune.kernel.rtnetlink import LinkEvent
from sparktune.kernel.uevent import DeviceEvent
from sparktune.links import LONGEST_WAIT_S, SECOND_LOOK_S, Links
from sparktune.logs import get_logger
from sparktune.model import Cause, Noticed, Verdict
from sparktune.places import Places
from sparktune.recorder import Recorder
from sparktune.simulate import tree
from sparktune.supervision import Supervisor
from sparktune.triggers import Triggers
from sparktune.watches import Watches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ONE, OTHER = "enp1s0f0np0", "enP2p1s0f0np0"
MTU = "roce.p0.twins_mtu"
FLAPS = f"roce.{ONE}.link_flaps"


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class CountingKeeper(Keeper):
    """A keeper that notes what it was asked to look after."""

    looks: list[frozenset[str]]

    def look_after(
        self,
        names: Iterable[str] | None,
        noticed: Noticed,
        cause: Cause,
        interfaces: frozenset[str] = frozenset(),
    ) -> None:
        self.looks.append(interfaces)
        super().look_after(names, noticed, cause, interfaces)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr(links_module, "time", turned)
    return turned


@pytest.fixture
def machine(fast_path: Path) -> Iterator[Machine]:
    built = Machine.build(fast_path / "pair", scenario="healthy-pair")
    yield built
    built.close()


@pytest.fixture
def keeper(machine: Machine, fast_path: Path) -> CountingKeeper:
    tuner, log = machine.tune(), get_logger()
    places = Places(root=machine.root, config=machine.config, run_dir=fast_path, state_dir=machine.state_dir)
    watches = Watches(log)
    made = CountingKeeper(tuner, Recorder(tuner, places, watches, log), watches, Supervisor(), log)
    made.looks = []
    return made


def run_until(links: Links, clock: Clock, end_s: float) -> list[float]:
    """Turn whenever something is due, as the daemon's loop does; the moments."""
    moments = []
    while (due_s := links.due_s()) is not None and due_s <= end_s:
        clock.now_s = due_s
        moments.append(due_s)
        links.turn()
    clock.now_s = end_s
    return moments


def test_an_event_is_answered_at_once_and_once_more_a_moment_later(
    keeper: CountingKeeper, clock: Clock
) -> None:
    links = Links(keeper)
    links.on_events([LinkEvent(ONE, carrier=True)])
    assert keeper.looks == [frozenset({ONE})]
    assert run_until(links, clock, 2000.0) == [1000.0 + SECOND_LOOK_S]
    assert keeper.looks == [frozenset({ONE})] * 2


def test_a_new_mtu_is_judged_by_the_event_and_not_by_the_sweep(
    keeper: CountingKeeper, machine: Machine, clock: Clock
) -> None:
    machine.write(f"/sys/class/net/{ONE}/mtu", "1500")
    assert keeper.engine.sweep(Noticed.SWEEP) == []
    Links(keeper).on_events([LinkEvent(ONE, carrier=True)])
    one = held(keeper.tuner, MTU)
    assert (one.verdict, one.actual) == (Verdict.DRIFT, "1500 and 9000")


def test_an_address_event_shows_the_gid_that_came_with_it(
    keeper: CountingKeeper, machine: Machine, clock: Clock
) -> None:
    links = Links(keeper)
    links.on_events([LinkEvent(ONE, None)])
    port = "/sys/class/infiniband/rocep1s0f0/ports/1"  # the kernel fills the table a moment after it tells
    for folder in ("gids", "gid_attrs/types", "gid_attrs/ndevs"):
        machine.write(f"{port}/{folder}/7", machine.read(f"{port}/{folder}/3"))
        machine.write(f"{port}/{folder}/3", "")
    run_until(links, clock, 1010.0)
    one = held(keeper.tuner, "roce.rocep1s0f0.gid")
    assert (one.verdict, one.reason) == (Verdict.OK, "index 7: 192.168.100.10")


def test_interfaces_of_containers_lead_to_no_look(keeper: CountingKeeper, clock: Clock) -> None:
    links = Links(keeper)
    links.on_events([LinkEvent(f"veth{number}", carrier=True) for number in range(100)])
    links.on_events([LinkEvent("eth0", None), LinkEvent("docker0", carrier=False)])
    assert keeper.looks == []
    assert links.due_s() is None


def test_only_what_the_interface_touches_is_read_again(
    keeper: CountingKeeper, machine: Machine, clock: Clock
) -> None:
    mode = "/sys/kernel/config/rdma_cm/rocep1s0f0/ports/1/default_roce_mode"
    machine.write(mode, "IB/RoCE v1")
    machine.write("/sys/block/nvme0n1/queue/read_ahead_kb", "1")
    Links(keeper).on_events([LinkEvent(OTHER, carrier=True)])
    assert machine.read(mode) == "IB/RoCE v1"
    assert machine.read("/sys/block/nvme0n1/queue/read_ahead_kb") == "1"


def test_a_link_that_keeps_flapping_is_looked_at_less_and_less_often(
    keeper: CountingKeeper, clock: Clock
) -> None:
    links = Links(keeper)
    for second in range(600):
        run_until(links, clock, 1000.0 + second)
        links.on_events([LinkEvent(ONE, carrier=bool(second % 2))])
    assert len(keeper.looks) < 10 + 600 / LONGEST_WAIT_S
    before = len(keeper.looks)
    run_until(links, clock, 3000.0)
    assert len(keeper.looks) in (before + 1, before + 2)  # the last events were not forgotten
    assert links.due_s() is None


def test_another_interface_is_answered_at_once_while_one_flaps(keeper: CountingKeeper, clock: Clock) -> None:
    links = Links(keeper)
    for second in range(20):
        run_until(links, clock, 1000.0 + second)
        links.on_events([LinkEvent(ONE, carrier=bool(second % 2))])
    keeper.looks.clear()
    links.on_events([LinkEvent(ONE, carrier=False), LinkEvent(OTHER, carrier=False)])
    assert keeper.looks == [frozenset({OTHER})]


def test_an_interface_that_is_quiet_again_is_answered_at_once(keeper: CountingKeeper, clock: Clock) -> None:
    links = Links(keeper)
    for moment_s in (1000.0, 1100.0):
        run_until(links, clock, moment_s)
        keeper.looks.clear()
        links.on_events([LinkEvent(ONE, carrier=True)])
        assert keeper.looks == [frozenset({ONE})]


def test_a_function_that_was_not_there_before_is_discovered_by_its_link(
    keeper: CountingKeeper, machine: Machine, clock: Clock
) -> None:
    links = Links(keeper)
    for id_ in [id_ for id_ in keeper.engine.held if ONE in keeper.engine.held[id_].tunable.interfaces]:
        keeper.engine.held.pop(id_).tunable.attribute.close()
    assert ONE not in keeper.touched()
    links.on_events([LinkEvent(ONE, carrier=True)])
    assert keeper.looks == [frozenset({ONE})]


# -- devices -------------------------------------------------------------------------------------------------


class Scripted:
    """A device monitor that has heard what it was given."""

    def __init__(self, *events: DeviceEvent) -> None:
        self.events = events

    def read(self) -> tuple[DeviceEvent, ...]:
        return self.events


@pytest.mark.parametrize(
    ("subsystem", "name", "expected"),
    [
        ("net", "veth12", 0),
        ("net", "docker0", 0),
        ("pci", "000f:01:00.0", 0),
        ("net", ONE, 1),
        ("pci", "0000:01:00.0", 1),
        ("infiniband", "rocep1s0f0", 1),
    ],
)
def test_a_device_event_leads_to_a_discovery_only_if_it_is_about_the_fabric(
    subsystem: str, name: str, expected: int, keeper: CountingKeeper
) -> None:
    found: list[str] = []
    keeper.rediscover = lambda names, *_: found.extend(names or ())  # type: ignore[method-assign]
    triggers = Triggers(keeper, lambda *_: None, get_logger())
    triggers._on_devices(Scripted(DeviceEvent("add", subsystem, name)))  # type: ignore[arg-type]
    assert found == ["roce"] * expected
    assert (triggers.settling.due_s() is not None) == bool(expected)


# -- flaps ---------------------------------------------------------------------------------------------------


def flap(machine: Machine, name: str, *, up: bool) -> None:
    tree.set_carrier(machine.directory, name, up=up)


def test_a_flap_is_told_when_it_begins_and_with_its_length_when_it_is_over(
    keeper: CountingKeeper, machine: Machine, clock: Clock
) -> None:
    links = Links(keeper)
    flap(machine, ONE, up=False)
    links.on_events([LinkEvent(ONE, carrier=False)])
    one = held(keeper.tuner, FLAPS)
    assert (one.verdict, one.actual) == (Verdict.DRIFT, 1)
    assert "went down once since" in one.reason
    assert "; down since 2" in one.reason
    flap(machine, ONE, up=True)
    links.on_events([LinkEvent(ONE, carrier=True)])
    run_until(links, clock, 1010.0)
    assert (one.verdict, one.actual) == (Verdict.DRIFT, 1)
    assert one.reason.endswith(" s")
    assert " the last time at " in one.reason


def test_what_was_heard_survives_another_discovery(
    keeper: CountingKeeper, machine: Machine, clock: Clock
) -> None:
    links = Links(keeper)
    flap(machine, ONE, up=False)
    links.on_events([LinkEvent(ONE, carrier=False)])
    keeper.tuner.discover(["roce"])
    flap(machine, ONE, up=True)
    links.on_events([LinkEvent(ONE, carrier=True)])
    run_until(links, clock, 1010.0)
    assert " the last time at " in held(keeper.tuner, FLAPS).reason
