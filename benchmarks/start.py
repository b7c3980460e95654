"""From exec to `READY=1`, which means applied and verified once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from neighbours import TUNED, ask
from processes import daemon, ready
from report import Figures, Limit, Row, summarise
from sparktune.simulate.tree import build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ground import Bench, Setup

_STARTS, _QUICK_STARTS = 25, 6
_COLD_STARTS, _QUICK_COLD_STARTS = 3, 1
_NEIGHBOUR_STARTS = 3
_BUDGET_MS = 400.0


def measure(bench: Bench) -> Iterator[Row]:
    """Each start finds a machine nobody has tuned: it writes all values and puts all originals on disk."""
    setup = bench.simulate("start")
    count = bench.pick(_STARTS, _QUICK_STARTS)
    bench.say(f"{count} starts")
    first = summarise([_time_first(setup) for _ in range(count)])
    again = summarise([_time(setup) for _ in range(count)])
    beside = ask(bench, lambda started: started.ready_s * 1000, count=_NEIGHBOUR_STARTS)
    other = beside[TUNED]
    ratio = (first.p50 or 0.0) / other.p50 if isinstance(other, Figures) and other.p50 else None
    limits = (Limit(f"p50 ≤ {_BUDGET_MS:.0f}", first.p50 or 0.0, _BUDGET_MS),)
    yield Row(
        measure="exec → READY, simulated GB10, all values to write", unit="ms", figures=first,
        beside=beside, ratio=ratio, limits=limits,
    )  # fmt: skip
    yield Row(measure="exec → READY, simulated GB10, all values hold already", unit="ms", figures=again)
    bench.say("starts without compiled bytecode")
    cold = [_time_cold(bench, setup) for _ in range(bench.pick(_COLD_STARTS, _QUICK_COLD_STARTS))]
    yield Row(measure="exec → READY, the same, no bytecode compiled yet", unit="ms", figures=summarise(cold))


def _time(setup: Setup) -> float:
    with daemon(setup) as started:
        return started.ready_s * 1000


def _time_first(setup: Setup) -> float:
    build(setup.root)
    shutil.rmtree(setup.state_dir, ignore_errors=True)
    shutil.rmtree(setup.run_dir, ignore_errors=True)
    return _time(setup)


def _time_cold(bench: Bench, setup: Setup) -> float:
    cache = bench.disk / "bytecode"
    shutil.rmtree(cache, ignore_errors=True)
    environment = {"PYTHONPYCACHEPREFIX": str(cache)}
    with ready(setup.command("daemon"), directory=setup.config.parent, environment=environment) as started:
        return started.ready_s * 1000
