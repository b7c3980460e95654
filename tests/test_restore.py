"""Putting originals back: compare-and-swap, over crashes, configurations and devices that left."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING

import pytest

from machines import CPUS, NVME, READ_AHEAD, held
from sparktune.errors import StoreError
from sparktune.kernel.root import Root
from sparktune.model import Noticed, Verdict
from sparktune.originals import Original, Originals
from sparktune.restoring import Outcome, put_back
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from machines import Machine
    from sparktune.tuner import Tuner

ROCE = "roce.rocep1s0f0.default_roce_mode"
CM = "/sys/kernel/config/rdma_cm"
MODE = f"{CM}/rocep1s0f0/ports/1/default_roce_mode"


def values(machine: Machine) -> dict[str, str]:
    """Everything that sparktune may have written, as it is now."""
    names = [f"{CPUS}/cpu{cpu}/cpuidle/state{state}/disable" for cpu in range(20) for state in range(4)]
    modes = {name: machine.read(f"{CM}/{name}/ports/1/default_roce_mode") for name in machine.root.names(CM)}
    return {name: machine.read(name) for name in (READ_AHEAD, *names)} | modes


def outcome_of(outcomes: list[Outcome], id_: str = NVME) -> Outcome:
    (found,) = [outcome for outcome in outcomes if outcome.id == id_]
    return found


@pytest.fixture
def tuner(machine: Machine) -> Tuner:
    """A machine that is tuned."""
    return machine.tune()


def test_restore_puts_back_everything_and_knows_nothing_afterwards(machine: Machine) -> None:
    before = values(machine)
    tuner = machine.tune()
    assert values(machine) != before
    outcomes = tuner.engine.restore(None, by="root")
    assert values(machine) == before
    assert {outcome.outcome for outcome in outcomes} == {"restored", "already"}
    assert tuner.engine.originals.all() == ()
    assert machine.kept_originals() == []


def test_restore_works_after_a_crash_without_configuration_or_discovery(machine: Machine) -> None:
    before = values(machine)
    machine.tune()  # and killed: nothing was saved after the writes
    host_boot = machine.read("/proc/sys/kernel/random/boot_id")
    originals = Originals(machine.state_dir / "originals.jsonl", host_boot, repair=True)
    put_back(machine.root, originals, originals.all())
    assert values(machine) == before


def test_restore_touches_nothing_after_a_reboot(machine: Machine) -> None:
    machine.tune()
    machine.write("/proc/sys/kernel/random/boot_id", "another")
    outcomes = machine.start().engine.restore(None, by="root")
    assert {outcome.outcome for outcome in outcomes} == {"nothing"}
    assert machine.read(READ_AHEAD) == "8192"


def test_a_value_that_is_not_ours_is_left_alone(machine: Machine, tuner: Tuner) -> None:
    machine.write(READ_AHEAD, "256")
    outcome = outcome_of(tuner.engine.restore([NVME], by="root"))
    assert (outcome.outcome, outcome.value, machine.read(READ_AHEAD)) == ("left", 256, "256")
    assert outcome.reason == "it is 256 now, which is not sparktune's value: left alone (original: 128)"


def test_what_was_left_alone_stays_on_record(machine: Machine, tuner: Tuner) -> None:
    machine.write(READ_AHEAD, "256")
    tuner.engine.restore([NVME], by="root")
    assert [entry.id for entry in machine.start().engine.originals.all() if entry.id.startswith("nvme")] == [
        NVME
    ]


def test_a_value_that_is_the_original_already_is_not_written(machine: Machine, tuner: Tuner) -> None:
    machine.write(READ_AHEAD, "128")
    before = machine.root.path(READ_AHEAD).stat().st_mtime_ns
    assert outcome_of(tuner.engine.restore([NVME], by="root")).outcome == "already"
    assert machine.root.path(READ_AHEAD).stat().st_mtime_ns == before


def test_what_was_never_written_is_told_so(build_machine: Callable[..., Machine]) -> None:
    machine = build_machine(config="nvme.read_ahead_kb = 128")
    tuner = machine.tune()
    assert outcome_of(tuner.engine.restore([NVME], by="root")).outcome == "nothing"


def test_a_disk_that_left_has_nothing_to_be_put_back(machine: Machine, tuner: Tuner) -> None:
    tree.remove_disk(machine.directory, "nvme0n1")
    assert outcome_of(tuner.engine.restore([NVME], by="root")).outcome == "absent"
    assert NVME not in {entry.id for entry in tuner.engine.originals.all()}


def test_a_disk_that_took_the_place_of_ours_is_not_touched(machine: Machine, tuner: Tuner) -> None:
    tree.remove_disk(machine.directory, "nvme0n1")
    tree.add_disk(machine.directory, "nvme0n1")
    machine.write(READ_AHEAD, "8192")  # by chance what we wrote to the other one
    assert outcome_of(tuner.engine.restore([NVME], by="root")).outcome == "absent"
    assert machine.read(READ_AHEAD) == "8192"


def test_what_is_restored_is_unmanaged_and_no_longer_healed(machine: Machine, tuner: Tuner) -> None:
    tuner.engine.restore([NVME], by="uid 1000")
    assert held(tuner).verdict is Verdict.UNMANAGED
    assert held(tuner).reason.startswith("restored by uid 1000 at 20")
    machine.write(READ_AHEAD, "64")
    assert tuner.engine.sweep(Noticed.SWEEP) == []
    assert machine.read(READ_AHEAD) == "64"


def test_what_is_restored_stays_so_over_a_restart(machine: Machine, tuner: Tuner) -> None:
    tuner.engine.restore([NVME], by="root")
    machine.tune()
    assert machine.read(READ_AHEAD) == "128"
    assert machine.read(f"{CPUS}/cpu0/cpuidle/state1/disable") == "1"


def test_what_is_restored_is_tuned_again_after_a_reboot(machine: Machine, tuner: Tuner) -> None:
    tuner.engine.restore([NVME], by="root")
    machine.write("/proc/sys/kernel/random/boot_id", "another")
    machine.tune()
    assert machine.read(READ_AHEAD) == "8192"


def test_apply_takes_what_was_restored_back_into_management(machine: Machine, tuner: Tuner) -> None:
    tuner.engine.restore(None, by="root")
    tuner.engine.apply([NVME], Noticed.REQUEST)
    assert (held(tuner).verdict, machine.read(READ_AHEAD)) == (Verdict.OK, "8192")
    assert machine.read(f"{CPUS}/cpu0/cpuidle/state1/disable") == "0"


def test_a_value_restored_and_applied_again_has_the_same_original(machine: Machine, tuner: Tuner) -> None:
    tuner.engine.restore(None, by="root")
    tuner.engine.apply(None, Noticed.REQUEST)
    tuner.engine.restore(None, by="root")
    assert machine.read(READ_AHEAD) == "128"


def test_without_room_for_the_marks_nothing_is_put_back_and_all_stays_managed(
    machine: Machine, tuner: Tuner
) -> None:
    (machine.state_dir / ".marks.json.new").mkdir()
    with pytest.raises(StoreError):
        tuner.engine.restore(None, by="root")
    assert machine.read(READ_AHEAD) == "8192"
    machine.write(READ_AHEAD, "64")
    tuner.engine.sweep(Noticed.SWEEP)
    assert (machine.read(READ_AHEAD), held(tuner).verdict) == ("8192", Verdict.OK)


def test_without_room_to_forget_the_value_is_back_and_the_outcome_says_what_failed(
    machine: Machine, tuner: Tuner
) -> None:
    (machine.state_dir / ".originals.jsonl.new").mkdir()
    outcomes = tuner.engine.restore([NVME], by="root")
    assert machine.read(READ_AHEAD) == "128"
    assert outcome_of(outcomes).outcome == "restored"
    assert outcome_of(outcomes, "originals").outcome == "failed"


def test_an_attribute_that_cannot_be_read_is_told_and_stays_on_record(machine: Machine, tuner: Tuner) -> None:
    machine.root.path(READ_AHEAD).write_bytes(b"\0binary")
    outcome = outcome_of(tuner.engine.restore([NVME], by="root"))
    assert outcome.outcome == "failed"
    assert "no number" in outcome.reason
    assert NVME in {entry.id for entry in tuner.engine.originals.all()}


def test_an_attribute_that_became_a_directory_is_told(machine: Machine, tuner: Tuner) -> None:
    machine.root.path(READ_AHEAD).unlink()
    machine.root.path(READ_AHEAD).mkdir()
    outcome = outcome_of(tuner.engine.restore([NVME], by="root"))
    assert outcome.outcome == "failed"
    assert "EISDIR" in outcome.reason


# -- originals of a real file that the kernel refuses --------------------------------------------------------


def an_original(location: str, *, value: int | str, ours: int | str, kind: str = "file:integer") -> Original:
    root = Root()
    number = root.path(location).stat().st_ino
    return Original(
        id="test.value", boot_id="boot", path=location, instance=f"inode:{location}={number}", kind=kind,
        location=location, makes="", value=value, ours=(ours,), at="",
    )  # fmt: skip


def test_a_write_that_the_kernel_refuses_is_told_with_its_error(fast_path: Path) -> None:
    entry = an_original("/proc/sys/kernel/osrelease", value="x", ours=_osrelease(), kind="file:text")
    originals = Originals(fast_path / "originals.jsonl", "boot", repair=True)
    originals.record([entry])
    (outcome,) = put_back(Root(), originals, [entry])
    assert outcome.outcome == "failed"
    assert errno.errorcode[errno.EACCES] in outcome.reason or "EPERM" in outcome.reason
    assert originals.all() == (entry,)


def _osrelease() -> str:
    return Root().path("/proc/sys/kernel/osrelease").read_text().strip()


# -- directories in configfs ---------------------------------------------------------------------------------


@pytest.fixture
def roce_v1(build_machine: Callable[..., Machine]) -> Machine:
    """A machine whose RoCE mode is not the kernel's default, so that it has to be written."""
    return build_machine(config='roce.default_roce_mode = "IB/RoCE v1"')


def test_a_directory_that_we_made_goes_with_the_restore(roce_v1: Machine) -> None:
    tuner = roce_v1.tune()
    assert roce_v1.read(MODE) == "IB/RoCE v1"
    tuner.engine.restore(["roce"], by="root")
    assert roce_v1.root.names(CM) == ()


def test_the_value_is_put_back_before_the_directory_goes(roce_v1: Machine) -> None:
    """Removing it does not undo the write: the kernel keeps the mode with the device."""
    tuner = roce_v1.tune()
    seen = roce_v1.root.path(MODE).open()  # still shows what was written last once the file is gone
    tuner.engine.restore([ROCE], by="root")
    with seen:
        assert seen.read() == "RoCE v2\n"


def test_a_directory_that_was_there_before_us_stays(roce_v1: Machine) -> None:
    roce_v1.root.path(MODE).parent.mkdir(parents=True)
    roce_v1.write(MODE, "RoCE v2")
    tuner = roce_v1.tune()
    tuner.engine.restore(["roce"], by="root")
    assert roce_v1.root.names(CM) == ("rocep1s0f0",)
    assert roce_v1.read(MODE) == "RoCE v2"


def test_a_directory_that_somebody_removed_is_made_for_the_restore_and_goes_again(roce_v1: Machine) -> None:
    """On a kernel what was written outlives the directory."""
    tuner = roce_v1.tune()
    shutil.rmtree(roce_v1.root.path(f"{CM}/rocep1s0f0"))
    outcome = outcome_of(tuner.engine.restore([ROCE], by="root"), ROCE)
    assert (outcome.outcome, outcome.value) == ("already", "RoCE v2")
    assert "rocep1s0f0" not in roce_v1.root.names(CM)


def test_a_planned_directory_that_was_made_but_not_written_is_removed(roce_v1: Machine) -> None:
    tuner = roce_v1.start()
    one = held(tuner, ROCE)
    tuner.engine.originals.record([tuner.engine._original(one, None)])
    one.tunable.attribute.prepare()  # and killed
    roce_v1.start().engine.restore(["roce"], by="root")
    assert roce_v1.root.names(CM) == ()


def test_the_values_of_all_ports_are_back_before_their_directory_goes(roce_v1: Machine) -> None:
    port = f"{roce_v1.root.resolve('/sys/class/infiniband/rocep1s0f0')}/ports/2"
    roce_v1.root.path(port).mkdir()
    roce_v1.write(f"{port}/link_layer", "Ethernet")
    tuner = roce_v1.start()
    other = f"{CM}/rocep1s0f0/ports/2/default_roce_mode"
    tuner.engine.apply([ROCE], Noticed.START)
    roce_v1.root.path(other).parent.mkdir()
    roce_v1.write(other, "RoCE v2")  # a kernel makes it with the directory
    tuner.engine.apply(["roce"], Noticed.START)
    seen = roce_v1.root.path(other).open()
    tuner.engine.restore(["roce"], by="root")
    with seen:
        assert seen.read() == "RoCE v2\n"
    assert roce_v1.root.names(CM) == ()


# -- what the configuration no longer manages ----------------------------------------------------------------


def test_policy_off_puts_the_area_back(machine: Machine, tuner: Tuner) -> None:
    tuner.reconfigure(machine.effective('cpuidle.policy = "off"'))
    tuner.discover()
    tuner.release()
    assert {machine.read(f"{CPUS}/cpu{cpu}/cpuidle/state3/disable") for cpu in range(20)} == {"0"}
    assert machine.read(READ_AHEAD) == "8192"


def test_policy_report_leaves_what_was_written(machine: Machine, tuner: Tuner) -> None:
    tuner.reconfigure(machine.effective('mode = "report"'))
    tuner.discover()
    assert tuner.release() == []
    assert machine.read(READ_AHEAD) == "8192"


def test_a_release_leaves_a_value_that_is_not_ours(machine: Machine, tuner: Tuner) -> None:
    machine.write(READ_AHEAD, "256")
    tuner.reconfigure(machine.effective("nvme.devices = []"))
    tuner.discover()
    assert outcome_of(tuner.release()).outcome == "left"
    assert machine.read(READ_AHEAD) == "256"


def test_what_a_release_put_back_is_seen_as_it_is_now(machine: Machine, tuner: Tuner) -> None:
    tuner.reconfigure(machine.effective('nvme.policy = "off"'))
    tuner.discover()
    tuner.engine.apply(None, Noticed.RELOAD)
    tuner.release()
    assert (held(tuner).verdict, held(tuner).actual) == (Verdict.UNMANAGED, 128)


def test_what_a_killed_daemon_managed_under_another_configuration_is_put_back_at_the_next_start(
    machine: Machine, tuner: Tuner
) -> None:
    later = machine.start("nvme.devices = []")
    assert outcome_of(later.release()).outcome == "restored"
    assert machine.read(READ_AHEAD) == "128"


def test_the_off_switch_changes_nothing_not_even_back(machine: Machine, tuner: Tuner) -> None:
    machine.write("/proc/cmdline", "root=/dev/nvme0n1p2 sparktune=off quiet")
    later = machine.tune("nvme.read_ahead_kb = 4096")
    assert later.release() == []
    assert machine.read(READ_AHEAD) == "8192"
    assert held(later).verdict is Verdict.UNMANAGED
