"""What can be right or wrong with the fabric of two Sparks, as data: each a machine with a few changes.

All but `no-cable` differ from `healthy-pair` in what their name says, and in nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sparktune.frozen import frozen
from sparktune.simulate.variants import MACHINES, Machine, netplan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sparktune.simulate.fabric import Interface

_ONE, _OTHER = "enp1s0f0np0", "enP2p1s0f0np0"
"""The twins of the cabled port."""
_MTU = 9000
_NARROW_LINK = "0002:01:00."
_STALE = "/sys/kernel/config/rdma_cm/rocep1s0f0/ports/1"
_UUID = "5d3c2f4e-8f5b-4d0a-9a57-3f1d0c9b7a10"
_SECOND_ADDRESS = "fd00:0000:0000:0000:029f:8fff:fe00:0001"


@frozen
class Scenario:
    """A machine in a state.

    Attributes:
        about: what is the matter with it, for people.
        machine: what is built.
        gone: files that are there and answer ENXIO when opened. A tree has none that answers ENODEV, as the
            kernel does for a directory of which rdma_cm finds no device by its name (Linux 6.1,
            drivers/infiniband/core/cma_configfs.c, cma_configfs_params_get).
        flapping: an interface whose link goes down and up by itself while the simulation runs; empty: none.
    """

    about: str
    machine: Machine
    gone: tuple[str, ...] = ()
    flapping: str = ""


def _interfaces(machine: Machine, change: Callable[[Interface], Interface]) -> Machine:
    return replace(machine, interfaces=tuple(change(one) for one in machine.interfaces))


def _one(machine: Machine, name: str, **changes: Any) -> Machine:
    return _interfaces(machine, lambda one: replace(one, **changes) if one.name == name else one)


def _files(machine: Machine, files: Mapping[str, str]) -> Machine:
    return replace(machine, software=replace(machine.software, files={**machine.software.files, **files}))


def _numbered(machine: Machine) -> Machine:
    """The same with RDMA devices that are called by number, by the order of their PCI addresses."""
    names = {
        one.name: f"mlx5_{number}"
        for number, one in enumerate(each for each in machine.interfaces if each.rdma)
    }
    return _interfaces(machine, lambda one: replace(one, rdma=names.get(one.name, "")))


def _narrow(machine: Machine) -> Machine:
    functions = tuple(
        replace(one, width=2, widest=4) if one.address.startswith(_NARROW_LINK) else one
        for one in machine.functions
    )
    return replace(machine, functions=functions)


_PAIR = _files(
    _one(_one(MACHINES["gb10"], _ONE, mtu=_MTU), _OTHER, mtu=_MTU),
    netplan({_ONE: "192.168.100.10/24", _OTHER: "192.168.200.10/24"}, mtu=_MTU),
)
_ZEROCONF = _files(
    _one(_PAIR, _OTHER, ipv4="169.254.71.9", prefix=16),
    {
        **netplan({_ONE: "192.168.100.10/24"}, mtu=_MTU),
        "/run/NetworkManager/devices/5": f"[device]\nmanaged=true\nconnection-uuid={_UUID}\nnm-owned=0",
        "/etc/NetworkManager/system-connections/Wired connection 2.nmconnection": "[connection]\n"
        f"id=Wired connection 2\nuuid={_UUID}\ntype=ethernet\ninterface-name={_OTHER}\n\n"
        "[ethernet]\nmtu=9000\n\n[ipv4]\nmethod=link-local",
    },
)

SCENARIOS: Mapping[str, Scenario] = {
    "healthy-pair": Scenario(
        about="one of two Sparks, joined by a cable in port p0: both twins up, MTU 9000, two subnets",
        machine=_PAIR,
    ),
    "no-cable": Scenario(
        about="no cable is in: DGX OS has powered all four ConnectX-7 functions down",
        machine=MACHINES["no-cable"],
    ),
    "one-twin-down": Scenario(
        about=f"one twin of the cabled port, {_OTHER}, has no link",
        machine=_one(_PAIR, _OTHER, up=False, carrier_changes=2),
    ),
    "pcie-x2": Scenario(
        about="one of the two PCIe links to the ConnectX-7 came up with two lanes instead of four",
        machine=_narrow(_PAIR),
    ),
    "mtu-mismatch": Scenario(
        about=f"one twin, {_OTHER}, is left at MTU 1500 while the other has 9000",
        machine=_files(
            _one(_PAIR, _OTHER, mtu=1500),
            netplan({_ONE: "192.168.100.10/24", _OTHER: "192.168.200.10/24"}, mtu={_ONE: _MTU}),
        ),
    ),
    "gid-moved": Scenario(
        about="a second address moved one twin's RoCE v2 GID from index 3 to 5; the other's is still at 3",
        machine=_one(_PAIR, _ONE, gids=(_SECOND_ADDRESS,)),
    ),
    "mlx5-names": Scenario(
        about="the RDMA devices are called mlx5_0 to mlx5_3, as without the renaming by udev",
        machine=_numbered(_PAIR),
    ),
    "zeroconf-twin": Scenario(
        about=f"NetworkManager gave the twin that has no address of its own, {_OTHER}, a 169.254 one",
        machine=_ZEROCONF,
    ),
    "stale-configfs": Scenario(
        about="rdma_cm has lost rocep1s0f0: its directory in configfs is there and knows no such device",
        machine=_PAIR,
        gone=(f"{_STALE}/default_roce_mode", f"{_STALE}/default_roce_tos"),
    ),
    "no-dcb": Scenario(
        about="a kernel without CONFIG_DCB: nobody can say or set PFC and trust",
        machine=_interfaces(_PAIR, lambda one: replace(one, dcb=False)),
    ),
    "flapping": Scenario(
        about=f"the link of one twin, {_OTHER}, goes down and up by itself",
        machine=_one(_PAIR, _OTHER, carrier_changes=43),
        flapping=_OTHER,
    ),
    "unreadable-counter": Scenario(
        about="one error counter of rocep1s0f0, out_of_sequence, answers every read with an error",
        machine=_one(_PAIR, _ONE, unreadable=("hw_counters/out_of_sequence",)),
    ),
}
"""In the order to be shown."""
