"""Everything that says "look again": file writes, devices, links, resume. A trigger never judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparktune.kernel.clock import ResumeWatch
from sparktune.kernel.connectx import is_function
from sparktune.kernel.exits import ExitRecords
from sparktune.kernel.path import PathAttribute
from sparktune.kernel.rtnetlink import LinkWatch
from sparktune.links import Links
from sparktune.model import Cause, CauseKind, Noticed, Policy
from sparktune.parrying import Parrying
from sparktune.pinging import Pinging
from sparktune.settling import Settling
from sparktune.tunables import AREAS

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from sparktune.keeper import Keeper
    from sparktune.kernel.uevent import DeviceEvent, DeviceWatch

_PER_CPU = "cpu"
"""The one subsystem whose devices are many enough to be discovered one by one."""

_CROWDED = frozenset({"net", "pci"})
"""Subsystems of many devices of which few are ours."""


class Triggers:
    """All event sources of the daemon."""

    def __init__(
        self,
        keeper: Keeper,
        register: Callable[[int, Callable[[], None]], None],
        log: FilteringBoundLogger,
    ) -> None:
        """Open nothing yet.

        Args:
            keeper: does what triggers ask for.
            register: makes the loop call a handler when a descriptor is readable.
            log: where it is told what cannot be watched.
        """
        self._keeper = keeper
        self._watches = keeper.watches
        self._register = register
        self._log = log
        self._opened: list[Any] = []
        self.parrying = Parrying(keeper)
        keeper.catch_up = self.parrying.catch_up
        self.settling = Settling(keeper.look_after)
        self.links = Links(keeper)
        self.pinging = Pinging(self._ways, self._on_answers)
        self.woke_s = 0.0

    def open_writes(self) -> None:
        """Watch for writes; before anything is applied, so that none is missed in between."""
        descriptor = self._watches.open()
        if descriptor is not None:
            self._register(descriptor, lambda: self.parrying.on_writes(self.woke_s))
        if self._watches.noticed is Noticed.FANOTIFY:
            self.parrying.attributor.exits = self._try("exits of short-lived writers", ExitRecords)

    def open_others(self) -> None:
        """Watch devices, links and resume. What cannot be opened is told; the sweep finds its changes."""
        self._try_open("device events", _open_device_watch, self._on_devices)
        self._try_open("link events", LinkWatch, self._on_links)
        self._try_open("resume events", ResumeWatch, self._on_clock)

    def close(self) -> None:
        """Stop watching."""
        self.pinging.close()
        for watch in self._opened:
            watch.close()
        self._watches.close()

    def _try_open(self, what: str, make: Callable[[], Any], handler: Callable[[Any], None]) -> None:
        watch = self._try(what, make)
        if watch is not None:
            self._register(watch.fileno(), lambda: handler(watch))

    def _try(self, what: str, make: Callable[[], Any]) -> Any:
        try:
            watch = make()
        except (OSError, ImportError) as error:
            self._log.warning("cannot watch; the rest goes on", what=what, error=str(error))
            return None
        self._opened.append(watch)
        return watch

    def _on_devices(self, watch: DeviceWatch) -> None:
        events = watch.read()
        if events is None:
            self._keeper.overflow("device")
            return
        touched = self._keeper.touched()
        for event in events:
            if not self._concerns(event, touched):
                continue
            names = self._keeper.tuner.areas_of(event.subsystem)
            cause = Cause(kind=CauseKind.DEVICE, detail=str(event))
            if event.subsystem == _PER_CPU:
                self._keeper.tuner.refresh_host()
                self._keeper.rediscover(names, Noticed.UDEV, cause, device=event.name)
            elif names:
                self._keeper.rediscover(names, Noticed.UDEV, cause)
                self.settling.begin(names, Noticed.UDEV, cause)

    def _concerns(self, event: DeviceEvent, touched: frozenset[str]) -> bool:
        """Whether a device is one of ours: containers come with interfaces that nothing here depends on."""
        if event.subsystem not in _CROWDED or event.name in touched:
            return True
        return is_function(self._keeper.tuner.host.root, event.subsystem, event.name)

    def _on_links(self, watch: LinkWatch) -> None:
        events = watch.read()
        if events is None:
            self._keeper.overflow("link")
        else:
            self.links.on_events(events)
            self.pinging.begin({event.name for event in events})

    def _ways(self) -> list[PathAttribute]:
        """The ways to the peers that are looked at; nothing is sent on behalf of a tree."""
        tuner = self._keeper.tuner
        if not tuner.settings.roce.peers or not tuner.host.root.is_real:
            return []
        states = [held for held in self._keeper.engine.held.values() if held.policy is not Policy.OFF]
        return [one for held in states if isinstance(one := held.tunable.attribute, PathAttribute)]

    def _on_answers(self) -> None:
        cause = Cause(kind=CauseKind.UNKNOWN, detail="what the peers answered to pings")
        self._keeper.look_after(("roce",), Noticed.SWEEP, cause)

    def _on_clock(self, watch: ResumeWatch) -> None:
        if watch.has_resumed():
            cause = Cause(kind=CauseKind.KERNEL, detail="resume from suspend")
            self._keeper.rediscover(None, Noticed.RESUME, cause)
            self._keeper.sweep(Noticed.RESUME, cause)
            self.settling.begin(None, Noticed.RESUME, cause)
            self.pinging.begin()


def _open_device_watch() -> DeviceWatch:
    from sparktune.kernel.uevent import DeviceWatch

    return DeviceWatch(sorted({name for area in AREAS for name in area.subsystems}))
