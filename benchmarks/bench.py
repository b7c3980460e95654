"""Measures everything the design has a budget for, beside what else there is, in one run: `make bench`.

Prints one table (progress goes to stderr) and writes `benchmarks/results/bench-<UTC time>.json`. Figures are
pooled over all rounds before a budget is judged. A missed budget is shown with by how much, and the exit code
stays 0 unless `--strict` is given (then 1); 130 when it was interrupted.

As root it also measures on this machine's real kernel: on the first loop device without a backing file, whose
read-ahead is put back at the end, also after Ctrl-C or SIGTERM. What needs root says so for other users. No
daemon may hold this host meanwhile: stop sparktune.service first. TuneD and prometheus-node-exporter are
started for the column beside ours where they are installed; nothing is installed. No process is left behind.

A full run takes about five minutes, `--quick` about one: fewer samples, so less is proved by it.
The machine should do nothing else meanwhile; its load before and after is in the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground import BenchError, open_bench
from report import Row, format_summary, format_table, from_json, to_json
from sparktune import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from ground import Bench

MEASURES = {
    "heal": ("a write on real sysfs until it is healed, beside a bare C loop", "heal", "measure"),
    "burst": ("80 writes at once until the last is healed, beside the C loop", "heal", "measure_burst"),
    "eventless": ("a change without an event until the sweep has healed it", "eventless", "measure"),
    "sweep": ("a sweep over 100, 1,000 and 10,000 tunables", "sweep", "measure"),
    "fabric": ("reading, discovering and verifying a fabric of 4 to 64 functions", "fabric", "measure"),
    "links": ("a new MTU until its verdict, and wake-ups with a flapping link", "links", "measure"),
    "idle": ("wake-ups and CPU of daemon, API and neighbours while nothing happens", "idle", "measure"),
    "advice": ("a pass of the advisor, and the daemon with three engines running", "advice", "measure"),
    "memory": ("memory after the start, beside the neighbours", "memory", "measure"),
    "growth": ("memory after 100,000 drifts", "memory", "measure_growth"),
    "imports": ("what each import of the daemon costs", "imports", "measure"),
    "start": ("exec to READY, beside the neighbours", "start", "measure"),
    "api": ("GET /status and /metrics", "api", "measure"),
    "commands": ("sparktune status, sparktune --help", "command_line", "measure"),
}
"""Every measure in the order of the table: what it is, its module and its function there."""

RESULTS = Path(__file__).parent / "results"
_EXIT_MISSED, _EXIT_USAGE, _EXIT_INTERRUPTED = 1, 2, 130


def main() -> int:
    """Measure, print, store. Returns the exit code."""
    options = _parse()
    if options.show:
        return _show(options.show)
    load_before = os.getloadavg()
    began_s = time.monotonic()
    rows: list[Row] = []
    try:
        with _interruptible(), _open(options) as bench:
            for name in options.only or MEASURES:
                rows += _measure(bench, name)
    except KeyboardInterrupt:
        print("interrupted; everything is put back", file=sys.stderr)
        return _EXIT_INTERRUPTED
    facts = {**_describe_machine(), "quick": options.quick, "took_s": round(time.monotonic() - began_s, 1)}
    facts |= {"load_before": load_before, "load_after": os.getloadavg()}
    _print(facts, rows)
    print(f"stored: {os.path.relpath(_store(facts, rows))}", file=sys.stderr)
    return _EXIT_MISSED if options.strict and any(row.is_missed for row in rows) else 0


def _parse() -> argparse.Namespace:
    names = "\n".join(f"  {name:<10} {about}" for name, (about, _, _) in MEASURES.items())
    parser = argparse.ArgumentParser(
        prog="bench.py",
        description=__doc__,
        epilog=f"measures:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(MEASURES), metavar="NAME", help="these measures only"
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples: about a minute")
    parser.add_argument("--device", default="", metavar="LOOP", help="the loop device, such as loop3")
    parser.add_argument(
        "--idle-seconds", type=int, default=0, metavar="N", help="watch idle processes for so long"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when a budget is missed")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the table of an earlier run")
    return parser.parse_args()


def _open(options: argparse.Namespace) -> AbstractContextManager[Bench]:
    return open_bench(quick=options.quick, device=options.device, idle_s=options.idle_seconds)


def _measure(bench: Bench, name: str) -> Iterator[Row]:
    """The rows of one measure; one row that says why where it could not be taken."""
    about, module, function = MEASURES[name]
    measure: Callable[[Bench], Iterator[Row]] = getattr(import_module(module), function)
    print(f"{name}: {about}", file=sys.stderr, flush=True)
    try:
        yield from measure(bench)
    except BenchError as error:
        print(f"  {error}", file=sys.stderr, flush=True)
        yield Row(measure=f"{name}: {about}", note=str(error))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the first SIGTERM, SIGINT or SIGHUP into KeyboardInterrupt, so that everything is put back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def interrupt(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the putting back
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _describe_machine() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sparktune": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "root": os.geteuid() == 0,
    }


def _print(facts: dict[str, Any], rows: Iterable[Row]) -> None:
    rows = list(rows)
    load = f"load {facts['load_before'][0]:.1f} before, {facts['load_after'][0]:.1f} after"
    kind = "a quick run" if facts["quick"] else "a full run"
    print(
        f"sparktune {facts['sparktune']}, Python {facts['python']}, Linux {facts['kernel']}, "
        f"{facts['machine']}, {facts['cpus']} CPUs, {load}; {kind}, {facts['took_s']:.0f} s, {facts['at']}\n"
    )
    print(format_table(rows))
    print(f"\nbeside it: p50 / p99 / max, or one value.\n{format_summary(rows)}")


def _store(facts: dict[str, Any], rows: Iterable[Row]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    stamp = facts["at"].replace(":", "").replace("-", "").replace("+0000", "Z")
    file = RESULTS / f"bench-{stamp}.json"
    text = json.dumps({**facts, "rows": to_json(rows)}, indent=1, ensure_ascii=False)
    file.write_text(f"{text}\n")
    return file


def _show(file: Path) -> int:
    try:
        stored = json.loads(file.read_text())
        _print(stored, from_json(stored["rows"]))
    except (OSError, ValueError, KeyError, TypeError) as error:  # not there, or none of ours
        print(f"bench.py: {file} is no result of this bench: {error}", file=sys.stderr)
        return _EXIT_USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
