"""The fabric as it is published and drawn: each port with its twins, and what does not hold on each.

Plain dataclasses, the schema of `/fabric` and `sparktune fabric --json`. Judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic resolves the annotations at run time
from typing import TYPE_CHECKING, ClassVar, Literal

from sparktune.fabric.model import Fabric, Function, Gid, Owner, OwnerKind, Port, Presence, RdmaPort
from sparktune.frozen import frozen
from sparktune.snapshot import DOCUMENTED, VerdictName

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WEIGHT = ("failed", "blocked", "contested", "drift", "paused", "ok", "unmanaged", "absent")
_QUIET = frozenset({"ok", "absent", "unmanaged"})
_SAYS = {
    Presence.POWERED_DOWN: "no ConnectX-7 function is here: DGX OS powers it down while no cable is in",
    Presence.NONE: "no ConnectX-7 was found on this machine",
}
_DO = {
    Presence.POWERED_DOWN: "plug a QSFP cable in: the functions come back within seconds, without a restart",
    Presence.NONE: "on a Spark: lspci -d 15b3: should list four functions",
}


@frozen
class FabricFinding:
    """A tunable or check of a function or port that does not hold."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    id: str
    """The tunable's id."""
    verdict: VerdictName
    """What was concluded."""
    wanted: int | str | None
    """What is wanted or expected."""
    actual: int | str | None
    """What was read."""
    reason: str
    """What it means, or why nothing was read."""
    do: str
    """What a person can do."""


@frozen
class OwnerReport:
    """Who configures an interface."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    kind: Literal["netplan", "NetworkManager", "systemd-networkd", "nobody", "unknown"]
    """The program; `unknown`: who looked may not read the files that may tell."""
    file: str
    """The file that says so; empty if none was found or could be read."""
    key: str
    """The place in it."""
    mtu: int | None
    """The MTU it asks for; null: none."""


@frozen
class GidReport:
    """A filled entry of a GID table."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    index: int
    """Its place in the table."""
    gid: str
    """Eight groups of four hex digits."""
    kind: str
    """`IB/RoCE v1` or `RoCE v2`."""
    netdev: str
    """The interface it belongs to; empty if the kernel did not say."""
    ipv4: str
    """The IPv4 address it stands for; empty for an IPv6 one."""


@frozen
class FunctionReport:
    """One function: a twin of a port, or another RDMA device."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    name: str
    """The interface, else the RDMA device, else the PCI address."""
    bdf: str
    """PCI address: `0000:01:00.0`; empty for what is no PCI function."""
    netdev: str | None
    """Network interface; null if there is none."""
    rdma: str | None
    """RDMA device; null if there is none."""
    rdma_port: int | None
    """Its port number."""
    verdict: VerdictName
    """The weightiest verdict of its tunables and checks; `absent`: nothing was checked."""
    state: str | None
    """State of the RDMA port: `ACTIVE`."""
    physical: str | None
    """Physical state of the RDMA port: `LinkUp`."""
    link_layer: str | None
    """Link layer of the RDMA port: `Ethernet`."""
    carrier: bool | None
    """Whether the link has a carrier; null: the interface is down or gone."""
    rate_gbps: float | None
    """What the RDMA port runs at."""
    mtu: int | None
    """MTU of the interface, bytes."""
    gid_index: int | None
    """Index of the RoCE v2 GID of its IPv4 address now; it moves, so do not pin it."""
    gid: str | None
    """That GID."""
    ipv4: str | None
    """The address it stands for."""
    gids: tuple[GidReport, ...]
    """All filled entries of its GID table."""
    addresses: tuple[str, ...]
    """IPv4 addresses of the interface, with prefix length."""
    pcie_gts: float | None
    """Speed of its PCIe link, GT/s."""
    pcie_width: int | None
    """Lanes of its PCIe link."""
    firmware: str
    """Firmware version."""
    driver: str
    """Kernel driver."""
    driver_version: str
    """What the driver says of its version; an in-tree driver says none."""
    out_of_tree: bool | None
    """Whether the driver is no part of the kernel (OFED, DOCA); null: not known."""
    owner: OwnerReport
    """Who configures the interface."""
    findings: tuple[FabricFinding, ...]
    """What does not hold."""


@frozen
class PortReport:
    """A QSFP port and its twins."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    name: str
    """phys_port_name: `p0`."""
    cabled: bool
    """Whether a cable is in: any of its functions has a carrier."""
    twins: tuple[FunctionReport, ...]
    """The functions that lead to it."""
    findings: tuple[FabricFinding, ...]
    """What does not hold between its twins."""


@frozen
class FabricReport:
    """The fabric of this machine."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    presence: Literal["present", "powered-down", "none"]
    """Whether there are functions, and why not."""
    summary: str
    """One sentence."""
    do: str
    """What a person can do; empty if nothing needs to be done."""
    evidence: tuple[str, ...]
    """What says so where there are none."""
    ports: tuple[PortReport, ...]
    """By name."""
    others: tuple[FunctionReport, ...]
    """RDMA devices that are no ConnectX-7's: Soft-RoCE, another NIC."""


@frozen
class Judged:
    """One tunable or check of the area as the engine concluded it.

    Attributes:
        device: what it is about: an interface, an RDMA device, a PCI address or a port.
        finding: what was concluded.
    """

    device: str
    finding: FabricFinding


def report(fabric: Fabric, judged: Sequence[Judged]) -> FabricReport:
    """The document for a fabric and the verdicts about it."""
    ports = tuple(_port(port, judged) for port in fabric.ports)
    others = tuple(_function(function, judged) for function in fabric.others)
    return FabricReport(
        presence=fabric.presence.value,
        summary=_SAYS.get(fabric.presence) or "; ".join(_sum_up(port) for port in ports),
        do=_DO.get(fabric.presence, ""),
        evidence=fabric.evidence,
        ports=ports,
        others=others,
    )


def findings_of(document: FabricReport) -> list[FabricFinding]:
    """Everything that does not hold, port by port."""
    found = [
        finding
        for port in document.ports
        for one in (*(twin.findings for twin in port.twins), port.findings)
        for finding in one
    ]
    return found + [finding for other in document.others for finding in other.findings]


def was_checked(document: FabricReport) -> bool:
    """Whether anything about any function was judged."""
    functions = [twin for port in document.ports for twin in port.twins] + list(document.others)
    return any(function.verdict not in ("absent", "unmanaged") for function in functions)


def _sum_up(port: PortReport) -> str:
    if not port.cabled:
        return f"port {port.name}: no cable"
    up = sum(twin.carrier is True and twin.state in ("ACTIVE", None) for twin in port.twins)
    wrong = len(
        {finding.id for twin in port.twins for finding in twin.findings} | {f.id for f in port.findings}
    )
    says = f"port {port.name}: cabled, {up} of {len(port.twins)} twins up"
    return f"{says}, {wrong} findings" if wrong > 1 else f"{says}, 1 finding" if wrong else says


def _port(port: Port, judged: Sequence[Judged]) -> PortReport:
    return PortReport(
        name=port.name,
        cabled=port.is_cabled,
        twins=tuple(_function(function, judged) for function in port.functions),
        findings=tuple(
            one.finding
            for one in judged
            if one.device == port.name
            and one.finding.verdict not in _QUIET
            and port.name not in {function.bdf for function in port.functions}
        ),
    )


def _function(function: Function, judged: Iterable[Judged]) -> FunctionReport:
    rdma = function.rdma
    names = {function.netdev, function.bdf, rdma.device if rdma else ""} - {""}
    mine = [one.finding for one in judged if one.device in names]
    gid = rdma.v2_gid if rdma else None
    return FunctionReport(
        name=function.name,
        bdf=function.bdf,
        netdev=function.netdev or None,
        rdma=rdma.device if rdma else None,
        rdma_port=rdma.number if rdma else None,
        verdict=_weightiest(finding.verdict for finding in mine),
        state=(rdma.state or None) if rdma else None,
        physical=(rdma.physical or None) if rdma else None,
        link_layer=(rdma.link_layer or None) if rdma else None,
        carrier=function.carrier,
        rate_gbps=rdma.rate_gbps if rdma else None,
        mtu=function.mtu,
        gid_index=gid.index if gid else None,
        gid=gid.gid if gid else None,
        ipv4=gid.ipv4 if gid else None,
        gids=tuple(_gid(one) for one in rdma.gids) if rdma else (),
        addresses=function.addresses,
        pcie_gts=function.pcie_gts,
        pcie_width=function.pcie_width,
        firmware=function.firmware,
        driver=function.driver,
        driver_version=function.driver_version,
        out_of_tree=function.out_of_tree,
        owner=OwnerReport(
            kind=function.owner.kind.value,
            file=function.owner.file,
            key=function.owner.key,
            mtu=function.owner.mtu,
        ),
        findings=tuple(finding for finding in mine if finding.verdict not in _QUIET),
    )


def _gid(gid: Gid) -> GidReport:
    return GidReport(index=gid.index, gid=gid.gid, kind=gid.kind, netdev=gid.netdev, ipv4=gid.ipv4)


def recall(document: FabricReport) -> Fabric:
    """The fabric that a document tells of: what nccl is worked out from where nothing can be read."""
    functions = [_recall_function(twin, port.name) for port in document.ports for twin in port.twins]
    return Fabric(
        presence=Presence(document.presence),
        evidence=document.evidence,
        functions=tuple(sorted(functions, key=lambda function: function.bdf)),
        others=tuple(_recall_function(other, "") for other in document.others),
    )


def _recall_function(told: FunctionReport, port: str) -> Function:
    owner = told.owner
    return Function(
        bdf=told.bdf,
        netdev=told.netdev or "",
        rdma=_recall_rdma(told),
        port="" if port == told.bdf else port,
        driver=told.driver,
        driver_version=told.driver_version,
        out_of_tree=told.out_of_tree,
        firmware=told.firmware,
        carrier=told.carrier,
        mtu=told.mtu,
        pcie_gts=told.pcie_gts,
        pcie_width=told.pcie_width,
        addresses=told.addresses,
        owner=Owner(kind=OwnerKind(owner.kind), file=owner.file, key=owner.key, mtu=owner.mtu),
    )


def _recall_rdma(told: FunctionReport) -> RdmaPort | None:
    if told.rdma is None or told.rdma_port is None:
        return None
    gids = [
        Gid(index=one.index, gid=one.gid, kind=one.kind, netdev=one.netdev, ipv4=one.ipv4)
        for one in told.gids
    ]
    return RdmaPort(
        device=told.rdma,
        number=told.rdma_port,
        state=told.state or "",
        physical=told.physical or "",
        link_layer=told.link_layer or "",
        rate_gbps=told.rate_gbps,
        gids=tuple(gids),
    )


def _weightiest(verdicts: Iterable[VerdictName]) -> VerdictName:
    return min(verdicts, key=_WEIGHT.index, default="absent")
