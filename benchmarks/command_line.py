"""How long a person waits for a command."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from ground import BenchError
from processes import capture, daemon
from report import Figures, Limit, Row, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ground import Bench

_RUNS, _QUICK_RUNS = 30, 8
_BUDGET_MS = 200.0
_ALL_HOLDS, _SOMETHING_DOES_NOT = 0, 4


def measure(bench: Bench) -> Iterator[Row]:
    """`sparktune status` beside a daemon, and `--help`; in turns with an interpreter that does nothing."""
    setup = bench.simulate("commands")
    count = bench.pick(_RUNS, _QUICK_RUNS)
    lines = {
        "sparktune status": setup.command("status"),
        "sparktune --help": setup.command("--help"),
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    found: dict[str, list[float]] = {name: [] for name in lines}
    bench.say(f"{count} times {', '.join(lines)}")
    with daemon(setup):
        for _ in range(count):
            for name, command in lines.items():
                found[name].append(_time(command))
    *ours, bare = ((name, summarise(samples)) for name, samples in found.items())
    for name, figures in ours:
        limits = (Limit(f"p50 ≤ {_BUDGET_MS:.0f}", figures.p50 or 0.0, _BUDGET_MS),)
        yield Row(
            measure=f"{name}, wall time", unit="ms", figures=figures, beside=dict([bare]),
            ratio=_ratio(figures, bare[1]), limits=limits if name.endswith("status") else (),
        )  # fmt: skip


def _ratio(ours: Figures, bare: Figures) -> float:
    return (ours.p50 or 0.0) / (bare.p50 or 1.0)


def _time(command: Sequence[str]) -> float:
    began_s = time.perf_counter()
    done = capture(command)
    took_ms = (time.perf_counter() - began_s) * 1000
    if done.returncode not in {_ALL_HOLDS, _SOMETHING_DOES_NOT}:
        raise BenchError(f"failed: exit {done.returncode}: {done.stderr.strip()[:200]}")
    return took_ms
