"""What the history gains from one moment on, and how long wrong values stand: both read inside the guest."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vm.guest import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vm.figures import Figures
    from vm.guest import Guest


def disabled_states(guest: Guest) -> list[str]:
    """The `disable` files of idle states that hold 1, by grep in the guest."""
    found = guest.run("grep -lx 1 /sys/devices/system/cpu/cpu[0-9]*/cpuidle/state*/disable", check=False)
    return found.out.splitlines()


@dataclass
class Ledger:
    """The history from one moment on, as the API has it."""

    guest: Guest
    last: int

    @classmethod
    def open(cls, guest: Guest) -> Ledger:
        """From now on."""
        newest = guest.history("limit=1")
        return cls(guest, newest[0]["id"] if newest else 0)

    def new(self) -> list[dict[str, Any]]:
        """What has been recorded since, newest first."""
        return [episode for episode in self.guest.history("limit=1000") if episode["id"] > self.last]

    def await_new(self, count: int = 1) -> list[dict[str, Any]]:
        """The same, once there are so many episodes; exactly so many."""
        self.guest.wait_until(lambda: len(self.new()) >= count, f"{count} new episodes")
        found = self.new()
        assert len(found) == count, found
        return found


def measure(
    guest: Guest,
    paths: Sequence[str],
    *,
    wanted: object,
    count: int = 1,
    write: str = "",
    command: Sequence[str] = (),
    limit_s: float = 30.0,
) -> list[int]:
    """Disturb so many times; the µs, measured in the guest, until every path has the wanted value again.

    What a command disturbed and sparktune healed between two readings is not among them.
    """
    words = ["python3", "-I", f"{PROGRAMS}/heal_times.py", "--count", str(count), "--wanted", str(wanted)]
    words += ["--limit", str(limit_s), *(["--write", write] if write else []), *paths]
    words += ["--", *command] if command else []
    result = guest.run(words, check=False, limit_s=count * (limit_s + 5))
    assert result.code == 0, f"not healed: {result.out}{result.err}"
    measured = json.loads(result.out)
    times_us: list[int] = measured["times_us"]
    assert len(times_us) + measured["unseen"] == count
    return times_us


def record(figures: Figures, what: str, times_us: Sequence[int]) -> None:
    """How many, median and longest."""
    figures.record(f"heal, {what}: samples", len(times_us), "")
    if times_us:
        figures.record(f"heal, {what}: median", statistics.median(times_us), "µs")
        figures.record(f"heal, {what}: longest", max(times_us), "µs")
