"""The package is downgraded, upgraded under load, and upgraded where a person has restored or masked.

One guest lives through it, in the order of this file.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from vm import package
from vm.guest import PROGRAMS, READ_AHEAD
from vm.installation import read_attributes
from vm.owner import CONFIG, EDITED, owned_guest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vm.figures import Figures
    from vm.guest import Guest
    from vm.installation import Installation
    from vm.workshop import Workshop

OLDER, NEWER = "0.0.1~before", "9.9.9"

pytestmark = pytest.mark.timeout(600, func_only=True)


@pytest.fixture(scope="module")
def guest(workshop: Workshop, installation: Installation) -> Iterator[Guest]:
    """One guest for the whole file."""
    with owned_guest(workshop, installation, "upgrade") as machine:
        yield machine


@dataclass
class Watched:
    """What was seen while something was done."""

    values: dict[str, Any]
    answers: list[str]


@contextmanager
def watched(guest: Guest) -> Iterator[Watched]:
    """While this lasts, every value is read 200 times a second, and the API is asked."""
    values = read_attributes(guest)
    guest.put("/run/watched", "".join(f"{path} {value}\n" for path, value in values.items()))
    watch = guest.start_job(["python3", "-I", f"{PROGRAMS}/watch_values.py", "/run/watched"], limit_s=500)
    asking = guest.start_job(["python3", "-I", f"{PROGRAMS}/ask_status.py"], limit_s=500)
    seen = Watched({}, [])
    try:
        yield seen
    finally:
        seen.answers += asking.end().out.split("\n")[:-1]
        seen.values.update(json.loads(watch.end().out))


@contextmanager
def loaded(guest: Guest) -> Iterator[None]:
    """While this lasts, something computes without end on the guest's one CPU."""
    burning = guest.start_job("while :; do :; done", limit_s=500)
    try:
        yield
    finally:
        burning.end()


def version(guest: Guest) -> str:
    """The installed version, by dpkg."""
    return guest.out("dpkg-query --showformat='${Version}' --show sparktune")


def main_pids(guest: Guest) -> dict[str, str]:
    """The two processes; the API's is started by its first request."""
    guest.status()
    units = ("sparktune.service", "sparktune-api.service")
    return {unit: guest.show(unit, "MainPID")["MainPID"] for unit in units}


def exchange(guest: Guest, deb: Path, read_ahead: str = EDITED) -> Watched:
    """Install another version over this one while everything is watched; what read-ahead is all the time."""
    before = main_pids(guest)
    with watched(guest) as seen:
        guest.install(deb)
        guest.wait_for_state("ok")
    assert version(guest) == package.read_version(deb)
    after = main_pids(guest)
    assert not set(before.values()) & set(after.values()), "an old process still runs"
    assert "0" not in after.values()
    assert "# edited by the owner" in guest.cat(CONFIG)
    assert guest.cat(READ_AHEAD) == read_ahead
    return seen


def assert_no_gap(seen: Watched) -> None:
    """No value went back, no request was refused."""
    assert seen.values["seen"] == {}
    assert seen.values["rounds"] > 100
    assert seen.answers
    assert set(seen.answers) == {"200"}, seen.answers


def test_a_downgrade_leaves_no_moment_without_the_tuned_values_and_what_a_person_restored_stays_restored(
    guest: Guest, derive_deb: Callable[..., Path]
) -> None:
    guest.run("sparktune restore nvme")
    assert guest.cat(READ_AHEAD) == "128"
    assert_no_gap(exchange(guest, derive_deb(OLDER), read_ahead="128"))
    assert guest.tunable("nvme.nvme0n1.read_ahead_kb")["verdict"] == "unmanaged"
    guest.run("sparktune apply")
    assert guest.cat(READ_AHEAD) == EDITED


def test_an_upgrade_under_load_leaves_no_moment_without_the_tuned_values(
    guest: Guest, deb: Path, figures: Figures
) -> None:
    oldest = min(episode["id"] for episode in guest.history("limit=1000"))
    with loaded(guest):
        seen = exchange(guest, deb)
    assert_no_gap(seen)
    figures.record("upgrade under load: values read", seen.values["rounds"], "times")
    figures.record("upgrade under load: longest time unread", round(seen.values["longest_s"] * 1e3), "ms")
    assert oldest in {episode["id"] for episode in guest.history("limit=1000")}
    assert guest.tunable("nvme.nvme0n1.read_ahead_kb")["original"] == 128


def test_a_masked_daemon_stays_so_over_an_upgrade_and_the_api_answers_by_sockets_made_anew(
    guest: Guest, derive_deb: Callable[..., Path]
) -> None:
    """`mask --now` is the off switch: what is written then stays, whatever is installed."""
    before = main_pids(guest)["sparktune-api.service"]
    guest.run("systemctl mask --now sparktune.service")
    guest.run(f"echo 256 > {READ_AHEAD}")
    result = guest.install(derive_deb(NEWER, changed=(package.CONFFILE, package.SOCKET_UNIT)))
    assert "not started (disabled, masked" in result.out
    assert guest.show("sparktune.service", "LoadState", "ActiveState") == {
        "LoadState": "masked",
        "ActiveState": "inactive",
    }
    assert guest.cat(READ_AHEAD) == "256"
    assert guest.status()["state"] == "down"
    assert main_pids(guest)["sparktune-api.service"] not in ("0", before)
    assert NEWER in guest.out("systemctl cat sparktune-api.socket")
    assert guest.show("sparktune-api.socket", "NeedDaemonReload") == {"NeedDaemonReload": "no"}
    guest.run("systemctl unmask sparktune.service && systemctl start sparktune.service")
    assert guest.cat(READ_AHEAD) == EDITED
    guest.wait_for_state("ok")
