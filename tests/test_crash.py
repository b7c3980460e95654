"""kill -9 at every step of applying, healing, reloading and restoring: no original is ever lost.

A forked child does the work on a simulated machine and kills itself before, in or after the n-th system call
that changes something; then a fresh engine over the same tree and state has to put everything back.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import children
from machines import NVME, READ_AHEAD, Machine, held
from sparktune import hardware
from sparktune.errors import SparktuneError
from sparktune.model import Noticed
from sparktune.tuner import Tuner

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparktune.hardware import Host
    from sparktune.settings import Effective

RIVAL = {"nvme": "64", "cpuidle": "0", "roce": "RoCE v2"}
"""What somebody else writes; for CPU idle states and RoCE that is the original value itself."""

_FIRST = 'cpuidle.cpus = "0-2"\nroce.default_roce_mode = "IB/RoCE v1"\nroce.devices = ["rocep1*"]\n'
_SECOND = _FIRST.replace('"0-2"', '"1-3"') + "nvme.read_ahead_kb = 4096\ncpuidle.disable_latency_us = 200\n"
_THIRD = 'nvme.policy = "off"\ncpuidle.cpus = "1"\ncpuidle.disable_latency_us = 42\nroce.devices = []\n'
_STEPS = ("open", "write", "pwrite", "ftruncate", "fsync", "replace", "rename", "link", "mkdir", "rmdir")

LEAST_MOMENTS = 1000
_moments: dict[str, int] = {}


@dataclass(slots=True)
class Killer:
    """Counts the steps of this process that change something, and kills it at one of them."""

    at: int
    steps: int = 0
    real: dict[str, Any] = field(default_factory=dict)

    def install(self) -> None:
        """Put itself before each of the system calls."""
        for name in _STEPS:
            self.real[name] = getattr(os, name)
            setattr(os, name, self._guard(name, self.real[name]))

    def _guard(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR):
                return real(*arguments, **options)
            self._step()
            if name == "write":  # once more, for a write that got only half of its way
                if self.steps + 1 == self.at:
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                self._step()
            result = real(*arguments, **options)
            self._step()
            return result

        return guarded

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Bench:
    """A machine, its configurations and its untouched values."""

    machine: Machine
    host: Host
    configurations: tuple[Effective, ...]
    untouched: dict[str, str | None]

    def tuner(self, number: int = 0) -> Tuner:
        """A fresh tuner over the same tree and state, as after a restart."""
        configuration = self.configurations[number]
        tuner = Tuner(self.host, configuration, state_dir=self.machine.state_dir, repair=True)
        tuner.discover()
        return tuner

    def end(self, *tuners: Tuner) -> None:
        """Release their descriptors, as the end of their process would."""
        for tuner in tuners:
            for one in tuner.engine.held.values():
                one.tunable.attribute.close()

    def values(self) -> dict[str, str | None]:
        """Everything that may be written, as it is now."""
        return {name: self.machine.root.read(name) for name in self.untouched}

    def reload(self, tuner: Tuner, number: int) -> None:
        """As the daemon does."""
        tuner.reconfigure(self.configurations[number])
        tuner.discover()
        tuner.engine.apply(None, Noticed.RELOAD)
        tuner.release()

    def disturb(self, tuner: Tuner) -> None:
        """Somebody else writes every value back, and each is answered as an event."""
        for one in tuner.engine.held.values():
            path = self.machine.root.path(one.tunable.attribute.location)
            if not one.tunable.is_check and path.exists():
                path.write_text(f"{RIVAL[one.tunable.area]}\n")
                found = tuner.engine.parry(one)
                if found is None:
                    tuner.engine.look(one, Noticed.FANOTIFY)
                else:
                    tuner.engine.account(one, found, Noticed.FANOTIFY)
        tuner.engine.finish()


@pytest.fixture
def bench(build_machine: Callable[..., Machine]) -> Bench:
    machine = build_machine()
    tuner = machine.start(_SECOND.replace('"1-3"', '"0-3"'))
    names = [one.tunable.attribute.location for one in tuner.engine.held.values() if not one.tunable.is_check]
    configurations = tuple(machine.effective(text) for text in (_FIRST, _SECOND, _THIRD))
    untouched = {name: machine.root.read(name) for name in names}
    return Bench(machine, hardware.detect(machine.root), configurations, untouched)


def apply_and_heal(bench: Bench) -> None:
    """The first start of the day, and a rival."""
    tuner = bench.tuner()
    tuner.engine.apply(None, Noticed.START)
    bench.disturb(tuner)
    bench.disturb(tuner)
    tuner.engine.sweep(Noticed.SWEEP)


def reload_twice(bench: Bench) -> None:
    """A start, another configuration, a rival, and a third that manages much less."""
    tuner = bench.tuner()
    tuner.engine.apply(None, Noticed.START)
    bench.disturb(tuner)
    bench.reload(tuner, 1)
    bench.disturb(tuner)
    bench.reload(tuner, 2)
    tuner.engine.finish()


def restore_and_apply_again(bench: Bench) -> None:
    """A start, everything put back, everything applied again on request, half of it put back."""
    tuner = bench.tuner()
    tuner.engine.apply(None, Noticed.START)
    tuner.engine.restore(None, by="root")
    tuner.engine.apply(None, Noticed.REQUEST)
    tuner.engine.restore(["nvme", "roce"], by="root")


def heal_without_a_common_record(bench: Bench) -> None:
    """Every tunable secures its own original, as when devices come one by one."""
    tuner = bench.tuner()
    for one in tuner.engine.held.values():
        tuner.engine.look(one, Noticed.UDEV)
    bench.disturb(tuner)


def judge_after_the_crash(bench: Bench, *, restarted: bool) -> list[str]:
    """Restore with a fresh engine, after another start if so. Everything that is wrong then."""
    wrong = []
    found = bench.values()
    tuner = bench.tuner()
    for entry in tuner.engine.originals.all():
        if entry.value is not None and str(entry.value) != bench.untouched[entry.location]:
            # an original that was never written under may be a rival's value, never one of ours
            ours = {str(value) for value in entry.ours} | {"8192", "4096", "1", "IB/RoCE v1"}
            if str(entry.value) in ours:
                wrong.append(f"{entry.id}: recorded its own {entry.value} as the original")
    if restarted:
        tuner.engine.apply(None, Noticed.REQUEST)  # also what had been restored: the rival must meet it all
        tuner.release()
        bench.disturb(tuner)
        bench.end(tuner)
        tuner = bench.tuner()
    tuner.engine.restore(None, by="root")
    bench.end(tuner)
    for name, value in bench.values().items():
        spared = not restarted and value == found[name] == RIVAL["nvme"]  # not ours: left alone
        if value != bench.untouched[name] and not spared:
            wrong.append(f"{name}: {value} stayed, it was {bench.untouched[name]} (restarted: {restarted})")
    wrong += [f"set aside: {file.name}" for file in bench.machine.state_dir.glob("*.corrupt-*")]
    return wrong


def reset(bench: Bench) -> None:
    """As if nothing had happened."""
    for file in bench.machine.state_dir.iterdir():
        file.unlink()
    bench.machine.write(READ_AHEAD, str(bench.untouched[READ_AHEAD]))


def kill_at(bench: Bench, work: Callable[[Bench], None], moment: int) -> bool:
    """Let a child do the work and die at that moment. False if it came to the end before."""

    def child() -> int:
        Killer(at=moment).install()
        work(bench)
        return 0

    code = children.run(child)
    assert code in (0, -signal.SIGKILL), f"moment {moment}: exit code {code}"
    return code != 0


@pytest.mark.parametrize(
    "work", [apply_and_heal, reload_twice, restore_and_apply_again, heal_without_a_common_record]
)
def test_killed_at_any_moment_no_original_is_lost_or_replaced_by_a_value_of_our_own(
    work: Callable[[Bench], None], bench: Bench
) -> None:
    moment = 1
    while kill_at(bench, work, moment):
        wrong = judge_after_the_crash(bench, restarted=moment % 2 == 0)
        assert wrong == [], f"killed at step {moment}"
        reset(bench)
        moment += 1
    _moments[work.__name__] = moment - 1


def test_that_were_at_least_a_thousand_moments() -> None:
    if len(_moments) < 4:
        pytest.skip("counts the moments of the four tests before it")
    assert sum(_moments.values()) >= LEAST_MOMENTS, json.dumps(_moments)


def test_the_killer_does_kill_and_the_work_does_write(bench: Bench) -> None:
    """Guards the tests above: work that ends at once, or a killer without teeth, would pass them all."""
    assert kill_at(bench, apply_and_heal, 1)
    assert bench.values() == bench.untouched
    assert not kill_at(bench, apply_and_heal, 10**9)
    changed = {name for name, value in bench.values().items() if value != bench.untouched[name]}
    assert READ_AHEAD in changed
    assert len(changed) > 8


def test_without_write_ahead_the_test_would_notice(bench: Bench) -> None:
    """A store that forgets what it recorded loses originals, and the judge sees it."""
    tuner = bench.tuner()
    tuner.engine.apply(None, Noticed.START)
    (bench.machine.state_dir / "originals.jsonl").unlink()
    assert judge_after_the_crash(bench, restarted=False) != []


def test_a_machine_that_rebooted_after_the_crash_keeps_nothing_of_it(machine: Machine) -> None:
    machine.tune()
    machine.write("/proc/sys/kernel/random/boot_id", "another")
    machine.write(READ_AHEAD, "256")
    tuner = machine.tune()
    original = tuner.engine.originals.find(held(tuner, NVME).key)
    assert original is not None
    assert original.value == 256


def test_a_restart_after_a_crash_that_cannot_read_its_state_touches_nothing_it_cannot_record(
    machine: Machine,
) -> None:
    machine.tune()
    (machine.state_dir / ".originals.jsonl.new").mkdir()
    machine.tune("nvme.read_ahead_kb = 4096")
    assert machine.read(READ_AHEAD) == "8192"


def test_damage_to_the_store_after_a_crash_costs_only_what_is_damaged(machine: Machine) -> None:
    machine.tune()
    path = machine.state_dir / "originals.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:-30] + b"\n"
    path.write_bytes(b"".join(lines))
    try:
        machine.start().engine.restore(None, by="root")
    except SparktuneError as error:
        pytest.fail(error.message)
    disables = [
        machine.read(f"/sys/devices/system/cpu/cpu{cpu}/cpuidle/state{state}/disable")
        for cpu in range(20)
        for state in range(4)
    ]
    assert machine.read(READ_AHEAD) == "128"
    assert sum(map(int, disables)) == 1
