"""The manual pages against the code: every command, option, key and path is in them, and no other."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
import pytest

from sparktune.api.endpoints import PATHS
from sparktune.api.queries import AdviceQuery, HistoryQuery, NcclQuery, TunablesQuery
from sparktune.cli.main import COMMANDS, cli
from sparktune.environment import variable
from sparktune.model import Policy
from sparktune.sections import WRITTEN, Keys
from sparktune.settings import check, flatten
from sparktune.snapshot import StateName, VerdictName

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[1]
PAGES = {name: PROJECT / "docs/man" / name for name in ("sparktune.8", "sparktune.toml.5")}
EVERYWHERE = {"--run-dir", "--state-dir", "--help"}
"""Options of every command: the page describes them once."""
UNITS = PROJECT / "systemd"
README = PROJECT / "README.md"

every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def find(pattern: str, text: str) -> list[str]:
    """What the group of a pattern matched, line by line."""
    return re.findall(pattern, text, re.MULTILINE)


def text_of(name: str) -> str:
    """The source with its escapes resolved."""
    text = PAGES[name].read_text(encoding="ascii")
    return text.replace("\\(dq", '"').replace("\\(mc", "µ").replace("\\&", "")


def section(name: str, title: str) -> str:
    [found] = re.findall(
        rf"^\.Sh {re.escape(title)}\n(.*?)(?=^\.Sh |\Z)", text_of(name), re.MULTILINE | re.DOTALL
    )
    return str(found)


def options_in(text: str) -> set[str]:
    """The long options that are marked as such."""
    return {f"-{name}" for name in re.findall(r"\bFl (-[a-z-]+)", text)}


def options_of(command: click.Command) -> set[str]:
    """The long options of a command."""
    opts = {option for parameter in command.params for option in parameter.opts}
    return {option for option in opts if option.startswith("--")}


def _commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", found) for inner, found in command.commands.items())
        else:
            yield name, command


ALL = list(_commands())
"""Every command that does something, by what has to be typed."""


# -- sparktune(8) --------------------------------------------------------------------------------------------


def described_commands() -> dict[str, str]:
    """The paragraph of each command, its head included."""
    text = section("sparktune.8", "COMMANDS").replace(".It Xo\n.", ".It ")
    found: dict[str, str] = {}
    for paragraph in re.split(r"^\.It (?=Cm )", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"Cm ([a-z]+(?: [a-z]+)*)", paragraph)
        assert name is not None
        found[name[1]] = paragraph.partition("\n.El\n")[0]
    return found


def head_of(paragraph: str) -> str:
    """How the command is written."""
    return paragraph.partition("\n.Xc\n" if ".Xc" in paragraph else "\n")[0]


def test_every_command_is_described_and_no_other() -> None:
    assert sorted(described_commands()) == sorted(name for name, _ in ALL)


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_the_options_of_a_command_are_described_with_it_and_no_others(
    name: str, command: click.Command
) -> None:
    paragraph = described_commands()[name]
    expected = options_of(command) - EVERYWHERE
    assert options_in(head_of(paragraph)) == expected
    assert options_in(paragraph) == expected


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_the_head_of_a_command_names_its_arguments(name: str, command: click.Command) -> None:
    head = head_of(described_commands()[name])
    outside = re.sub(r"Oo Fl.*?Oc|Op Fl.*", "", head)
    takes = any(isinstance(parameter, click.Argument) for parameter in command.params)
    assert ("Ar " in outside) is takes


def test_the_options_before_a_command_are_described() -> None:
    assert options_in(section("sparktune.8", "OPTIONS")) == options_of(cli) | EVERYWHERE


def test_no_option_is_named_that_does_not_exist() -> None:
    known = options_of(cli).union(EVERYWHERE, *(options_of(command) for _, command in ALL))
    literal = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text_of("sparktune.8")))
    assert literal
    systemctl = {"--now"}
    assert (options_in(text_of("sparktune.8")) | literal) - known == systemctl


def test_no_command_is_named_that_does_not_exist() -> None:
    known = {word for name, _ in ALL for word in name.split()}
    marked = re.findall(r"\bCm ([a-z ]+)", text_of("sparktune.8"))
    literal = re.findall(r"(?:\.Ql|\$|#) sparktune ([a-z]+)", text_of("sparktune.8"))
    named = {word for words in (*marked, *literal) for word in words.split()}
    assert named == known


def test_every_path_of_the_api_is_described_with_its_parameters() -> None:
    text = section("sparktune.8", "THE REST API")
    assert find(r"^\.It Pa (\S+)$", text) == list(PATHS)
    queries = (TunablesQuery, HistoryQuery, NcclQuery, AdviceQuery)
    parameters = {name for query in queries for name in query.model_fields}
    assert set(find(r"^\.Va (\S+)", text)) == parameters


def test_every_verdict_and_every_state_is_explained() -> None:
    text = text_of("sparktune.8")
    verdicts = text[text.index(".Ss Verdicts") : text.index(".Ss States")]
    states = text[text.index(".Ss States") : text.index(".Sh OPTIONS")]
    assert find(r"^\.It Sy (\S+)$", verdicts) == list(get_args(VerdictName))
    assert find(r"^\.It Sy (\S+)$", states) == list(get_args(StateName))


def test_the_exit_codes_are_those_of_the_help() -> None:
    listed = find(r"^\.It (\d+)$", section("sparktune.8", "EXIT STATUS"))
    assert cli.epilog is not None
    assert listed == [*re.findall(r"\d+", cli.epilog), "130"]


def test_other_units_wait_no_longer_than_the_page_says() -> None:
    unit = (UNITS / "sparktune.service").read_text()
    waits = find(r"^Timeout(?:Start|Stop)Sec=(\d+)s$", unit)
    [said] = re.findall(r"after (\d+) seconds at the latest", section("sparktune.8", "OTHER UNITS"))
    assert len(waits) == 2
    assert int(said) == sum(map(int, waits))


def test_the_drop_in_is_that_of_the_readme() -> None:
    [page] = re.findall(
        r"^\.Bd .*?\n(.*?)^\.Ed$", section("sparktune.8", "OTHER UNITS"), re.MULTILINE | re.DOTALL
    )
    [readme] = re.findall(
        r"^```ini\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert page == readme
    assert "After=sparktune.service\n" in page


def test_the_units_named_first_are_those_of_the_unit_file() -> None:
    unit = (UNITS / "sparktune.service").read_text()
    ordered = " ".join(find(r"^Before=(.*)$", unit)).split()
    named = find(r"^\.Pa ([\w.-]+\.service)\b", section("sparktune.8", "OTHER UNITS"))
    rest = {name for name in ordered if name.startswith(("k3s", "snap.microk8s"))}
    assert set(named) == set(ordered) - rest
    assert rest


# -- sparktune.toml(5) ---------------------------------------------------------------------------------------

KEY = re.compile(r"^\.It Va (\S+)\n\.Em Default :\n\.Ql (.+) \.\n\.Em Value :\n(.+)\.$", re.MULTILINE)


def described_keys() -> dict[str, tuple[str, str]]:
    """Each key with its default as it is spelled, and what is expected of it."""
    return {key: (default, expected) for key, default, expected in KEY.findall(text_of("sparktune.toml.5"))}


def expectations() -> dict[str, str]:
    """What the code says in its complaints."""
    found: dict[str, str] = {}
    for name, info in Keys.model_fields.items():
        if info.description is not None:
            found[name] = info.description
        else:
            inner = getattr(Keys(), name).__class__.model_fields
            found.update({f"{name}.{leaf}": field.description or "" for leaf, field in inner.items()})
    return found


def test_every_key_is_described_in_the_order_of_the_code() -> None:
    assert list(described_keys()) == list(flatten(Keys()))


@pytest.mark.parametrize("key", flatten(Keys()))
def test_a_key_has_the_default_of_the_code(key: str) -> None:
    default, _ = described_keys()[key]
    document = tomllib.loads(f"{key} = {default}")
    assert flatten(Keys.model_validate(document, context=WRITTEN))[key] == flatten(Keys())[key]


@pytest.mark.parametrize("key", flatten(Keys()))
def test_a_key_expects_what_the_code_expects(key: str) -> None:
    _, expected = described_keys()[key]
    assert expected == expectations()[key]


def test_no_key_is_named_that_does_not_exist() -> None:
    named = set(find(r"^\.(?:It )?Va (\S+)", text_of("sparktune.toml.5")))
    assert named == {*flatten(Keys()), "match"}


def test_the_variables_are_those_of_the_keys() -> None:
    known = {*map(variable, flatten(Keys())), "SPARKTUNE_", "SPARKTUNE_RUN_DIR", "SPARKTUNE_STATE_DIR"}
    named = set(re.findall(r"\bSPARKTUNE_\w*", text_of("sparktune.toml.5")))
    assert {variable("mode"), variable("nvme.read_ahead_kb")} < named <= known


def test_the_example_is_valid(tmp_path: Path) -> None:
    [example] = re.findall(r"^\.Bd .*?\n(.*?)^\.Ed$", text_of("sparktune.toml.5"), re.MULTILINE | re.DOTALL)
    path = tmp_path / "sparktune.toml"
    path.write_text(example)
    assert len(tomllib.loads(example)["host"]) == 2
    assert check(path) == ()


def test_every_policy_is_explained() -> None:
    words = [policy.value for policy in Policy]
    for name, title in (("sparktune.8", "DESCRIPTION"), ("sparktune.toml.5", "THE TABLE [nvme]")):
        assert find(r"^\.Ql (enforce|report|off)\b", section(name, title))[:3] == words


# -- both ----------------------------------------------------------------------------------------------------


@needs("groff")
@every_page
def test_groff_renders_a_page_without_a_warning_and_within_80_columns(page: Path) -> None:
    command = ["groff", "-ww", "-mandoc", "-Tutf8", "-P-c", "-rLL=80n", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stderr == ""
    lines = re.sub(r".\x08", "", done.stdout).splitlines()
    assert len(lines) > 100
    assert [line for line in lines if len(line) > 80] == []


@needs("mandoc")
@every_page
def test_mandoc_finds_nothing_to_warn_about(page: Path) -> None:
    command = ["mandoc", "-T", "lint", "-W", "warning", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


@every_page
def test_a_page_refers_to_the_other_one_and_to_itself_never(page: Path) -> None:
    name = f"{page.stem} {page.suffix[1:]}"
    references = set(re.findall(r"Xr (\S+ \d)", page.read_text()))
    others = {f"{other.stem} {other.suffix[1:]}" for other in PAGES.values()} - {name}
    assert others <= references
    assert name not in references
