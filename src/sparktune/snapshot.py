"""The published state: the one schema that the daemon writes and that API, command line and tests read.

Plain dataclasses, so that neither the daemon nor the command line needs a web framework to speak it.
They judge nothing: they say what the engine concluded. As text and as files: `published.py`.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic resolves the annotations at run time
from typing import Any, ClassVar, Literal

from sparktune.frozen import frozen


def _describe_fields(schema: dict[str, Any], document: type) -> None:
    """Called by pydantic when a JSON schema is made, and only then."""
    from sparktune.fielddocs import describe_fields

    describe_fields(schema, document)


DOCUMENTED: Mapping[str, object] = {"extra": "forbid", "json_schema_extra": _describe_fields}
"""How pydantic is to read the documents: there is no other field, and each is described below it."""

VerdictName = Literal["ok", "drift", "contested", "blocked", "failed", "absent", "paused", "unmanaged"]
StateName = Literal["ok", "drift", "degraded", "paused", "unsupported", "starting", "down"]
AreaState = Literal["ok", "drift", "contested", "blocked", "failed", "absent", "paused", "unmanaged"]


@frozen
class HostSummary:
    """Which machine this is, in three words."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    name: str
    """Host name."""
    model: str
    """Product name as the firmware gives it."""
    kernel: str
    """Kernel release."""


@frozen
class Checked:
    """How many tunables and checks stand where. `of` leaves out the absent and the unmanaged."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    hold: int
    """Read and as wanted; also while paused."""
    of: int
    """All that are there and managed."""
    read: int
    """Of those, how many could be read and judged: the N of "checked N of M"."""
    drift: int
    """Differ from what is wanted."""
    blocked: int
    """The kernel refuses, or keeps another value."""
    contested: int
    """Somebody keeps writing them back; sparktune has stopped fighting."""
    failed: int
    """An error nobody expected."""
    absent: int
    """Legitimately not there."""
    paused: int
    """A person asked for peace for a while."""
    unmanaged: int
    """Policy off, or restored by a person."""


@frozen
class ConfigSummary:
    """Which configuration runs."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    sha256: str
    """Of the effective configuration."""
    on_disk: Literal["same", "changed"]
    """Whether the files on disk still are what was loaded."""
    error: str | None
    """Why the files on disk could not be used; None if they could."""


@frozen
class AreaSummary:
    """One area in one sentence."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    state: AreaState
    """The weightiest verdict in the area; `absent` if its selector matches nothing."""
    says: str
    """What is, and what to do."""


@frozen
class NotHolding:
    """A tunable or check that does not hold."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    id: str
    """The tunable's id."""
    wanted: int | str | None
    """The configured value."""
    actual: int | str | None
    """The value last read."""
    verdict: VerdictName
    """Why it is in this list."""
    reason: str
    """What the kernel said, or who fights."""
    since: str | None
    """Since when, RFC 3339 UTC."""
    owner: str | None
    """Who else manages this value by right; null if nobody."""
    do: str
    """What a person can do."""


@frozen
class Writer:
    """Who made a drift, as much as everybody may see: no command line."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    kind: Literal["process", "kernel", "device", "unknown"]
    """A process, the kernel, the device, or unknown."""
    comm: str | None = None
    """The kernel's name for the process."""
    pid: int | None = None
    """Process id."""
    exe: str | None = None
    """Path of its program."""
    uid: int | None = None
    """Real user id."""
    unit: str | None = None
    """Its systemd unit; null if it has none."""
    parent: str | None = None
    """The parent's comm and pid: `bash[811]`."""
    detail: str = ""
    """For kernel and device: the event that was seen."""
    suspects: tuple[str, ...] = ()
    """Processes that may have done it, `comm[pid]`: suspected, not seen."""


@frozen
class DriftSummary:
    """An episode as `/status` and `/drift` show it."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    at: str
    """When it was noticed, RFC 3339 UTC."""
    area: str
    """The area of all its tunables."""
    tunables: int
    """How many tunables drifted."""
    ids: tuple[str, ...]
    """Their ids, at most eight."""
    wanted: int | str | None
    """What was wanted of the first of them."""
    found: int | str | None
    """What was found there instead."""
    noticed: str
    """The trigger: fanotify, inotify, udev, rtnetlink, sweep, resume, start, request, reload."""
    action: Literal["applied", "healed", "reported", "left", "refused"]
    """What was done."""
    reason: str
    """Why nothing was done or why it failed."""
    took_us: int | None
    """From the wake-up to the verified write, in µs."""
    by: Writer
    """Who did it."""


@frozen
class Notice:
    """Something to know that is no verdict."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    area: str
    """The area it belongs to; empty for the whole host."""
    level: Literal["warning", "info"]
    """How much it matters."""
    says: str
    """What is."""
    do: str
    """What to do about it; may be empty."""


@frozen
class Daemon:
    """The daemon that published this, and when it last looked."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    version: str
    """sparktune's version."""
    instance: str
    """Another for each start of the daemon."""
    number: int
    """Counts the snapshots of this instance."""
    pid: int
    """Process id."""
    started_at: str
    """RFC 3339 UTC."""
    verified_at: str | None
    """When everything was last read and judged, RFC 3339 UTC."""
    verified_monotonic: float
    """The same on CLOCK_MONOTONIC, in seconds."""
    sweep_s: float
    """The distance of two sweeps, in seconds."""
    events: str
    """How changes are seen: `fanotify+pid`, `inotify`, `sweep only`."""


@frozen
class AdviceSummary:
    """What the advisor has to say, in one line. It never changes the state of the host."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    enabled: bool
    """Whether the configuration wants advice."""
    engines: int
    """How many processes of inference engines are examined."""
    findings: int
    """How many findings there are."""
    warnings: int
    """How many of them cost much."""
    says: str
    """One sentence: `nothing to advise, 3 engines examined`."""


NOT_ADVISED = AdviceSummary(enabled=True, engines=0, findings=0, warnings=0, says="not looked yet")
"""Before the first look, and where nothing is tuned."""


@frozen
class EngineInfo:
    """A process of an inference engine, as much as everybody may see: no command line, no environment."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    pid: int
    """Process id."""
    kind: Literal["llama.cpp", "vLLM", "SGLang", "ollama"]
    """Which engine."""
    role: Literal["server", "command", "rpc", "runner", "python", "worker"]
    """Which part of it."""
    name: str
    """What people call it."""
    version: str | None
    """Its version; null where that is not to be had without running it."""
    version_from: str
    """The file that says so."""
    container: str
    """The first 12 digits of its container's id; empty on the host."""
    unit: str | None
    """Its systemd unit; null if it has none."""
    uid: int | None
    """The user it runs as."""
    started_at: str
    """When it was started, RFC 3339 UTC."""
    signs: tuple[str, ...]
    """The signs by which it is known."""
    model: str
    """Its model: name and quantisation; empty where they are not known."""
    mapped_bytes: int | None
    """How much of model files it has mapped; null: not known."""
    resident_bytes: int | None
    """How much of that is resident; null: not known."""
    rdma: bool | None
    """Whether it has an RDMA device open; null: not known."""
    queue_pairs: int | None
    """How many RDMA queue pairs it has; null: not known, or not asked, as no engine has a device open."""
    unreadable: tuple[str, ...]
    """What could not be read of it, and why."""


@frozen
class Advice:
    """One finding about one process."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    rule: str
    """The rule's id, by which it can be silenced."""
    severity: Literal["info", "warning"]
    """How much it matters."""
    pid: int
    """The process."""
    engine: str
    """What people call it."""
    since: str
    """When it was first found, RFC 3339 UTC."""
    what: str
    """What the process does, with the evidence."""
    why: str
    """What that costs."""
    do: str
    """What a person can do."""
    expect: str
    """What to expect of it, with the versions the figures hold for."""
    source: str
    """Where that is known from."""
    certainty: Literal["source", "documented", "measured", "reported", "disputed"]
    """How sure it is."""


@frozen
class AdviceReport:
    """What the inference engines on this host do to themselves, and what to do about it."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    looked_at: str | None
    """When the last look ended, RFC 3339 UTC; null before the first one."""
    summary: AdviceSummary
    """In one line."""
    findings: tuple[Advice, ...]
    """Warnings first, then by process."""
    engines: tuple[EngineInfo, ...]
    """The engines that were found."""
    ignored: tuple[str, ...]
    """Rules that the configuration silences."""
    unseen: str
    """Which processes could not be seen, and why; empty: none that is known of."""


@frozen
class Status:
    """What fits a screen."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    state: StateName
    """The state of the host."""
    summary: str
    """One sentence; always says "checked N of M"."""
    host: HostSummary
    """Which machine."""
    checked: Checked
    """How many stand where."""
    mode: Literal["enforce", "report"]
    """Whether drift is healed at all."""
    paused_until: str | None
    """The end of the longest pause of everything, RFC 3339 UTC; null if there is none."""
    config: ConfigSummary
    """Which configuration runs."""
    areas: dict[str, AreaSummary]
    """Each area in one sentence."""
    not_holding: tuple[NotHolding, ...]
    """What does not hold, the first 20."""
    drifts: tuple[DriftSummary, ...]
    """The latest five episodes."""
    warnings: tuple[Notice, ...]
    """What to know besides."""
    advice: AdviceSummary
    """What the inference engines on this host do to themselves; the list is in `/advice`."""
    daemon: Daemon
    """Who says so."""


@frozen
class LastDrift:
    """The latest drift of one tunable."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    at: str
    """When, RFC 3339 UTC."""
    found: int | str | None
    """What was found."""
    action: str
    """What was done."""
    by: Writer
    """Who did it."""


@frozen
class TunableState:
    """One tunable or check, whole."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    id: str
    """`nvme.nvme0n1.read_ahead_kb`."""
    area: str
    """`nvme`, `cpuidle`, `roce`."""
    device: str
    """The device's kernel name."""
    attribute: str
    """The path or netlink attribute."""
    check: bool
    """True if it is verified but never written."""
    policy: Literal["enforce", "report", "off"]
    """What is done about drift."""
    wanted: int | str | None
    """The configured value."""
    actual: int | str | None
    """The value last read."""
    original: int | str | None
    """The value before the first write to this device in this boot; null if nothing was written."""
    unit: str
    """`KiB`, `µs` or empty."""
    verdict: VerdictName
    """What the engine concludes."""
    reason: str
    """Why, where the verdict alone does not say it."""
    since: str | None
    """Since when the verdict stands, RFC 3339 UTC."""
    last_drift: LastDrift | None
    """The latest drift since the daemon started."""
    heals: int
    """How often it was healed since the daemon started."""
    disruptive: bool
    """Whether writing it disturbs running traffic."""
    why: str
    """What it is good for."""
    source: str
    """Where that is known from."""
    risk: str
    """What it costs."""
    key: str
    """The configuration key that decides."""
    layer: str
    """The configuration layer that set the key."""
    owner: str | None
    """Who else manages this value by right; null if nobody."""
    do: str
    """What a person can do when it does not hold."""
    verified_at: str | None
    """When it was last read, RFC 3339 UTC."""


@frozen
class Tunables:
    """All tunables and checks."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    instance: str
    """The daemon's instance, as in `/status`."""
    verified_at: str | None
    """When everything was last read and judged, RFC 3339 UTC."""
    tunables: tuple[TunableState, ...]
    """In the order of the areas, then of the devices."""


@frozen
class DriftReport:
    """What does not hold now, and the latest episodes."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    not_holding: tuple[NotHolding, ...]
    """All that does not hold."""
    episodes: tuple[DriftSummary, ...]
    """The latest 50 episodes since the daemon started; older ones are in `/history`."""


@frozen
class EvidenceItem:
    """One piece of evidence for or against this being a GB10."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    what: str
    """What was looked at."""
    found: str
    """What was found there."""
    speaks: Literal["for", "against", "neither"]
    """Which way it speaks."""


@frozen
class ClusterInfo:
    """The CPUs of one kind."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    kind: Literal["performance", "efficiency", "uniform"]
    """Which kind."""
    name: str
    """The core's name where its part number is known: `Cortex-X925`."""
    cpus: str
    """CPU list as the kernel writes it: `5-9,15-19`."""
    count: int
    """How many."""
    read_from: str
    """What told the kinds apart: `MIDR`, `cpu_capacity` or `nothing`."""


@frozen
class Conflict:
    """A line of some file that sets what sparktune sets. Told, never changed."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    who: str
    """Who acts on the line: `udev rule`, `TuneD, profile hpc-compute`, `tune.service`."""
    unit: str | None
    """The systemd unit by which it acts; null if there is none."""
    file: str
    """The file."""
    line: int
    """Number of the line, from 1."""
    text: str
    """The line, cut, and without secrets; empty if not every user may read the file."""
    area: str
    """The area it is about."""
    attribute: str
    """One of the attributes it sets, of those that differ if any do; empty if it is about the whole area."""
    tunables: int
    """How many tunables it sets."""
    ids: tuple[str, ...]
    """Their ids, at most eight."""
    value: str | None
    """What it sets, as written there; null if only running it would tell."""
    wanted: int | str | None
    """What sparktune wants of the attribute."""
    agrees: bool | None
    """Whether both want the same; null if that cannot be said."""
    says: str
    """What it does, in one sentence."""
    do: str
    """What a person can do."""


@frozen
class Neighbour:
    """A tuner that is enabled and sets nothing of ours: no conflict."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    unit: str
    """Its systemd unit."""
    file: str
    """Where it is enabled or configured."""
    says: str
    """What it sets."""


@frozen
class Conflicts:
    """Who else is told to set what sparktune sets, as far as files tell."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    looked_at: str | None
    """When the look ended, RFC 3339 UTC; null before the first one, and where nothing is tuned."""
    files: int
    """How many files were read."""
    found: tuple[Conflict, ...]
    """The conflicts, by kind of file, at most 100."""
    neighbours: tuple[Neighbour, ...]
    """Known tuners beside sparktune."""
    gaps: tuple[str, ...]
    """What could not be looked at, and why."""


NOT_LOOKED = Conflicts(looked_at=None, files=0, found=(), neighbours=(), gaps=())
"""Before the first look."""


@frozen
class Hardware:
    """The machine and the evidence."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    verdict: Literal["gb10", "not-gb10"]
    """Whether this is a GB10."""
    evidence: tuple[EvidenceItem, ...]
    """Everything that was looked at."""
    name: str
    """Host name."""
    vendor: str
    """DMI sys_vendor as found."""
    model: str
    """DMI product_name as found."""
    family: str
    """DMI product_family as found."""
    board: str
    """DMI board_name as found."""
    clusters: tuple[ClusterInfo, ...]
    """The CPUs by kind."""
    kernel: str
    """Kernel release."""
    architecture: str
    """`aarch64`, `x86_64`."""
    page_size_kib: int
    """Size of a page in KiB."""
    os_release: str
    """PRETTY_NAME of /etc/os-release."""
    dgx_release: str
    """DGX_NAME and version of /etc/dgx-release; empty if there is none."""
    conflicts: Conflicts
    """Who else is told to set what sparktune sets."""


@frozen
class ConfigValue:
    """One effective value and the layer that set it."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    value: int | float | str | bool | list[str] | None
    """The value; durations in seconds."""
    layer: str
    """`default`, `/etc/sparktune.toml`, `/etc/sparktune.toml [[host]] 1`, an environment variable."""


@frozen
class ConfigReport:
    """The effective configuration with origins."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    sha256: str
    """Of the effective configuration."""
    on_disk: Literal["same", "changed"]
    """Whether the files on disk still are what was loaded."""
    error: str | None
    """Why the files on disk could not be used."""
    files: tuple[str, ...]
    """The files that were read, in order."""
    values: dict[str, ConfigValue]
    """By dotted key."""


@frozen
class Counters:
    """What `/metrics` counts beyond the state; published for the API process, not a path of its own."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    drifts: dict[str, dict[str, int]]
    """Drifts by area and action since the daemon started."""
    heal_us_buckets: tuple[tuple[int, int], ...]
    """Upper bound in µs and how many heals took at most that long (cumulative)."""
    heal_us_sum: int
    """Sum of all heal times in µs."""
    heals: int
    """How many heals."""
    overflows: int
    """How often an event queue overflowed."""
    history_dropped: int
    """How many episodes could not be stored."""
    sweeps: int
    """How many sweeps were done."""
    sweep_last_us: int
    """How long the last one took, in µs."""
