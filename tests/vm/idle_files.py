"""The `disable` files of a CPU's idle states, which are made anew whenever it comes online."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vm.ledger import Ledger, measure

if TYPE_CHECKING:
    from vm.guest import Guest

CPU1 = "/sys/devices/system/cpu/cpu1"


def read_disables(guest: Guest, directory: str) -> dict[str, str]:
    """The `disable` values below a directory, by file."""
    lines = guest.out(f"grep -H . {directory}/cpuidle/state*/disable").splitlines()
    return dict(line.split(":", 1) for line in lines)


def assert_watched(guest: Guest, disable: str) -> None:
    """A write to the CPU's new files is seen at once: the old ones went with their inodes."""
    ledger = Ledger.open(guest)
    measure(guest, [disable], wanted=1, write="0")
    _, cpu, _, state, _ = disable.rsplit("/", 4)
    [(episode, drift)] = ledger.await_drifts(f"cpuidle.{cpu}.{state}.disable")
    assert (episode["noticed"], drift["action"]) == ("fanotify", "healed")
