"""What every tunable of every area has to keep, on every machine that can be simulated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from machines import Machine
from sparktune.kernel.attribute import reopen
from sparktune.kernel.identity import is_still_there
from sparktune.kernel.netattribute import PARAMETERS
from sparktune.model import HostState, Noticed, Policy, ReadingKind, Verdict
from sparktune.publishing import count, judge_host
from sparktune.settings import Settings, flatten
from sparktune.simulate import tree
from sparktune.tunables import AREAS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sparktune.held import Held
    from sparktune.model import Tunable
    from sparktune.tuner import Tuner

_ID = re.compile(r"[a-z]+\.[A-Za-z0-9:_!-]+(\.state\d+)?\.[a-z_]+(_\d+)?")
_KEYS = flatten(Settings())
_EVERYTHING = (
    'nvme.devices = ["*"]\nnvme.paths = ["/", "/models"]\nroce.default_roce_mode = "IB/RoCE v1"\n'
    "cpuidle.disable_latency_us = 40\n"
    'roce.mtu = 9000\nroce.pause = "none"\nroce.rx_ring = 8192\nroce.tx_ring = 2048\nroce.trust = "dscp"\n'
    'roce.adaptive_coalescing = "rx"\nroce.pfc_priorities = [3]\nroce.default_roce_tos = 106\n'
)
"""A configuration under which there is something to write in every area, and in both directions."""

_CONFIGURED = {line.partition(" = ")[0] for line in _EVERYTHING.splitlines()} - {"nvme.devices", "nvme.paths"}

_AREAS_THERE = {
    "no-cable": {"nvme", "cpuidle"},
    "not-gb10": {"nvme", "cpuidle"},
}


@pytest.fixture(scope="module", params=tree.VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def seen(variant: str, fast_module_path: Path) -> Iterator[Tuner]:
    """A machine of each kind that is discovered and only read."""
    machine = Machine.build(fast_module_path / variant, variant, _EVERYTHING)
    yield machine.start()
    machine.close()


@pytest.fixture
def applied(variant: str, build_machine: Callable[..., Machine]) -> tuple[Machine, Tuner]:
    """A machine of each kind that is tuned."""
    machine = build_machine(variant, _EVERYTHING)
    for cpu in (1, 2):  # so that something has to be enabled too
        machine.write(f"/sys/devices/system/cpu/cpu{cpu}/cpuidle/state0/disable", "1")
    return machine, machine.tune()


def tunables(tuner: Tuner) -> list[Tunable]:
    found = [one.tunable for one in tuner.engine.held.values()]
    assert len(found) > 20
    return found


def writable(tuner: Tuner) -> list[Held]:
    return [one for one in tuner.engine.held.values() if not one.tunable.is_check]


# -- what is declared ----------------------------------------------------------------------------------------


def test_every_variant_has_the_areas_it_should_have(seen: Tuner, variant: str) -> None:
    expected = _AREAS_THERE.get(variant, {"nvme", "cpuidle", "roce"})
    assert {tunable.area for tunable in tunables(seen)} == expected
    assert {name for name, facts in seen.areas.items() if facts.absent} == {
        area.name for area in AREAS
    } - expected


def test_an_id_is_area_device_and_attribute(seen: Tuner) -> None:
    for id_, one in seen.engine.held.items():
        tunable = one.tunable
        assert id_ == tunable.id
        assert _ID.fullmatch(id_), id_
        assert id_.startswith(f"{tunable.area}.{tunable.device}.")


def test_ids_stay_the_same_over_another_discovery(seen: Tuner) -> None:
    before = list(seen.engine.held)
    adoptions = seen.discover()
    assert list(seen.engine.held) == before
    assert [adoption.added or adoption.released or adoption.left for adoption in adoptions] == [()] * len(
        AREAS
    )


def test_the_areas_come_in_the_order_of_the_registry(seen: Tuner) -> None:
    names = [area.name for area in AREAS]
    places = [names.index(tunable.area) for tunable in tunables(seen)]
    assert places == sorted(places)


@pytest.mark.parametrize("part", ["why", "source"])
def test_every_tunable_says_what_it_is_good_for_and_where_that_is_known_from(part: str, seen: Tuner) -> None:
    for tunable in tunables(seen):
        text = getattr(tunable, part)
        assert len(text) > 20, tunable.id
        assert text == text.strip()
        assert "\n" not in text


def test_whatever_is_written_says_what_it_costs_unless_it_is_what_a_kernel_starts_with(seen: Tuner) -> None:
    for one in writable(seen):
        assert one.tunable.risk or one.tunable.wanted == 0, one.tunable.id


def test_nothing_that_is_said_makes_a_promise(seen: Tuner) -> None:
    for tunable in tunables(seen):
        said = f"{tunable.why} {tunable.risk} {tunable.do}".casefold()
        assert not re.search(r"\b(faster|guarantee\w*|always|best|optimal)\b", said), tunable.id


def test_units_are_known_ones(seen: Tuner) -> None:
    known = {"", "B", "KiB", "µs", "Gb/s", "GT/s", "lanes", "entries since the last sweep"}
    assert {tunable.unit for tunable in tunables(seen)} <= known


def test_the_wanted_value_is_an_integer_or_a_text_and_no_boolean(seen: Tuner) -> None:
    for tunable in tunables(seen):
        assert type(tunable.wanted) in (int, str), tunable.id


def test_the_wanted_value_fits_how_the_attribute_is_read(seen: Tuner) -> None:
    for one in writable(seen):
        store, _, kind = one.tunable.attribute.kind.partition(":")
        codec = PARAMETERS[kind] if store == "netlink" else kind
        assert codec == ("integer" if isinstance(one.tunable.wanted, int) else "text"), one.tunable.id


def test_the_key_that_decides_is_one_of_the_configuration(seen: Tuner) -> None:
    for tunable in tunables(seen):
        if tunable.is_check and not tunable.key:  # what must hold whatever is configured
            continue
        assert tunable.key in _KEYS, tunable.id
        assert tunable.key.startswith((f"{tunable.area}.", "expect."))


def test_the_layer_of_each_key_is_known(seen: Tuner) -> None:
    for one in seen.engine.held.values():
        configured = one.tunable.key in _CONFIGURED
        assert one.layer.endswith("sparktune.toml") == configured, one.tunable.id
        assert configured or one.layer == "default"


# -- where it is ---------------------------------------------------------------------------------------------


def test_the_location_is_a_name_of_the_host(seen: Tuner) -> None:
    root = str(seen.host.root.directory)
    for tunable in tunables(seen):
        assert tunable.attribute.location.startswith(("/sys/", "/proc/sys/")), tunable.id
        assert root not in tunable.attribute.location


def test_every_watched_file_is_there_or_will_be_made(seen: Tuner) -> None:
    for one in writable(seen):
        attribute = one.tunable.attribute
        assert attribute.watched
        for path in attribute.watched:
            assert path.is_file() or attribute.preparation(), path


def test_no_two_tunables_share_an_inode_or_a_location(seen: Tuner) -> None:
    owners: dict[tuple[int, int] | str, str] = {}
    for one in writable(seen):
        for path in (path for path in one.tunable.attribute.watched if path.exists()):
            inode = (path.stat().st_dev, path.stat().st_ino)
            assert owners.setdefault(inode, one.tunable.id) == one.tunable.id
        assert owners.setdefault(one.tunable.attribute.location, one.tunable.id) == one.tunable.id


def test_the_identity_is_a_place_in_the_hardware_and_an_instance_that_is_there(seen: Tuner) -> None:
    for tunable in tunables(seen):
        path, instance = tunable.attribute.identity
        assert path.startswith("/sys/devices/"), tunable.id
        name = instance.partition(":")[2].rpartition("=")[0].removesuffix("/diskseq")
        assert seen.host.root.resolve(name) == path
        assert is_still_there(seen.host.root, instance)


def test_no_two_tunables_share_an_original(seen: Tuner) -> None:
    keys = [one.key for one in writable(seen)]
    assert len(set(keys)) == len(keys)


def test_each_attribute_can_be_made_again_from_what_is_stored_of_it(seen: Tuner) -> None:
    for one in writable(seen):
        mine = one.tunable.attribute
        again = reopen(seen.host.root, mine.kind, mine.location, mine.identity, mine.makes)
        assert again.read() == mine.read()
        assert (again.kind, again.identity, again.location) == (mine.kind, mine.identity, mine.location)
        again.close()


# -- reading -------------------------------------------------------------------------------------------------


def test_reading_gives_a_value_or_a_reason(seen: Tuner) -> None:
    for tunable in tunables(seen):
        reading = tunable.attribute.read()
        has_value = reading.kind is ReadingKind.VALUE
        assert (reading.value is not None) == has_value, tunable.id
        assert has_value or reading.reason, tunable.id
        assert tunable.is_check or not (has_value and reading.reason), tunable.id


def test_reading_and_discovering_write_nothing(variant: str, build_machine: Callable[..., Machine]) -> None:
    machine = build_machine(variant, _EVERYTHING)
    before = {path: path.stat().st_mtime_ns for path in machine.directory.rglob("*")}
    tuner = machine.start()
    tuner.engine.plan()
    tuner.notes()
    tuner.changed_areas()
    for tunable in tunables(tuner):
        tunable.attribute.read()
        tunable.attribute.holds(tunable.wanted or 0)
        tunable.attribute.preparation()
    after = {path: path.stat().st_mtime_ns for path in machine.directory.rglob("*")}
    assert after == before


def test_checks_cannot_be_written(seen: Tuner) -> None:
    checks = [tunable for tunable in tunables(seen) if tunable.is_check]
    assert checks
    for check in checks:
        with pytest.raises(OSError, match="a check cannot be set"):
            check.attribute.write(0)
        assert check.do, check.id


# -- writing -------------------------------------------------------------------------------------------------


def test_what_is_written_holds_when_it_is_read_back(applied: tuple[Machine, Tuner]) -> None:
    _, tuner = applied
    for one in writable(tuner):
        assert one.verdict is Verdict.OK, f"{one.tunable.id}: {one.reason}"
        assert one.tunable.attribute.read().value == one.tunable.wanted
        assert one.tunable.wanted is not None
        assert one.tunable.attribute.holds(one.tunable.wanted)


def test_the_plan_names_exactly_what_apply_writes(
    variant: str, build_machine: Callable[..., Machine]
) -> None:
    machine = build_machine(variant, _EVERYTHING)
    tuner = machine.start()
    planned = {item.held.tunable.id: item.found for item in tuner.engine.plan()}
    drifts = tuner.engine.apply(None, Noticed.START)
    assert {drift.tunable for drift in drifts} == set(planned)
    assert tuner.engine.plan() == []


def test_whatever_was_written_can_be_put_back(applied: tuple[Machine, Tuner], variant: str) -> None:
    machine, tuner = applied
    outcomes = tuner.engine.restore(None, by="root")
    assert {outcome.outcome for outcome in outcomes} <= {"restored", "nothing"}
    assert machine.kept_originals() == []
    fresh = Machine.build(machine.directory.with_name("fresh"), variant, _EVERYTHING)
    for one in writable(fresh.start()):
        location = one.tunable.attribute.location
        was = "1" if re.search(r"cpu[12]/cpuidle/state0/disable$", location) else fresh.root.read(location)
        assert machine.root.read(location) == was, location
    fresh.close()


def test_a_drift_of_any_tunable_is_healed(applied: tuple[Machine, Tuner]) -> None:
    machine, tuner = applied
    other = {"nvme": "64", "roce": "RoCE v2", "pfc_priorities": "none", "trust": "pcp"}
    for one in writable(tuner):
        name = one.tunable.id.rpartition(".")[2]
        number = "0" if one.tunable.wanted else "1"
        chosen = number if isinstance(one.tunable.wanted, int) else other["roce"]
        value = other.get(name, chosen if one.tunable.area == "roce" else other.get(one.tunable.area, number))
        machine.write(one.tunable.attribute.location, value)
        drift = tuner.engine.look(one, Noticed.FANOTIFY)
        assert drift is not None, one.tunable.id
        assert (str(drift.found), one.verdict) == (value, Verdict.OK)


def test_with_policy_off_no_area_writes(variant: str, build_machine: Callable[..., Machine]) -> None:
    machine = build_machine(variant, _EVERYTHING + "".join(f'{area.name}.policy = "off"\n' for area in AREAS))
    tuner = machine.start()
    assert {one.policy for one in tuner.engine.held.values()} == {Policy.OFF}
    assert tuner.engine.apply(None, Noticed.REQUEST) == []
    assert machine.kept_originals() == []


def test_a_device_that_vanishes_leaves_a_verdict_and_no_error(applied: tuple[Machine, Tuner]) -> None:
    machine, tuner = applied
    machine.root.path("/sys/block").rename(machine.directory / "gone")
    machine.root.path("/sys/devices").rename(machine.directory / "gone-too")
    tuner.engine.sweep(Noticed.SWEEP)
    tuner.discover()
    tuner.engine.sweep(Noticed.SWEEP)
    assert tuner.engine.failures == []
    assert {one.verdict for one in tuner.engine.held.values()} <= {Verdict.ABSENT, Verdict.OK, Verdict.DRIFT}
    there = [one for one in tuner.engine.held.values() if one.verdict is not Verdict.ABSENT]
    assert {one.tunable.area for one in there} <= {"roce"}  # its values are in configfs


# -- every file bad ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"\0\xff\x80", b"9" * (1 << 20)], ids=["empty", "binary", "megabyte"]
)
def test_bad_content_in_all_files_at_once_is_told_and_nothing_is_written(
    content: bytes, variant: str, build_machine: Callable[..., Machine]
) -> None:
    machine = build_machine(variant, _EVERYTHING)
    tuner = machine.start()
    for one in writable(tuner):
        for path in one.tunable.attribute.watched:
            if path.exists():
                path.write_bytes(content)
    tuner.engine.apply(None, Noticed.START)
    for one in writable(tuner):
        if not one.tunable.attribute.makes:
            assert (one.verdict, one.reason != "") == (Verdict.FAILED, True), one.tunable.id
            assert one.tunable.attribute.watched[0].read_bytes() == content
    assert tuner.engine.failures == []


@pytest.mark.parametrize("content", [b"", b"\0\xff\x80", b"9" * 70_000], ids=["empty", "binary", "long"])
def test_discovery_survives_a_machine_on_which_every_file_is_bad(
    content: bytes, variant: str, build_machine: Callable[..., Machine]
) -> None:
    machine = build_machine(variant, _EVERYTHING)
    for path in machine.root.path("/sys").rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(content)
    tuner = machine.tune()
    tuner.engine.sweep(Noticed.SWEEP)
    tuner.notes()
    assert tuner.changed_areas() == []
    assert tuner.engine.failures == []
    assert Verdict.OK not in {one.verdict for one in writable(tuner) if not one.tunable.attribute.makes}


def test_a_machine_on_which_nothing_can_be_checked_is_degraded_and_never_ok(
    variant: str, build_machine: Callable[..., Machine]
) -> None:
    machine = build_machine(variant, 'roce.policy = "off"')
    tuner = machine.start()
    for one in writable(tuner):
        for path in one.tunable.attribute.watched:
            path.unlink(missing_ok=True)
    tuner.engine.apply(None, Noticed.START)
    states = list(tuner.engine.held.values())
    assert judge_host(count(states), error=None, paused=False) is HostState.DEGRADED
