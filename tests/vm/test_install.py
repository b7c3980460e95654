"""Scenarios: one file is installed and everything holds, over reboots too; `sparktune=off` keeps it out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vm.guest import READ_AHEAD
from vm.installation import read_attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from vm.figures import Figures
    from vm.guest import Guest
    from vm.installation import Installation

ROCE_MODE = "/sys/kernel/config/rdma_cm/rocep1s0f0/ports/1/default_roce_mode"


def test_installing_applies_everything_by_default(installation: Installation) -> None:
    before, after = dict(installation.before), dict(installation.after)
    assert before.keys() == after.keys()
    assert (before.pop(READ_AHEAD), after.pop(READ_AHEAD)) == ("128", "8192")
    assert set(before.values()) == {"0"}
    assert set(after.values()) == {"1"}


def test_the_readme_followed_to_the_letter_installs_it(installation: Installation) -> None:
    assert installation.result.code == 0
    assert "sparktune: ok" in installation.result.out
    assert installation.status["state"] == "ok"


def test_installing_says_in_three_lines_what_was_done_how_to_see_and_how_to_undo_it(
    installation: Installation,
) -> None:
    lines = installation.result.out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("sparktune: "))
    done, see, undo = lines[start : start + 3]
    assert installation.status["summary"].split(";")[0] in done
    assert "curl localhost:9300/status" in see
    assert "sparktune restore --all" in undo


def test_the_status_by_curl_says_ok_and_what_was_checked(installation: Installation) -> None:
    status = installation.status
    checked = status["checked"]
    assert status["state"] == "ok"
    assert status["not_holding"] == []
    assert checked["of"] == checked["hold"] >= len(installation.after)
    assert f"checked {checked['hold']} of {checked['of']}" in status["summary"]


def test_installing_compiles_everything(spark: Guest) -> None:
    sources = spark.out("find /usr/lib/sparktune -name '*.py' | wc -l")
    assert spark.out("find /usr/lib/sparktune -name '*.pyc' | wc -l") == sources != "0"


def test_other_programs_see_what_holds(spark: Guest) -> None:
    assert spark.out("blockdev --getra /dev/nvme0n1") == str(8192 * 2)  # in sectors
    assert spark.cat(ROCE_MODE) == "RoCE v2"
    idle = spark.out("cpupower --cpu 1 idle-info")
    disabled = re.findall(r"^(\S+) \(DISABLED\)", idle, re.MULTILINE)
    assert disabled == list(spark.platform.disabled_states), idle


def test_everything_holds_after_a_reboot(spark: Guest, figures: Figures) -> None:
    before = spark.status()["checked"]
    spark.reboot()
    after = spark.wait_for_state("ok")["checked"]
    assert (after["hold"], after["of"]) == (before["hold"], before["of"])
    assert spark.cat(READ_AHEAD) == "8192"
    assert spark.cat(ROCE_MODE) == "RoCE v2"
    record_boot(spark, figures, "reboot")


def record_boot(guest: Guest, figures: Figures, what: str) -> None:
    """READY means applied and verified once; systemd's monotonic times count from the kernel's start."""
    times = guest.show(
        "sparktune.service", "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic"
    )
    began_us, ready_us = (int(time) for time in times.values())
    assert 0 < began_us < ready_us
    figures.record(f"{what}: kernel start → all applied (READY)", round(ready_us / 1e6, 2), "s")
    figures.record(f"{what}: exec of the daemon → READY", round((ready_us - began_us) / 1e6, 2), "s")


def test_off_on_the_kernel_command_line_leaves_everything_alone(boot_spark: Callable[..., Guest]) -> None:
    guest = boot_spark("sparktune=off", name="off", cpus=1)
    status = guest.status()
    assert status["summary"].startswith("off: sparktune=off on the kernel command line"), status
    values = read_attributes(guest)
    assert values.pop(READ_AHEAD) == "128"
    assert set(values.values()) == {"0"}
    guest.run(["bash", "-c", f"echo 256 > {READ_AHEAD}"])
    refused = guest.run("sparktune apply", check=False)
    assert refused.code != 0
    assert "sparktune=off" in refused.out + refused.err
    assert guest.cat(READ_AHEAD) == "256"
