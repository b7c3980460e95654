"""Who keeps writing a value back is not fought for ever; and what a person asks for is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vm.guest import READ_AHEAD
from vm.installation import read_attributes
from vm.ledger import Ledger, disabled_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.guest import Guest
    from vm.installation import Installation

ID = "nvme.nvme0n1.read_ahead_kb"
WANTED = "8192"
SWEEP_S = 10
BEGIN = "/run/rivals-begin"
DRIFT_LINES_A_MINUTE = 10


def write_for_ever(value: int, first_s: float, every_s: float) -> str:
    """A line for a shell that writes it again and again, the first time so long after it may begin."""
    until = f"until [ -e {BEGIN} ]; do sleep 0.05; done; sleep {first_s}"
    return f"{until}; while :; do echo {value} > {READ_AHEAD}; sleep {every_s}; done"


@pytest.fixture
def calm(spark: Guest) -> Iterator[Guest]:
    """The shared guest, with no fight on sparktune's books before and after."""
    spark.run(["sparktune", "apply"])
    yield spark
    spark.run(["rm", "--force", BEGIN])
    spark.run(["sparktune", "resume"])
    spark.run(["sparktune", "apply"])


def count_drift_lines(guest: Guest, since_s: float) -> int:
    """How many lines about drift the daemon has logged in the last seconds, by journalctl."""
    lines = guest.out(f"journalctl --unit=sparktune.service --output=cat --since=-{since_s:.0f}s")
    return sum("drift " in line for line in lines.splitlines())


def test_two_rivals_are_named_and_left_alone_until_they_are_stopped(calm: Guest) -> None:
    """They begin together, or the first one may have lost the fight before the other one was started."""
    ledger = Ledger.open(calm)
    shell = calm.start_job(write_for_ever(256, 0, 0.3), limit_s=200)
    calm.run(["systemd-run", "--quiet", "--unit=rival", "sh", "-c", write_for_ever(128, 0.15, 0.4)])
    calm.run(["touch", BEGIN])
    calm.wait_until(lambda: calm.status()["not_holding"], "contested")
    status = calm.status()
    [item] = status["not_holding"]
    assert (status["state"], item["id"], item["verdict"]) == ("degraded", ID, "contested")
    assert item["reason"].endswith("keep writing it back; left alone for 10 min")
    rival = f"sh[{calm.show('rival.service', 'MainPID')['MainPID']}] in rival.service"
    for said in (item["reason"], item["do"]):
        assert rival in said
        assert "in vm-agent.service" in said
    assert item["do"].startswith("stop ")
    assert f"then: sparktune apply {ID}" in item["do"]

    told = calm.run(["sparktune", "status"], check=False)
    assert told.code == 4
    assert f"{ID}: contested" in told.out
    assert f"sparktune apply {ID}" in " ".join(told.out.split())
    seen = calm.out(f"for n in {{1..40}}; do cat {READ_AHEAD}; sleep 0.3; done").split()
    assert set(seen) == {"128", "256"}  # over a whole sweep: nobody writes 8192 any more
    healed = sum(drift["action"] == "healed" for episode in ledger.new() for drift in episode["drifts"])
    assert healed == 5
    assert count_drift_lines(calm, 60) <= DRIFT_LINES_A_MINUTE

    shell.end()
    calm.run(["systemctl", "stop", "rival.service"])
    calm.run(["sparktune", "apply", ID])
    assert calm.cat(READ_AHEAD) == WANTED
    calm.run(["sh", "-c", f"echo 128 > {READ_AHEAD}"])
    calm.wait_for_value(READ_AHEAD, WANTED)  # the next one is healed again


def test_a_rival_without_a_pause_is_named_as_well(calm: Guest) -> None:
    """It writes faster than anybody could look, let alone keep books."""
    calm.run(
        ["systemd-run", "--quiet", "--unit=tight", "sh", "-c", f"while :; do echo 128 > {READ_AHEAD}; done"]
    )
    calm.wait_until(lambda: calm.status()["not_holding"], "contested")
    [item] = calm.status()["not_holding"]
    pid = calm.show("tight.service", "MainPID")["MainPID"]
    calm.run(["systemctl", "stop", "tight.service"])
    assert (item["verdict"], item["actual"]) == ("contested", 128)
    assert item["reason"] == f"sh[{pid}] in tight.service keeps writing it back; left alone for 10 min"
    assert calm.cat(READ_AHEAD) == "128"


def test_a_fight_without_end_fills_no_log(calm: Guest) -> None:
    """`contest.after = 0`: healed for ever, all of it in the history, ten lines a minute in the journal."""
    drop_in = "/etc/sparktune.toml.d/60-tireless.toml"
    calm.put(drop_in, "[contest]\nafter = 0\n")
    calm.run(["sparktune", "reload"])
    ledger = Ledger.open(calm)
    began = calm.run(f"for n in {{1..60}}; do echo 128 > {READ_AHEAD}; sleep 0.3; done")
    calm.wait_for_value(READ_AHEAD, WANTED)
    calm.run(["sleep", "1"])
    healed = sum(episode["count"] for episode in ledger.new())
    lines = count_drift_lines(calm, min(began.took_s + 2, 59))
    calm.run(f"rm {drop_in}; sparktune reload")
    assert healed >= 2 * DRIFT_LINES_A_MINUTE
    assert lines <= DRIFT_LINES_A_MINUTE


def test_a_pause_leaves_a_write_standing_and_resume_heals_it(calm: Guest) -> None:
    calm.run(["sparktune", "pause", "--for", "1h", "nvme"])
    calm.run(["sh", "-c", f"echo 128 > {READ_AHEAD}"])
    calm.run(["sleep", str(SWEEP_S + 2)])
    assert calm.cat(READ_AHEAD) == "128"
    status = calm.status()
    assert status["state"] == "paused"
    [item] = status["not_holding"]
    assert (item["id"], item["verdict"], item["actual"]) == (ID, "paused", 128)
    assert item["do"] == f"sparktune resume {ID}"
    assert calm.run(["sparktune", "status"], check=False).code == 4
    calm.run(["sparktune", "resume"])
    assert calm.cat(READ_AHEAD) == WANTED


def test_a_pause_ends_by_itself(calm: Guest) -> None:
    assert calm.out(f"sparktune pause --for 10s nvme; echo 128 > {READ_AHEAD}; cat {READ_AHEAD}").endswith(
        "128"
    )
    calm.wait_for_value(READ_AHEAD, WANTED)


def test_restore_puts_the_originals_back_and_apply_takes_over_again(
    calm: Guest, installation: Installation
) -> None:
    tuned, disabled = read_attributes(calm), disabled_states(calm)
    calm.run(["sparktune", "restore", "--all"])
    assert calm.cat(READ_AHEAD) == "128"
    assert "(DISABLED)" not in calm.out(["cpupower", "--cpu", "all", "idle-info"])
    assert read_attributes(calm) == installation.before != tuned
    calm.run(f"echo 256 > {READ_AHEAD}; sleep {SWEEP_S + 2}")
    assert calm.cat(READ_AHEAD) == "256"  # nobody's business until `apply`
    assert calm.status()["summary"].startswith("nothing is held")
    assert calm.tunable(ID)["verdict"] == "unmanaged"
    calm.run(["sparktune", "apply"])
    assert read_attributes(calm) == tuned
    assert disabled_states(calm) == disabled
    assert calm.tunable(ID)["original"] == 256  # what it took over from this time
    calm.run(["sparktune", "restore", "--all"])
    assert calm.cat(READ_AHEAD) == "256"
    calm.run(f"echo 128 > {READ_AHEAD}; sparktune apply")
    assert calm.tunable(ID)["original"] == 128
