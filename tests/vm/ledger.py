"""What the history gains from one moment on, and how long wrong values stand: both read inside the guest."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vm.guest import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vm.figures import Figures
    from vm.guest import Guest
    from vm.tracing import Trace

KINDS = {
    "start": {"device", "unknown"},
    "udev": {"device"},
    "resume": {"kernel"},
    "sweep": {"unknown"},
}
"""Whom the history may blame for what nobody but the kernel did, by what noticed it: a sweep sees nobody."""


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

    def await_drifts(self, id_: str, count: int = 1) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """At least so many drifts of one tunable, oldest first, each with the episode that tells of it."""

        def told() -> list[tuple[dict[str, Any], dict[str, Any]]]:
            return [
                (episode, drift)
                for episode in reversed(self.new())
                for drift in episode["drifts"]
                if drift["tunable"] == id_
            ]

        self.guest.wait_until(lambda: len(told()) >= count, f"{count} drifts of {id_}")
        return told()

    def await_told(
        self, id_: str, trace: Trace, *, wrong: str, wanted: str, applied: int = 0
    ) -> list[dict[str, Any]]:
        """The heals of what the kernel set by itself: each wrong value that was seen is told, with its cause.

        `applied`: how often the tunable was new, and the wrong value the one it was found with.
        """
        least = trace.relapses(wrong, wanted)
        told = self.await_drifts(id_, applied + least)
        for episode, drift in told:
            assert drift["found"] == int(wrong), episode
            assert episode["by"]["kind"] in KINDS[episode["noticed"]], episode
            assert episode["by"]["pid"] is None, episode
        actions = Counter(drift["action"] for _, drift in told)
        assert set(actions) <= {"applied", "healed"}, told
        assert (actions["applied"], actions["healed"] >= least) == (applied, True), (trace, told)
        return [episode for episode, drift in told if drift["action"] == "healed"]


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
