"""A fake kernel: attributes that answer as a test says, and an engine that holds them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sparktune.contest import ContestRule
from sparktune.engine import Engine
from sparktune.kernel.attribute import decode, encode, reading_of
from sparktune.kernel.root import Root
from sparktune.marks import Marks
from sparktune.model import Policy, Reading, ReadingKind, Tunable, Value
from sparktune.originals import Originals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sparktune.held import Held

RULE = ContestRule(after=5, window_s=60, hold_s=600)


class ScriptedAttribute:
    """An attribute of a kernel that clamps, refuses or fails as told.

    Attributes:
        value: what is there.
        keeps: what the kernel makes of a value that is written.
        rival: called after each write, before it is read back.
        read_error, write_error: errno of the next reads and writes; 0 for none.
        written: every value that reached the kernel.
    """

    kind = "file:integer"
    watched: tuple[Path, ...] = ()

    def __init__(self, value: Value = 128, *, instance: str = "fake:1", makes: str = "") -> None:
        self.value = value
        self.writable = True
        self.makes = makes
        self.location = "/sys/fake/value"
        self.identity = ("/sys/fake", instance)
        self.keeps: Callable[[Value], Value] = lambda value: value
        self.rival: Callable[[], None] = lambda: None
        self.read_error = 0
        self.write_error = 0
        self.broken: Exception | None = None
        self.made = not makes
        self.on_prepare: Callable[[], None] = lambda: None
        self.written: list[Value] = []

    def read(self) -> Reading:
        if self.broken is not None:
            raise self.broken
        if self.read_error:
            return reading_of(OSError(self.read_error, os.strerror(self.read_error)), self.location)
        return Reading(ReadingKind.VALUE, self.value if self.made else "(not set)")

    def holds(self, wanted: Value) -> bool:
        if self.broken is not None:
            raise self.broken
        return not self.read_error and self.made and self.value == wanted

    def exchange(self, wanted: bytes) -> bytes | None:
        if self.read_error or self.write_error or not self.made:
            return None
        found = encode(self.value)
        if found == wanted:
            return None
        self.write(decode(wanted, "integer").value or 0)
        return found

    def preparation(self) -> tuple[str, ...]:
        return () if self.made else (f"mkdir {self.makes}",)

    def prepare(self) -> None:
        self.made = True
        self.on_prepare()

    def unprepare(self) -> None:
        self.made = False

    def write(self, value: Value) -> None:
        if self.write_error:
            raise OSError(self.write_error, os.strerror(self.write_error))
        self.written.append(value)
        self.value = self.keeps(value)
        self.rival()

    def close(self) -> None:
        pass


def tunable_of(attribute: ScriptedAttribute, *, wanted: Value = 8192, name: str = "disk") -> Tunable:
    """A tunable on a scripted attribute."""
    return Tunable(
        id=f"nvme.{name}.value",
        area="nvme",
        device=name,
        attribute=attribute,
        wanted=wanted,
        why="why",
        source="source",
        key="nvme.read_ahead_kb",
    )


def make_engine(state_dir: Path, *, rule: ContestRule = RULE, repair: bool = True) -> Engine:
    """An engine on stores in a directory; started again on the same one it knows what was stored."""
    return Engine(
        root=Root(state_dir / "no-tree"),
        originals=Originals(state_dir / "originals.jsonl", "boot", repair=repair),
        marks=Marks(state_dir / "marks.json", "boot", repair=repair),
        rule=rule,
    )


def hold(engine: Engine, *tunables: Tunable, policy: Policy = Policy.ENFORCE) -> list[Held]:
    """Give tunables to an engine."""
    engine.adopt("nvme", tunables, policy=policy, layers={})
    return [engine.held[tunable.id] for tunable in tunables]
