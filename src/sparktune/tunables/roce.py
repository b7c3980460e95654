"""The `roce` area: puts its parts together. Each part is a module with a function that declares.

The fabric is read once for a discovery and given to every part; no part reads it itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sparktune.fabric.model import Presence
from sparktune.kernel.fabric import read_fabric
from sparktune.kernel.fabric_view import FabricView
from sparktune.tunables import counters, fabric, interfaces, peers, rdma_cm
from sparktune.tunables.area import Area, Discovery, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.fabric.model import Fabric
    from sparktune.hardware import Host
    from sparktune.model import Note, Policy
    from sparktune.settings import Settings

AREA = "roce"
MLX5 = "/sys/bus/pci/drivers/mlx5_core"


class Part(Protocol):
    """A part of the area: declares what to hold or to check in the fabric as found. Writes nothing."""

    def __call__(self, host: Host, settings: Settings, fabric: Fabric) -> Discovery:
        """Its tunables and notes, and why there are none."""


PARTS: tuple[Part, ...] = (
    rdma_cm.declare,
    interfaces.declare,
    fabric.declare,
    counters.declare,
    peers.declare,
)  # fmt: skip
"""In the order to be shown and applied."""

_ABSENT = {
    Presence.POWERED_DOWN: (
        "no ConnectX-7 here: DGX OS powers the ConnectX-7 down while no QSFP cable is plugged in; "
        "it comes back with the cable"
    ),
    Presence.NONE: "no ConnectX-7 and no RDMA device on this machine",
}


def discover(host: Host, settings: Settings, device: str | None = None) -> Discovery:
    """What all parts declare."""
    seen = read_fabric(host.root)
    found = [declare(host, settings, seen) for declare in PARTS]
    tunables = tuple(tunable for one in found for tunable in one.tunables)
    return Discovery(
        tunables=tunables,
        absent="" if tunables else _absence(host, seen, found),
        notes=tuple(note for one in found for note in one.notes) if tunables else (),
        fabric=next((one.fabric for one in found if one.fabric), FabricView(host.root, seen).now),
    )


def _absence(host: Host, seen: Fabric, found: Sequence[Discovery]) -> str:
    if seen.presence in _ABSENT and not host.root.names(rdma_cm.DEVICES):
        return _ABSENT[seen.presence]
    return next((one.absent for one in found if one.absent), "nothing here to hold or to check")


def observe(host: Host, settings: Settings) -> tuple[Note, ...]:
    """Nothing beside the tunables."""
    return ()


def inventory(host: Host, settings: Settings) -> object:
    """Which RDMA devices, PCI functions and interfaces of theirs there are, and whether rdma_cm is loaded."""
    root = host.root
    functions = [name for name in root.names(MLX5) if name[:1].isdigit()]
    interfaces = [root.names(f"{MLX5}/{name}/net") for name in functions]
    ways = peers.inventory(host, settings)
    return root.inodes(rdma_cm.DEVICES), functions, interfaces, root.exists(rdma_cm.RDMA_CM), ways


def say(host: Host, settings: Settings, views: Sequence[View]) -> str:
    """What was set and holds, then what was found."""
    said = (rdma_cm.say(views), fabric.say(views))
    return "; ".join(one for one in said if one) or f"{len(views)} looked at"


def remark(views: Sequence[View]) -> tuple[Note, ...]:
    """What cannot be read, part by part."""
    return (*counters.remark(views), *rdma_cm.remark(views))


def policy(settings: Settings) -> Policy:
    """The configured policy."""
    return settings.roce.policy


AREA_ROCE = Area(
    name=AREA,
    subsystems=("infiniband", "net", "pci"),
    policy=policy,
    discover=discover,
    observe=observe,
    inventory=inventory,
    say=say,
    remark=remark,
)
