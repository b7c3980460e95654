"""`eval "$(sparktune nccl)"` in real shells: sets exactly the values, whatever names are."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fabrics import fabric, function, healthy, named
from sparktune.fabric.fitness import SEPARATORS
from sparktune.fabric.model import Fabric, Presence
from sparktune.fabric.nccl import suggest
from sparktune.fabric.nccl_text import quote, refuse, render

if TYPE_CHECKING:
    from pathlib import Path

SHELLS = {"sh": ("sh", "-eu"), "dash": ("dash", "-eu"), "bash": ("bash", "-eu"), "zsh": ("zsh", "-feu")}
_PRINT = "env -0"
_ODD = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters=SEPARATORS + "/"), min_size=1, max_size=15
)


def run(command: tuple[str, ...], script: str, text: str) -> subprocess.CompletedProcess[str]:
    """A script with the text as its only argument."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "NCCL_IB_GID_INDEX": "3"}
    arguments = [*command, "-c", script, *([] if command[0] == "fish" else ["shell"]), text]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)


def evaluated(shell: str, text: str) -> dict[str, str]:
    """The environment after `eval`, under `set -eu`, with both NCCL's and UCX's variables."""
    script = f'eval "$1"; {_PRINT}'
    done = run(SHELLS[shell], script, text)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return parse(done.stdout)


def parse(output: str) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in output.split("\0"))
    return {name: value for name, _, value in pairs if name.startswith(("NCCL_", "UCX_"))}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("both", [False, True])
def test_eval_sets_exactly_the_variables_and_unsets_the_pin(shell: str, both: bool) -> None:  # noqa: FBT001
    suggestion = suggest(healthy(both_ports=both))
    expected = {one.name: one.value for one in suggestion.variables}
    assert evaluated(shell, render(suggestion, "env")) == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_eval_works_where_nothing_was_pinned(shell: str) -> None:
    text = render(suggest(healthy()), "env")
    done = run(SHELLS[shell], 'unset NCCL_IB_GID_INDEX; eval "$1"; echo reached', text)
    assert done.stdout == "reached\n"


def test_eval_works_in_an_interactive_zsh_which_has_no_comments_of_its_own() -> None:
    done = run(("zsh", "-fi"), f'eval "$1"; {_PRINT}', render(suggest(healthy()), "env"))
    assert parse(done.stdout)["NCCL_IB_HCA"] == "=rocep1s0f0,roceP2p1s0f0"
    assert "not found" not in done.stderr


def test_fish_has_a_format_of_its_own() -> None:
    suggestion = suggest(healthy())
    done = run(("fish", "--no-config"), f"echo $argv[1] | source; {_PRINT}", render(suggestion, "fish"))
    assert parse(done.stdout) == {one.name: one.value for one in suggestion.variables}
    assert done.stderr == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_eval_of_an_unfit_fabric_stops_a_careful_script(shell: str) -> None:
    text = render(suggest(Fabric(presence=Presence.POWERED_DOWN)), "env")
    done = run(SHELLS[shell], 'eval "$1"; echo reached', text)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_eval_of_an_unfit_fabric_can_be_asked_about_and_sets_nothing(shell: str) -> None:
    text = render(suggest(Fabric(presence=Presence.NONE)), "env")
    done = run(SHELLS[shell], f'if eval "$1"; then echo fit; fi; {_PRINT}', text)
    assert parse(done.stdout) == {"NCCL_IB_GID_INDEX": "3"}


def test_source_of_an_unfit_fabric_fails_in_fish() -> None:
    text = render(suggest(Fabric(presence=Presence.NONE)), "fish")
    done = run(("fish", "--no-config"), "echo $argv[1] | source; and echo fit", text)
    assert done.stdout == ""


def test_an_unfit_fabric_says_why_in_comments_and_nothing_else() -> None:
    *comments, last = render(suggest(fabric(function(0, up=False))), "env").splitlines()
    assert last == "false"
    assert all(line.startswith("# ") for line in comments)


def test_what_stands_in_a_reason_is_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = f"x\n touch {shlex.quote(str(mark))}\r\n$(touch {mark})`touch {mark}`"
    run(SHELLS["bash"], 'eval "$1"', refuse([evil], "env"))
    assert not mark.exists()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names=st.lists(_ODD, min_size=4, max_size=4, unique=True))
def test_odd_names_are_set_exactly_in_every_shell(names: list[str]) -> None:
    first, second, first_device, second_device = names
    suggestion = suggest(named([(first, first_device), (second, second_device)]))
    assert suggestion.fit
    expected = {one.name: one.value for one in suggestion.variables}
    assert expected["NCCL_IB_HCA"] == f"={first_device},{second_device}"
    text = render(suggestion, "env")
    assert evaluated("sh", text) == evaluated("bash", text) == evaluated("zsh", text) == expected


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=30))
def test_a_quoted_word_is_the_same_word_in_every_shell(text: str) -> None:
    for shell in ("sh", "bash", "zsh"):
        done = run(SHELLS[shell], 'eval "$1"', f"printf '%s|' {quote(text)}")
        assert done.stdout == f"{text}|"
    done = run(("fish", "--no-config"), "eval $argv[1]", f"printf '%s|' {quote(text)}")
    assert done.stdout == f"{text}|"


def test_the_json_is_the_suggestion() -> None:
    document = json.loads(render(suggest(healthy()), "json"))
    assert document["fit"] is True
    assert {one["name"]: one["value"] for one in document["variables"]}[
        "NCCL_SOCKET_IFNAME"
    ] == "=enp1s0f0np0"
