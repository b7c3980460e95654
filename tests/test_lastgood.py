"""The last good configuration: kept durably, used when the files are invalid, set aside when damaged."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparktune.errors import StoreError
from sparktune.lastgood import canonical, recall
from sparktune.settings import Effective, Settings, load, load_or_fall_back, on_disk_changed, remember

if TYPE_CHECKING:
    from pathlib import Path


class Machine:
    """A configuration file and a state directory."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "sparktune.toml"
        self.state = directory / "state"
        self.state.mkdir()
        self.last_good = self.state / "last-good.json"

    def load(self) -> Effective:
        return load(self.file, host_names=("spark",), environ={})

    def start(self) -> Effective:
        return load_or_fall_back(self.file, host_names=("spark",), environ={}, last_good=self.last_good)

    def remember(self, text: str) -> Effective:
        self.file.write_text(text)
        effective = self.load()
        remember(self.last_good, effective)
        return effective

    def set_aside(self) -> list[Path]:
        return sorted(self.state.glob("last-good.json.corrupt-*"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


GOOD = 'sweep = "500ms"\nnvme.paths = ["/models"]\ncpuidle.disable_latency_us = "off"'


def test_a_valid_file_is_used_and_there_is_no_error(machine: Machine) -> None:
    machine.file.write_text(GOOD)
    assert machine.start() == machine.load()
    assert machine.start().error is None


def test_an_invalid_file_gives_the_last_good_configuration_with_the_error(machine: Machine) -> None:
    good = machine.remember(GOOD)
    machine.file.write_text("\nsweep = 5")
    effective = machine.start()
    assert effective.settings == good.settings
    assert effective.sha256 == good.sha256
    assert set(effective.origins.values()) == {"last good"}
    assert effective.error is not None
    assert f"{machine.file}:2: sweep: expected a duration" in effective.error
    assert "last good one is used" in effective.error


def test_an_invalid_file_without_a_last_good_one_gives_report_with_the_defaults(machine: Machine) -> None:
    machine.file.write_text("sweep = 5")
    effective = machine.start()
    assert effective.settings == Settings(mode="report")
    assert effective.origins["mode"] == "fallback"
    assert effective.origins["sweep"] == "default"
    assert "no last good one" in (effective.error or "")


def test_a_wrong_environment_variable_gives_the_last_good_configuration_too(machine: Machine) -> None:
    good = machine.remember(GOOD)
    effective = load_or_fall_back(
        machine.file, host_names=(), environ={"SPARKTUNE_MOOD": "x"}, last_good=machine.last_good
    )
    assert effective.settings == good.settings
    assert "SPARKTUNE_MOOD" in (effective.error or "")


def test_the_error_of_many_problems_is_short(machine: Machine) -> None:
    machine.file.write_text("".join(f"k{number} = 1\n" for number in range(300)))
    error = machine.start().error or ""
    assert "and 297 more" in error
    assert len(error) < 2000


def test_the_file_on_disk_differs_from_the_last_good_configuration_until_it_is_mended(
    machine: Machine,
) -> None:
    machine.remember(GOOD)
    machine.file.write_text("sweep = 5")
    effective = machine.start()
    assert on_disk_changed(effective)
    machine.file.write_text(GOOD)
    assert not on_disk_changed(effective)


def test_the_file_on_disk_differs_from_the_fallback(machine: Machine) -> None:
    machine.file.write_text("sweep = 5")
    assert on_disk_changed(machine.start())


def test_the_same_configuration_is_not_written_again(machine: Machine) -> None:
    machine.remember(GOOD)
    before = machine.last_good.stat()
    machine.remember(GOOD)
    assert machine.last_good.stat().st_ino == before.st_ino


def test_another_configuration_replaces_it(machine: Machine) -> None:
    machine.remember(GOOD)
    good = machine.remember('mode = "report"')
    machine.file.write_text("?")
    assert machine.start().settings == good.settings


def test_neither_the_last_good_nor_the_fallback_is_remembered_as_good(machine: Machine) -> None:
    machine.file.write_text("?")
    remember(machine.last_good, machine.start())
    assert not machine.last_good.exists()


def test_others_may_not_read_it(machine: Machine) -> None:
    machine.remember(GOOD)
    assert machine.last_good.stat().st_mode & 0o777 == 0o640


def test_a_directory_that_is_not_there_is_a_store_error(machine: Machine) -> None:
    machine.state.rmdir()
    with pytest.raises(StoreError, match="cannot write"):
        machine.remember(GOOD)


def test_a_full_disk_is_a_store_error_and_keeps_the_old_one(machine: Machine) -> None:
    machine.remember(GOOD)
    before = machine.last_good.read_bytes()
    (machine.state / ".last-good.json.new").symlink_to("/dev/full")
    with pytest.raises(StoreError):
        machine.remember('mode = "report"')
    assert machine.last_good.read_bytes() == before


def _forged(machine: Machine, **changes: Any) -> bytes:
    """A last good file of right form with other content."""
    body = json.loads(machine.last_good.read_bytes())
    del body["checksum"]
    body.update(changes)
    return json.dumps({**body, "checksum": sha256(canonical(body).encode()).hexdigest()}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: good[: len(good) // 2],
        lambda good: good[:-3],
        lambda good: good.replace(b"/models", b"/modles"),
        lambda _: b"",
        lambda _: b"\0" * 4096,
        lambda _: b"\xff\xfe",
        lambda _: b"{}",
        lambda _: b"[]",
        lambda _: b"null",
        lambda _: b"5",
        lambda _: b'{"checksum": 1, "format": 1}',
        lambda _: b"[" * 100_000,
        lambda _: b'{"checksum": ' + b"9" * 5000 + b"}",
        lambda good: good + b" " * 5 * 1024 * 1024,
    ],
)
def test_a_damaged_file_is_set_aside_and_counts_as_none(machine: Machine, damage: Any) -> None:
    machine.remember(GOOD)
    damaged = damage(machine.last_good.read_bytes())
    machine.last_good.write_bytes(damaged)
    machine.file.write_text("?")
    assert machine.start().settings == Settings(mode="report")
    assert not machine.last_good.exists()
    (kept,) = machine.set_aside()
    assert kept.read_bytes() == damaged


@pytest.mark.parametrize(
    "values",
    [
        {"removed_key": 1},
        {"sweep": 1e9},
        {"sweep": float("nan")},
        {"nvme": 5},
        {"nvme": {"read_ahead_kb": True}},
        {"mode": "fight"},
    ],
)
def test_a_file_this_version_cannot_use_is_set_aside(machine: Machine, values: dict[str, Any]) -> None:
    machine.remember(GOOD)
    machine.last_good.write_bytes(_forged(machine, settings=values))
    machine.file.write_text("?")
    assert machine.start().settings == Settings(mode="report")
    assert len(machine.set_aside()) == 1


def test_a_file_of_another_format_is_set_aside(machine: Machine) -> None:
    machine.remember(GOOD)
    machine.last_good.write_bytes(_forged(machine, format=2))
    assert recall(machine.last_good) is None
    assert len(machine.set_aside()) == 1


def test_a_forged_file_of_right_form_is_used(machine: Machine) -> None:
    """Proves that the two tests above fail for the reason they name."""
    machine.remember(GOOD)
    machine.last_good.write_bytes(_forged(machine, settings={"sweep": 2.0}))
    machine.file.write_text("?")
    assert machine.start().settings == Settings(sweep=2.0)


def test_only_a_few_damaged_files_are_kept(machine: Machine) -> None:
    machine.file.write_text("?")
    for number in range(9):
        machine.last_good.write_text(str(number))
        machine.start()
    assert [path.read_text() for path in machine.set_aside()] == ["4", "5", "6", "7", "8"]


@pytest.mark.timeout(10)
def test_a_fifo_in_its_place_is_set_aside_without_waiting(machine: Machine) -> None:
    os.mkfifo(machine.last_good)
    assert recall(machine.last_good) is None
    assert len(machine.set_aside()) == 1


def test_a_directory_in_its_place_is_set_aside(machine: Machine) -> None:
    machine.last_good.mkdir()
    assert recall(machine.last_good) is None
    assert len(machine.set_aside()) == 1


@settings(deadline=None, max_examples=50)
@given(
    content=st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from(["format", "checksum", "settings", "files"]) | st.text(), inner
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_content_of_the_file_is_ever_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("state") / "last-good.json"
    path.write_bytes(content)
    assert recall(path) is None
