"""What values an attribute takes while a scenario acts, and when: seen inside the guest, by its clock."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from vm.guest import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vm.guest import Guest

QUIET_S = 1.0
READ_BACK_US = 5_000
"""One heal may write twice: once more if what it reads back right after its write is wrong again."""
LOOKING = "/run/trace_value.looking"


@dataclass
class Trace:
    """The values in order, each with the µs since the start; None: the attribute was not there."""

    seen: list[tuple[int, str | None]] = field(default_factory=list)

    @property
    def values(self) -> list[str | None]:
        """Without the times."""
        return [value for _, value in self.seen]

    @property
    def held_us(self) -> int:
        """When the last value was reached, from the start of the command."""
        return self.seen[-1][0]

    def went(self, before: str | None, wrong: str, after: str) -> bool:
        """Whether it went from `before` to `after`, with nothing but the wrong one in between.

        The wrong one may have come and gone between two looks; and the kernel may set it again, as it looks
        through a controller more than once: then `relapses` counts what the history has to tell.
        """
        values = self.values
        return values[0] == before and values[-1] == after and set(values[1:-1]) <= {wrong, after}

    def relapses(self, wrong: str, after: str) -> int:
        """How often the wrong value was seen after the right one had been there."""
        return sum(
            (first, second) == (after, wrong) and (start == 0 or end - start >= READ_BACK_US)
            for (start, first), (end, second) in pairwise(self.seen)
        )

    def stood_us(self, wrong: str) -> list[int]:
        """How long each appearance of a value stood that was seen to end."""
        return [end - start for (start, value), (end, _) in pairwise(self.seen) if value == wrong]


def trace_command(
    guest: Guest, path: str, wanted: object, command: Sequence[str], limit_s: float = 60.0
) -> Trace:
    """Run a command in the guest and watch an attribute until it holds again. Fails if it never does."""
    result = guest.run(_line(guest, path, wanted, limit_s, *command), check=False, limit_s=limit_s + 30)
    assert result.code == 0, f"{path} is not {wanted} again: {result.out}{result.err}"
    return _read(result.out)


@contextmanager
def trace(guest: Guest, path: str, wanted: object, limit_s: float = 60.0) -> Iterator[Trace]:
    """Watch an attribute while the body acts from outside, and then until it holds: the trace is filled."""
    job = guest.start_job(_line(guest, path, wanted, limit_s), limit_s=limit_s + 30)
    guest.wait_until(lambda: guest.run(["test", "-e", LOOKING], check=False).code == 0, "the first look")
    found = Trace()
    yield found
    result = job.wait(check=False)
    assert result.code == 0, f"{path} did not become {wanted}: {result.out}{result.err}"
    found.seen = _read(result.out).seen


def _line(guest: Guest, path: str, wanted: object, limit_s: float, *command: str) -> list[str]:
    program = ["python3", "-I", f"{PROGRAMS}/trace_value.py"]
    return [*program, path, str(wanted), str(QUIET_S), str(limit_s * guest.site.patience), *command]


def _read(out: str) -> Trace:
    return Trace([(at_us, value) for at_us, value in json.loads(out)["seen"]])
