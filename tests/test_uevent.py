"""Device events of this machine's own kernel: read one by one, and known when some were lost."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sparktune.kernel.uevent import DeviceEvent, DeviceWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOP = "loop0"
UEVENT = Path(f"/sys/block/{LOOP}/uevent")

pytestmark = [
    pytest.mark.root,
    pytest.mark.real_kernel,
    pytest.mark.skipif(not UEVENT.exists(), reason="this kernel has no loop device"),
]


@pytest.fixture
def watch() -> Iterator[DeviceWatch]:
    opened = DeviceWatch(["block", "bdi"])
    yield opened
    opened.close()


def announce() -> None:
    """Have the kernel send an event without anything having happened (ABI/testing/sysfs-uevent)."""
    UEVENT.write_text("change")


def wait(watch: DeviceWatch, event: int = select.POLLIN) -> None:
    poll = select.poll()
    poll.register(watch, event)
    assert poll.poll(10_000), "nothing came"


def hold_no_more_than(watch: DeviceWatch, size: int) -> None:
    """Set the size of the watch's queue, in bytes; the kernel has a least one of its own."""
    with socket.socket(fileno=os.dup(watch.fileno())) as queue:
        queue.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def test_an_event_says_what_happened_to_which_device(watch: DeviceWatch) -> None:
    announce()
    wait(watch)
    assert DeviceEvent("change", "block", LOOP) in (watch.read() or ())


def test_events_of_other_subsystems_are_not_heard(watch: DeviceWatch) -> None:
    other = DeviceWatch(["nvme"])
    announce()
    wait(watch)
    assert other.read() == ()
    other.close()


def test_that_events_were_lost_is_known_and_later_ones_are_heard(watch: DeviceWatch) -> None:
    hold_no_more_than(watch, 1)
    for _ in range(50):
        announce()
    wait(watch, select.POLLERR)
    assert watch.read() is None
    hold_no_more_than(watch, 1 << 20)
    while watch.read() != ():
        pass
    announce()
    wait(watch)
    assert DeviceEvent("change", "block", LOOP) in (watch.read() or ())
