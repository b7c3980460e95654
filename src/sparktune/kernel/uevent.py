"""Devices that come, go or change, through pyudev. Says which device of which subsystem; judges nothing."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

UDEVD_CONTROL = Path("/run/udev/control")
"""Where udevd listens; without it the `udev` source stays silent for ever."""

_BUFFER_BYTES = 1 << 20


@frozen(kw_only=False)
class DeviceEvent:
    """One uevent.

    Attributes:
        action: `add`, `remove`, `change`, `online`, `offline`, `move`, `bind`, `unbind`.
        subsystem: `block`, `cpu`, `net`, `infiniband`, …
        name: the device's kernel name.
    """

    action: str
    subsystem: str
    name: str

    def __str__(self) -> str:
        """`udev change block nvme0n1`."""
        return f"udev {self.action} {self.subsystem} {self.name}"


class DeviceWatch:
    """A monitor of the events of some subsystems: udevd's (after its rules ran), else the kernel's own."""

    def __init__(self, subsystems: Sequence[str]) -> None:
        """Open the monitor. Raises OSError or ImportError (no libudev on this machine)."""
        import pyudev

        self.source = "udev" if UDEVD_CONTROL.exists() else "kernel"
        self._monitor: Any = pyudev.Monitor.from_netlink(pyudev.Context(), source=self.source)
        for subsystem in subsystems:
            self._monitor.filter_by(subsystem)
        with suppress(OSError):  # without CAP_NET_ADMIN the default size must do; an overflow is noticed
            self._monitor.set_receive_buffer_size(_BUFFER_BYTES)
        self._monitor.start()
        self._socket = socket.socket(fileno=os.dup(self._monitor.fileno()))

    def fileno(self) -> int:
        """The monitor's descriptor."""
        return int(self._monitor.fileno())

    def read(self) -> tuple[DeviceEvent, ...] | None:
        """The events that have queued up; None if some were lost: any device may have changed."""
        events: list[DeviceEvent] = []
        while True:
            try:
                device = self._monitor.poll(timeout=0)
            except OSError as error:
                number = error.errno or self._take_error()
                if number == errno.ENOBUFS:  # the queue ran over
                    return None
                if number in (errno.EAGAIN, errno.EINTR):
                    return tuple(events)
                raise
            if device is None:
                return tuple(events)
            events.append(DeviceEvent(device.action or "", device.subsystem or "", device.sys_name))

    def _take_error(self) -> int:
        """What is wrong with the socket, which is told once; pyudev only says that something is (POLLERR)."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """Stop listening; libudev closes its socket with the monitor."""
        self._socket.close()
        self._monitor = None
