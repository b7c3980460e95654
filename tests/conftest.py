"""What the tests of the core share: simulated machines on a fast disk, and tests that are skipped by name."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from machines import Machine
from rivals import Rivals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine_scene import Scene

collect_ignore = ["vm"]  # the virtual Spark: minutes, QEMU; `make test-vm` names the directory

_MEMORY = Path("/dev/shm")  # noqa: S108 - thousands of small files a tree: ten times as fast as on a disk


settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this user cannot do, and say which test that was."""
    if os.geteuid() == 0:
        return
    for name in ("root", "real_kernel"):
        if item.get_closest_marker(name) is not None:
            pytest.skip(f"{item.name} needs root")


@contextmanager
def _fast_directory() -> Iterator[Path]:
    base = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sparktune-test-", dir=base) as directory:
        yield Path(directory)


@pytest.fixture
def fast_path() -> Iterator[Path]:
    """An empty directory, in memory where there is such a thing; gone after the test."""
    with _fast_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def fast_module_path() -> Iterator[Path]:
    """The same for all tests of a module."""
    with _fast_directory() as directory:
        yield directory


@pytest.fixture
def build_machine(fast_path: Path) -> Iterator[Callable[..., Machine]]:
    """Builds simulated machines, by variant; each with a state directory of its own."""
    machines: list[Machine] = []

    def build(variant: str = "gb10", config: str = "") -> Machine:
        machine = Machine.build(fast_path / f"{variant}-{len(machines)}", variant, config)
        machines.append(machine)
        return machine

    yield build
    for machine in machines:
        machine.close()


@pytest.fixture
def machine(build_machine: Callable[..., Machine]) -> Machine:
    """A simulated DGX Spark with a cable in one port."""
    return build_machine()


@pytest.fixture(scope="module")
def _rivals(fast_module_path: Path) -> Iterator[Rivals]:
    machine = Machine.build(fast_module_path / "rivals")
    yield Rivals.on(machine)
    machine.close()


@pytest.fixture
def rivals(_rivals: Rivals) -> Iterator[Rivals]:
    """A simulated DGX Spark with the default configuration, on which other tuners' files are placed."""
    _rivals.configure("")
    yield _rivals
    _rivals.clear()


@pytest.fixture(scope="module")
def scenery(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Models, libraries and programs of engines."""
    from engine_scene import Scene

    return Scene(tmp_path_factory.mktemp("engines"))


@pytest.fixture
def scene(scenery: Scene) -> Iterator[Scene]:
    """The same; the processes that were started end with the test."""
    yield scenery
    scenery.stage.close()
