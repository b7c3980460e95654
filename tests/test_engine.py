"""The engine against a kernel that clamps, refuses, fails and forgets, and against rivals."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from machines import NVME, READ_AHEAD, held
from scripted import RULE, ScriptedAttribute, hold, make_engine, tunable_of
from sparktune.model import Action, Drift, Noticed, Policy, Reading, ReadingKind, Verdict
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from machines import Machine
    from sparktune.engine import Engine
    from sparktune.held import Held
    from sparktune.model import Value
    from sparktune.originals import Original


@pytest.fixture
def engine(fast_path: Path) -> Engine:
    return make_engine(fast_path)


@pytest.fixture
def disk() -> ScriptedAttribute:
    return ScriptedAttribute()


@pytest.fixture
def one(engine: Engine, disk: ScriptedAttribute) -> Held:
    return hold(engine, tunable_of(disk))[0]


def refuse_to_store(engine: Engine, directory: Path) -> None:
    """Make every store fail from now on, whoever runs this: the temporary file's name is a directory."""
    for name in (".originals.jsonl.new", ".marks.json.new"):
        (directory / name).mkdir()


# -- applying and healing ------------------------------------------------------------------------------------


def test_the_first_write_is_told_as_applied_and_not_as_a_drift_that_was_healed(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    (drift,) = engine.apply(None, Noticed.START)
    assert drift == Drift(tunable=one.tunable.id, wanted=8192, found=128, action=Action.APPLIED)
    assert (disk.value, one.verdict, one.heals) == (8192, Verdict.OK, 0)


def test_a_value_that_is_there_already_is_not_written(engine: Engine, disk: ScriptedAttribute) -> None:
    disk.value = 8192
    hold(engine, tunable_of(disk))
    assert engine.apply(None, Noticed.START) == []
    assert disk.written == []
    assert engine.originals.all() == ()


def test_a_drift_is_healed_and_told_with_what_was_found(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    disk.value = 64
    drift = engine.look(one, Noticed.FANOTIFY)
    assert drift == Drift(tunable=one.tunable.id, wanted=8192, found=64, action=Action.HEALED)
    assert (disk.value, one.heals) == (8192, 1)


def test_the_original_is_on_disk_before_the_first_write(fast_path: Path, disk: ScriptedAttribute) -> None:
    seen: list[list[Value | None]] = []
    disk.rival = lambda: seen.append([entry.value for entry in make_engine(fast_path).originals.all()])
    engine = make_engine(fast_path)
    engine.look(hold(engine, tunable_of(disk))[0], Noticed.START)
    assert seen[0] == [128]


def test_with_policy_report_a_drift_is_told_once_and_nothing_is_written(
    engine: Engine, disk: ScriptedAttribute
) -> None:
    (one,) = hold(engine, tunable_of(disk), policy=Policy.REPORT)
    drift = engine.look(one, Noticed.SWEEP)
    assert drift is not None
    assert drift.action is Action.REPORTED
    assert engine.look(one, Noticed.SWEEP) is None
    assert (disk.written, one.verdict) == ([], Verdict.DRIFT)


def test_with_policy_report_another_wrong_value_is_told_again(
    engine: Engine, disk: ScriptedAttribute
) -> None:
    (one,) = hold(engine, tunable_of(disk), policy=Policy.REPORT)
    engine.look(one, Noticed.SWEEP)
    disk.value = 64
    drift = engine.look(one, Noticed.SWEEP)
    assert drift is not None
    assert drift.found == 64


def test_with_policy_off_nothing_is_written_and_the_verdict_is_unmanaged(
    engine: Engine, disk: ScriptedAttribute
) -> None:
    (one,) = hold(engine, tunable_of(disk), policy=Policy.OFF)
    assert engine.apply(None, Noticed.REQUEST) == []
    assert (disk.written, one.verdict) == ([], Verdict.UNMANAGED)


def test_a_look_that_may_not_heal_reports_only(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    drift = engine.look(one, Noticed.REQUEST, heal=False)
    assert drift is not None
    assert drift.action is Action.REPORTED
    assert disk.written == []


def test_a_check_is_never_written(engine: Engine, disk: ScriptedAttribute) -> None:
    disk.writable = False
    (one,) = hold(engine, tunable_of(disk))
    engine.apply(None, Noticed.START)
    assert (disk.written, one.verdict) == ([], Verdict.DRIFT)


def test_a_disruptive_write_waits_for_a_start_or_a_request(engine: Engine, disk: ScriptedAttribute) -> None:
    (one,) = hold(engine, replace(tunable_of(disk), disruptive=True))
    drift = engine.look(one, Noticed.FANOTIFY)
    assert drift is not None
    assert drift.action is Action.LEFT
    assert disk.written == []
    engine.apply(None, Noticed.REQUEST)
    assert disk.value == 8192


def test_the_plan_lists_what_differs_and_writes_nothing(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    (planned,) = engine.plan()
    assert (planned.held, planned.found, planned.before) == (one, 128, ())
    assert disk.written == []
    disk.value = 8192
    assert engine.plan() == []


def test_the_sweep_finds_a_change_that_made_no_event(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    disk.value = 64
    (drift,) = engine.sweep(Noticed.SWEEP)
    assert (drift.found, drift.action, disk.value) == (64, Action.HEALED, 8192)
    assert one.verdict is Verdict.OK
    assert engine.sweep(Noticed.SWEEP) == []


# -- a kernel that refuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (errno.EPERM, Verdict.BLOCKED),
        (errno.EACCES, Verdict.BLOCKED),
        (errno.EROFS, Verdict.BLOCKED),
        (errno.EINVAL, Verdict.BLOCKED),
        (errno.ENODEV, Verdict.ABSENT),
        (errno.ENXIO, Verdict.ABSENT),
        (errno.EIO, Verdict.FAILED),
    ],
)
def test_a_write_that_fails_gives_a_verdict_with_what_the_kernel_said(
    code: int, verdict: Verdict, engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.write_error = code
    (drift,) = engine.apply(None, Noticed.START)
    assert drift.action is Action.REFUSED
    assert one.verdict is verdict
    assert errno.errorcode[code] in one.reason
    assert "write 8192 to /sys/fake/value" in one.reason


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (errno.EPERM, Verdict.BLOCKED),
        (errno.EROFS, Verdict.BLOCKED),
        (errno.ENODEV, Verdict.ABSENT),
        (errno.ENOENT, Verdict.ABSENT),
        (errno.EIO, Verdict.FAILED),
        (errno.EINVAL, Verdict.FAILED),
    ],
)
def test_a_read_that_fails_gives_a_verdict_and_no_write(
    code: int, verdict: Verdict, engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.read_error = code
    assert engine.apply(None, Noticed.START) == []
    assert (one.verdict, disk.written) == (verdict, [])
    assert errno.errorcode[code] in one.reason


def test_a_refused_write_is_not_tried_again_while_nothing_changes(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.write_error = errno.EPERM
    engine.apply(None, Noticed.START)
    disk.write_error = 0
    assert engine.sweep(Noticed.SWEEP) == []
    assert (disk.written, one.verdict) == ([], Verdict.BLOCKED)


def test_a_refused_write_is_told_once(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    disk.write_error = errno.EPERM
    assert len(engine.apply(None, Noticed.START)) == 1
    assert engine.apply(None, Noticed.RELOAD) == []


def test_a_refused_write_is_tried_again_when_the_value_changes(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.write_error = errno.EPERM
    engine.apply(None, Noticed.START)
    disk.write_error, disk.value = 0, 64
    engine.sweep(Noticed.SWEEP)
    assert one.verdict is Verdict.OK


def test_a_refused_write_is_tried_again_when_the_configuration_changes(
    engine: Engine, disk: ScriptedAttribute
) -> None:
    disk.write_error = errno.EPERM
    hold(engine, tunable_of(disk))
    engine.apply(None, Noticed.START)
    disk.write_error = 0
    (one,) = hold(engine, tunable_of(disk, wanted=4096))
    engine.sweep(Noticed.SWEEP)
    assert (disk.value, one.verdict) == (4096, Verdict.OK)


def test_a_refused_write_is_tried_again_on_request(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.write_error = errno.EPERM
    engine.apply(None, Noticed.START)
    disk.write_error = 0
    engine.apply([one.tunable.id], Noticed.REQUEST)
    assert one.verdict is Verdict.OK


def test_an_unexpected_error_is_tried_again_at_each_sweep(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.write_error = errno.EIO
    engine.apply(None, Noticed.START)
    disk.write_error = 0
    (drift,) = engine.sweep(Noticed.SWEEP)
    assert (drift.action, disk.value) == (Action.HEALED, 8192)


def test_a_refused_first_write_leaves_no_original_that_could_go_stale(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.write_error = errno.EPERM
    engine.apply(None, Noticed.START)
    assert engine.originals.find(one.key) is None
    disk.write_error, disk.value = 0, 256  # somebody else's value by then
    engine.sweep(Noticed.SWEEP)
    original = engine.originals.find(one.key)
    assert original is not None
    assert original.value == 256


def test_a_refused_later_write_keeps_the_original(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    engine.apply(None, Noticed.START)
    disk.write_error, disk.value = errno.EPERM, 256
    engine.sweep(Noticed.SWEEP)
    original = engine.originals.find(one.key)
    assert original is not None
    assert original.value == 128


# -- a kernel that keeps something else ----------------------------------------------------------------------


def test_a_clamped_value_is_blocked_with_the_value_the_kernel_keeps(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.keeps = lambda value: min(int(value), 4096)
    engine.apply(None, Noticed.START)
    assert (one.verdict, one.reason, one.actual) == (
        Verdict.BLOCKED,
        "wrote 8192, kernel keeps 4096",
        4096,
    )


def test_a_clamped_value_is_not_written_again_at_each_sweep(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.keeps = lambda value: min(int(value), 4096)
    engine.apply(None, Noticed.START)
    written = len(disk.written)
    for _ in range(3):
        assert engine.sweep(Noticed.SWEEP) == []
    assert len(disk.written) == written


def test_a_clamped_value_counts_as_ours_when_it_is_restored(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.keeps = lambda value: min(int(value), 4096)
    engine.apply(None, Noticed.START)
    original = engine.originals.find(one.key)
    assert original is not None
    assert (original.value, original.ours) == (128, (4096,))


def test_a_write_that_the_kernel_ignores_is_blocked(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.keeps = lambda value: int(value) * 0 + 128
    engine.apply(None, Noticed.START)
    assert (one.verdict, one.reason) == (Verdict.BLOCKED, "wrote 8192, kernel keeps 128")


def test_a_rival_that_writes_once_before_the_value_is_read_back_is_overruled(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    def write_once() -> None:
        if len(disk.written) == 1:
            disk.value = 64

    disk.rival = write_once
    engine.apply(None, Noticed.START)
    assert (disk.value, one.verdict, disk.written) == (8192, Verdict.OK, [8192, 8192])


def test_a_rival_that_wins_each_time_is_forgiven_by_its_event_and_ends_contested(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    def write_back() -> None:
        disk.value = 64

    engine.apply(None, Noticed.START)
    disk.rival, disk.value = write_back, 64
    for _ in range(RULE.after + 1):
        one.forgive()  # as the daemon does for each event
        engine.look(one, Noticed.FANOTIFY)
    assert one.verdict is Verdict.CONTESTED


def test_a_value_that_vanishes_after_the_write_is_told_as_what_it_is(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    def leave() -> None:
        disk.read_error = errno.ENODEV

    disk.rival = leave
    engine.apply(None, Noticed.START)
    assert one.verdict is Verdict.ABSENT


# -- one broken attribute ------------------------------------------------------------------------------------


def test_a_broken_attribute_costs_only_itself(engine: Engine) -> None:
    broken, sound = ScriptedAttribute(instance="fake:1"), ScriptedAttribute(instance="fake:2")
    bad, good = hold(engine, tunable_of(broken, name="bad"), tunable_of(sound, name="good"))
    engine.apply(None, Noticed.START)
    broken.broken, sound.value = ZeroDivisionError("oops"), 64
    engine.sweep(Noticed.SWEEP)
    assert (bad.verdict, good.verdict, sound.value) == (Verdict.FAILED, Verdict.OK, 8192)
    assert [name for name, _ in engine.failures] == ["nvme.bad.value"]
    assert "ZeroDivisionError: oops" in bad.reason


def test_a_broken_attribute_costs_only_itself_in_the_first_apply_too(engine: Engine) -> None:
    broken, sound = ScriptedAttribute(instance="fake:1"), ScriptedAttribute(instance="fake:2")
    broken.broken = RuntimeError("oops")
    bad, good = hold(engine, tunable_of(broken, name="bad"), tunable_of(sound, name="good"))
    assert [item.held for item in engine.plan()] == [good]
    engine.apply(None, Noticed.START)
    assert (bad.verdict, good.verdict) == (Verdict.FAILED, Verdict.OK)


def test_a_value_of_the_wrong_type_is_a_drift_and_no_crash(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.value = "none"
    (drift,) = engine.apply(None, Noticed.START)
    assert (drift.found, disk.written, one.verdict) == ("none", [8192], Verdict.OK)


# -- stores that cannot be written ---------------------------------------------------------------------------


def test_without_room_for_the_original_nothing_is_written_and_the_state_says_why(
    engine: Engine, disk: ScriptedAttribute, one: Held, fast_path: Path
) -> None:
    refuse_to_store(engine, fast_path)
    engine.apply(None, Noticed.START)
    assert disk.written == []
    assert one.verdict is Verdict.FAILED
    assert one.reason.startswith("not written: cannot write ")


def test_once_there_is_room_again_the_next_sweep_writes(
    engine: Engine, disk: ScriptedAttribute, one: Held, fast_path: Path
) -> None:
    refuse_to_store(engine, fast_path)
    engine.apply(None, Noticed.START)
    (fast_path / ".originals.jsonl.new").rmdir()
    engine.sweep(Noticed.SWEEP)
    assert (disk.value, one.verdict) == (8192, Verdict.OK)
    assert [entry.value for entry in make_engine(fast_path).originals.all()] == [128]


@pytest.mark.root
def test_a_full_disk_under_the_originals_keeps_the_host_untouched_until_there_is_room(
    machine: Machine,
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", machine.state_dir], check=True)
    try:
        junk = machine.state_dir / "junk"
        with contextlib.suppress(OSError), junk.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        tuner = machine.tune()
        states = [one for one in tuner.engine.held.values() if not one.tunable.is_check]
        assert machine.read(READ_AHEAD) == "128"
        assert {one.verdict for one in states if one.tunable.area != "roce"} == {Verdict.FAILED}
        assert "No space left on device" in held(tuner).reason
        junk.unlink()
        tuner.engine.sweep(Noticed.SWEEP)
        assert (machine.read(READ_AHEAD), {one.verdict for one in states}) == ("8192", {Verdict.OK})
    finally:
        subprocess.run(["umount", "--lazy", machine.state_dir], check=True)


def test_a_heal_needs_no_room_on_the_disk(
    engine: Engine, disk: ScriptedAttribute, one: Held, fast_path: Path
) -> None:
    engine.apply(None, Noticed.START)
    refuse_to_store(engine, fast_path)
    disk.value = 64
    engine.look(one, Noticed.FANOTIFY)
    assert (disk.value, one.verdict) == (8192, Verdict.OK)


# -- a planned directory -------------------------------------------------------------------------------------


def test_a_planned_directory_is_on_record_before_it_is_made(fast_path: Path) -> None:
    seen: list[Original] = []
    attribute = ScriptedAttribute(makes="/sys/fake")
    attribute.on_prepare = lambda: seen.extend(make_engine(fast_path).originals.all())
    engine = make_engine(fast_path)
    engine.look(hold(engine, tunable_of(attribute))[0], Noticed.START)
    assert [(entry.makes, entry.value) for entry in seen] == [("/sys/fake", None)]


def test_the_original_behind_a_planned_directory_is_what_the_kernel_put_there(engine: Engine) -> None:
    attribute = ScriptedAttribute(value=77, makes="/sys/fake")
    (one,) = hold(engine, tunable_of(attribute))
    assert engine.plan()[0].before == ("mkdir /sys/fake",)
    engine.apply(None, Noticed.START)
    original = engine.originals.find(one.key)
    assert original is not None
    assert (original.value, original.makes, attribute.value) == (77, "/sys/fake", 8192)


def test_a_directory_whose_attribute_cannot_be_read_is_not_written_without_an_original(
    engine: Engine,
) -> None:
    attribute = ScriptedAttribute(value=77, makes="/sys/fake")

    def fail() -> None:
        attribute.read_error = errno.EIO

    attribute.on_prepare = fail
    (one,) = hold(engine, tunable_of(attribute))
    engine.apply(None, Noticed.START)
    assert (attribute.written, one.verdict) == ([], Verdict.FAILED)
    assert "its original cannot be read" in one.reason


def test_a_directory_that_holds_the_wanted_value_at_once_is_not_written(engine: Engine) -> None:
    attribute = ScriptedAttribute(value=8192, makes="/sys/fake")
    (one,) = hold(engine, tunable_of(attribute))
    engine.apply(None, Noticed.START)
    assert (attribute.made, attribute.written, one.verdict) == (True, [], Verdict.OK)


# -- fights and pauses ---------------------------------------------------------------------------------------


def fight(engine: Engine, disk: ScriptedAttribute, one: Held, rounds: int) -> list[Action]:
    """Let a rival write so many times; what was done each time."""
    actions = []
    for number in range(rounds):
        disk.value = 64 + number
        drift = engine.look(one, Noticed.FANOTIFY)
        if drift is not None:
            actions.append(drift.action)
    return actions


def test_five_heals_then_the_sixth_drift_is_left_standing_and_told(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    engine.accuse(one, "bash", "bash[811]")
    assert fight(engine, disk, one, 6) == [Action.HEALED] * 5 + [Action.LEFT]
    assert (one.verdict, disk.value) == (Verdict.CONTESTED, 69)
    assert one.reason == "bash[811] keeps writing it back; left alone for 10 min"


def test_a_contested_tunable_is_told_once_however_often_it_is_written(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    assert fight(engine, disk, one, 20) == [Action.HEALED] * 5 + [Action.LEFT]


def test_a_rival_who_is_known_only_later_is_named_all_the_same(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    fight(engine, disk, one, 6)
    assert one.reason == "somebody keeps writing it back; left alone for 10 min"
    engine.accuse(one, "bash", "bash[811]")
    assert one.reason == "bash[811] keeps writing it back; left alone for 10 min"
    assert fight(engine, disk, one, 1) == []


def test_a_parry_that_is_booked_after_the_fight_was_given_up_does_not_hide_that(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    disk.value = 64
    found = engine.parry(one)
    assert found is not None
    fight(engine, disk, one, 5)
    assert one.verdict is Verdict.CONTESTED
    drift = engine.account(one, found, Noticed.FANOTIFY)
    assert drift is not None
    assert (drift.action, drift.found) == (Action.HEALED, 64)
    assert (one.verdict, one.heals) == (Verdict.CONTESTED, 5)
    assert engine.holds(one)  # nothing more to look at


def test_a_sweep_leaves_a_contested_value_alone(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    engine.apply(None, Noticed.START)
    fight(engine, disk, one, 6)
    assert engine.sweep(Noticed.SWEEP) == []
    assert disk.value == 69


def test_after_the_hold_the_next_sweep_heals(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    engine.apply(None, Noticed.START)
    fight(engine, disk, one, 6)
    one.contest.held_until_s = time.monotonic()
    engine.sweep(Noticed.SWEEP)
    assert (disk.value, one.verdict) == (8192, Verdict.OK)


def test_apply_ends_a_hold(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    engine.apply(None, Noticed.START)
    fight(engine, disk, one, 6)
    engine.apply(None, Noticed.REQUEST)
    assert (disk.value, one.verdict) == (8192, Verdict.OK)
    assert fight(engine, disk, one, 6) == [Action.HEALED] * 5 + [Action.LEFT]


def test_after_zero_is_never_contested(fast_path: Path, disk: ScriptedAttribute) -> None:
    engine = make_engine(fast_path, rule=replace(RULE, after=0))
    (one,) = hold(engine, tunable_of(disk))
    engine.apply(None, Noticed.START)
    assert fight(engine, disk, one, 50) == [Action.HEALED] * 50


def test_a_paused_tunable_is_left_as_it_is_and_told_once(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    engine.marks.pause(["nvme"], for_s=60, by="root")
    assert fight(engine, disk, one, 1) == [Action.LEFT]
    assert disk.value == 64
    assert one.verdict is Verdict.PAUSED
    assert engine.sweep(Noticed.SWEEP) == []


def test_a_pause_shows_in_the_verdict_of_what_still_holds(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    engine.marks.pause(["*"], for_s=60, by="root")
    assert engine.sweep(Noticed.SWEEP) == []
    assert (one.verdict, disk.value) == (Verdict.PAUSED, 8192)


def test_a_pause_that_goes_on_changes_nothing_that_a_reader_sees(engine: Engine, one: Held) -> None:
    engine.apply(None, Noticed.START)
    engine.marks.pause(["*"], for_s=60, by="root")
    engine.sweep(Noticed.SWEEP)
    version = one.version
    for _ in range(20):
        engine.sweep(Noticed.SWEEP)
    assert one.version <= version + 1  # one more if a second ended in between


def test_when_a_pause_ends_the_drift_is_healed(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    engine.apply(None, Noticed.START)
    engine.marks.pause(["nvme.disk.value"], for_s=0.02, by="root")
    disk.value = 64
    engine.sweep(Noticed.SWEEP)
    assert disk.value == 64
    time.sleep(0.03)
    engine.sweep(Noticed.SWEEP)
    assert (disk.value, one.verdict) == (8192, Verdict.OK)


@pytest.mark.parametrize("ids", [None, ["nvme"], ["nvme.disk.value"]])
@pytest.mark.parametrize("target", ["nvme.disk.value"])
def test_apply_ends_the_pause_of_a_tunable(
    ids: list[str] | None, target: str, engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.marks.pause([target], for_s=60, by="root")
    engine.apply(ids, Noticed.REQUEST)
    assert (disk.value, engine.marks.pauses()) == (8192, ())


def test_apply_of_an_area_ends_the_pause_of_that_area(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.marks.pause(["nvme", "roce"], for_s=60, by="root")
    engine.apply(["nvme"], Noticed.REQUEST)
    assert disk.value == 8192
    assert [pause.target for pause in engine.marks.pauses()] == ["roce"]


def test_apply_of_everything_ends_all_pauses(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    engine.marks.pause(["*", "nvme"], for_s=60, by="root")
    engine.apply(None, Noticed.REQUEST)
    assert (disk.value, engine.marks.pauses()) == (8192, ())


# -- the hot path --------------------------------------------------------------------------------------------


def answer(engine: Engine, one: Held) -> Drift | None:
    """What the daemon does for an event: parry at once and keep the books later, else look."""
    found = engine.parry(one)
    if found is None:
        return engine.look(one, Noticed.FANOTIFY)
    return engine.account(one, found, Noticed.FANOTIFY)


def test_a_parry_puts_back_and_is_told_as_a_heal(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    engine.apply(None, Noticed.START)
    disk.value = 64
    found = engine.parry(one)
    assert (found, disk.value) == (b"64\n", 8192)
    assert found is not None
    drift = engine.account(one, found, Noticed.FANOTIFY)
    assert drift == Drift(tunable=one.tunable.id, wanted=8192, found=64, action=Action.HEALED)
    assert one.heals == 1


def test_there_is_no_parry_before_the_original_is_on_disk(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.value = 8192
    engine.apply(None, Noticed.START)
    disk.value = 64
    assert engine.parry(one) is None
    assert disk.written == []


def test_there_is_no_parry_without_a_write_since_the_original_was_recorded(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.originals.record([engine._original(one, 128)])
    disk.value = 8192  # somebody else's doing
    engine.look(one, Noticed.START)
    disk.value = 256
    assert engine.parry(one) is None
    engine.look(one, Noticed.FANOTIFY)
    original = engine.originals.find(one.key)
    assert original is not None
    assert original.value == 256


@pytest.mark.parametrize("target", ["*", "nvme", "nvme.disk.value"])
def test_there_is_no_parry_during_a_pause(
    target: str, engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    engine.marks.pause([target], for_s=60, by="root")
    engine.look(one, Noticed.REQUEST)  # as the daemon does for the request
    disk.value = 64
    assert engine.parry(one) is None
    assert disk.value == 64


@pytest.mark.parametrize("policy", [Policy.REPORT, Policy.OFF])
def test_there_is_no_parry_unless_the_policy_is_to_enforce(
    policy: Policy, engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    hold(engine, one.tunable, policy=policy)
    engine.look(one, Noticed.RELOAD)
    disk.value = 64
    assert engine.parry(one) is None


def test_there_is_no_parry_of_what_was_restored(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    engine.apply(None, Noticed.START)
    engine.restore(None, by="root")
    disk.value = 64
    assert engine.parry(one) is None


def test_there_is_no_parry_towards_a_value_of_an_earlier_configuration(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    hold(engine, tunable_of(disk, wanted=4096))
    disk.value = 64
    assert engine.parry(one) is None
    engine.look(one, Noticed.FANOTIFY)
    assert disk.value == 4096


def test_there_is_no_parry_of_a_disruptive_write(engine: Engine, disk: ScriptedAttribute) -> None:
    (one,) = hold(engine, replace(tunable_of(disk), disruptive=True))
    engine.apply(None, Noticed.START)
    disk.value = 64
    assert engine.parry(one) is None


def test_parries_count_in_a_contest(engine: Engine, disk: ScriptedAttribute, one: Held) -> None:
    engine.apply(None, Noticed.START)
    actions = []
    for number in range(7):
        disk.value = 64 + number
        drift = answer(engine, one)
        actions.append(None if drift is None else drift.action)
    assert actions == [Action.HEALED] * 5 + [Action.LEFT, None]
    assert one.verdict is Verdict.CONTESTED


def test_a_burst_is_parried_no_more_often_than_the_contest_allows_before_the_books_are_kept(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    found = []
    for number in range(20):
        disk.value = 64 + number
        found.append(engine.parry(one))
    assert sum(overwritten is not None for overwritten in found) == RULE.after


def test_a_parry_that_the_kernel_refuses_is_looked_at(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    disk.value, disk.write_error = 64, errno.EPERM
    drift = answer(engine, one)
    assert drift is not None
    assert (drift.action, one.verdict) == (Action.REFUSED, Verdict.BLOCKED)


def test_what_a_parry_wrote_and_the_kernel_did_not_keep_is_noticed(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    disk.keeps = lambda value: min(int(value), 4096)
    disk.value = 64
    answer(engine, one)
    assert not engine.holds(one)
    engine.look(one, Noticed.SWEEP)
    assert (one.verdict, one.reason) == (Verdict.BLOCKED, "wrote 8192, kernel keeps 4096")


def test_the_books_of_a_parry_do_not_revive_a_device_that_left_meanwhile(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    disk.value = 64
    found = engine.parry(one)
    assert found is not None
    disk.identity = ("/sys/none", "inode:/sys/none=1")
    hold(engine)
    assert engine.account(one, found, Noticed.FANOTIFY) is None
    assert one.verdict is Verdict.ABSENT


# -- verdicts that change ------------------------------------------------------------------------------------


def test_the_verdict_keeps_the_time_since_which_it_stands(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    engine.apply(None, Noticed.START)
    since = one.since
    engine.sweep(Noticed.SWEEP)
    assert one.since == since
    disk.read_error = errno.EIO
    engine.sweep(Noticed.SWEEP)
    assert one.since > since


def test_a_look_that_concludes_the_same_changes_no_version(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.read_error = errno.EIO
    engine.apply(None, Noticed.START)
    version = one.version
    engine.sweep(Noticed.SWEEP)
    assert one.version == version


def test_an_attribute_that_recovers_is_judged_again(
    engine: Engine, disk: ScriptedAttribute, one: Held
) -> None:
    disk.read_error = errno.EIO
    engine.apply(None, Noticed.START)
    disk.read_error = 0
    engine.sweep(Noticed.SWEEP)
    assert (one.verdict, one.reading) == (Verdict.OK, Reading(ReadingKind.VALUE, 8192))


# -- devices that come and go --------------------------------------------------------------------------------


def test_a_disk_that_left_is_absent_with_the_time_and_stays_so_over_sweeps(machine: Machine) -> None:
    tuner = machine.tune()
    one = held(tuner)
    tree.remove_disk(machine.directory, "nvme0n1")
    (adoption,) = tuner.discover(["nvme"])
    assert [gone.tunable.id for gone in adoption.left] == [NVME]
    reason, since = one.reason, one.since
    assert reason.startswith("left at 20")
    tuner.engine.sweep(Noticed.SWEEP)
    tuner.discover(["nvme"])
    assert (one.verdict, one.reason, one.since) == (Verdict.ABSENT, reason, since)


def test_a_disk_that_leaves_between_discovery_and_write_is_absent(machine: Machine) -> None:
    tuner = machine.start()
    tree.remove_disk(machine.directory, "nvme0n1")
    tuner.engine.apply(None, Noticed.START)
    assert held(tuner).verdict is Verdict.ABSENT
    assert held(tuner, "cpuidle.cpu0.state1.disable").verdict is Verdict.OK


def test_a_disk_added_again_under_the_same_name_has_a_new_original(machine: Machine) -> None:
    tuner = machine.tune()
    tree.remove_disk(machine.directory, "nvme0n1")
    tuner.discover(["nvme"])
    tree.add_disk(machine.directory, "nvme0n1")
    machine.write(READ_AHEAD, "256")
    (adoption,) = tuner.discover(["nvme"])
    tuner.engine.apply([one.tunable.id for one in adoption.added], Noticed.START)
    original = tuner.engine.originals.find(held(tuner).key)
    assert original is not None
    assert (original.value, machine.read(READ_AHEAD)) == (256, "8192")


def test_a_disk_replaced_without_any_event_is_not_written_under_its_predecessors_name(
    machine: Machine,
) -> None:
    tuner = machine.tune()
    tree.remove_disk(machine.directory, "nvme0n1")
    tree.add_disk(machine.directory, "nvme0n1")
    machine.write(READ_AHEAD, "256")
    tuner.engine.sweep(Noticed.SWEEP)
    assert (machine.read(READ_AHEAD), held(tuner).verdict) == ("256", Verdict.ABSENT)
    assert tuner.changed_areas() == ["nvme"]


def test_a_disk_of_which_only_the_directory_is_left_is_not_taken_for_one_nobody_wants(
    machine: Machine,
) -> None:
    tuner = machine.tune()
    machine.root.path("/sys/block/nvme0n1").unlink()
    (adoption,) = tuner.discover(["nvme"])
    assert [one.tunable.id for one in adoption.left] == [NVME]
    assert adoption.released == ()
    assert held(tuner).verdict is Verdict.ABSENT


def test_what_left_is_not_tuned_when_it_returns_but_is_no_longer_selected(machine: Machine) -> None:
    tuner = machine.tune()
    tree.remove_disk(machine.directory, "nvme0n1")
    tuner.discover(["nvme"])
    tuner.reconfigure(machine.effective("nvme.devices = []"))
    tree.add_disk(machine.directory, "nvme0n1")
    tuner.discover(["nvme"])
    tuner.engine.sweep(Noticed.SWEEP)
    assert machine.read(READ_AHEAD) == "128"


def test_only_so_many_that_left_are_remembered(engine: Engine) -> None:
    tunables = [tunable_of(ScriptedAttribute(instance="inode:/none=1"), name=f"d{n}") for n in range(300)]
    hold(engine, *tunables)
    hold(engine)
    assert len(engine.held) == 256
    assert "nvme.d299.value" in engine.held


def test_what_the_configuration_no_longer_manages_is_released_and_put_back(machine: Machine) -> None:
    tuner = machine.tune()
    tuner.reconfigure(machine.effective('cpuidle.cpus = "5-9"'))
    (adoption,) = tuner.discover(["cpuidle"])
    assert {one.tunable.device for one in adoption.released} == {
        f"cpu{n}" for n in [*range(5), *range(10, 20)]
    }
    outcomes = tuner.release()
    assert {outcome.outcome for outcome in outcomes} == {"restored"}
    disables = [machine.read(f"/sys/devices/system/cpu/cpu{n}/cpuidle/state2/disable") for n in range(20)]
    assert disables == ["1" if 5 <= n <= 9 else "0" for n in range(20)]


def test_an_absent_check_is_released_with_the_tunables_it_belongs_to(machine: Machine) -> None:
    tuner = machine.tune()
    assert held(tuner, "cpuidle.cpu0.entered").verdict is Verdict.ABSENT  # it has only begun to count
    tuner.reconfigure(machine.effective('cpuidle.disable_latency_us = "off"'))
    tuner.discover(["cpuidle"])
    assert [id_ for id_ in tuner.engine.held if id_.startswith("cpuidle")] == []


def test_a_reload_writes_nothing_that_stays_the_same(machine: Machine) -> None:
    tuner = machine.tune()
    tuner.reconfigure(machine.effective("nvme.read_ahead_kb = 4096"))
    tuner.discover()
    drifts = tuner.engine.apply(None, Noticed.RELOAD)
    assert [(drift.tunable, drift.found, drift.wanted) for drift in drifts] == [(NVME, 8192, 4096)]


def test_a_changed_value_keeps_its_first_original(machine: Machine) -> None:
    tuner = machine.tune()
    tuner.reconfigure(machine.effective("nvme.read_ahead_kb = 4096"))
    tuner.discover()
    tuner.engine.apply(None, Noticed.RELOAD)
    original = tuner.engine.originals.find(held(tuner).key)
    assert original is not None
    assert (original.value, original.ours) == (128, (4096,))


def test_the_order_of_the_areas_and_devices_survives_a_cpu_that_comes_back(machine: Machine) -> None:
    tuner = machine.tune()
    before = list(tuner.engine.held)
    for online in (False, True):
        tree.set_cpu_online(machine.directory, 3, online=online)
        tuner.discover(["cpuidle"], device="cpu3")
    assert list(tuner.engine.held) == before


def test_the_order_survives_a_disk_that_comes_back(build_machine: Callable[..., Machine]) -> None:
    machine = build_machine("two-disks")
    tuner = machine.tune()
    before = list(tuner.engine.held)
    tree.remove_disk(machine.directory, "nvme0n1")
    tuner.discover(["nvme"])
    tree.add_disk(machine.directory, "nvme0n1")
    tuner.discover(["nvme"])
    assert list(tuner.engine.held) == before
