"""The machine sleeps and wakes: its controllers were reset, its CPUs were offline, and all is as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vm.disks import id_of
from vm.guest import READ_AHEAD
from vm.idle_files import CPU1, assert_watched, read_disables
from vm.ledger import Ledger, record
from vm.tracing import trace_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from vm.figures import Figures
    from vm.guest import Guest

WANTED, DEFAULT = "8192", "128"
NVME = id_of("nvme0n1")
SWEEP_US = 10_000_000


def test_after_a_suspend_everything_holds_again(boot_spark: Callable[..., Guest], figures: Figures) -> None:
    """Devices are started anew when the machine wakes; how deep it can sleep depends on the machine.

    In a guest of its own: after it has slept, QEMU's machine tells it of no hot-plug any more.
    """
    guest = boot_spark()
    guest.wait_for_state("ok")
    if "deep" in guest.cat("/sys/power/mem_sleep"):
        sleep_to_ram(guest, figures)
    else:
        put_devices_to_sleep(guest)
    guest.wait_for_state("ok")


def put_devices_to_sleep(guest: Guest) -> None:
    """QEMU's arm64 machine has no S3, and nothing that wakes it: the kernel's own test of all devices."""
    held = read_disables(guest, CPU1)
    test = "cd /sys/power && echo devices > pm_test && echo freeze > state && echo none > pm_test"
    ledger = Ledger.open(guest)
    slept = trace_command(guest, READ_AHEAD, WANTED, ["sh", "-c", test], limit_s=120)
    assert slept.went(WANTED, DEFAULT, WANTED), slept
    ledger.await_told(NVME, slept, wrong=DEFAULT, wanted=WANTED)
    assert "suspend debug: Waiting" in guest.out("journalctl --dmesg --boot --output=cat --lines=60")
    assert read_disables(guest, CPU1) == held
    assert_watched(guest, max(held))


def sleep_to_ram(guest: Guest, figures: Figures) -> None:
    """The controller is reset when the machine wakes, and CPU 1 gets new files without any device event."""
    held = read_disables(guest, CPU1)
    inodes = guest.out(f"stat -c %i {CPU1}/cpuidle/state*/disable")
    suspends = int(guest.cat("/sys/power/suspend_stats/success"))
    ledger = Ledger.open(guest)
    wake = ["rtcwake", "--mode", "mem", "--seconds", "3"]
    slept = trace_command(guest, READ_AHEAD, WANTED, wake)
    assert int(guest.cat("/sys/power/suspend_stats/success")) == suspends + 1
    ledger.await_drifts(NVME)  # seen or not
    # A sweep that was due at the moment of waking may come first; it sees nobody.
    assert ledger.await_told(NVME, slept, wrong=DEFAULT, wanted=WANTED)
    assert slept.went(WANTED, DEFAULT, WANTED), slept
    wrong_us = slept.stood_us(DEFAULT)
    assert all(stood_us < SWEEP_US / 2 for stood_us in wrong_us), slept
    assert guest.out(f"stat -c %i {CPU1}/cpuidle/state*/disable") != inodes
    assert read_disables(guest, CPU1) == held
    guest.wait_for_state("ok")  # the check of the states' effect counts anew
    record(figures, "resume from suspend, from the wrong value", wrong_us)
    assert_watched(guest, max(held))
