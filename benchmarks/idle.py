"""Wake-ups and CPU of daemon, API and neighbours while nothing happens, all in one shared window."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ground import ROOT, BenchError, kept, read_ahead_file, real_config
from neighbours import EXPORTER, NEIGHBOURS, TUNED
from processes import Activity, api, daemon, read_activity
from report import Figures, Limit, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ground import Bench

_SIMULATED, _REAL, _API = "daemon, simulated GB10", "daemon, real kernel", "API"
_WINDOW_S, _QUICK_WINDOW_S = 60.0, 20.0
_SETTLE_S = 3.0
_MINUTE_S = 60.0
_MOST_WAKEUPS = {_SIMULATED: 8.0, _REAL: 8.0, _API: 2.0}
_MOST_CPU = {_SIMULATED: 0.02, _REAL: 0.02}


def measure(bench: Bench) -> Iterator[Row]:
    """All processes are watched over the same seconds."""
    with ExitStack() as open_things:
        pids, reasons = _start(bench, open_things)
        time.sleep(_SETTLE_S)
        window_s = bench.pick_idle(int(_WINDOW_S), int(_QUICK_WINDOW_S))
        bench.say(f"{window_s} idle seconds")
        spent = _watch(pids, window_s)
    note = "" if window_s == _WINDOW_S else f"from {window_s} s"
    wakeups = {name: Figures(1, found.wakeups * _MINUTE_S / window_s) for name, found in spent.items()}
    cpu = {name: Figures(1, found.cpu_ns / 1e9 / window_s * 100) for name, found in spent.items()}
    for unit, what, figures, limits in (
        ("/min", "wake-ups", wakeups, _MOST_WAKEUPS),
        ("% CPU", "CPU", cpu, _MOST_CPU),
    ):
        for name in (_SIMULATED, _REAL, _API):
            yield _row(f"idle {what}: {name}", unit, name, figures, limits, reasons, note)


def _start(bench: Bench, open_things: ExitStack) -> tuple[dict[str, int], dict[str, str]]:
    """Everything that can be had, by name, and why the rest cannot."""
    simulated = bench.simulate("idle")
    pids = {_SIMULATED: open_things.enter_context(daemon(simulated)).pid}
    pids[_API] = open_things.enter_context(api(simulated))[0].pid
    reasons = {}
    try:
        device = bench.find_device()
        open_things.enter_context(kept(read_ahead_file(device)))
        real = bench.set_up("idle-real", ROOT, real_config(device))
        pids[_REAL] = open_things.enter_context(daemon(real)).pid
    except BenchError as error:
        reasons[_REAL] = str(error)
    for name, open_neighbour in NEIGHBOURS.items():
        try:
            pids[name] = open_things.enter_context(open_neighbour(bench)).pid
        except BenchError as error:
            reasons[name] = str(error)
    return pids, reasons


def _watch(pids: dict[str, int], window_s: float) -> dict[str, Activity]:
    before = {name: read_activity(pid) for name, pid in pids.items()}
    time.sleep(window_s)
    after = {name: read_activity(pid) for name, pid in pids.items()}
    return {
        name: Activity(after[name].wakeups - old.wakeups, after[name].cpu_ns - old.cpu_ns)
        for name, old in before.items()
    }


def _row(
    measure: str,
    unit: str,
    name: str,
    figures: dict[str, Figures],
    limits: dict[str, float],
    reasons: dict[str, str],
    note: str,
) -> Row:
    ours = figures.get(name)
    if ours is None:
        return Row(measure=measure, unit=unit, note=reasons[name])
    neighbour = EXPORTER if name == _API else TUNED
    beside = figures.get(neighbour, reasons.get(neighbour, ""))
    ratio = ours.most / beside.most if isinstance(beside, Figures) and beside.most else None
    limit = (Limit(f"≤ {limits[name]:g}", ours.most, limits[name]),) if name in limits else ()
    return Row(
        measure=measure, unit=unit, figures=ours, beside={neighbour: beside}, ratio=ratio, limits=limit,
        note=note,
    )  # fmt: skip
