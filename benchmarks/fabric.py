"""What it costs to read the fabric, to discover its tunables, and to verify them, over 4 to 64 functions."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from ground import BenchError
from report import Limit, Row, summarise
from sparktune.contest import ContestRule
from sparktune.engine import Engine
from sparktune.hardware import detect
from sparktune.kernel.fabric import read_fabric
from sparktune.kernel.root import Root
from sparktune.marks import Marks
from sparktune.model import Noticed, Policy
from sparktune.originals import Originals
from sparktune.settings import load
from sparktune.simulate.chips import add_chips
from sparktune.simulate.tree import build
from sparktune.tunables import roce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ground import Bench

_COUNTS = (4, 8, 16, 64)
_PER_CHIP = 4
_SPARK = 4
_READ_MS = 5.0
_TIMES, _QUICK_TIMES = 200, 30


def measure(bench: Bench) -> Iterator[Row]:
    """Trees in memory: how many files are read is as on a real machine, how long the kernel takes is not."""
    for count in _COUNTS:
        directory = bench.memory / f"fabric-{count}"
        build(directory, scenario="healthy-pair")
        add_chips(directory, count // _PER_CHIP - 1)
        yield from _rows(bench, directory, count)


def _rows(bench: Bench, directory: Path, count: int) -> Iterator[Row]:
    root, times = Root(directory), bench.pick(_TIMES, _QUICK_TIMES)
    if len(read_fabric(root).functions) != count:
        raise BenchError(f"the tree does not have {count} functions")
    bench.say(f"{times} times over {count} functions")
    figures = summarise(_time(lambda: read_fabric(root), times))
    limits = (Limit(f"p50 ≤ {_READ_MS:g}", figures.p50 or 0.0, _READ_MS),) if count == _SPARK else ()
    yield Row(measure=f"reading a fabric of {count} functions", unit="ms", figures=figures, limits=limits)
    host, settings = detect(root), load(directory / "etc/sparktune.toml", host_names=(), environ={}).settings
    discover = _time(lambda: roce.discover(host, settings), times)
    tunables = roce.discover(host, settings).tunables
    name = f"discovery over {count} functions ({len(tunables)} tunables and checks)"
    yield Row(measure=name, unit="ms", figures=summarise(discover))
    engine = Engine(
        root=root,
        originals=Originals(directory / "originals.jsonl", "bench", repair=True),
        marks=Marks(directory / "marks.json", "bench", repair=True),
        rule=ContestRule(after=0, window_s=60.0, hold_s=600.0),
    )
    engine.adopt(roce.AREA, tunables, policy=Policy.REPORT, layers={})
    engine.sweep(Noticed.SWEEP)

    def verify() -> None:
        engine.expire(engine.held.values())
        engine.sweep(Noticed.REQUEST)

    for what, call in (("the sweep", lambda: engine.sweep(Noticed.SWEEP)), ("one verify pass", verify)):
        name = f"{what} over {count} functions ({len(tunables)} tunables and checks)"
        yield Row(measure=name, unit="ms", figures=summarise(_time(call, times)))


def _time(call: Callable[[], object], times: int) -> Iterator[float]:
    """How long each call takes, ms."""
    gc.collect()
    for _ in range(times):
        began_ns = time.perf_counter_ns()
        call()
        yield (time.perf_counter_ns() - began_ns) / 1e6
