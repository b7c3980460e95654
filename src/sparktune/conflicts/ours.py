"""What sparktune holds, looked up by the names that other programs have for it."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from dataclasses import field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from sparktune.frozen import frozen
from sparktune.model import Policy
from sparktune.tunables import AREAS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sparktune.kernel.root import Root
    from sparktune.model import Tunable
    from sparktune.tuner import Tuner

CPU_IDLE = "/sys/devices/system/cpu/cpu*/cpuidle/state*/disable"

_DEVICE = re.compile(
    r"(?P<directory>/sys/(?:block|class/(?P<class>[^/]+)|devices/system/(?P<bus>cpu))/(?P<kernel>[^/]+))"
    r"/(?P<attribute>.+)"
)
_GLOB = re.compile(r"[*?\[]")
_COMMANDS = ("setra", "setfra", "hdparm", "idle-set", "cma_roce_mode")
"""Commands that set attributes of ours without naming them."""
_MOST_RESOLVED = 512


@frozen(kw_only=False)
class Device:
    """A device as udev sees it.

    Attributes:
        directory: `/sys/block/nvme0n1`.
        subsystem: `block`, `bdi`, `cpu`.
        kernel: `nvme0n1`.
        attributes: tunables by the names below the directory: `queue/read_ahead_kb`, `bdi/read_ahead_kb`.
    """

    directory: str
    subsystem: str
    kernel: str
    attributes: dict[str, Tunable] = field(default_factory=dict)


class Ours:
    """The tunables that are held or reported, by all their names. Checks are not set by anybody."""

    def __init__(self, root: Root, tunables: Iterable[Tunable], areas: Iterable[str]) -> None:
        """Index them.

        Args:
            root: where the host's files are.
            tunables: those of ours.
            areas: areas that are not off, with or without tunables.
        """
        self.root = root
        self.tunables = tuple(tunables)
        self.areas = frozenset(areas)
        self._by_last: defaultdict[str, list[tuple[list[str], Tunable]]] = defaultdict(list)
        for tunable in self.tunables:
            for name in _names(root, tunable):
                parts = name.split("/")
                self._by_last[parts[-1]].append((parts, tunable))

    @classmethod
    def of(cls, tuner: Tuner) -> Ours:
        """What a tuner holds, or reports on."""
        held = [
            held.tunable
            for held in tuner.engine.held.values()
            if held.policy is not Policy.OFF and not held.tunable.is_check and not held.left
        ]
        areas = [area.name for area in AREAS if tuner.policy(area) is not Policy.OFF]
        return cls(tuner.host.root, [tunable for tunable in held if tunable.wanted is not None], areas)

    def find(self, pattern: str) -> tuple[Tunable, ...]:
        """What a path below /sys or /proc/sys stands for; it may be a glob, in which `*` is no slash."""
        pattern = posixpath.normpath(pattern.replace("//", "/"))
        wanted = pattern.split("/")
        candidates = [
            entry
            for last, entries in self._by_last.items()
            if fnmatchcase(last, wanted[-1])
            for entry in entries
        ]
        found = dict.fromkeys(tunable.id for parts, tunable in candidates if _matches(parts, wanted))
        if not found and pattern.startswith("/sys/"):
            found = dict.fromkeys(self._find_resolved(pattern, wanted, candidates))
        return tuple(tunable for tunable in self.tunables if tunable.id in found)

    def find_disks(self, node: str) -> tuple[Tunable, ...]:
        """The read-ahead of the disk behind a device node; a glob, a partition or a link may stand for it."""
        return tuple(
            tunable
            for parts, tunable in self._by_last.get("read_ahead_kb", ())
            if parts[:3] == ["", "sys", "block"] and parts[4] == "queue" and self._is_node(parts[3], node)
        )

    def find_states(self, cpus: frozenset[int] | None, state: str = "*") -> tuple[Tunable, ...]:
        """The `disable` of one or all idle states of some CPUs, None for all."""
        found = self.find(CPU_IDLE.replace("state*", f"state{state}"))
        return tuple(one for one in found if cpus is None or int(one.device.removeprefix("cpu")) in cpus)

    def latency_us(self, tunable: Tunable) -> int | None:
        """The exit latency of the idle state that a `disable` is about."""
        return self.state_latency_us(tunable.attribute.location.rpartition("/")[0])

    def state_latency_us(self, state: str) -> int | None:
        """The exit latency in µs by the directory of an idle state."""
        text = self.root.read(f"{state}/latency") or ""
        return int(text) if text.isdecimal() and len(text) < 11 else None  # noqa: PLR2004 - of 32 bits

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """All devices that have attributes of ours."""
        devices: dict[str, Device] = {}
        for entries in self._by_last.values():
            for parts, tunable in entries:
                match = _DEVICE.fullmatch("/".join(parts))
                if match is None or parts[:4] == ["", "sys", "class", "block"]:
                    continue
                subsystem = match["class"] or match["bus"] or "block"
                device = Device(match["directory"], subsystem, match["kernel"])
                device = devices.setdefault(device.directory, device)
                device.attributes[match["attribute"]] = tunable
        return tuple(devices.values())

    @cached_property
    def hint(self) -> re.Pattern[bytes]:
        """Occurs in each file that has to do with us, and in few others."""
        words = {*_COMMANDS, *(_word(parts) for entries in self._by_last.values() for parts, _ in entries)}
        return re.compile(b"|".join(re.escape(word.encode()) for word in sorted(words)))

    def _find_resolved(
        self, pattern: str, wanted: Sequence[str], candidates: Sequence[tuple[list[str], Tunable]]
    ) -> Iterator[str]:
        """By the real path: /sys/dev/block/259:0/queue/… and /sys/devices/pci0004:00/… are names as well."""
        if _GLOB.search(pattern):
            if not pattern.startswith("/sys/devices/"):
                return
        else:
            wanted = self.root.resolve(pattern).split("/")
        for tunable in list({tunable.id: tunable for _, tunable in candidates}.values())[:_MOST_RESOLVED]:
            if _matches(self.root.resolve(tunable.attribute.location).split("/"), wanted):
                yield tunable.id

    def _is_node(self, disk: str, node: str) -> bool:
        if node.startswith("/dev/disk/"):
            node = self.root.resolve(node)
        parts = node.removeprefix("/dev/").split("/")
        if len(parts) > 1:  # /dev/mapper/NAME, /dev/GROUP/VOLUME: by the name device mapper has for it
            mapped = parts[-1] if parts[0] == "mapper" else "-".join(p.replace("-", "--") for p in parts)
            return fnmatchcase(self.root.read(f"/sys/block/{disk}/dm/name") or "", mapped)
        names = [disk, *(name for name in self.root.names(f"/sys/block/{disk}") if name.startswith(disk))]
        return any(fnmatchcase(name, parts[0]) for name in names)


def _names(root: Root, tunable: Tunable) -> Iterator[str]:
    location = tunable.attribute.location
    yield location
    for path in tunable.attribute.watched[1:]:
        yield root.name(path)
    if location.startswith("/sys/block/"):
        disk = location.split("/")[3]
        yield f"/sys/class/block/{location.removeprefix('/sys/block/')}"
        if location.endswith("/queue/read_ahead_kb"):
            yield f"/sys/block/{disk}/bdi/read_ahead_kb"
            yield f"/sys/class/block/{disk}/bdi/read_ahead_kb"


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _word(parts: Sequence[str]) -> str:
    """The most telling part of a path that whoever writes it has to spell out."""
    match = _DEVICE.fullmatch("/".join(parts))
    below = match["attribute"].split("/") if match else parts[-1:]
    return max((part for part in below if not any(map(str.isdigit, part))), key=len, default=parts[-1])
