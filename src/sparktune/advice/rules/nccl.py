"""What NCCL is pinned to, against the fabric as it is: one twin, a device that is down, a GID index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, EngineKind, Rule, Severity
from sparktune.advice.rules.cluster import how_to_use
from sparktune.advice.rules.groups import computes, is_clustered
from sparktune.advice.rules.saying import find
from sparktune.advice.rules.versions import at_least
from sparktune.fabric.model import Presence
from sparktune.frozen import frozen
from sparktune.wording import plain, quoted

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts
    from sparktune.fabric.model import Fabric, Function

_MOST_ENTRIES = 64


@frozen(kw_only=False)
class _Selection:
    """NCCL_IB_HCA taken apart: `^=mlx5_0:1,mlx5_1`. Source: NCCL's src/transport/net_ib/init.cc."""

    text: str
    names: tuple[str, ...]
    exclude: bool
    exact: bool

    def names_device(self, device: str) -> bool:
        """Whether one of the entries means this device."""
        if self.exact:
            return device in self.names
        return any(device.startswith(name) for name in self.names)

    def chooses(self, device: str) -> bool:
        """Whether NCCL would use this device."""
        return self.names_device(device) is not self.exclude


def _selection(engine: Engine, evidence: Evidence, host: HostFacts) -> _Selection | None:
    """What NCCL_IB_HCA selects; None: nothing, or it does not matter on one node."""
    text = engine.variable("NCCL_IB_HCA")
    if not text or not _matters(engine, evidence, host):
        return None
    exclude, rest = text.startswith("^"), text.removeprefix("^")
    exact, rest = rest.startswith("="), rest.removeprefix("=")
    names = tuple(entry.partition(":")[0].strip() for entry in rest.split(",")[:_MOST_ENTRIES])
    kept = tuple(name for name in names if name)
    return _Selection(text, kept, exclude, exact) if kept else None


def _matters(engine: Engine, evidence: Evidence, host: HostFacts) -> bool:
    return (
        engine.kind in (EngineKind.VLLM, EngineKind.SGLANG)
        and computes(engine, evidence, host)
        and is_clustered(engine, evidence, host)
    )


def _present(fabric: Fabric | None) -> Fabric | None:
    return fabric if fabric is not None and fabric.presence is not Presence.NONE else None


def _judge_twin(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    chosen, fabric = _selection(engine, evidence, host), _present(host.fabric)
    if chosen is None or fabric is None:
        return None
    for port in fabric.ports:
        up = [one for one in port.functions if one.is_up and one.rdma]
        used = [one for one in up if one.rdma and chosen.chooses(one.rdma.device)]
        if not used or len(used) == len(up):
            continue
        left = [_device(one) for one in up if one not in used]
        return find(
            TWIN,
            engine,
            what=(
                f"has NCCL_IB_HCA={quoted(chosen.text)}, which leaves {' and '.join(left)} out, the twin of "
                f"{' and '.join(_device(one) for one in used)} on port {plain(port.name)}"
            ),
            why="each of the two functions of a cabled port carries about half of its 200 Gb/s",
            do=how_to_use(fabric),
        )
    return None


def _device(function: Function) -> str:
    return plain(function.rdma.device if function.rdma else function.name)


def _judge_down(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    chosen, fabric = _selection(engine, evidence, host), _present(host.fabric)
    if chosen is None or fabric is None or chosen.exclude:
        return None
    devices = [one for one in fabric.functions if one.rdma]
    gone = [
        name for name in chosen.names if not any(_matches(name, one, exact=chosen.exact) for one in devices)
    ]
    down = [_device(one) for one in devices if one.rdma and one.rdma.device in chosen.names and not one.is_up]
    useful = any(one.rdma and one.is_up and chosen.chooses(one.rdma.device) for one in devices)
    if not gone and not down and useful:
        return None
    parts = [f"{plain(name)} is not there" for name in gone] + [f"{name} is down" for name in down]
    if not parts:
        parts = ["nothing that it selects is up"]
    return find(
        DOWN,
        engine,
        what=f"has NCCL_IB_HCA={quoted(chosen.text)}: {', '.join(parts)}",
        why=(
            "NCCL leaves devices out that are not active, and goes over what remains"
            if useful
            else "with no device left NCCL falls back to TCP, or stops"
        ),
        do=how_to_use(fabric),
    )


def _matches(name: str, function: Function, *, exact: bool) -> bool:
    device = function.rdma.device if function.rdma else ""
    return device == name if exact else device.startswith(name)


def _judge_gid(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    index = engine.variable("NCCL_IB_GID_INDEX")
    if index is None or not _matters(engine, evidence, host):
        return None
    chooses = at_least(engine.nccl, "2.21")
    if chooses is False or not index or index.strip() == "-1":  # an empty text counts as none: docs/nccl.md
        return None
    empty = " (blanks are read as 0)" if not index.strip() else ""
    known = f"NCCL {plain(engine.nccl or '')}" if chooses else "an NCCL whose version is not known"
    unset = "unset NCCL_IB_GID_INDEX"
    return find(
        GID,
        engine,
        what=f"has NCCL_IB_GID_INDEX={quoted(index)}{empty}, which pins the GID index for {known}",
        why=(
            "the index differs between nodes and moves with addresses and link flaps; a wrong one ends in "
            "ibv_modify_qp"
        ),
        do=(
            f"{unset}: NCCL chooses for each device from 2.21 on"
            if chooses
            else f"if it is NCCL 2.21 or later, {unset}; an earlier one needs it (`sparktune nccl`)"
        ),
    )


_SOURCE = "NVIDIA/nccl: src/transport/net_ib/init.cc and src/misc/utils.cc at 2.30.7; users' figures"

TWIN = Rule(
    id="nccl-one-twin",
    severity=Severity.WARNING,
    looks_for="NCCL_IB_HCA that selects one of the two functions of a cabled port.",
    evidence="NCCL_IB_HCA of a process that works with other nodes, against the functions that are up.",
    recommendation="Name both twins, as `sparktune nccl` does, or leave the variable out.",
    expect=(
        "161 Gb/s instead of 98 between two Sparks; prefill +7.6 %. Decode did not change: it is bound by "
        "latency."
    ),
    versions="NCCL of every version: none joins twins by itself, they lie in two PCI domains (docs/nccl.md).",
    source=_SOURCE,
    certainty=Certainty.REPORTED,
    judge=_judge_twin,
)

DOWN = Rule(
    id="nccl-device-down",
    severity=Severity.WARNING,
    looks_for="NCCL_IB_HCA that names a device which is down or not there.",
    evidence="NCCL_IB_HCA of a process that works with other nodes, against the state of the RDMA devices.",
    recommendation="Name devices that are up, as `sparktune nccl` does, or leave the variable out.",
    expect="NCCL finds its devices, also after the next renaming or another cable.",
    versions="NCCL of every version.",
    source=_SOURCE,
    certainty=Certainty.SOURCE,
    judge=_judge_down,
)

GID = Rule(
    id="nccl-gid-pinned",
    severity=Severity.WARNING,
    looks_for="NCCL_IB_GID_INDEX set for an NCCL that chooses by itself.",
    evidence=(
        "The variable of a process that works with other nodes, and the version of the NCCL it has mapped."
    ),
    recommendation="Unset it. The empty text does the same, blanks do not: they are read as 0.",
    expect="Connections survive a GID table that moves. No other effect.",
    versions=(
        "NCCL 2.21 and later. Earlier ones need the index: silent. Version unknown: both cases are named."
    ),
    source=(
        "NVIDIA/nccl: src/transport/net_ib.cc at 2.20.5 and 2.21.5, src/transport/net_ib/connect.cc and "
        "src/misc/param.cc at 2.30.7"
    ),
    certainty=Certainty.SOURCE,
    judge=_judge_gid,
)
