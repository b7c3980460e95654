"""Fixtures for the scenarios; a run that says what it does, keeps its limits and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vm import package
from vm.figures import Figures
from vm.installation import Installation
from vm.narrator import Narrator
from vm.platforms import PLATFORMS
from vm.run import Run, Share
from vm.workshop import MissingToolError, Workshop, require_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from vm.guest import Guest
    from vm.platforms import Platform

SCENARIO_LIMIT_S = 300
GRACE_S = 30.0
MOST_OF_A_MESSAGE = 600
WHOLE = ("test_other_machine.py", "test_upgrade.py", "test_removal.py", "test_pair.py")
"""Files through which one guest lives; the first needs no installation."""

LONG = (*WHOLE, "test_faults.py", "test_tuned.py", "test_suspend.py", "test_install.py")
"""In this order, and the rest after them: one worker is at the first while another one installs, and none has
a long one before it when the others have nothing left to do."""

BESIDE_ANOTHER = 2.0
"""What time limits are multiplied by when guests share the processors."""

_RUN = pytest.StashKey[Run]()
_SHARE = pytest.StashKey[Share]()
_FIGURES = pytest.StashKey[Figures]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("virtual Spark")
    group.addoption("--arch", choices=sorted(PLATFORMS), default="amd64", help="which guest")
    group.addoption("--deb", type=Path, help="the package under test (default: the newest in dist/)")
    group.addoption("--reuse", action="store_true", help="boot from the last installation")
    group.addoption("--patience", type=float, default=1.0, help="factor for every time limit")
    group.addoption("--run-limit", type=float, default=2700.0, help="seconds until the whole run is ended")


def pytest_configure(config: pytest.Config) -> None:
    """Set the stage before anything is captured: our lines go to the real standard output."""
    config.stash[_FIGURES] = Figures()
    if is_worker(config):
        config.stash[_SHARE] = Share.take(config.workerinput)  # type: ignore[attr-defined] # set by pytest-xdist
        return
    platform = PLATFORMS[config.getoption("--arch")]
    try:
        require_tools(platform)
    except MissingToolError as error:
        raise pytest.UsageError(str(error)) from None
    narrator = Narrator.to(os.fdopen(os.dup(sys.stdout.fileno()), "w"))
    config.stash[_RUN] = Run(package.REPOSITORY / "build/vm" / platform.name, narrator)
    config.stash[_SHARE] = config.stash[_RUN].share


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    if _RUN in config.stash:
        config.stash[_RUN].close()


def is_worker(config: pytest.Config) -> bool:
    """Whether this process only runs what another one gives it."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Deal scenarios out one by one, but whole the files through which one guest lives."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # it would put what has most tests first, however short they are

    class Dealing(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            file, _, _ = nodeid.partition("::")
            return file if Path(file).name in WHOLE else nodeid

    return Dealing(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker its share of the run."""
    node.config.stash[_RUN].give(node.workerinput)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over what a worker measured, unless it broke down."""
    node.config.stash[_FIGURES].add(getattr(node, "workeroutput", {}).get("figures", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what was measured."""
    config = session.config
    if is_worker(config):
        config.workeroutput["figures"] = config.stash[_FIGURES].export()  # type: ignore[attr-defined] # as above


def _patience(config: pytest.Config) -> float:
    """What every time limit is multiplied by, beside the platform's own slowness."""
    factor: float = config.getoption("--patience")
    return factor * (BESIDE_ANOTHER if is_worker(config) else 1.0)


def _limit(config: pytest.Config, limit_s: float) -> float:
    return limit_s * _patience(config) * PLATFORMS[config.getoption("--arch")].slowness


def pytest_sessionstart(session: pytest.Session) -> None:
    """Whatever happens, the run ends."""
    if is_worker(session.config):  # ends with the process that started it
        return
    limit_s = _limit(session.config, session.config.getoption("--run-limit"))
    narrator = session.config.stash[_SHARE].narrator

    def end() -> None:
        narrator.say(f"the run's limit of {limit_s:.0f} s is over: ending it")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)  # the guests die with us, the undertaker tidies up

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Limit each scenario; booting and installing in fixtures have limits of their own. Long ones first."""
    for item in items:
        marker = item.get_closest_marker("timeout")
        limit_s = marker.args[0] if marker else SCENARIO_LIMIT_S
        item.add_marker(pytest.mark.timeout(_limit(config, limit_s), func_only=True), append=False)
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


# -- what the run says ---------------------------------------------------------------------------------------


def pytest_runtest_logstart(nodeid: str, location: object) -> None:
    """Nothing: pytest would print the file's name here."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say at once how each scenario ended."""
    report = yield
    narrator = item.config.stash[_SHARE].narrator
    name = f"{item.path.name}::{item.name}"
    if report.when == "call" or report.outcome != "passed":
        word = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}[report.outcome]
        where = "" if report.when == "call" else f" (in {report.when})"
        narrator.say(f"{word:<7} {name}{where}  {report.duration:.1f} s")
        crash = getattr(report.longrepr, "reprcrash", None)
        if report.failed and crash is not None:
            narrator.say(f"        {crash.message[:MOST_OF_A_MESSAGE]}")
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """No dots between our own lines."""
    if report.when == "call":
        return report.outcome, "", ""
    return ("error", "", "") if report.failed else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = terminalreporter.config.stash[_FIGURES]
    figures.save(terminalreporter.config.stash[_RUN].output / "figures.json")
    lines = figures.tabulate()
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)


# -- fixtures ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def platform(pytestconfig: pytest.Config) -> Platform:
    """What kind of guest this run is about."""
    return PLATFORMS[pytestconfig.getoption("--arch")]


@pytest.fixture(scope="session")
def share(pytestconfig: pytest.Config) -> Share:
    """What the workers of this run share, and the line on which this one says what it does."""
    return pytestconfig.stash[_SHARE]


@pytest.fixture(scope="session")
def deb(pytestconfig: pytest.Config, platform: Platform) -> Path:
    """The package under test."""
    given: Path | None = pytestconfig.getoption("--deb")
    return given.resolve() if given else package.find(platform.name)


@pytest.fixture(scope="session")
def _all_figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash[_FIGURES]


@pytest.fixture
def figures(_all_figures: Figures, request: pytest.FixtureRequest) -> Figures:
    """Takes measured values: `figures.record("heal, shell write", 310, "µs")`."""
    _all_figures.scenario = request.node.name
    return _all_figures


@pytest.fixture(scope="session")
def workshop(platform: Platform, share: Share, pytestconfig: pytest.Config) -> Iterator[Workshop]:
    """Makes guests; ends them all with the run."""
    made = Workshop(platform, share.narrator, share.logs, patience=_patience(pytestconfig))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def installation(
    workshop: Workshop, share: Share, deb: Path, _all_figures: Figures, pytestconfig: pytest.Config
) -> Installation:
    """The one installation of the run: its output, its duration, and the disk after it."""
    reuse: bool = pytestconfig.getoption("--reuse")
    directory = workshop.site.image.disk.parent if reuse else share.directory
    return Installation.provide(workshop, deb, _all_figures, directory)


@pytest.fixture
def spark(installation: Installation) -> Iterator[Guest]:
    """A running guest with the package, everything holding; shared by all scenarios that leave it so."""
    yield installation.borrow()
    installation.take_back()


@pytest.fixture
def boot_spark(workshop: Workshop, installation: Installation) -> Iterator[Callable[..., Guest]]:
    """Boots guests of this scenario's own, with the package installed and started by the boot.

    `boot_spark()`, `boot_spark(append="sparktune=off")`, `boot_spark(cpus=1)`.
    """
    guests: list[Guest] = []

    def boot(append: str = "", *, name: str = "own", cpus: int | None = None) -> Guest:
        guests.append(workshop.make(name, installation.disk, cpus=cpus))
        return guests[-1].start(append)

    yield boot
    for guest in guests:
        guest.discard()


@pytest.fixture
def derive_deb(deb: Path, workshop: Workshop) -> Callable[..., Path]:
    """The package under test with another version, as `package.derive`: `derive_deb("0.0.1")` is older."""

    def derive(version: str, **options: Any) -> Path:
        return package.derive(deb, workshop.directory, version, **options)

    return derive
