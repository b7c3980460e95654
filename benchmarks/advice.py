"""What the advisor costs: a pass over known and new processes, and the daemon with three engines running.

Whatever else is started on the machine is examined as well, and its engines too. For the ten minutes of three
engines and nothing else: unshare --pid --fork --mount-proc bench.py --only advice --idle-seconds 600
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ground import ROOT, SOURCES, BenchError, need_root
from processes import daemon, find_port, read_activity, read_rss_kib, running
from report import Figures, Limit, Row, summarise
from sparktune.advice.advisor import Advisor
from sparktune.hardware import detect
from sparktune.kernel.root import Root
from sparktune.logs import get_logger
from sparktune.settings import load
from sparktune.tuner import Tuner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ground import Bench
    from processes import Activity
    from sparktune.snapshot import AdviceReport

_TABLE = 10_000
_REAL = 500
_TIMES = 20
_KNOWN_MS = 1.0
_WINDOW_S, _QUICK_WINDOW_S = 120, 60
_SETTLE_S = 20.0
_MORE_CPU = 0.02
_CONFIG = (
    'require_gb10 = false\nmode = "report"\n'
    '[nvme]\ndevices = []\n[cpuidle]\npolicy = "off"\n[roce]\npolicy = "off"\n'
)
_ENGINES = 3


class _Pass:
    """An advisor over a root, without a daemon."""

    def __init__(self, bench: Bench, root: Path) -> None:
        host = detect(Root(root))
        effective = load(bench.disk / "none.toml", host_names=(), environ={})
        tuner = Tuner(host, effective, state_dir=bench.disk, repair=False)
        self._advisor = Advisor(tuner, self, lambda _, __: None, lambda _: None, get_logger())
        self.took_ms = 0.0

    def publish_advice(self, report: AdviceReport) -> None:
        """What was found is no matter here."""

    def run(self) -> float:
        """One pass without its rests; how long it computed, ms."""
        self._advisor.configure()
        began_s = time.thread_time()
        self._advisor.swept()
        while self._advisor.due_s() is not None:
            self._advisor.turn()
        return (time.thread_time() - began_s) * 1e3


def measure(bench: Bench) -> Iterator[Row]:
    """Passes in this process, then the daemon in windows with and without the advisor."""
    yield from _table(bench)
    yield from _real(bench)
    yield from _daemon(bench)


def _table(bench: Bench) -> Iterator[Row]:
    """A table of 10,000 processes as files in memory."""
    bench.say(f"a table of {_TABLE:,} processes")
    root = bench.memory / "table"
    for pid in range(100, 100 + _TABLE):
        folder = root / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "cmdline").write_bytes(b"/usr/bin/sleep\0infinity\0")
        (folder / "stat").write_text(f"{pid} (sleep) S 1 {'0 ' * 17}100 0 0\n")
    _set_last(root, 99 + _TABLE)
    one = _Pass(bench, root)
    yield Row(measure=f"a pass, {_TABLE:,} processes, all new", unit="ms", figures=Figures(1, one.run()))
    figures = summarise(one.run() for _ in range(_TIMES))
    limits = (Limit(f"p50 ≤ {_KNOWN_MS:g}", figures.p50 or 0.0, _KNOWN_MS),)
    yield Row(measure=f"a pass, {_TABLE:,} processes, none new", unit="ms", figures=figures, limits=limits)
    samples = []
    for number in range(_TIMES):
        _set_last(root, 100 + _TABLE + number)  # something was started, and has ended
        samples.append(one.run())
    name = f"a pass, {_TABLE:,} processes, some started and ended"
    yield Row(measure=name, unit="ms", figures=summarise(samples))


def _set_last(root: Path, pid: int) -> None:
    (root / "proc/loadavg").write_text(f"0.00 0.00 0.00 1/100 {pid}\n")


def _real(bench: Bench) -> Iterator[Row]:
    """500 processes of this kernel."""
    bench.say(f"{_REAL} real processes")
    with _forked(_REAL):
        one = _Pass(bench, ROOT)
        count = sum(name.isdecimal() for name in os.listdir("/proc"))  # noqa: PTH208 - names
        first = one.run()
        yield Row(measure=f"a pass, {count} real processes, all new", unit="ms", figures=Figures(1, first))
        figures = summarise(one.run() for _ in range(_TIMES))
        yield Row(measure=f"a pass, {count} real processes, none new", unit="ms", figures=figures)


@contextmanager
def _forked(count: int) -> Iterator[None]:
    pids = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                os.execv("/bin/sleep", ["sleep", "infinity"])  # noqa: S606 - no shell is wanted
            pids.append(pid)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _daemon(bench: Bench) -> Iterator[Row]:
    """Two daemons over the same seconds, so that whatever else the machine does happens to both."""
    names = ("daemon with three engines, advice.enabled = false", "the same with advice")
    try:
        need_root()
        with _engines(bench):
            off, on = _watch(bench, ("[advice]\nenabled = false\n", ""))
    except BenchError as error:
        for name in names:
            yield Row(measure=name, unit="% CPU", note=str(error))
        return
    more = on.cpu - off.cpu
    limits = (Limit(f"≤ {_MORE_CPU:g} more", max(more, 0.0), _MORE_CPU),)
    note = f"{on.window_s} s, children included"
    yield Row(measure=names[0], unit="% CPU", figures=Figures(1, off.cpu), note=note)
    yield Row(measure=names[1], unit="% CPU", figures=Figures(1, on.cpu), limits=limits, note=note)
    for name, one in zip(names, (off, on), strict=True):
        yield Row(measure=f"wake-ups: {name}", unit="/min", figures=Figures(1, one.wakeups))
        yield Row(measure=f"RSS: {name}", unit="KiB", figures=Figures(1, one.rss_kib))


class _Idle(NamedTuple):
    """What a daemon did: per cent of a CPU, wake-ups a minute, its memory, and in how many seconds."""

    cpu: float
    wakeups: float
    rss_kib: float
    window_s: int


def _watch(bench: Bench, configs: Sequence[str]) -> list[_Idle]:
    """Daemons with these configurations beside each other, after their first look at the engines."""
    window_s = bench.pick_idle(_WINDOW_S, _QUICK_WINDOW_S)
    with ExitStack() as open_things:
        pids = [
            open_things.enter_context(
                daemon(bench.set_up(f"advice-{number}", ROOT, _CONFIG + more), apart=True)
            ).pid
            for number, more in enumerate(configs)
        ]
        time.sleep(_SETTLE_S)
        before = [(read_activity(pid), _children_s(pid)) for pid in pids]
        bench.say(f"{window_s} idle seconds, {len(pids)} daemons beside each other")
        time.sleep(window_s)
        return [_since(pid, *old, window_s) for pid, old in zip(pids, before, strict=True)]


def _since(pid: int, before: Activity, children_s: float, window_s: int) -> _Idle:
    after = read_activity(pid)
    spent_s = (after.cpu_ns - before.cpu_ns) / 1e9 + _children_s(pid) - children_s
    wakeups = (after.wakeups - before.wakeups) * 60 / window_s
    return _Idle(100 * spent_s / window_s, wakeups, read_rss_kib(pid), window_s)


def _children_s(pid: int) -> float:
    """CPU time of the children that were reaped (proc_pid_stat(5), cutime and cstime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _engines(bench: Bench) -> Iterator[None]:
    """Three llama-cpp-python servers with a tiny model, idle."""
    python = SOURCES.parent / ".venv-engines/bin/python"
    if not python.exists():
        raise BenchError("skipped: no engine is built here (make engines)")
    sys.path.insert(0, str(SOURCES.parent / "tests"))
    from gguf_maker import write_model

    model = bench.disk / "tiny.gguf"
    write_model(model)
    with ExitStack() as open_things:
        for number in range(_ENGINES):
            command = [str(python), "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", "64"]
            log = bench.disk / f"engine{number}.log"
            options = ["--port", str(find_port()), *(("--use_mmap", "false") if number else ())]
            open_things.enter_context(running([*command, *options], log=log))
        time.sleep(_SETTLE_S)
        yield
