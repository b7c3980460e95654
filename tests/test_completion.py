"""Completion: what the program answers, and what bash, zsh and fish make of it on a real command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from commands import run_process
from sparktune.cli.main import COMMANDS, cli
from sparktune.cli.shells import SHELLS, expand, join_options
from sparktune.published import encode, publish
from terminals import Desk

BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
COMPINIT = "autoload -U compinit; compinit -u"
INSTALLED = {
    "bash": "bash-completion/completions/sparktune",
    "zsh": "zsh/vendor-completions/_sparktune",
    "fish": "fish/vendor_completions.d/sparktune.fish",
}
"""Where the package puts the scripts, below /usr/share."""
NVME = ["nvme.dm-0.read_ahead_kb", "nvme.nvme0n1.read_ahead_kb"]
ENTRIES = [
    *({"area": "nvme", "id": name} for name in NVME),
    {"area": "cpuidle", "id": "cpuidle.cpu0.state1.disable"},
]

in_every_shell = pytest.mark.parametrize(
    "shell",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                shutil.which(name) is None or (name == "bash" and not BASH_COMPLETION.exists()),
                reason=f"{name}{' or bash-completion' if name == 'bash' else ''} is not installed",
            ),
        )
        for name in SHELLS
    ],
)

needs_fish = pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")


def script_of(shell: str) -> str:
    outcome = run_process("completion", shell)
    assert outcome.code == 0
    return outcome.out


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A folder with a machine's tree in it, and shells that find the scripts where the package puts them."""
    tmp_path = tmp_path_factory.mktemp("desk")
    for shell, place in INSTALLED.items():
        path = tmp_path / "share" / place
        path.parent.mkdir(parents=True)
        path.write_text(script_of(shell))
    for name in ("a tree", "plain"):
        (tmp_path / name / "run/sparktune").mkdir(parents=True)
        publish(tmp_path / name / "run/sparktune", "tunables", encode({"tunables": ENTRIES}))
    (tmp_path / "plan.toml").touch()
    (tmp_path / "nvme.anything").touch()  # a glob of the shell's would find it
    return Desk(
        directory=tmp_path,
        environment={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
            "XDG_DATA_DIRS": f"{tmp_path}/share:/usr/share",
        },
        bash=f". {BASH_COMPLETION}\n",
        zsh=f"fpath=({tmp_path}/share/zsh/vendor-completions $fpath)\n{COMPINIT} -d ./known\n",
    )


# -- in the shells -------------------------------------------------------------------------------------------


@in_every_shell
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sparktune ", sorted(COMMANDS)),
        ("sparktune re", ["reload", "restore", "resume"]),
        ("sparktune --r", ["--root", "--run-dir"]),
        ("sparktune status --s", ["--short", "--state-dir"]),
        ("sparktune config ", ["check", "show"]),
        ("sparktune completion ", ["bash", "fish", "zsh"]),
        ("sparktune daemon --log-format jo", ["journal"]),
        ("sparktune --root plain explain nv", NVME),
        ("sparktune --root plain restore nvme nvme.n", NVME[1:]),
        ("sparktune --root plain pause --for 1h c", ["cpuidle", "cpuidle.cpu0.state1.disable"]),
        ("sparktune --root plain history --tunable nv", NVME),
        ("sparktune apply --run-dir plain/run/sparktune nv", ["nvme", *NVME]),
    ],
)
def test_commands_options_and_ids_are_offered(desk: Desk, shell: str, line: str, offered: list[str]) -> None:
    assert desk.complete(shell, line) == offered


@in_every_shell
@pytest.mark.parametrize(
    "option", ["--root 'a tree'", "--root a\\ tree", "--root=plain", "--root='a tree'", "--root ~/plain"]
)
def test_a_root_counts_however_it_is_spelled(desk: Desk, shell: str, option: str) -> None:
    assert desk.complete(shell, f"sparktune {option} explain nvme.n") == NVME[1:]


@in_every_shell
def test_an_options_value_is_completed_behind_the_equals_sign(desk: Desk, shell: str) -> None:
    assert desk.complete(shell, "sparktune daemon --log-format=con") == ["--log-format=console"]
    assert desk.complete(shell, "sparktune --root plain history --tunable=nvme.d") == [f"--tunable={NVME[0]}"]


@in_every_shell
@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("sparktune --root pl", "plain"),
        ("sparktune --root=pl", "--root=plain"),
        ("sparktune --config plan", "plan.toml"),
        ("sparktune --config=plan", "--config=plan.toml"),
        ("sparktune config check plan", "plan.toml"),
    ],
)
def test_folders_and_files_are_completed_where_they_belong(
    desk: Desk, shell: str, line: str, word: str
) -> None:
    assert [offer.rstrip("/") for offer in desk.complete(shell, line)] == [word]


@in_every_shell
def test_nothing_is_offered_where_no_daemon_has_published(desk: Desk, shell: str) -> None:
    assert desk.complete(shell, "sparktune --root share explain nv") == []
    assert desk.complete(shell, "sparktune --root nowhere explain nv") == []


@in_every_shell
def test_a_script_that_is_only_sourced_works_too(desk: Desk, shell: str) -> None:
    source = ". <(sparktune completion {})\n"
    bare = Desk(
        directory=desk.directory,
        environment={**desk.environment, "XDG_DATA_DIRS": "/nonexistent"},
        bash=source.format("bash"),
        zsh=f"{COMPINIT} -D\n{source.format('zsh')}",
        fish="sparktune completion fish | source",
    )
    assert bare.complete(shell, "sparktune --root=plain explain nvme.d") == NVME[:1]


@needs_fish
def test_fish_shows_help_with_a_comma_whole(desk: Desk) -> None:
    done = subprocess.run(
        ["fish", "--command", "complete --do-complete 'sparktune det'"],
        cwd=desk.directory, env=desk.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"detect\t{COMMANDS['detect']}\n"


def run_bash(desk: Desk, program: str) -> str:
    """What a script prints that has the completion function; it must not complain."""
    head = ". share/bash-completion/completions/sparktune; COMP_WORDS=(sparktune re) COMP_CWORD=1\n"
    done = subprocess.run(
        ["bash", "--norc", "-c", head + program],
        cwd=desk.directory, env=desk.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_bash_gets_nothing_but_the_answer(desk: Desk) -> None:
    program = "compgen -v >before; _sparktune_completion sparktune; compgen -v >after; echo ${COMPREPLY[*]}"
    assert run_bash(desk, program) == "restore resume reload\n"
    before, after = ((desk.directory / name).read_text().split() for name in ("before", "after"))
    assert set(after) - set(before) == {"COMPREPLY"}


def test_bash_hears_no_complaint_of_a_program_that_is_gone(desk: Desk) -> None:
    assert run_bash(desk, "_sparktune_completion /nonexistent/sparktune; echo ${#COMPREPLY[*]}") == "0\n"


# -- the program's answers -----------------------------------------------------------------------------------


def answer(*words: str, **variables: str) -> list[str]:
    """What bash is answered for the last of these words."""
    environment = {
        **os.environ,
        "_SPARKTUNE_COMPLETE": "bash_complete",
        "COMP_WORDS": "\n".join(("sparktune", *words)),
        "COMP_CWORD": str(len(words)),
        **variables,
    }
    outcome = run_process(env=environment)
    assert (outcome.code, outcome.err) == (0, "")
    return [line.partition(",")[2] for line in outcome.out.splitlines() if line]


def test_the_variables_for_the_directories_count(tmp_path: Path) -> None:
    publish(tmp_path, "tunables", encode({"tunables": ENTRIES}))
    assert answer("explain", "nvme.n", SPARKTUNE_RUN_DIR=str(tmp_path)) == NVME[1:]


@pytest.mark.parametrize("document", ['{"tunables": [{}]}', "{}", "[]", "no JSON"])
def test_a_published_state_that_cannot_be_understood_offers_nothing(tmp_path: Path, document: str) -> None:
    (tmp_path / "tunables.json").write_text(document)
    assert answer("explain", "nv", SPARKTUNE_RUN_DIR=str(tmp_path)) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_offered(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = {
        option
        for parameter in command.params
        for option in parameter.opts
        if isinstance(parameter, click.Option) and option.startswith("--")
    }
    assert set(answer(name, "--")) == {*options, "--help"}


def test_the_zsh_script_says_in_its_first_line_what_it_is_for() -> None:
    assert script_of("zsh").startswith("#compdef sparktune\n")


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["--root", "=", "/x", "explain"], ["--root=/x", "explain"]),
        (["daemon", "--log-format", "="], ["daemon", "--log-format"]),
        (["history", "--api", "http", ":", "//localhost"], ["history", "--api", "http", ":", "//localhost"]),
        (["apply", "="], ["apply", "="]),
        ([], []),
    ],
)
def test_words_that_bash_took_apart_are_put_together(words: list[str], joined: list[str]) -> None:
    assert join_options(words) == joined


def test_a_home_directory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert expand(["--root", "~/tree", "nvme", "a~b"]) == ["--root", "/home/somebody/tree", "nvme", "a~b"]
