"""Hot-plugged NVMe disks as the guest sees them, and how many things sparktune checks with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vm.qmp import RefusedError

if TYPE_CHECKING:
    from vm.guest import Guest


def read_ahead_of(disk: str) -> str:
    """The attribute of a disk."""
    return f"/sys/block/{disk}/queue/read_ahead_kb"


def id_of(disk: str) -> str:
    """What sparktune calls it."""
    return f"nvme.{disk}.read_ahead_kb"


def find_disk(guest: Guest, number: int) -> str | None:
    """The name of the plugged disk of that number, None while it is not there."""
    serial = f"SPARK{number + 1:04}"
    found = guest.run(f"grep -lw {serial} /sys/class/nvme/*/serial", check=False).out.split()
    if not found:
        return None
    controller = found[0].split("/")[-2]
    return (
        f"{controller}n1"
        if guest.run(["test", "-e", f"/sys/block/{controller}n1"], check=False).code == 0
        else None
    )


def plug_in(guest: Guest, number: int) -> str:
    """Plug a disk in and wait until the kernel has it; its name."""
    guest.plug_nvme(number)
    guest.wait_until(lambda: find_disk(guest, number), f"disk {number} in the guest")
    name = find_disk(guest, number)
    assert name is not None
    return name


def pull_out(guest: Guest, number: int) -> None:
    """Take a disk out and wait until it is, so that it may be plugged in again."""
    guest.unplug_nvme(number)
    guest.wait_until(lambda: not guest.is_plugged(number), f"disk {number} out of its slot")

    def is_forgotten() -> bool:
        """QEMU finishes with the image a moment after the device is out of its list."""
        try:
            guest.forget_nvme(number)
        except RefusedError:
            return False
        return True

    guest.wait_until(is_forgotten, f"the image of disk {number} closed")


def count_checked(guest: Guest) -> int:
    """How many tunables and checks are judged, once every one that will be is."""

    def is_counting() -> bool:
        """The check of an idle state's effect starts anew after each write, and is judged a sweep later."""
        return any(one["reason"].startswith("counting") for one in guest.fetch("/tunables")["tunables"])

    guest.wait_until(lambda: not is_counting(), "every check judged")
    return int(guest.status()["checked"]["of"])


def wait_for_count(guest: Guest, of: int) -> dict[str, Any]:
    """Wait until so many are checked, all of them holding; the status."""
    guest.wait_until(lambda: guest.status()["checked"]["of"] == of, f"{of} checked")
    return guest.wait_for_state("ok")


def wait_for_verdict(guest: Guest, id_: str, verdict: str, reason: str = "") -> dict[str, Any]:
    """Wait until the API says a verdict of a tunable, for a reason that begins like this; the tunable."""
    said: dict[str, Any] = {}

    def is_said() -> bool:
        said.clear()
        said.update(guest.tunable(id_))
        return bool(said.get("verdict") == verdict and said["reason"].startswith(reason))

    try:
        guest.wait_until(is_said, f"{id_} is {verdict}")
    except AssertionError as error:
        raise AssertionError(f"{error}; the API says {said}\n{describe_disks(guest)}") from None
    return said


def wait_until_left(guest: Guest, id_: str) -> dict[str, Any]:
    """Wait until a tunable is absent because its device left; for want of its file it may be so before."""
    left = wait_for_verdict(guest, id_, "absent", "left at 20")
    assert left["actual"] is None, left
    return left


def describe_disks(guest: Guest) -> str:
    """What there is, and what sparktune made of it: for a message."""
    look = (
        "ls --full-time /sys/block; dmsetup ls --tree; "
        "for one in /sys/block/*/slaves/*; do echo $one; done; "
        "journalctl --boot --unit=sparktune --lines=30 --output=short-precise; udevadm settle --timeout=0"
    )
    return f"{guest.run(look, check=False).out}\nhistory: {guest.history('limit=5')}"
