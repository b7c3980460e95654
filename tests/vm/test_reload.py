"""The configuration is read again: a good one is applied, a broken one changes nothing, nor does a reboot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vm.guest import READ_AHEAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.figures import Figures
    from vm.guest import Guest

CONFIG = "/etc/sparktune.toml"
PACKAGED = "/var/tmp/sparktune.toml.packaged"  # noqa: S108 - in the guest
DEFAULT = 8192
GOOD = "[nvme]\nread_ahead_kb = 4096\n"
BROKEN = "[nvme]\nread_ahead_kb = 2048\nread_ahed = 2\n"
COMPLAINT = f"{CONFIG}:3: nvme.read_ahed: unknown key (did you mean nvme.read_ahead_kb?)"


@pytest.fixture
def configurable(spark: Guest) -> Iterator[Guest]:
    """The shared guest, whose configuration is put back afterwards."""
    spark.run(["cp", "--archive", CONFIG, PACKAGED])
    yield spark
    spark.run(["mv", PACKAGED, CONFIG])
    spark.run(["systemctl", "reload", "sparktune"])
    spark.wait_for_value(READ_AHEAD, DEFAULT)


def test_a_good_file_is_applied_by_a_reload(configurable: Guest, figures: Figures) -> None:
    configurable.put(CONFIG, GOOD)
    reload = configurable.run(["systemctl", "reload", "sparktune"])
    assert configurable.cat(READ_AHEAD) == "4096"
    status = configurable.status()
    assert (status["state"], status["config"]["error"], status["config"]["on_disk"]) == ("ok", None, "same")
    value = configurable.fetch("/config")["values"]["nvme.read_ahead_kb"]
    assert value == {"value": 4096, "layer": CONFIG}
    figures.record("systemctl reload, until 4096 is there", round(reload.took_s, 2), "s")


def test_a_broken_file_fails_the_reload_and_changes_nothing(configurable: Guest) -> None:
    configurable.put(CONFIG, GOOD)
    configurable.run(["systemctl", "reload", "sparktune"])
    before = configurable.show("sparktune", "MainPID", "ActiveState")
    configurable.put(CONFIG, BROKEN)
    reload = configurable.run(["systemctl", "reload", "sparktune"], check=False)
    assert reload.code == 1
    assert "sparktune.service failed" in reload.err
    assert COMPLAINT in configurable.out("journalctl --boot --unit=sparktune --output=cat --lines=20")
    by_hand = configurable.run(["sparktune", "reload"], check=False)
    assert (by_hand.code, COMPLAINT in by_hand.err) == (2, True)
    assert configurable.cat(READ_AHEAD) == "4096"
    assert configurable.show("sparktune", "MainPID", "ActiveState") == before
    status = configurable.wait_for_state("degraded")
    assert (status["config"]["error"], status["config"]["on_disk"]) == (COMPLAINT, "changed")
    assert status["checked"]["hold"] == status["checked"]["of"] > 0


def test_what_is_written_meanwhile_goes_back_to_what_the_last_good_file_wants(configurable: Guest) -> None:
    configurable.put(CONFIG, GOOD)
    configurable.run(["systemctl", "reload", "sparktune"])
    configurable.put(CONFIG, BROKEN)
    configurable.run(["systemctl", "reload", "sparktune"], check=False)
    assert configurable.measure_heal(READ_AHEAD, 128, 4096) > 0


def test_a_reboot_with_a_broken_file_uses_the_last_good_one_until_it_is_mended(configurable: Guest) -> None:
    configurable.put(CONFIG, GOOD)
    configurable.run(["systemctl", "reload", "sparktune"])
    configurable.put(CONFIG, BROKEN)
    configurable.reboot()
    status = configurable.wait_for_state("degraded")
    assert configurable.cat(READ_AHEAD) == "4096"
    assert status["config"]["error"] == f"{COMPLAINT}; the last good one is used"
    assert configurable.show("sparktune", "ActiveState", "NRestarts") == {
        "ActiveState": "active",
        "NRestarts": "0",
    }
    configurable.put(CONFIG, GOOD.replace("4096", "1024"))
    configurable.run(["systemctl", "reload", "sparktune"])
    assert configurable.cat(READ_AHEAD) == "1024"
    assert configurable.wait_for_state("ok")["config"]["error"] is None
