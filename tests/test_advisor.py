"""The advisor's pass over real processes: what it meets, what it remembers, and what it says."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from children import fork, wait
from gguf_maker import write_model
from passes import OFF, Published
from sparktune.advice import judging
from sparktune.advice.model import Certainty, Finding, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sparktune.advice.model import Engine, Evidence, HostFacts, ModelFacts
    from sparktune.snapshot import AdviceReport

needs_root = pytest.mark.root
NOBODY = 65534
NEW_NAMESPACE, PRIVATE = 0x20000, 0x44000  # CLONE_NEWNS; MS_PRIVATE | MS_REC
WORD = "tiger-swordfish-4711"
SERVE = (
    "import mmap, sys, time\n"
    "file = open(sys.argv[1], 'rb')\n"
    "kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if sys.argv[2] == 'mmap' else file.read()\n"
    "sum(kept[::4096]); file.close(); print(flush=True); time.sleep(100)\n"
)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that another user may get to."""
    path = Path("/tmp") / f"sparktune-engines-{os.getpid()}"  # noqa: S108 - pytest's own is closed to others
    path.mkdir(mode=0o755)
    write_model(path / "tiny.gguf")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., int]]:
    """Start a process that calls itself something; its pid."""
    started = []

    def run(*arguments: str, how: str = "mmap", uid: int | None = None, **environment: str) -> int:
        python = "/usr/bin/python3" if uid else sys.executable
        tail = [*arguments[1:]]
        process = subprocess.Popen(
            [arguments[0], "-c", SERVE, str(place / "tiny.gguf"), how, *tail],
            executable=python, user=uid, group=uid, extra_groups=[] if uid else None,
            stdout=subprocess.PIPE, env={**os.environ, **environment}, cwd="/",
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        started.append(process)
        return process.pid

    yield run
    for process in started:
        process.kill()
        process.communicate()


def engine_of(report: AdviceReport, pid: int) -> Any:
    return next((engine for engine in report.engines if engine.pid == pid), None)


def test_an_engine_is_found_with_what_it_maps(
    published: Published, start: Callable[..., int], place: Path
) -> None:
    pid = start("llama-server")
    engine = engine_of(published.run_pass(), pid)
    assert (engine.kind, engine.role, engine.name) == ("llama.cpp", "server", "llama-server")
    size = (place / "tiny.gguf").stat().st_size
    assert engine.mapped_bytes >= size
    assert engine.resident_bytes >= size
    assert engine.model == "tiny random, F32"
    assert engine.rdma is False


@needs_root
def test_an_engine_of_another_user_is_looked_at_with_that_users_rights(
    published: Published, start: Callable[..., int]
) -> None:
    pid = start("llama-server", uid=NOBODY)
    engine = engine_of(published.run_pass(), pid)
    assert (engine.uid, engine.model, engine.unreadable) == (NOBODY, "tiny random, F32", ())
    assert os.geteuid() == 0


def test_a_process_that_merely_calls_itself_llama_server_is_none(
    published: Published, start: Callable[..., int]
) -> None:
    pid = start("llama-server", how="read")  # nothing mapped or open, no port, no library
    report = published.run_pass()
    assert engine_of(report, pid) is None
    assert report.summary.says == f"nothing to advise, {report.summary.engines} engines examined"


def test_an_engine_that_ended_is_gone_with_the_next_pass(
    published: Published, start: Callable[..., int]
) -> None:
    pid = start("llama-server")
    assert engine_of(published.run_pass(), pid) is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert engine_of(published.run_pass(), pid) is None


def test_no_secret_is_published_or_kept(published: Published, start: Callable[..., int]) -> None:
    pid = start("llama-server", "--api-key", WORD, "-hft", WORD, HF_TOKEN=WORD, NCCL_NET=f"hf_{WORD}")
    report = published.run_pass()
    assert engine_of(report, pid) is not None
    assert WORD not in repr(report)
    for one in published.advisor.suspects:
        assert WORD not in repr((one.engine, one.evidence, one.sketch, one.arguments, one.request))


def test_a_long_command_line_with_newlines_and_bad_utf8_costs_nothing(
    published: Published, start: Callable[..., int]
) -> None:
    pid = start("llama-server", *["\n\udcff" * 30_000] * 20)  # an argument may have 128 KiB, all 2 MiB
    assert engine_of(published.run_pass(), pid) is not None


def test_a_title_that_is_filled_up_with_nothing_has_no_arguments(table: Published, tmp_path: Path) -> None:
    add_process(tmp_path / "root", 500, "VLLM::EngineCore", *[""] * 500)
    table.run_pass()
    [one] = table.advisor.suspects
    assert one.arguments == ("VLLM::EngineCore",)


# -- rules ---------------------------------------------------------------------------------------------------


def finding(engine: Engine, _: Evidence, __: ModelFacts | None, ___: HostFacts) -> Finding | None:
    return Finding(
        rule="llama-mmap", severity=Severity.WARNING, pid=engine.pid, engine=engine.name, what="maps",
        why="w", do="d", expect="e", source="s", certainty=Certainty.SOURCE,
    )  # fmt: skip


def broken(*_: object) -> Finding | None:
    raise ZeroDivisionError


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that always finds something, behind one that breaks."""
    given = {
        name: "x" for name in Rule.__dataclass_fields__ if name not in {"severity", "certainty", "judge"}
    }
    rule = Rule(
        **{**given, "id": "llama-mmap"}, severity=Severity.WARNING, certainty=Certainty.SOURCE, judge=finding
    )
    bad = replace(rule, id="engine-swapped", judge=broken)
    monkeypatch.setattr(judging, "RULES", (bad, rule))


@pytest.mark.usefixtures("rules")
def test_a_finding_is_one_for_each_process_and_keeps_its_time(
    published: Published, start: Callable[..., int]
) -> None:
    pid = start("llama-server")
    first = [one for one in published.run_pass().findings if one.pid == pid]
    again = [one for one in published.run_pass().findings if one.pid == pid]
    assert first == again
    assert [one.rule for one in first] == ["llama-mmap"]


@pytest.mark.usefixtures("rules")
def test_a_rule_that_breaks_costs_itself_only(
    published: Published, start: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    start("llama-server")
    published.run_pass()
    published.run_pass()
    said = capsys.readouterr()
    assert (said.out + said.err).count("a rule is broken") == 1
    assert published.report is not None
    assert published.report.findings


@pytest.mark.usefixtures("rules")
def test_a_silenced_rule_says_nothing(published: Published, start: Callable[..., int]) -> None:
    start("llama-server")
    assert published.run_pass().findings
    published.tuner.reconfigure(published.load(OFF + '[advice]\nignore = ["llama-mmap"]\n'))
    report = published.run_pass()
    assert (report.findings, report.ignored) == ((), ("llama-mmap",))
    assert report.engines


@pytest.mark.usefixtures("rules")
def test_switched_off_nothing_is_looked_at(published: Published, start: Callable[..., int]) -> None:
    start("llama-server")
    published.run_pass()
    published.tuner.reconfigure(published.load(OFF + "[advice]\nenabled = false\n"))
    report = published.run_pass()
    assert (report.summary.enabled, report.engines, report.findings) == (False, (), ())
    assert published.advisor.suspects == ()


# -- the table of processes ----------------------------------------------------------------------------------


def add_process(root: Path, pid: int, *arguments: str, ticks: int = 100) -> None:
    folder = root / "proc" / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cmdline").write_bytes("\0".join(arguments).encode() + b"\0")
    (folder / "stat").write_text(f"{pid} (x) S 1 " + "0 " * 17 + f"{ticks} 0 0\n")
    (folder / "status").write_text("Name:\tx\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t\n")


def set_last_pid(root: Path, pid: int) -> None:
    (root / "proc/loadavg").write_text(f"0.00 0.00 0.00 1/100 {pid}\n")


@pytest.fixture
def table(tmp_path: Path) -> Published:
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    set_last_pid(root, 1000)
    return Published(tmp_path, root)


def test_what_is_no_engine_is_examined_once(table: Published, tmp_path: Path) -> None:
    root = tmp_path / "root"
    add_process(root, 500, "bash")
    table.run_pass()
    add_process(root, 500, "llama-server")  # the same process: nobody looks at it again
    set_last_pid(root, 1001)
    table.run_pass()
    assert table.advisor.suspects == ()


def test_a_pid_that_was_given_out_again_is_another_process(table: Published, tmp_path: Path) -> None:
    root = tmp_path / "root"
    add_process(root, 1002, "bash")
    table.run_pass()
    add_process(root, 1002, "llama-server", ticks=200)
    set_last_pid(root, 1003)
    table.run_pass()
    assert [one.sketch.pid for one in table.advisor.suspects] == [1002]


def test_a_pid_is_another_process_also_when_the_counter_began_anew(table: Published, tmp_path: Path) -> None:
    root = tmp_path / "root"
    add_process(root, 400, "bash")
    table.run_pass()
    add_process(root, 400, "llama-server", ticks=200)
    set_last_pid(root, 401)
    table.run_pass()
    assert [one.sketch.pid for one in table.advisor.suspects] == [400]


def test_an_engine_whose_pid_another_process_has_is_dropped(table: Published, tmp_path: Path) -> None:
    root = tmp_path / "root"
    add_process(root, 1002, "llama-server")
    table.run_pass()
    add_process(root, 1002, "bash", ticks=200)
    set_last_pid(root, 1002)
    table.run_pass()
    assert table.advisor.suspects == ()


def test_memory_that_swings_by_less_than_64_mib_is_no_reason_to_read_a_map_again(
    table: Published, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    add_process(root, 500, "llama-server")
    process = root / "proc/500"
    (process / "maps").write_text("7f00-8f00 r--s 0 103:02 55 /models/tiny.gguf\n")
    status = (process / "status").read_text()
    seen = []
    for resident_mib in (30, 34, 93, 95, 35, 30):
        (process / "status").write_text(f"{status}RssFile:\t{resident_mib * 1024} kB\n")
        table.run_pass()
        [one] = table.advisor.suspects
        seen.append(one.seen)
    assert [before == after for before, after in pairwise(seen)] == [True, True, False, True, False]


@pytest.mark.parametrize("missing", ["cmdline", "stat", "status"])
def test_a_process_that_vanishes_while_it_is_read_is_left_out(
    table: Published, tmp_path: Path, missing: str
) -> None:
    add_process(tmp_path / "root", 500, "llama-server")
    (tmp_path / "root/proc/500" / missing).unlink()
    assert table.run_pass().engines == ()


def test_without_a_procfs_there_is_nothing_to_say(table: Published, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "root/proc")
    report = table.run_pass()
    assert report.unseen == "all processes: there is no /proc"
    assert report.summary.says == "nothing to advise, 0 engines examined; not seen: all processes"


# -- hidepid -------------------------------------------------------------------------------------------------


def hide_processes(mode: bytes) -> None:
    """A /proc of its own that hides others (proc(5)); since Linux 5.8 each mount is its own instance."""
    libc = ctypes.CDLL(None, use_errno=True)
    for done in (
        libc.unshare(NEW_NAMESPACE),
        libc.mount(b"none", b"/", None, PRIVATE, None),
        libc.mount(b"proc", b"/proc", b"proc", 0, b"hidepid=" + mode),
    ):
        assert done == 0, os.strerror(ctypes.get_errno())


def mounts_of_proc() -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - proc " in line]


@needs_root
@pytest.mark.parametrize("mode", [b"1", b"2"])
def test_what_hidepid_hides_is_said_and_what_is_left_is_examined(
    mode: bytes, tmp_path: Path, start: Callable[..., int]
) -> None:
    theirs, ours = start("llama-server"), start("llama-server", uid=NOBODY)
    before = mounts_of_proc()

    def look() -> int:
        hide_processes(mode)
        full = Published(tmp_path).run_pass()  # with CAP_SYS_PTRACE nothing is hidden
        assert full.unseen == ""
        assert {theirs, ours} <= {engine.pid for engine in full.engines}
        left = Published(tmp_path)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        report = left.run_pass()
        assert ours in {engine.pid for engine in report.engines}
        assert theirs not in {engine.pid for engine in report.engines}
        assert report.unseen.startswith("processes of other users: /proc/1: ")
        assert report.summary.says.endswith("; not seen: processes of other users")
        return 0

    assert wait(fork(look)) == 0
    assert mounts_of_proc() == before
    assert Path(f"/proc/{ours}/stat").exists()


def test_ten_thousand_known_processes_cost_next_to_nothing(table: Published, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for pid in range(2, 10_002):
        (root / "proc" / str(pid)).mkdir()
    set_last_pid(root, 10_001)
    table.run_pass()
    began_s = time.thread_time()
    table.run_pass()  # nothing was started since
    idle_s = time.thread_time() - began_s
    (root / "proc/10002").mkdir()
    set_last_pid(root, 10_002)
    began_s = time.thread_time()
    table.run_pass()
    one_new_s = time.thread_time() - began_s
    assert idle_s < 0.01
    assert one_new_s < 0.1
