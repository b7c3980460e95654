"""A guest whose owner has edited the packaged configuration and made additions; two files need one each."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from vm.guest import READ_AHEAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.guest import Guest
    from vm.installation import Installation
    from vm.workshop import Workshop

CONFIG = "/etc/sparktune.toml"
DROP_IN = "/etc/sparktune.toml.d/70-owner.toml"
UNIT_DROP_IN = "/etc/systemd/system/sparktune.service.d/70-owner.conf"
EDIT = "s/^#read_ahead_kb = 8192/read_ahead_kb = 4096 # edited by the owner/"
EDITED = "4096"


@contextmanager
def owned_guest(workshop: Workshop, installation: Installation, name: str) -> Iterator[Guest]:
    """Such a guest, everything holding."""
    guest = workshop.make(name, installation.disk, cpus=1).start()
    guest.run(["sed", "--in-place", EDIT, CONFIG])
    guest.put(DROP_IN, "[contest]\nafter = 7\n")
    guest.put(UNIT_DROP_IN, "[Service]\nNice=-1\n")
    guest.run("systemctl daemon-reload; systemctl reload sparktune")
    guest.wait_for_value(READ_AHEAD, EDITED)
    guest.wait_for_state("ok")
    yield guest
    guest.discard()
