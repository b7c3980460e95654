"""The cpuidle area: `cpupower idle-set -D` to the letter, CPUs that come and go, the check of the effect."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

import children
from machines import CPUS, held
from sparktune.kernel.attribute import FileAttribute
from sparktune.kernel.idle import EnteredStates, qos_holders, qos_latency_us
from sparktune.kernel.root import Root
from sparktune.model import Noticed, Reading, ReadingKind, Verdict
from sparktune.simulate import tree
from sparktune.tunables.cpuidle import AREA_CPUIDLE, discover

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from machines import Machine
    from sparktune.model import Note
    from sparktune.tunables.area import Discovery
    from sparktune.tuner import Tuner

PERFORMANCE = {*range(5, 10), *range(15, 20)}
CHECK = "cpuidle.cpu0.entered"


def cpupower_disables(latencies: Sequence[int], limit_us: int, before: Sequence[int]) -> list[int]:
    """The loop of cpupower's `idle-set -D`, written down independently: state by state, by what is there."""
    after = list(before)
    for state, latency in enumerate(latencies):
        if after[state]:
            if limit_us > latency:
                after[state] = 0
        elif limit_us <= latency:
            after[state] = 1
    return after


def found(machine: Machine, config: str = "") -> Discovery:
    tuner = machine.start(config)
    return discover(tuner.host, tuner.settings)


def disables(machine: Machine, cpu: int = 0) -> list[int]:
    base = f"{CPUS}/cpu{cpu}/cpuidle"
    return [int(machine.read(f"{base}/{state}/disable")) for state in machine.root.names(base)]


def notes(machine: Machine, config: str = "") -> tuple[Note, ...]:
    tuner = machine.start(config)
    return discover(tuner.host, tuner.settings).notes


def observed(machine: Machine) -> list[str]:
    tuner = machine.start()
    return [note.says for note in AREA_CPUIDLE.observe(tuner.host, tuner.settings)]


def managed(discovery: Discovery) -> set[int]:
    return {int(tunable.device[3:]) for tunable in discovery.tunables}


# -- which states --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit_us", "expected"),
    [
        (0, [1, 1, 1, 1]),
        (1, [0, 1, 1, 1]),
        (42, [0, 1, 1, 1]),
        (43, [0, 0, 1, 1]),
        (231, [0, 0, 1, 1]),
        (232, [0, 0, 0, 1]),
        (433, [0, 0, 0, 1]),
        (434, [0, 0, 0, 0]),
        (1_000_000, [0, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("before", [[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 1]])
def test_a_limit_disables_what_cpupower_would_and_enables_the_rest(
    limit_us: int, expected: list[int], before: list[int], machine: Machine
) -> None:
    for state, value in enumerate(before):
        machine.write(f"{CPUS}/cpu7/cpuidle/state{state}/disable", str(value))
    machine.tune(f"cpuidle.disable_latency_us = {limit_us}")
    assert disables(machine, 7) == expected == cpupower_disables([0, 42, 231, 433], limit_us, before)


@pytest.mark.parametrize("limit_us", [0, 1, 2, 70, 71, 310, 311])
def test_states_are_told_by_their_latency_and_not_by_their_order(
    limit_us: int, build_machine: Callable[..., Machine]
) -> None:
    machine = build_machine("other-idle-states", f"cpuidle.disable_latency_us = {limit_us}")
    machine.tune()
    assert disables(machine) == cpupower_disables([1, 310, 70], limit_us, [0, 0, 0])


@pytest.mark.parametrize("limit_us", [0, 1, 2, 18, 19, 350, 351])
def test_the_rule_is_the_same_on_another_machine(
    limit_us: int, build_machine: Callable[..., Machine]
) -> None:
    machine = build_machine("not-gb10", f"cpuidle.disable_latency_us = {limit_us}")
    machine.tune()
    assert disables(machine, 7) == cpupower_disables([0, 1, 18, 350], limit_us, [0, 0, 0, 0])


def test_off_leaves_every_state_alone(machine: Machine) -> None:
    discovery = found(machine, 'cpuidle.disable_latency_us = "off"')
    assert discovery.tunables == ()
    assert discovery.absent == 'idle states are left alone (disable_latency_us = "off")'


def test_more_than_ten_states_keep_the_kernels_order(machine: Machine) -> None:
    for number in range(4, 12):
        machine.root.path(f"{CPUS}/cpu0/cpuidle/state{number}").mkdir()
        machine.write(f"{CPUS}/cpu0/cpuidle/state{number}/latency", "500")
        machine.write(f"{CPUS}/cpu0/cpuidle/state{number}/disable", "0")
        machine.write(f"{CPUS}/cpu0/cpuidle/state{number}/usage", "0")
    ids = [tunable.id for tunable in found(machine).tunables if tunable.device == "cpu0"]
    assert ids == [f"cpuidle.cpu0.state{number}.disable" for number in range(12)] + [CHECK]


# -- which CPUs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("all", set(range(20))),
        ("performance", PERFORMANCE),
        ("efficiency", set(range(20)) - PERFORMANCE),
        ("0", {0}),
        ("5-9,15-19", PERFORMANCE),
        ("19,0-1", {0, 1, 19}),
    ],
)
def test_the_cpus_are_those_that_are_asked_for(selector: str, expected: set[int], machine: Machine) -> None:
    assert managed(found(machine, f'cpuidle.cpus = "{selector}"')) == expected


def test_cpus_that_this_machine_lacks_are_a_warning(machine: Machine) -> None:
    discovery = found(machine, 'cpuidle.cpus = "18-23"')
    assert managed(discovery) == {18, 19}
    (note,) = [note for note in discovery.notes if note.level == "warning"]
    assert note.says == 'cpus = "18-23" names CPUs this machine lacks: 20-23'
    assert note.do == "it has 0-19"


def test_only_cpus_that_this_machine_lacks_are_absent_and_not_ok(machine: Machine) -> None:
    discovery = found(machine, 'cpuidle.cpus = "64"')
    assert discovery.tunables == ()
    assert "no CPU here is one of 64" in discovery.absent


def test_a_machine_whose_cpus_are_all_alike_has_no_performance_cpus(
    build_machine: Callable[..., Machine],
) -> None:
    discovery = found(build_machine("not-gb10"), 'cpuidle.cpus = "performance"')
    assert discovery.tunables == ()
    assert discovery.absent


# -- CPUs and drivers that come and go -----------------------------------------------------------------------


def test_the_states_of_an_offline_cpu_are_absent_with_the_reason(machine: Machine) -> None:
    tree.set_cpu_online(machine.directory, 3, online=False)
    tuner = machine.tune()
    one = held(tuner, "cpuidle.cpu3.state2.disable")
    assert (one.verdict, one.reason) == (Verdict.ABSENT, "cpu3 is offline")
    assert disables(machine, 3) == [0, 0, 0, 0]
    assert "cpuidle.cpu3.entered" not in tuner.engine.held


def test_a_cpu_that_comes_online_is_tuned_with_its_own_original(machine: Machine) -> None:
    tree.set_cpu_online(machine.directory, 3, online=False)
    tuner = machine.tune()
    tree.set_cpu_online(machine.directory, 3, online=True)
    assert tuner.changed_areas() == ["cpuidle"]
    (adoption,) = tuner.discover(["cpuidle"], device="cpu3")
    tuner.engine.apply([one.tunable.id for one in adoption.added], Noticed.UDEV)
    assert disables(machine, 3) == [1, 1, 1, 1]
    tuner.engine.restore(None, by="root")
    assert disables(machine, 3) == [0, 0, 0, 0]


def test_a_cpu_that_goes_offline_and_comes_back_keeps_its_first_original(machine: Machine) -> None:
    tuner = machine.tune()
    for online in (False, True):
        tree.set_cpu_online(machine.directory, 3, online=online)
        tuner.discover(["cpuidle"], device="cpu3")
        tuner.engine.sweep(Noticed.SWEEP)
    assert disables(machine, 3) == [1, 1, 1, 1]
    tuner.engine.restore(None, by="root")
    assert disables(machine, 3) == [0, 0, 0, 0]


def test_what_a_cpu_had_while_offline_is_not_released(machine: Machine) -> None:
    tuner = machine.tune()
    tree.set_cpu_online(machine.directory, 3, online=False)
    (adoption,) = tuner.discover(["cpuidle"], device="cpu3")
    assert [one.tunable.id for one in adoption.released] == ["cpuidle.cpu3.entered"]
    tuner.release()
    assert disables(machine, 3) == [1, 1, 1, 1]


def test_a_cpu_event_looks_at_that_cpu_only(machine: Machine) -> None:
    tuner = machine.start()
    tunables = discover(tuner.host, tuner.settings, "cpu3").tunables
    assert {tunable.device for tunable in tunables} == {"cpu3"}


@pytest.mark.parametrize("driver", ["none", "", None])
def test_without_a_driver_the_area_is_absent(driver: str | None, machine: Machine) -> None:
    name = f"{CPUS}/cpuidle/current_driver"
    machine.root.path(name).unlink() if driver is None else machine.write(name, driver)
    discovery = found(machine)
    assert (discovery.tunables, discovery.absent) == ((), "this kernel has no cpuidle driver loaded")


def test_a_kernel_without_any_cpuidle_is_absent(machine: Machine) -> None:
    for cpu in range(20):
        machine.root.path(f"{CPUS}/cpu{cpu}/cpuidle").rename(machine.directory / f"gone{cpu}")
    discovery = found(machine)
    assert discovery.tunables == ()
    assert "none of them has idle states" in discovery.absent


# -- bad input -----------------------------------------------------------------------------------------------

BAD = {
    "empty": b"",
    "binary": b"\0\xff\x7f",
    "word": b"fast\n",
    "negative": b"-1\n",
    "fraction": b"1.5\n",
    "megabyte": b"9" * (1 << 20),
    "other digits": "\u0664\u0662\n".encode(),
}


@pytest.mark.parametrize("latency", BAD.values(), ids=BAD)
def test_a_latency_that_is_no_number_costs_that_state_only(latency: bytes, machine: Machine) -> None:
    machine.root.path(f"{CPUS}/cpu4/cpuidle/state2/latency").write_bytes(latency)
    tuner = machine.tune()
    one = held(tuner, "cpuidle.cpu4.state2.disable")
    assert (one.verdict, disables(machine, 4)) == (Verdict.FAILED, [1, 1, 0, 1])
    assert one.reason.startswith(f"no latency in {CPUS}/cpu4/cpuidle/state2: ")
    assert len(one.reason) < 200


def test_a_latency_that_vanished_costs_that_state_only(machine: Machine) -> None:
    machine.root.path(f"{CPUS}/cpu4/cpuidle/state2/latency").unlink()
    assert held(machine.tune(), "cpuidle.cpu4.state2.disable").verdict is Verdict.FAILED
    assert disables(machine, 4) == [1, 1, 0, 1]


@pytest.mark.parametrize("online", [*BAD.values(), None], ids=[*BAD, "missing"])
def test_a_list_of_online_cpus_that_is_none_counts_all_as_online(
    online: bytes | None, machine: Machine
) -> None:
    path = machine.root.path(f"{CPUS}/online")
    path.unlink() if online is None else path.write_bytes(online)
    assert managed(found(machine)) == set(range(20))


def test_a_disable_that_is_a_directory_costs_that_state_only(machine: Machine) -> None:
    path = machine.root.path(f"{CPUS}/cpu4/cpuidle/state2/disable")
    path.unlink()
    path.mkdir()
    tuner = machine.tune()
    assert held(tuner, "cpuidle.cpu4.state2.disable").verdict is Verdict.FAILED
    assert held(tuner, "cpuidle.cpu4.state3.disable").verdict is Verdict.OK


def test_state_directories_with_odd_names_are_no_states(machine: Machine) -> None:
    for name in ("state", "state-1", "state1234", "stateX", "state\u0662"):
        machine.root.path(f"{CPUS}/cpu0/cpuidle/{name}").mkdir()
    assert len([tunable for tunable in found(machine).tunables if tunable.device == "cpu0"]) == 5


# -- when ----------------------------------------------------------------------------------------------------


def test_when_cluster_follows_the_carrier_of_the_connectx_ports(machine: Machine) -> None:
    tuner = machine.tune('cpuidle.when = "cluster"')
    assert disables(machine) == [1, 1, 1, 1]
    for port in ("enp1s0f0np0", "enP2p1s0f0np0"):
        assert disables(machine) == [1, 1, 1, 1]
        tree.set_carrier(machine.directory, port, up=False)
    assert tuner.changed_areas() == ["cpuidle"]
    tuner.discover(tuner.changed_areas())
    tuner.release()
    assert disables(machine) == [0, 0, 0, 0]
    tree.set_carrier(machine.directory, "enp1s0f1np1", up=True)
    tuner.discover(tuner.changed_areas())
    tuner.engine.apply(None, Noticed.RTNETLINK)
    assert disables(machine) == [1, 1, 1, 1]


def test_the_carrier_of_another_card_is_not_a_cluster(machine: Machine) -> None:
    for port in ("enp1s0f0np0", "enP2p1s0f0np0"):
        tree.set_carrier(machine.directory, port, up=False)
    assert machine.read("/sys/class/net/enP7s7/carrier") == "1"
    discovery = found(machine, 'cpuidle.when = "cluster"')
    assert discovery.absent.startswith("no ConnectX port has a carrier")


def test_without_a_card_when_cluster_leaves_the_states_alone(build_machine: Callable[..., Machine]) -> None:
    machine = build_machine("no-cable", 'cpuidle.when = "cluster"')
    machine.tune()
    assert disables(machine) == [0, 0, 0, 0]


def test_when_always_a_carrier_changes_nothing(machine: Machine) -> None:
    tuner = machine.start()
    tree.set_carrier(machine.directory, "enp1s0f0np0", up=False)
    assert "cpuidle" not in tuner.changed_areas()


# -- what it means -------------------------------------------------------------------------------------------


def test_disabling_everything_is_explained_on_a_gb10(machine: Machine) -> None:
    (note,) = notes(machine)
    assert (note.level, note.do) == ("info", "")
    assert note.says.startswith(
        "with this setting all idle states are disabled; the governor then uses LPI-0 all the same"
    )
    assert "What it costs in watts is not known" in note.says


@pytest.mark.parametrize("limit_us", [0, 1])
def test_where_only_polling_is_left_that_is_a_warning_with_a_way_out(
    limit_us: int, build_machine: Callable[..., Machine]
) -> None:
    (note,) = notes(build_machine("not-gb10"), f"cpuidle.disable_latency_us = {limit_us}")
    assert note.level == "warning"
    assert "idle CPUs spin at full power" in note.says
    assert note.do == "cpuidle.disable_latency_us = 2 or more keeps C1, the first that rests"


def test_the_way_out_that_the_warning_names_is_one(build_machine: Callable[..., Machine]) -> None:
    machine = build_machine("not-gb10")
    (note,) = notes(machine)
    limit = re.search(r"disable_latency_us = (\d+)", note.do)
    assert limit is not None
    assert notes(machine, f"cpuidle.disable_latency_us = {limit[1]}") == ()
    machine.tune()
    assert disables(machine) == [0, 0, 1, 1]


def test_a_limit_that_leaves_a_state_to_rest_in_needs_no_explanation(machine: Machine) -> None:
    assert notes(machine, "cpuidle.disable_latency_us = 1") == ()


# -- PM QoS of others ----------------------------------------------------------------------------------------


def test_without_a_request_of_others_there_is_nothing_to_know(machine: Machine) -> None:
    assert observed(machine) == []


@pytest.mark.parametrize("text", ["100", "n/a"])
def test_a_resume_latency_limit_is_shown_with_its_cpus(text: str, machine: Machine) -> None:
    for cpu in (2, 3, 7):
        machine.write(f"{CPUS}/cpu{cpu}/power/pm_qos_resume_latency_us", text)
    assert observed(machine) == ["pm_qos_resume_latency_us limits idle states on CPUs 2-3,7"]


def test_an_empty_or_missing_limit_is_none(machine: Machine) -> None:
    machine.root.path(f"{CPUS}/cpu2/power/pm_qos_resume_latency_us").write_bytes(b"")
    machine.root.path(f"{CPUS}/cpu3/power/pm_qos_resume_latency_us").unlink()
    assert observed(machine) == []


def test_a_latency_request_is_shown_with_who_holds_it(machine: Machine) -> None:
    device = machine.root.path("/dev/cpu_dma_latency")
    device.parent.mkdir()
    device.write_bytes((20).to_bytes(4, "little"))
    says = "a PM QoS request forbids idle states above 20 µs while a process not visible to us keeps it open"
    assert observed(machine) == [says]


def test_the_kernels_default_is_no_request(machine: Machine) -> None:
    device = machine.root.path("/dev/cpu_dma_latency")
    device.parent.mkdir()
    device.write_bytes((2_000_000_000).to_bytes(4, "little"))
    assert observed(machine) == []


@pytest.mark.parametrize("content", [b"", b"\x01", b"x" * 3])
def test_a_latency_file_that_is_too_short_tells_nothing(content: bytes, machine: Machine) -> None:
    device = machine.root.path("/dev/cpu_dma_latency")
    device.parent.mkdir()
    device.write_bytes(content)
    assert qos_latency_us(machine.root) is None


@pytest.mark.real_kernel
def test_on_a_real_kernel_an_open_request_is_seen_with_its_holder() -> None:
    path = Root().path("/dev/cpu_dma_latency")
    if not path.exists():
        pytest.skip("this kernel has no /dev/cpu_dma_latency")
    before = qos_latency_us(Root())
    reading, writing = os.pipe()
    child = children.fork(lambda: children.hold_open(path, (17).to_bytes(4, "little"), writing))
    try:
        children.await_word(reading)
        assert qos_latency_us(Root()) == 17
        assert f"[{child}]" in qos_holders(Root())
    finally:
        children.kill(child)
        os.close(reading)
        os.close(writing)
    assert qos_latency_us(Root()) == before


# -- the check of the effect ---------------------------------------------------------------------------------


def enter(machine: Machine, times: int, *, cpu: int = 0, state: int = 2) -> None:
    name = f"{CPUS}/cpu{cpu}/cpuidle/state{state}/usage"
    machine.write(name, str(int(machine.read(name)) + times))


@pytest.fixture
def counting(machine: Machine) -> Tuner:
    """A tuned machine whose check has counted once."""
    tuner = machine.tune()
    tuner.engine.sweep(Noticed.SWEEP)
    return tuner


def test_the_first_reading_can_only_be_the_start(machine: Machine) -> None:
    one = held(machine.tune(), CHECK)
    assert (one.verdict, one.reason) == (Verdict.ABSENT, "counting from now; judged at the next sweep")


def test_states_that_are_not_entered_hold(counting: Tuner) -> None:
    one = held(counting, CHECK)
    assert (one.verdict, one.actual) == (Verdict.OK, 0)


def test_a_disabled_state_that_is_entered_is_a_drift_nobody_heals(counting: Tuner, machine: Machine) -> None:
    enter(machine, 4)
    (drift,) = counting.engine.sweep(Noticed.SWEEP)
    assert (drift.tunable, drift.found) == (CHECK, 3)  # one of them may have begun while it was allowed
    assert held(counting, CHECK).verdict is Verdict.DRIFT
    counting.engine.sweep(Noticed.SWEEP)
    assert held(counting, CHECK).verdict is Verdict.OK


def test_the_state_a_cpu_was_in_when_it_was_disabled_is_counted_later_and_no_drift(
    counting: Tuner, machine: Machine
) -> None:
    enter(machine, 1)
    assert counting.engine.sweep(Noticed.SWEEP) == []
    assert held(counting, CHECK).verdict is Verdict.OK
    enter(machine, 1)
    assert [drift.found for drift in counting.engine.sweep(Noticed.SWEEP)] == [1]


def test_a_state_that_is_allowed_may_be_entered(machine: Machine) -> None:
    tuner = machine.tune("cpuidle.disable_latency_us = 231")
    tuner.engine.sweep(Noticed.SWEEP)
    enter(machine, 1000, state=1)
    assert tuner.engine.sweep(Noticed.SWEEP) == []


def test_state_0_is_entered_when_all_are_disabled_and_that_is_no_drift(
    counting: Tuner, machine: Machine
) -> None:
    enter(machine, 1000, state=0)
    assert counting.engine.sweep(Noticed.SWEEP) == []
    assert held(counting, CHECK).verdict is Verdict.OK


def test_after_a_write_of_our_own_counting_begins_anew(counting: Tuner, machine: Machine) -> None:
    machine.write(f"{CPUS}/cpu0/cpuidle/state2/disable", "0")
    enter(machine, 500)  # while it was allowed
    drifts = counting.engine.sweep(Noticed.SWEEP)
    assert [drift.tunable for drift in drifts] == ["cpuidle.cpu0.state2.disable"]
    assert held(counting, CHECK).verdict is Verdict.ABSENT
    counting.engine.sweep(Noticed.SWEEP)
    assert held(counting, CHECK).verdict is Verdict.OK


def test_while_a_state_is_left_enabled_nothing_is_judged(counting: Tuner, machine: Machine) -> None:
    counting.engine.marks.pause(["cpuidle.cpu0.state2.disable"], for_s=60, by="root")
    machine.write(f"{CPUS}/cpu0/cpuidle/state2/disable", "0")
    for _ in range(3):
        enter(machine, 500)
        counting.engine.sweep(Noticed.SWEEP)
        assert held(counting, CHECK).verdict is Verdict.ABSENT


def test_a_counter_that_runs_backwards_counts_as_no_entry(counting: Tuner, machine: Machine) -> None:
    machine.write(f"{CPUS}/cpu0/cpuidle/state2/usage", "0")
    assert counting.engine.sweep(Noticed.SWEEP) == []
    assert held(counting, CHECK).actual == 0


@pytest.mark.parametrize(
    "usage", [b"", b"\0\xff", b"many\n", b"9" * (1 << 20)], ids=["empty", "binary", "word", "megabyte"]
)
def test_a_counter_that_is_no_number_fails_and_never_looks_like_not_entered(
    usage: bytes, counting: Tuner, machine: Machine
) -> None:
    machine.root.path(f"{CPUS}/cpu0/cpuidle/state2/usage").write_bytes(usage)
    for _ in range(3):
        counting.engine.sweep(Noticed.SWEEP)
        assert held(counting, CHECK).verdict is not Verdict.OK


def test_a_counter_that_vanished_is_absent_and_the_others_go_on(counting: Tuner, machine: Machine) -> None:
    tree.set_cpu_online(machine.directory, 3, online=False)
    machine.root.path(f"{CPUS}/cpu3/cpuidle/state2/usage").unlink()
    held(counting, "cpuidle.cpu3.entered").tunable.attribute.close()
    counting.engine.sweep(Noticed.SWEEP)
    assert held(counting, "cpuidle.cpu3.entered").verdict is Verdict.ABSENT
    assert held(counting, CHECK).verdict is Verdict.OK


def test_a_fifo_in_the_counters_place_does_not_stop_the_daemon(machine: Machine) -> None:
    path = machine.root.path(f"{CPUS}/cpu0/cpuidle/state2/usage")
    path.unlink()
    os.mkfifo(path)
    assert held(machine.tune(), CHECK).verdict is Verdict.FAILED


def test_a_check_cannot_be_written_and_needs_no_preparation(machine: Machine) -> None:
    check = held(machine.start(), CHECK).tunable.attribute
    assert (check.writable, check.preparation(), check.watched, check.exchange(b"0\n")) == (
        False,
        (),
        (),
        None,
    )
    with pytest.raises(OSError, match="a check cannot be set"):
        check.write(0)


def test_each_reading_counts_from_the_one_before(machine: Machine) -> None:
    base = f"{CPUS}/cpu0/cpuidle/state3"
    machine.write(f"{base}/disable", "1")
    disable = FileAttribute(machine.root, f"{base}/disable", identity=("", ""))
    check = EnteredStates(machine.root, base, ("", ""), [(disable, f"{base}/usage")])
    readings = []
    for times in (0, 6, 0, 7):
        enter(machine, times, state=3)
        disable.read()
        readings.append(check.read().value)
    assert readings == [None, 5, 0, 7]
    check.close()
    assert check.read() == Reading(ReadingKind.ABSENT, reason="counting from now; judged at the next sweep")


# -- what the status says ------------------------------------------------------------------------------------


def said(tuner: Tuner) -> str:
    views = [one for one in tuner.engine.held.values() if one.tunable.area == "cpuidle"]
    return AREA_CPUIDLE.say(tuner.host, tuner.settings, views)


def test_the_status_says_which_states_are_left_and_whether_the_others_are_entered(
    counting: Tuner, machine: Machine
) -> None:
    assert said(counting) == "LPI-0 only on 20 CPUs; deeper states not entered in the last 10 s"
    enter(machine, 2)
    enter(machine, 2, cpu=4)
    counting.engine.sweep(Noticed.SWEEP)
    assert said(counting) == "LPI-0 only on 20 CPUs; yet disabled states were entered on 2 CPUs"


def test_before_the_second_reading_the_status_claims_no_effect(machine: Machine) -> None:
    assert said(machine.tune("cpuidle.disable_latency_us = 200")) == "LPI-0, LPI-1 only on 20 CPUs"


def test_the_status_does_not_count_a_cpu_that_is_offline(machine: Machine) -> None:
    tree.set_cpu_online(machine.directory, 3, online=False)
    assert said(machine.tune("cpuidle.disable_latency_us = 200")) == "LPI-0, LPI-1 only on 19 CPUs"
