"""The command line as a whole: help, options, errors, terminals, and what it costs to start."""

from __future__ import annotations

import os
import pty
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest

from commands import READ_AHEAD, CommandLine, run_process, wait_until
from documents import make_status, publish_everything
from sparktune import __version__
from sparktune.cli.main import COMMANDS, cli, main
from sparktune.published import encode, publish
from sparktune.simulate import tree

HEAVY = (
    "pydantic", "fastapi", "uvicorn", "structlog", "rich", "asyncio", "ssl", "subprocess", "logging",
    "sqlite3", "sparktune.settings", "sparktune.engine", "sparktune.model", "sparktune.snapshot",
)  # fmt: skip


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    tree.build(tmp_path / "host")
    return CommandLine(tmp_path / "host", capsys)


def imported_by(*arguments: str) -> set[str]:
    """The modules a command has imported when it is done."""
    code = f"""
        import atexit, sys
        from sparktune.cli.main import main
        atexit.register(lambda: print("MODULES", *sys.modules))
        sys.exit(main({list(arguments)!r}))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(done.stdout.rpartition("MODULES ")[2].split())


def test_the_help_lists_every_command_with_its_line() -> None:
    outcome = run_process("--help")
    assert outcome.code == 0
    for name, says in COMMANDS.items():
        assert f"{name} " in outcome.out
        assert says in outcome.out


def test_the_help_imports_no_command() -> None:
    modules = imported_by("--help")
    assert "click" in modules
    assert not {name for name in modules if name.startswith(HEAVY)}


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("status", ["status", "--all"]),
        ("explain", ["explain", "nvme.nvme0n1.read_ahead_kb"]),
        ("advise", ["advise"]),
        ("peace", ["pause", "nvme"]),
        ("peace", ["reload"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_only_shows_or_asks_the_daemon_imports_nothing_heavy(
    tmp_path: Path, module: str, arguments: list[str]
) -> None:
    publish_everything(tmp_path)
    modules = imported_by("--run-dir", str(tmp_path), *arguments)
    assert f"sparktune.cli.{module}" in modules
    assert not {name for name in modules if name.startswith(HEAVY)}


def test_status_takes_at_most_200_ms_of_a_cpu(tmp_path: Path) -> None:
    publish(tmp_path, "status", encode(make_status()))
    took_s = []
    for _ in range(5):  # the best of some: what others do to the caches is not what is measured
        before_s = cpu_of_children_s()
        run_process("--run-dir", tmp_path, "status")
        took_s.append(cpu_of_children_s() - before_s)
    assert min(took_s) < 0.2


def cpu_of_children_s() -> float:
    """What all children that have ended took: how long they waited for a CPU is not among it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sparktune {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    context = click.Context(cli, info_name="sparktune")
    command = cli.get_command(context, name)
    assert command is not None
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_directories_after_its_name(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    given = [option for parameter in command.params for option in parameter.opts]
    assert given.count("--run-dir") == 1
    assert given.count("--state-dir") == 1


def test_a_mistyped_command_gets_a_suggestion(host: CommandLine) -> None:
    outcome = host("stauts")
    assert outcome.code == 2
    assert "Did you mean 'status'?" in outcome.err


def test_an_unknown_option_is_a_usage_error(host: CommandLine) -> None:
    assert host("status", "--nonsense").code == 2


def test_a_root_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    outcome = run_process("--root", tmp_path / "nowhere", "detect")
    assert outcome.code == 2
    assert "no such directory" in outcome.err


def test_directories_after_the_name_win_over_those_before_it_and_over_the_environment(tmp_path: Path) -> None:
    for name in ("variable", "before", "after"):
        (tmp_path / name).mkdir()
        publish(tmp_path / name, "status", encode(make_status(instance=name)))
    environment = {**os.environ, "SPARKTUNE_RUN_DIR": str(tmp_path / "variable")}
    before = ("--run-dir", tmp_path / "before")
    after = ("--run-dir", tmp_path / "after")
    for arguments, expected in (
        (("status", "--json"), "variable"),
        ((*before, "status", "--json"), "before"),
        ((*before, "status", "--json", *after), "after"),
    ):
        outcome = run_process(*arguments, env=environment)
        assert outcome.document["daemon"]["instance"] == expected


def test_state_and_run_directory_are_below_the_root(host: CommandLine) -> None:
    outcome = host("status")
    assert f"{host.tree}/run/sparktune/status.json" in outcome.err


def test_a_defect_is_told_in_one_line_without_a_traceback() -> None:
    outcome = run_with_defect()
    assert outcome.returncode == 1
    assert "internal error, please report it: ZeroDivisionError: division by zero" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_debug_shows_the_traceback_of_a_defect() -> None:
    outcome = run_with_defect("--debug")
    assert outcome.returncode == 1
    assert "Traceback" in outcome.stderr


def run_with_defect(*options: str) -> subprocess.CompletedProcess[str]:
    """A `status` that has a defect."""
    code = """
        import sys, types, click
        module = types.ModuleType("sparktune.cli.status")
        module.status = click.Command("status", callback=lambda: 1 / 0)
        sys.modules[module.__name__] = module
        from sparktune.cli.main import main
        sys.exit(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(code), *options, "status"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_reader_that_leaves_early_is_no_error_to_talk_about(host: CommandLine) -> None:
    command = [sys.executable, "-m", "sparktune.cli.main", "--root", str(host.tree), "plan", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_closed_standard_output_is_no_error() -> None:
    command = f"{sys.executable} -m sparktune.cli.main --help >&-"
    done = subprocess.run(command, shell=True, capture_output=True, check=False)  # noqa: S602 - the shell closes it
    assert done.returncode == 0
    assert done.stderr == b""


def test_a_terminal_that_cannot_show_a_character_gets_another_one(host: CommandLine) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    outcome = run_process("--root", host.tree, "plan", env=environment)
    assert outcome.code == 0
    assert "128 ? 8192 KiB" in outcome.out


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_terminals_that_want_it(
    tmp_path: Path,
    *,
    variables: dict[str, str],
    coloured: bool,
) -> None:
    publish(tmp_path, "status", encode(make_status()))
    shown = show_on_terminal("--run-dir", str(tmp_path), "status", **{"TERM": "xterm", **variables})
    assert "nvme" in shown
    assert ("\x1b[31m" in shown or "\x1b[1;31m" in shown) is coloured


def show_on_terminal(*arguments: str, **variables: str) -> str:
    """What a command shows on a terminal of its own."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sparktune.cli.main", *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **variables}
    ) as process:
        os.close(theirs)
        shown = b""
        while piece := read_terminal(ours):
            shown += piece
        process.wait()
    os.close(ours)
    return shown.decode()


def read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # EIO: everybody on the other side has closed it
        return b""


def test_a_control_character_from_the_kernel_never_reaches_the_terminal(host: CommandLine) -> None:
    host.write("sys/devices/system/cpu/cpu0/cpuidle/state0/name", "\x1b[2Jevil")
    outcome = host("plan")
    assert "\x1b" not in outcome.out
    assert "evil" in outcome.out


def test_detect_shows_the_evidence_and_the_clusters(host: CommandLine) -> None:
    outcome = host("detect")
    assert outcome.code == 0
    assert "10de:2e12 at 000f:01:00.0" in outcome.out
    assert "5-9,15-19  10     performance  Cortex-X925" in outcome.out


def test_detect_says_no_with_exit_code_5(host: CommandLine) -> None:
    tree.build(host.tree, "not-gb10")
    outcome = host("detect", "--json")
    assert outcome.code == 5
    assert outcome.document["verdict"] == "not-gb10"


def test_an_interrupt_ends_with_130_and_without_a_traceback(host: CommandLine) -> None:
    host.write(READ_AHEAD, 8192)
    command = [sys.executable, "-m", "sparktune.cli.main", "--root", str(host.tree), "verify"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        waits = Path(f"/proc/{process.pid}/wchan")  # a second between its two readings, and nowhere else
        wait_until(lambda: waits.read_text() == "hrtimer_nanosleep" or process.poll() is not None)
        process.send_signal(2)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in errors
