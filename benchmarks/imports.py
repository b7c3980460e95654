"""What each import of the daemon costs in time and memory, in fresh interpreters.

As a script it is the measured interpreter: it imports the daemon and prints what each package cost by itself,
without what it imports in turn, in the order in which they came.
"""

import json
import os
import sys
import time
from importlib import import_module, machinery

# Whatever this file imports before it measures is charged to Python itself: keep it to those above. What only
# the parent process needs is imported inside its functions.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

    from ground import Bench
    from report import Row

_DAEMON = ("sparktune.cli.main", "sparktune.cli.daemon", "sparktune.daemon", "sparktune.kernel.uevent")
_BARE, _SMALL, _ALL = "Python itself", "all smaller ones", "all of the daemon"
_RUNS, _QUICK_RUNS = 9, 3
_KIB = 1024
_SMALL_KIB, _SMALL_MS = 512.0, 8.0


def measure(bench: "Bench") -> "Iterator[Row]":
    """Medians over fresh interpreters, standard library included. `for` names who asked for it first."""
    from report import Figures, Row, median

    count = bench.pick(_RUNS, _QUICK_RUNS)
    bench.say(f"{count} interpreters")
    runs = [_run() for _ in range(count + 1)][1:]  # the first one warms the page cache
    sums: dict[str, tuple[float, float]] = {_SMALL: (0.0, 0.0), _ALL: (0.0, 0.0)}
    shown = {}
    for package, asker in runs[0]["askers"].items():
        cost = tuple(median([run["costs"].get(package, (0, 0))[part] for run in runs]) for part in (0, 1))
        is_small = cost[0] < _SMALL_MS and cost[1] < _SMALL_KIB
        label = package if asker in {"", "sparktune", _BARE} else f"{package} (for {asker})"
        for name in (_SMALL, _ALL) if is_small else (_ALL,):
            sums[name] = (sums[name][0] + cost[0], sums[name][1] + cost[1])
        if not is_small:
            shown[label] = (cost[0], cost[1])
    for label, (cost_ms, cost_kib) in {**shown, **sums}.items():
        beside: dict[str, Figures | str] = {"takes": f"{cost_ms:.1f} ms"}
        yield Row(measure=f"import: {label}", unit="KiB", figures=Figures(count, cost_kib), beside=beside)


def _run() -> "dict[str, dict[str, Any]]":
    from ground import BenchError
    from processes import capture

    command = [sys.executable, "-P", __file__]
    done = capture(command)
    if done.returncode:
        raise BenchError(f"failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}")
    answer: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return answer


class Ledger:
    """Charges time and memory to the package whose module is running, not to those that wait for it."""

    def __init__(self) -> None:
        """Charge the interpreter as it is now to Python itself."""
        self.costs: dict[str, tuple[float, float]] = {_BARE: (0.0, _rss_kib())}
        self.askers: dict[str, str] = {_BARE: ""}
        self._open = [_BARE]
        self._settle()

    def charge(self, loader: type, step: str, name_of: "Callable[[Any], str]") -> None:
        """Watch one step of a loader: `create_module` or `exec_module`."""
        original = getattr(loader, step)

        def watched(self_: object, subject: "ModuleType | machinery.ModuleSpec") -> object:
            self.enter(_package(name_of(subject)))
            try:
                return original(self_, subject)
            finally:
                self.leave()

        setattr(loader, step, watched)

    def enter(self, package: str) -> None:
        """A module of this package begins to run."""
        self._book()
        self.askers.setdefault(package, self._open[-1])
        self._open.append(package)
        self._settle()

    def leave(self) -> None:
        """It is done; who asked for it goes on."""
        self._book()
        self._open.pop()
        self._settle()

    def _book(self) -> None:
        took_ms, grown_kib = (time.perf_counter() - self._began_s) * 1000, _rss_kib() - self._rss_kib
        known_ms, known_kib = self.costs.get(self._open[-1], (0.0, 0.0))
        self.costs[self._open[-1]] = (known_ms + took_ms, known_kib + grown_kib)

    def _settle(self) -> None:
        self._rss_kib, self._began_s = _rss_kib(), time.perf_counter()


def _package(name: str) -> str:
    """`asyncio` for `asyncio.events` and for `_asyncio`."""
    return name.partition(".")[0].lstrip("_")


def _rss_kib() -> float:
    descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    pages = int(os.read(descriptor, 128).split()[1])
    os.close(descriptor)
    return pages * os.sysconf("SC_PAGE_SIZE") / _KIB


def _import_daemon() -> "dict[str, object]":
    ledger = Ledger()
    for loader in (machinery.SourceFileLoader, machinery.ExtensionFileLoader):
        ledger.charge(loader, "exec_module", lambda module: str(module.__name__))
    ledger.charge(machinery.ExtensionFileLoader, "create_module", lambda spec: str(spec.name))
    for name in _DAEMON:
        import_module(name)
    return {"costs": ledger.costs, "askers": ledger.askers}


if __name__ == "__main__":
    print(json.dumps(_import_daemon()))
