"""What a verify sweep costs a tunable, through the real engine and attributes that stay open.

As a script (`sweep.py COUNT SWEEPS DIRECTORY [ATTRIBUTE]`) it is the measured process itself.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ground import BenchError, read_ahead_file
from processes import capture
from report import Figures, Limit, Row, summarise
from sparktune.contest import ContestRule
from sparktune.engine import Engine
from sparktune.kernel.attribute import FileAttribute
from sparktune.kernel.root import Root
from sparktune.marks import Marks
from sparktune.model import Noticed, Policy, Tunable
from sparktune.originals import Originals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ground import Bench

_COUNTS = (100, 1_000, 10_000)
_BUDGET_COUNT, _BUDGET_US = 10_000, 3.0
_READS, _QUICK_READS = 1_000_000, 300_000
_FEWEST, _MOST = 30, 1_000
_SPARE_DESCRIPTORS = 64
_REAL_COUNT = 1_000


def measure(bench: Bench) -> Iterator[Row]:
    """Sweeps over plain files in memory, and one over a real sysfs attribute opened many times."""
    for count in _COUNTS:
        figures = _run(bench, count)
        row = f"sweep over {count:,} tunables (plain files), each"
        limits = (Limit(f"p50 ≤ {_BUDGET_US:g}", figures.p50 or 0.0, _BUDGET_US),)
        yield Row(measure=row, unit="µs", figures=figures, limits=limits if count == _BUDGET_COUNT else ())
    attribute = read_ahead_file(bench.find_device())
    figures = _run(bench, _REAL_COUNT, attribute)
    yield Row(
        measure=f"sweep over {_REAL_COUNT:,} tunables ({attribute.parts[3]}'s read_ahead_kb, sysfs), each",
        unit="µs",
        figures=figures,
    )


def _run(bench: Bench, count: int, attribute: Path | None = None) -> Figures:
    """µs a tunable over many sweeps, in a fresh process: its open files and memory end with it."""
    sweeps = min(max(bench.pick(_READS, _QUICK_READS) // count, _FEWEST), _MOST)
    bench.say(f"{sweeps} sweeps over {count:,} tunables")
    directory = bench.memory / f"sweep-{count}-{'files' if attribute is None else 'sysfs'}"
    directory.mkdir()
    command = [sys.executable, __file__, str(count), str(sweeps), str(directory)]
    command += [] if attribute is None else [str(attribute)]
    done = capture(command)
    if done.returncode:
        raise BenchError(f"failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}")
    return summarise(json.loads(done.stdout))


def _sweep(count: int, sweeps: int, directory: Path, attribute: Path | None) -> list[float]:
    """The measured process: µs a tunable of each sweep."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _SPARE_DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    root = Root()  # plain files under the real root are read exactly as sysfs is
    engine = Engine(
        root=root,
        originals=Originals(directory / "originals.jsonl", "bench", repair=True),
        marks=Marks(directory / "marks.json", "bench", repair=True),
        rule=ContestRule(after=0, window_s=60.0, hold_s=600.0),
    )
    value = 8192 if attribute is None else int(attribute.read_text())
    tunables = []
    for number in range(count):
        file = attribute or directory / str(number)
        if attribute is None:
            file.write_text(f"{value}\n")
        tunables.append(_tunable(root, number, file, value))
    engine.adopt("nvme", tunables, policy=Policy.REPORT, layers={})
    engine.sweep(Noticed.SWEEP)
    gc.collect()
    gc.freeze()  # as the daemon does
    return [_time_sweep(engine) / count for _ in range(sweeps)]


def _tunable(root: Root, number: int, file: Path, value: int) -> Tunable:
    attribute = FileAttribute(root, str(file), identity=(f"bench/{number}", f"bench/{number}"))
    return Tunable(
        id=f"nvme.bench{number}.read_ahead_kb",
        area="nvme",
        device=f"bench{number}",
        attribute=attribute,
        wanted=value,
        why="to be measured",
        source="bench",
        risk="",
    )


def _time_sweep(engine: Engine) -> float:
    began_ns = time.perf_counter_ns()
    drifts = engine.sweep(Noticed.SWEEP)
    took_us = (time.perf_counter_ns() - began_ns) / 1000
    if drifts:
        raise BenchError("the value was changed by somebody while it was measured")
    return took_us


if __name__ == "__main__":
    words = sys.argv[1:]
    print(
        json.dumps(
            _sweep(int(words[0]), int(words[1]), Path(words[2]), Path(words[3]) if words[3:] else None)
        )
    )
