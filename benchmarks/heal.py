"""How long a change by another process lives: ours beside a bare C fanotify loop, in turns, in one run."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ground import ROOT, BenchError, kept, natural, need_root, read_ahead_file, real_config
from processes import capture, daemon, last_line, running
from report import Figures, Limit, Row, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ground import Bench, Setup

_ROUNDS, _QUICK_ROUNDS = 4, 2
_LATENCIES, _QUICK_LATENCIES = 600, 300
_GAP_NS, _LONG_GAP_NS = 1_500_000, 20_000_000
_RARE_LATENCIES, _QUICK_RARE_LATENCIES = 125, 40
_BURSTS, _QUICK_BURSTS = 50, 20
_FIRST_BURSTS, _QUICK_FIRST_BURSTS = 9, 3
_P50_TIMES, _P99_TIMES, _MOST_US = 3.0, 1.5, 150.0
_PATIENCE_S = 5.0


def measure(bench: Bench) -> Iterator[Row]:
    """The latency of a single heal on a real sysfs attribute."""
    device = bench.find_device()
    attribute = read_ahead_file(device)
    setup = bench.set_up("heal", ROOT, real_config(device))
    rounds = bench.pick(_ROUNDS, _QUICK_ROUNDS)
    with kept(attribute):
        probe = Probe(bench, [attribute], disturbing="128", wanted="8192", gap_ns=_GAP_NS)
        ours, bare = probe.compare(setup, rounds=rounds, count=bench.pick(_LATENCIES, _QUICK_LATENCIES))
        probe = Probe(bench, [attribute], disturbing="128", wanted="8192", gap_ns=_LONG_GAP_NS)
        rare = probe.compare(setup, rounds=rounds, count=bench.pick(_RARE_LATENCIES, _QUICK_RARE_LATENCIES))
    what = f"write to {device}/queue/read_ahead_kb (real sysfs) → healed"
    absolute = Limit(f"p50 ≤ {_MOST_US:.0f}", ours.p50 or 0.0, _MOST_US)
    yield _compare_row(f"{what}, p50", ours, bare, name="p50", times=_P50_TIMES, more=(absolute,))
    yield _compare_row(f"{what}, p99", ours, bare, name="p99", times=_P99_TIMES)
    yield Row(
        measure="the same, 20 ms apart: the daemon is asleep each time",
        unit="µs",
        figures=rare[0],
        beside={"C loop": rare[1]},
        ratio=(rare[0].p50 or 0.0) / (rare[1].p50 or 1.0),
    )


def measure_burst(bench: Bench) -> Iterator[Row]:
    """As many writes at once as `cpupower idle-set -E` makes on a GB10, until the last one is healed."""
    need_root()
    setup = bench.simulate("burst", "[contest]\nafter = 0\n")
    states = sorted(setup.root.glob("sys/devices/system/cpu/cpu*/cpuidle/state*/disable"), key=_natural_path)
    probe = Probe(bench, states, disturbing="0", wanted="1", gap_ns=_LONG_GAP_NS)
    first = probe.take_first(setup, count=bench.pick(_FIRST_BURSTS, _QUICK_FIRST_BURSTS))
    ours, bare = probe.compare(
        setup, rounds=bench.pick(_ROUNDS, _QUICK_ROUNDS), count=bench.pick(_BURSTS, _QUICK_BURSTS)
    )
    what = f"burst of {len(states)} writes (plain files of a simulated GB10) → the last one healed"
    yield _compare_row(what, ours, bare, name="p50", times=_P50_TIMES)
    yield Row(
        measure=f"the first burst of {len(states)} on values sparktune never wrote (originals to disk first)",
        unit="µs",
        figures=summarise(first),
    )


class Probe:
    """Disturbs files and measures until they are written back."""

    def __init__(
        self, bench: Bench, files: Sequence[Path], *, disturbing: str, wanted: str, gap_ns: int
    ) -> None:
        """Compile both programs. Raises BenchError where there is no compiler."""
        self._bench = bench
        self._loop, self._writer = bench.compile("loop"), bench.compile("writer")
        self._files = [str(file) for file in files]
        self._disturbing, self._wanted = disturbing, wanted
        self._gap_ns = gap_ns

    def compare(self, setup: Setup, *, rounds: int, count: int) -> tuple[Figures, Figures]:
        """Ours and the C loop's latencies in µs, in turns so that noise of the machine hits both alike."""
        ours: list[float] = []
        bare: list[float] = []
        for number in range(1, rounds + 1):
            self._bench.say(f"round {number} of {rounds}: {count} with the C loop, {count} with sparktune")
            with self._bare_loop():
                bare += self.take(count)
            with daemon(setup):
                ours += self.take(count)
        return summarise(ours), summarise(bare)

    def take_first(self, setup: Setup, *, count: int) -> list[float]:
        """Latencies in µs of the first round after a start that had nothing to write: without originals."""
        self._bench.say(f"{count} first rounds")
        latencies = []
        for _ in range(count):
            shutil.rmtree(setup.state_dir, ignore_errors=True)
            for file in self._files:
                Path(file).write_text(f"{self._wanted}\n")
            with daemon(setup):
                latencies += self.take(1)
        return latencies

    def take(self, count: int) -> list[float]:
        """Latencies in µs while somebody holds the files. Raises BenchError if one stays disturbed."""
        words = [str(count), str(self._gap_ns), self._disturbing, self._wanted]
        command = [str(self._writer), *words, *self._files]
        done = capture(command)
        if done.returncode:
            raise BenchError(f"failed: {done.stderr.strip()[:200]}")
        return [int(line) / 1000 for line in done.stdout.split()]

    @contextmanager
    def _bare_loop(self) -> Iterator[None]:
        log = self._bench.disk / "loop.log"
        log.unlink(missing_ok=True)
        with running([str(self._loop), self._wanted, *self._files], log=log) as process:
            deadline_s = time.monotonic() + _PATIENCE_S
            while "ready" not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise BenchError(f"failed: the C loop did not start: {last_line(log)}")
                time.sleep(0.005)
            yield


def _compare_row(
    measure: str, ours: Figures, bare: Figures, *, name: str, times: float, more: tuple[Limit, ...] = ()
) -> Row:
    """A row judged by `name` (p50 or p99) against so many times the C loop's."""
    measured, reference = getattr(ours, name), getattr(bare, name)
    return Row(
        measure=measure,
        unit="µs",
        figures=ours,
        beside={"C loop": bare},
        ratio=measured / reference,
        limits=(Limit(f"{name} ≤ {times:g} x C", measured, times * reference), *more),
    )


def _natural_path(path: Path) -> list[tuple[int, str]]:
    return natural(str(path))
