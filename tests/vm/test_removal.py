"""The package is stopped, reinstalled, removed, installed again, purged.

One guest lives through it, in the order of this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vm import package
from vm.guest import READ_AHEAD
from vm.installation import read_attributes
from vm.owner import CONFIG, DROP_IN, EDITED, UNIT_DROP_IN, owned_guest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vm.figures import Figures
    from vm.guest import Guest
    from vm.installation import Installation
    from vm.workshop import Workshop


pytestmark = pytest.mark.timeout(600, func_only=True)


@pytest.fixture(scope="module")
def guest(workshop: Workshop, installation: Installation) -> Iterator[Guest]:
    """One guest for the whole file."""
    with owned_guest(workshop, installation, "removal") as machine:
        yield machine


def test_a_stopped_and_a_restarted_daemon_leave_the_values(guest: Guest) -> None:
    values = read_attributes(guest)
    guest.run("systemctl stop sparktune")
    assert read_attributes(guest) == values
    assert guest.status()["state"] == "down"
    guest.run("systemctl start sparktune; systemctl restart sparktune")
    assert read_attributes(guest) == values
    guest.wait_for_state("ok")


def test_it_can_be_installed_over_itself(guest: Guest, deb: Path) -> None:
    guest.install(deb)
    values = read_attributes(guest)
    guest.run(f"apt-get install --yes --quiet --reinstall /var/tmp/{deb.name}", limit_s=400)
    assert read_attributes(guest) == values
    assert guest.wait_for_state("ok")["daemon"]["version"] == package.read_version(deb)


def test_removing_it_puts_the_originals_back(
    guest: Guest, installation: Installation, deb: Path, figures: Figures
) -> None:
    elsewhere = {"SPARKTUNE_STATE_DIR": "/var/tmp", "SPARKTUNE_RUN_DIR": "/var/tmp"}  # noqa: S108
    result = guest.run("apt-get remove --yes --quiet sparktune", env=elsewhere, limit_s=400)
    figures.record("removing the package", round(result.took_s, 2), "s")
    assert read_attributes(guest) == installation.originals_of(guest)
    assert guest.run("command -v sparktune", check=False).code != 0
    assert guest.run("pgrep --full bin/sparktune", check=False).out == ""
    assert guest.run("curl --silent localhost:9300/status", check=False).code == 7  # nobody listens
    assert guest.run("ls /usr/lib/sparktune", check=False).code == 2, "bytecode was left behind"
    assert "# edited by the owner" in guest.cat(CONFIG)
    assert "history.db" in guest.out("ls /var/lib/sparktune")
    guest.install(deb)
    guest.wait_for_state("ok")
    assert guest.cat(READ_AHEAD) == EDITED
    assert read_attributes(guest) != installation.originals_of(guest)


def test_purging_it_leaves_the_system_user_and_what_the_owner_made(
    guest: Guest, installation: Installation
) -> None:
    guest.put(f"{CONFIG}.dpkg-dist", "# as an upgrade leaves it beside an edited one\n")
    guest.run("apt-get purge --yes --quiet sparktune", limit_s=400)
    assert read_attributes(guest) == installation.originals_of(guest)
    harness = "-path /usr/local -o -path /var/tmp -o -path /run/log -o -path /var/log -o -path /dev"
    harness += " -o -path '/run/udev/links/virtio-ports*'"
    found = guest.out(
        rf"find / \( -path /proc -o -path /sys -o {harness} \) -prune -o -name '*sparktune*' -print"
    )
    assert set(found.split()) == {UNIT_DROP_IN.rpartition("/")[0], DROP_IN.rpartition("/")[0]}
    assert guest.cat(DROP_IN)
    assert guest.cat(UNIT_DROP_IN)
    assert guest.out("getent passwd sparktune").endswith("/nonexistent:/usr/sbin/nologin")
    assert guest.out("systemctl --failed --quiet --no-legend") == ""
