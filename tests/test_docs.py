"""The documentation against the code: what it shows runs, what it lists is there, what is there it lists."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sparktune import hardware
from sparktune.contest import ContestRule
from sparktune.engine import Engine
from sparktune.kernel.root import Root
from sparktune.marks import Marks
from sparktune.model import Action, Noticed, Verdict
from sparktune.originals import Originals
from sparktune.settings import Settings
from sparktune.simulate import tree

if TYPE_CHECKING:
    from sparktune.tunables.area import Area

PROJECT = Path(__file__).parents[1]
SOURCES = PROJECT / "src/sparktune"
ARCHITECTURE = PROJECT / "docs/architecture.md"
GENERATOR = PROJECT / "docs/generate_tunables.py"
IN_ONE_ROW = ("advice", "api", "cli", "simulate")
"""Packages that the map names as a whole."""


@pytest.fixture(scope="module")
def architecture() -> str:
    return ARCHITECTURE.read_text(encoding="utf-8")


def section(page: str, title: str) -> str:
    [found] = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return str(found)


def first_column(text: str) -> list[str]:
    """The first cells of all tables, without their heads."""
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return [row for row, after in zip(rows, [*rows[1:], ""], strict=True) if "---" not in (row, after)]


def test_the_list_of_tunables_is_that_of_the_code() -> None:
    generator = runpy.run_path(str(GENERATOR))
    written = generator["PAGE"].read_text(encoding="utf-8")
    assert written == generator["compose"](), f"run: .venv/bin/python {GENERATOR.relative_to(PROJECT)}"


# -- the worked example --------------------------------------------------------------------------------------


class Example:
    """The area of the worked example, under the real engine, on a simulated machine."""

    def __init__(self, directory: Path, code: str) -> None:
        program = directory / "example.py"
        program.write_text(code, encoding="utf-8")
        names: dict[str, Any] = runpy.run_path(str(program))
        self.area: Area = names["AREA_QUEUE"]
        self.tree = directory / "tree"
        tree.build(self.tree)
        self.host = hardware.detect(Root(self.tree))
        self.file = self.tree / "sys/block/nvme0n1/queue/nr_requests"
        self.engine = Engine(
            root=self.host.root,
            originals=Originals(directory / "originals.jsonl", self.host.boot_id, repair=True),
            marks=Marks(directory / "marks.json", self.host.boot_id, repair=True),
            rule=ContestRule(after=5, window_s=60, hold_s=600),
        )

    def apply(self) -> None:
        settings = Settings()
        found = self.area.discover(self.host, settings)
        self.engine.adopt(self.area.name, found.tunables, policy=self.area.policy(settings), layers={})
        self.engine.apply(None, Noticed.START)


@pytest.fixture
def example(fast_path: Path, architecture: str) -> Example:
    blocks = re.findall(r"^```python\n(.*?)^```$", architecture, re.MULTILINE | re.DOTALL)
    return Example(fast_path, "\n".join(blocks))


def test_the_worked_example_is_applied_and_says_so(example: Example) -> None:
    before = example.file.read_text()
    example.apply()
    assert (before, example.file.read_text()) == ("1023\n", "256\n")
    held = list(example.engine.held.values())
    assert [one.verdict for one in held] == [Verdict.OK]
    said = example.area.say(example.host, Settings(), held)
    assert said == "nr_requests 256 on nvme0n1"


def test_the_worked_example_is_healed(example: Example) -> None:
    example.apply()
    example.file.write_text("64\n")
    drift = example.engine.look(example.engine.held["queue.nvme0n1.nr_requests"], Noticed.FANOTIFY)
    assert drift is not None
    assert (drift.found, drift.action) == (64, Action.HEALED)
    assert example.file.read_text() == "256\n"


def test_the_worked_example_is_restored(example: Example) -> None:
    example.apply()
    outcomes = example.engine.restore(None, by="root")
    assert [(outcome.id, outcome.outcome) for outcome in outcomes] == [
        ("queue.nvme0n1.nr_requests", "restored")
    ]
    assert example.file.read_text() == "1023\n"


def test_the_worked_example_notices_a_disk_that_was_added(example: Example) -> None:
    before = example.area.inventory(example.host, Settings())
    tree.add_disk(example.tree, "nvme1n1")
    assert example.area.inventory(example.host, Settings()) != before
    assert len(example.area.discover(example.host, Settings()).tunables) == 2


# -- what is where -------------------------------------------------------------------------------------------


def modules() -> set[str]:
    found = {path.relative_to(SOURCES) for path in SOURCES.rglob("*.py") if path.name != "__init__.py"}
    return {f"{path.parts[0]}/" if path.parts[0] in IN_ONE_ROW else str(path) for path in found}


def test_the_map_names_every_module_and_no_other(architecture: str) -> None:
    cells = first_column(section(architecture, "What is where"))
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert sorted(named) == sorted(modules())


def test_only_the_engine_catches_every_exception() -> None:
    # Whoever catches Exception and does not raise it again needs this mark: ruff's rule is on.
    catching = [path.name for path in SOURCES.rglob("*.py") if "noqa: BLE001" in path.read_text()]
    assert catching == ["engine.py"]


def test_every_file_the_page_speaks_of_is_there(architecture: str) -> None:
    names = set(re.findall(r"`((?:[\w.-]+/)*[\w*-]+\.(?:py|toml|md))`", architecture))
    places = (PROJECT, SOURCES, PROJECT / "docs")
    missing = [name for name in names if not any(list(place.glob(name)) for place in places)]
    assert names
    assert missing == []


def test_every_link_of_the_page_leads_somewhere(architecture: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", architecture)
    assert links
    assert [link for link in links if not (ARCHITECTURE.parent / link).exists()] == []


# -- dependencies --------------------------------------------------------------------------------------------


def declared() -> list[str]:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    both = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    return [re.split(r"[<>=!~ \[;]", requirement)[0] for requirement in both]


def test_every_dependency_has_its_reason_and_none_is_given_for_what_is_no_dependency(
    architecture: str,
) -> None:
    cells = first_column(section(architecture, "Dependencies"))
    explained = [name.strip() for cell in cells for name in cell.split(",")]
    assert sorted(explained) == sorted(declared())
