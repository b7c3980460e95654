"""Resident memory: after the start, after many drifts, and of the neighbours."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from ground import ROOT, BenchError, kept, need_root, read_ahead_file, real_config
from heal import Probe
from neighbours import TUNED, ask
from processes import api, daemon, read_rss_kib
from report import Figures, Limit, Row, median

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ground import Bench, Setup
    from processes import Started

_MOST_KIB = 48 * 1024.0
_WARM_UP, _DRIFTS, _QUICK_DRIFTS = 10_000, 100_000, 20_000
_GAP_NS = 20_000
_FEWEST = 1_000
_MOST_GROWTH_KIB = 1024.0
_STARTS, _QUICK_STARTS = 5, 2
_SETTLE_S = 2.0


def measure(bench: Bench) -> Iterator[Row]:
    """Memory after the start, on the simulated GB10 and on the real kernel."""
    bench.say("after the start")
    simulated = [_after_start(bench.simulate("memory")) for _ in range(bench.pick(_STARTS, _QUICK_STARTS))]
    ours = Figures(n=len(simulated), most=max(simulated), p50=median(simulated))
    beside = ask(bench, _settled_rss)
    yield _row("RSS after start: daemon, simulated GB10", ours, beside=beside)
    try:
        device = bench.find_device()
        with kept(read_ahead_file(device)):
            real = _after_start(bench.set_up("memory-real", ROOT, real_config(device)))
        yield _row("RSS after start: daemon, real kernel", Figures(1, real))
    except BenchError as error:
        yield Row(measure="RSS after start: daemon, real kernel", unit="KiB", note=str(error))
    setup = bench.simulate("memory")
    with daemon(setup), api(setup) as (started, _):
        rss_kib = _settled_rss(started)
    yield Row(measure="RSS after start: API", unit="KiB", figures=Figures(1, rss_kib))


def measure_growth(bench: Bench) -> Iterator[Row]:
    """Memory after many drifts of one tunable on a simulated GB10, each healed before the next."""
    need_root()
    setup = bench.simulate("growth", "[contest]\nafter = 0\n")
    attribute = next(setup.root.glob("sys/devices/**/nvme0n1/queue/read_ahead_kb"))
    probe = Probe(bench, [attribute], disturbing="1024", wanted="8192", gap_ns=_GAP_NS)
    count = bench.pick(_DRIFTS, _QUICK_DRIFTS)
    with daemon(setup) as started:
        before = _settled_rss(started)
        probe.take(_WARM_UP)
        warm = _settled_rss(started)
        bench.say(f"{count:,} drifts")
        heals = 0
        while heals < count:  # two writes in quick succession can be one drift
            probe.take(max(count - _WARM_UP if not heals else count - heals, _FEWEST))
            after = _settled_rss(started)
            heals = _count_heals(setup.run_dir)
    note = f"after start {before:,.0f}, after {_WARM_UP:,} drifts {warm:,.0f}"
    yield _row(f"RSS after {heals:,} drifts: daemon", Figures(1, after), note=note)
    grown = after - warm
    yield Row(
        measure=f"its growth from drift {_WARM_UP:,} to {count:,}", unit="KiB", figures=Figures(1, grown),
        limits=(Limit(f"≤ {_MOST_GROWTH_KIB:,.0f}, noise", grown, _MOST_GROWTH_KIB),),
    )  # fmt: skip


def _row(
    measure: str, ours: Figures, *, beside: dict[str, Figures | str] | None = None, note: str = ""
) -> Row:
    other = (beside or {}).get(TUNED)
    ratio = (ours.p50 or ours.most) / other.most if isinstance(other, Figures) else None
    limits = (Limit(f"max ≤ {_MOST_KIB:,.0f}", ours.most, _MOST_KIB),)
    return Row(
        measure=measure, unit="KiB", figures=ours, beside=beside or {}, ratio=ratio, limits=limits, note=note
    )  # fmt: skip


def _after_start(setup: Setup) -> float:
    with daemon(setup) as started:
        return _settled_rss(started)


def _settled_rss(started: Started) -> float:
    """Once the sweep, the publication and the history's thread that follow have had their turn."""
    time.sleep(_SETTLE_S)
    return read_rss_kib(started.pid)


def _count_heals(run_dir: Path) -> int:
    return int(json.loads((run_dir / "counters.json").read_text())["heals"])
