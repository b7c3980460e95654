"""Scenarios on a machine that is no GB10: nothing is tuned there; what a distribution would run passes.

One guest lives through them, in the order of this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vm import package
from vm.installation import read_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vm.guest import Guest
    from vm.workshop import Workshop

AUTOPKGTESTS = package.REPOSITORY / "packaging/debian/tests"


@pytest.fixture(scope="module")
def other(workshop: Workshop) -> Iterator[Guest]:
    """Such a machine, without the package."""
    guest = workshop.make("other", cpus=1).start(gb10=False)
    yield guest
    guest.discard()


def test_a_machine_that_is_no_gb10_is_left_alone_and_says_so(other: Guest, deb: Path) -> None:
    guest = other
    before = read_attributes(guest)
    assert "no GB10" in guest.install(deb).out
    assert read_attributes(guest) == before
    unit = guest.show("sparktune.service", "ActiveState", "SubState", "Result", "NRestarts", "ExecMainStatus")
    assert unit == {
        "ActiveState": "inactive", "SubState": "dead", "Result": "success", "NRestarts": "0",
        "ExecMainStatus": "5",
    }  # fmt: skip
    assert guest.out("systemctl --failed --quiet --no-legend") == ""
    assert guest.status()["state"] == "unsupported"


@pytest.mark.parametrize("name", ["unsupported", "simulated", "tuned"])
def test_what_a_distribution_would_run_passes(other: Guest, deb: Path, name: str) -> None:
    """The tests of packaging/debian/tests, as autopkgtest runs them: as root, in the source tree."""
    other.install(deb)  # installed already, unless this runs alone
    for path in AUTOPKGTESTS.iterdir():
        other.put(f"/var/tmp/source/debian/tests/{path.name}", path, mode=0o755)  # noqa: S108 - in the guest
    scratch = f"/var/tmp/{name}"  # noqa: S108
    other.run(f"mkdir {scratch}")
    environment = {"AUTOPKGTEST_TMP": scratch, "DEBIAN_FRONTEND": "noninteractive"}
    other.run(f"cd /var/tmp/source && debian/tests/{name}", env=environment, limit_s=480)
