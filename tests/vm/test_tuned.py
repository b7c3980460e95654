"""TuneD beside sparktune, with a profile that sets the same read-ahead: told of, healed, left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vm.guest import READ_AHEAD
from vm.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.guest import Guest

LINES = "[main]\nsummary=sets what sparktune sets\n\n[disk]\ndevices=nvme*\nreadahead=4096\n"
LINE = 6
CHOICE = {"active_profile": "rival", "profile_mode": "manual"}
WANTED = "8192"


@pytest.fixture
def profile(spark: Guest) -> str:
    """Where an owner's profile lies: since TuneD 2.23 one folder deeper."""
    is_newer = spark.run("test -d /etc/tuned/profiles", check=False).code == 0
    return f"/etc/tuned/{'profiles/' if is_newer else ''}rival/tuned.conf"


@pytest.fixture
def beside_tuned(spark: Guest, profile: str) -> Iterator[Guest]:
    """The shared guest with TuneD enabled and running that profile; as it was afterwards."""
    spark.put(profile, LINES)
    for name, content in CHOICE.items():
        spark.run(f"cp --archive /etc/tuned/{name} /run/{name}.before; echo {content} > /etc/tuned/{name}")
    spark.run("systemctl enable --quiet tuned.service")
    yield spark
    spark.run("systemctl disable --quiet --now tuned.service", limit_s=200)
    spark.run(f"rm -r {profile.rpartition('/')[0]}; mv /run/active_profile.before /etc/tuned/active_profile")
    spark.run(
        "mv /run/profile_mode.before /etc/tuned/profile_mode; sparktune apply; systemctl reload sparktune"
    )


def test_it_is_told_of_with_file_and_line_and_healed_with_its_unit_named(
    beside_tuned: Guest, profile: str
) -> None:
    guest = beside_tuned
    ledger = Ledger.open(guest)
    guest.run("systemctl start tuned.service", limit_s=200)
    guest.wait_until(ledger.new, "TuneD's write")
    guest.wait_for_value(READ_AHEAD, WANTED)
    [first, *_] = reversed(ledger.new())
    [drift] = [drift for drift in first["drifts"] if drift["tunable"].startswith("nvme.")]
    assert (drift["found"], drift["action"]) == (4096, "healed")
    assert first["by"]["unit"] == "tuned.service"
    assert guest.out("systemctl is-active tuned.service") == "active"

    detected = guest.run("sparktune detect")
    assert f"{profile}:{LINE}: TuneD" in detected.out
    assert "readahead=4096" in detected.out
    guest.run("systemctl restart sparktune")
    guest.wait_until(lambda: guest.fetch("/hardware")["conflicts"]["found"], "the conflict at start")
    [conflict] = guest.fetch("/hardware")["conflicts"]["found"]
    assert (conflict["file"], conflict["line"], conflict["unit"]) == (profile, LINE, "tuned.service")
    assert (conflict["value"], conflict["wanted"], conflict["agrees"]) == ("4096", 8192, False)
    assert f"{profile}:{LINE}" in guest.out("journalctl --boot --unit=sparktune --output=cat --lines=50")
    status = guest.wait_for_state("ok")  # a conflict is no drift
    assert any(profile in warning["says"] for warning in status["warnings"])
    assert guest.out("systemctl is-enabled tuned.service") == "enabled"  # its owner's business
    assert guest.cat(READ_AHEAD) == WANTED
