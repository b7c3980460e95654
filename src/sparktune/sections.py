"""The keys of the configuration: type, default, bounds, and what is expected of each, for complaints.

One table of the TOML file is one model. Nothing is read in here; see `settings.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from sparktune.advice.rule_ids import RULE_IDS
from sparktune.cpulist import parse_cpu_list
from sparktune.durations import parse_duration
from sparktune.errors import UsageError
from sparktune.fabric.peers import MOST_PEERS, parse_peer
from sparktune.model import Policy

WRITTEN = {"written": True}
"""Validation context for what a person wrote: durations have to be text with a unit there."""
_DAY_S = 86400.0
_MOST_ITEMS = 1000
KNOWN_RATES_GBPS = (10, 25, 40, 50, 100, 200, 400)
"""What a ConnectX-7 port can run at over Ethernet: NVIDIA's ConnectX-7 user manual, introduction."""
_RATES = f"{', '.join(map(str, KNOWN_RATES_GBPS[:-1]))} and {KNOWN_RATES_GBPS[-1]}"
_LIST = Field(strict=False)  # TOML has lists, no tuples


def _read_duration(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except UsageError as error:
            raise PydanticCustomError("duration", "no duration") from error
    if info.context is WRITTEN:  # code says 10.0 and means seconds; a file has to say "10s"
        raise PydanticCustomError("duration", "no duration")
    return value


def _require_cpus(text: str) -> str:
    if text not in ("all", "performance", "efficiency"):
        try:
            parse_cpu_list(text)
        except UsageError as error:
            raise PydanticCustomError(
                "cpus", "no CPUs", {"hint": f"{error.message}; {error.hint}"}
            ) from error
    return text


def _require_name_glob(text: str) -> str:
    if not text or "/" in text or "\0" in text:
        hint = "names are written without /dev/" if "/" in text else ""
        raise PydanticCustomError("glob", "no glob", {"hint": hint})
    return text


def _require_absolute(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        hint = "" if text.startswith("/") else "a path begins with /"
        raise PydanticCustomError("path", "no path", {"hint": hint})
    return text


def _require_rate(rate: int) -> int:
    if rate not in KNOWN_RATES_GBPS:
        raise PydanticCustomError(
            "rate", "no rate", {"hint": f"no hardware has {rate}; a ConnectX-7 runs at {_RATES}"}
        )
    return rate


def _require_peer(text: str) -> str:
    try:
        return str(parse_peer(text))
    except UsageError as error:
        raise PydanticCustomError("peer", "no peer", {"hint": error.hint}) from error


def _require_once(texts: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise PydanticCustomError("peers", "twice", {"hint": f"{twice} is there twice"})
    return texts


def _require_rule(text: str) -> str:
    if text not in RULE_IDS:
        from difflib import get_close_matches

        near = get_close_matches(text[:100], RULE_IDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "sparktune advise --explain lists them"
        raise PydanticCustomError("rule", "no rule", {"hint": hint})
    return text


def _require_short(value: object) -> object:
    if isinstance(value, list) and len(value) > _MOST_ITEMS:  # before 400,000 items make an error each
        raise PydanticCustomError("too_long", "too long", {"max_length": _MOST_ITEMS})
    return value


Duration = Annotated[float, BeforeValidator(_read_duration), Field(allow_inf_nan=False)]
"""Seconds. Text such as "10s" in the configuration."""
Globs = Annotated[
    tuple[Annotated[str, AfterValidator(_require_name_glob)], ...], _LIST, BeforeValidator(_require_short)
]
Paths = Annotated[
    tuple[Annotated[str, AfterValidator(_require_absolute)], ...], _LIST, BeforeValidator(_require_short)
]
Peers = Annotated[
    tuple[Annotated[str, AfterValidator(_require_peer)], ...],
    _LIST,
    BeforeValidator(_require_short),
    AfterValidator(_require_once),
]
RuleIds = Annotated[
    tuple[Annotated[str, AfterValidator(_require_rule)], ...], _LIST, BeforeValidator(_require_short)
]
PolicyField = Annotated[
    Policy, Field(strict=False, description='one of "enforce", "report" and "off"')
]  # not strict: the word is enough, it need not be the member


Octet = Annotated[int, Field(ge=0, le=255)] | Literal["off"]
Sides = Literal["off", "none", "rx", "tx", "both"]
SIDES = '"off" (left alone), "none", "rx", "tx" or "both"'


def _require_power(value: int) -> int:
    if value & (value - 1):
        near = 1 << value.bit_length() - 1
        raise PydanticCustomError("ring", "no ring", {"hint": f"the nearest are {near} and {near * 2}"})
    return value


Ring = Annotated[int, Field(ge=64, le=8192), AfterValidator(_require_power)] | Literal["off"]
RING = 'a power of two from 64 to 8192, or "off"'


def _require_different(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("priorities", "no priorities", {"hint": "each priority is named once"})
    return values


Priorities = Annotated[
    tuple[Annotated[int, Field(ge=0, le=7)], ...],
    _LIST,
    Field(max_length=8),
    AfterValidator(_require_different),
]


def _require_no_pause(values: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
    if values and info.data.get("pause", "off") not in ("off", "none"):
        hint = 'a port has either pause frames or PFC: set pause to "none" or "off"'
        raise PydanticCustomError("priorities", "no priorities", {"hint": hint})
    return values


class _Section(BaseModel):
    """A table of the configuration. Descriptions say what is expected, in complaints."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class NvmeSettings(_Section):
    """`[nvme]`: read-ahead of NVMe disks and of what stands on them."""

    policy: PolicyField = Policy.ENFORCE
    devices: Globs = Field(
        default=("nvme*",), description='a list of globs on kernel block names, such as ["nvme*"]'
    )
    read_ahead_kb: int = Field(
        default=8192, ge=0, le=65536, description="a whole number from 0 to 65536, in KiB"
    )
    stacked: bool = Field(default=True, description="true or false")
    paths: Paths = Field(default=(), description='a list of absolute paths, such as ["/models"]')


class CpuidleSettings(_Section):
    """`[cpuidle]`: which idle states are disabled, on which CPUs, and when."""

    policy: PolicyField = Policy.ENFORCE
    when: Literal["always", "cluster"] = Field(default="always", description='"always" or "cluster"')
    disable_latency_us: Annotated[int, Field(ge=0, le=1_000_000)] | Literal["off"] = Field(
        default=0, description='a whole number from 0 to 1000000, in µs, or "off"'
    )
    cpus: Annotated[str, AfterValidator(_require_cpus)] = Field(
        default="all", description='"all", "performance", "efficiency" or a CPU list such as "5-9,15-19"'
    )


class RoceSettings(_Section):
    """`[roce]`: RoCE and the ConnectX-7. "off" leaves a value alone; it is never the word for a value."""

    policy: PolicyField = Policy.ENFORCE
    devices: Globs = Field(
        default=("*",), description='a list of globs on RDMA device names, such as ["roce*"]'
    )
    default_roce_mode: Literal["RoCE v2", "IB/RoCE v1"] = Field(
        default="RoCE v2", description='"RoCE v2" or "IB/RoCE v1"'
    )
    default_roce_tos: Octet = Field(default="off", description='a whole number from 0 to 255, or "off"')
    traffic_class: Octet = Field(default="off", description='a whole number from 0 to 255, or "off"')
    mtu: Annotated[int, Field(ge=1280, le=9978)] | Literal["off"] = Field(
        default="off", description='a whole number from 1280 to 9978, in bytes, or "off"'
    )
    pause: Sides = Field(default="off", description=SIDES)
    rx_ring: Ring = Field(default="off", description=RING)
    tx_ring: Ring = Field(default="off", description=RING)
    adaptive_coalescing: Sides = Field(default="off", description=SIDES)
    pfc_priorities: Annotated[Priorities, AfterValidator(_require_no_pause)] | Literal["off"] = Field(
        default="off",
        description='a list of different numbers from 0 to 7, such as [3], or "off"; not with pause frames',
    )
    trust: Literal["off", "pcp", "dscp"] = Field(default="off", description='"off", "pcp" or "dscp"')
    peers: Peers = Field(
        default=(),
        max_length=MOST_PEERS,
        description=f'a list of up to {MOST_PEERS} IP addresses of other nodes, such as ["192.168.100.11"]',
    )


class ExpectSettings(_Section):
    """`[expect]`: what the hardware should turn out to be. Compared, never set."""

    link_rate_gbps: Annotated[int, AfterValidator(_require_rate)] = Field(
        default=200, description=f"one of {_RATES}, in Gb/s"
    )


class ContestSettings(_Section):
    """`[contest]`: when to stop fighting. Durations in seconds."""

    after: int = Field(
        default=5, ge=0, le=1000, description="a whole number from 0 (never contested) to 1000"
    )
    window: Duration = Field(
        default=60.0, gt=0, le=_DAY_S, description='a duration above 0 and up to "24h", such as "60s"'
    )
    hold: Duration = Field(
        default=600.0, gt=0, le=_DAY_S, description='a duration above 0 and up to "24h", such as "10m"'
    )


class HistorySettings(_Section):
    """`[history]`: how much is kept."""

    days: int = Field(default=30, ge=1, le=3650, description="a whole number of days from 1 to 3650")
    rows: int = Field(default=10_000, ge=100, le=1_000_000, description="a whole number from 100 to 1000000")


class AdviceSettings(_Section):
    """`[advice]`: what the inference engines on this machine do to themselves. Changes nothing."""

    enabled: bool = Field(default=True, description="true or false")
    ignore: RuleIds = Field(
        default=(), description="a list of ids of rules, as `sparktune advise --explain` lists them"
    )


class Keys(BaseModel):
    """All keys, without sources: one layer is judged by this, thousands of times for a fleet's file.

    Validators are built when they are first needed. Defaults are made without: pydantic validates no default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    mode: Literal["enforce", "report"] = Field(default="enforce", description='"enforce" or "report"')
    require_gb10: bool = Field(default=True, description="true or false")
    sweep: Duration = Field(default=10.0, ge=0.5, le=600, description='a duration from "500ms" to "10m"')
    nvme: NvmeSettings = NvmeSettings.model_construct()
    cpuidle: CpuidleSettings = CpuidleSettings.model_construct()
    roce: RoceSettings = RoceSettings.model_construct()
    expect: ExpectSettings = ExpectSettings.model_construct()
    contest: ContestSettings = ContestSettings.model_construct()
    history: HistorySettings = HistorySettings.model_construct()
    advice: AdviceSettings = AdviceSettings.model_construct()
