"""The words of the project as types: tunable, reading, verdict, cause, drift. Frozen, and without any I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sparktune.frozen import frozen

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

Value = int | str
"""What a tunable can be set to. Booleans of the kernel are 0 and 1."""


class Verdict(StrEnum):
    """What the engine concludes for one tunable or check. The exact list of the design."""

    OK = "ok"
    DRIFT = "drift"
    CONTESTED = "contested"
    BLOCKED = "blocked"
    FAILED = "failed"
    ABSENT = "absent"
    PAUSED = "paused"
    UNMANAGED = "unmanaged"


class Policy(StrEnum):
    """What is done about drift: heal, record only, nothing at all."""

    ENFORCE = "enforce"
    REPORT = "report"
    OFF = "off"


class HostState(StrEnum):
    """The state of the whole host."""

    OK = "ok"
    DRIFT = "drift"
    DEGRADED = "degraded"
    PAUSED = "paused"
    UNSUPPORTED = "unsupported"
    STARTING = "starting"
    DOWN = "down"


class Action(StrEnum):
    """What was done about the drifts of an episode."""

    APPLIED = "applied"  # the first write, at start or on request: no drift of a value we held
    HEALED = "healed"
    REPORTED = "reported"  # policy or mode `report`, or a check
    LEFT = "left"  # contested, paused or waiting: seen and left standing
    REFUSED = "refused"  # the write failed or the kernel keeps another value


class Noticed(StrEnum):
    """The trigger that made the engine look."""

    FANOTIFY = "fanotify"
    INOTIFY = "inotify"
    UDEV = "udev"
    RTNETLINK = "rtnetlink"
    SWEEP = "sweep"
    RESUME = "resume"
    START = "start"
    REQUEST = "request"
    RELOAD = "reload"


class ReadingKind(StrEnum):
    """The four outcomes of one read."""

    VALUE = "value"
    ABSENT = "absent"
    BLOCKED = "blocked"
    FAILED = "failed"


@frozen(kw_only=False)
class Reading:
    """The result of one read.

    Attributes:
        kind: a value, or why there is none.
        value: what was read; None unless `kind` is `value`.
        reason: why there is no value, or what else was seen beside it; may be empty.
    """

    kind: ReadingKind
    value: Value | None = None
    reason: str = ""


class Attribute(Protocol):
    """Where and how a tunable is read and written. Implementations live in `kernel/` and do the I/O."""

    @property
    def writable(self) -> bool:
        """False for a check: it has no writer."""

    @property
    def kind(self) -> str:
        """How to make this attribute again from the originals, without any configuration: `file:integer`."""

    @property
    def makes(self) -> str:
        """The configfs directory that `prepare` makes; empty if none is needed."""

    @property
    def location(self) -> str:
        """The path or the netlink attribute, for people: `/sys/block/nvme0n1/queue/read_ahead_kb`."""

    @property
    def watched(self) -> tuple[Path, ...]:
        """Every inode through which others can change the value."""

    @property
    def identity(self) -> tuple[str, str]:
        """Stable hardware path and instance of the device: the key of its original."""

    def read(self) -> Reading:
        """Read the value now. Never raises OSError: errors become readings."""

    def holds(self, wanted: Value) -> bool:
        """Whether the value is `wanted` now; the cheap question of the sweep. False when in doubt."""

    def exchange(self, wanted: bytes) -> bytes | None:
        """Write `wanted` if other bytes are there, and return those; None if nothing was written."""

    def preparation(self) -> tuple[str, ...]:
        """What must be made before a write can work (`mkdir /sys/kernel/config/…`), for the plan."""

    def prepare(self) -> None:
        """Make what `preparation` lists. Raises OSError."""

    def unprepare(self) -> None:
        """Remove again what `prepare` made. Raises OSError."""

    def write(self, value: Value) -> None:
        """Write the value. Raises OSError as the kernel gave it."""

    def close(self) -> None:
        """Release descriptors. Reading or writing opens them again."""


@runtime_checkable
class Remembering(Protocol):
    """An attribute that knows something from before: what it read a while ago, or has counted since."""

    def expire(self) -> None:
        """What was read before may be outdated: the next reading asks the kernel again."""

    def inherit(self, former: Attribute) -> None:
        """Take over what the attribute of the same device instance knows that this one replaces."""


@runtime_checkable
class Listening(Protocol):
    """An attribute that has to hear of every change of a link, also of those nobody looks after."""

    def hear(self, name: str, *, carrier: bool) -> None:
        """The interface `name` has or has lost its carrier, just now."""


class Traffic(Protocol):
    """What a disruptive write would disturb. Implementations live in `kernel/` and do the I/O."""

    def running(self) -> str:
        """What runs now, in words: `queue pairs of ib_write_bw[812] on rocep1s0f0`; empty if nothing does.

        What cannot be told is treated as running. Never raises OSError.
        """


@frozen
class Tunable:
    """One kernel attribute on one device that sparktune owns, or (without a writer) a check.

    Attributes:
        id: `nvme.nvme0n1.read_ahead_kb`; area, device, attribute.
        area: `nvme`, `cpuidle`, `roce`.
        device: `nvme0n1`, `cpu3`, `rocep1s0f0`.
        attribute: where and how it is read and written.
        wanted: the configured value, as the kernel will show it; None if nothing is wanted.
        unit: `KiB`, `µs` or empty.
        why: one sentence: what it is good for.
        source: where that sentence comes from.
        risk: what it costs; empty if nothing.
        disruptive: writing it disturbs running traffic.
        traffic: what it disturbs, if that can be told; while it runs only a request writes a disruptive
            value.
        yields: why it is reported and never written: its owner sets it to something else; empty if not so.
        key: the configuration key that decides the wanted value: `nvme.read_ahead_kb`.
        owner: who else manages this value by right (a netplan file); empty if nobody.
        do: what a person can do when it does not hold; empty: the engine's general advice.
        interfaces: names of network interfaces, RDMA devices and PCI functions whose events touch it; empty:
            every event of its area does.
    """

    id: str
    area: str
    device: str
    attribute: Attribute
    wanted: Value | None
    unit: str = ""
    why: str
    source: str
    risk: str = ""
    disruptive: bool = False
    traffic: Traffic | None = None
    yields: str = ""
    key: str = ""
    owner: str = ""
    do: str = ""
    interfaces: tuple[str, ...] = ()

    @property
    def is_check(self) -> bool:
        """Something verified but never written."""
        return not self.attribute.writable


@frozen
class Note:
    """Something a person should know about an area that is no verdict: a risk, a cost, somebody's PM QoS.

    Attributes:
        area: the area it belongs to.
        level: `warning` or `info`.
        says: what is.
        do: what a person can do; may be empty.
    """

    area: str
    level: str
    says: str
    do: str = ""


@frozen
class Process:
    """A process as it was seen while it (probably) still ran. Any part may be unknown (None).

    Attributes:
        pid: process id in the initial namespace.
        comm: the kernel's name for it, at most 15 bytes.
        exe: the path of its program.
        uid: real uid.
        loginuid: the audit login uid; None if unset.
        unit: the systemd unit from its cgroup, or None.
        cmdline: its command line, cut and with secrets redacted; only root is shown it.
    """

    pid: int
    comm: str | None = None
    exe: str | None = None
    uid: int | None = None
    loginuid: int | None = None
    unit: str | None = None
    cmdline: str | None = None

    @property
    def label(self) -> str:
        """In one word: `bash[811]`; `?[811]` when its name was not seen."""
        return f"{self.comm or '?'}[{self.pid}]"


class CauseKind(StrEnum):
    """Who made a drift, as far as it was seen."""

    PROCESS = "process"
    KERNEL = "kernel"
    DEVICE = "device"
    UNKNOWN = "unknown"


@frozen
class Cause:
    """Who or what made a drift. Evidence only: what is merely suspected is in `suspects`.

    Attributes:
        kind: a process, the kernel, the device, or unknown.
        process: the writer; only for kind `process`.
        parent: the writer's parent, if it was still there.
        detail: for `kernel` and `device`: the event that was seen (`udev change nvme0n1`, `resume`).
        suspects: processes that may have done it; never mixed with what was seen.
    """

    kind: CauseKind
    process: Process | None = None
    parent: Process | None = None
    detail: str = ""
    suspects: tuple[Process, ...] = ()


@frozen
class Drift:
    """One transition of one tunable away from what is wanted, and what was done about it.

    Attributes:
        tunable: the tunable's id.
        wanted: the configured value.
        found: what was read instead; None when nothing could be read.
        action: what was done.
        reason: why nothing was done, or why it failed; empty when healed.
        took_us: from the engine's wake-up for this event to the verified write, in µs; None unless healed.
    """

    tunable: str
    wanted: Value | None
    found: Value | None
    action: Action
    reason: str = ""
    took_us: int | None = None


@frozen
class Episode:
    """Drifts of one area by one writer within 100 ms: one log line, one row of the history.

    Attributes:
        at: when the first drift was noticed, UTC.
        area: the area of all its drifts.
        noticed: the trigger.
        cause: who or what, with suspects apart.
        action: the weightiest of its drifts' actions.
        drifts: the drifts, in the order noticed; a tunable that drifted n times is in it n times, up to 256.
        count: how many drifts there were, also beyond the 256 listed.
        took_us: the longest any one of its drifts took from wake-up to verified write, in µs; None unless
            healed.
    """

    at: datetime
    area: str
    noticed: Noticed
    cause: Cause
    action: Action
    drifts: tuple[Drift, ...]
    count: int
    took_us: int | None
