"""More ConnectX-7 chips than a Spark has: for tests of limits and for measurements of how things grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.simulate.fabric import MODULE, Interface, build_interface
from sparktune.simulate.pci import Function, build_function
from sparktune.simulate.writer import TreeWriter

if TYPE_CHECKING:
    from pathlib import Path

_FIRST_DOMAIN = 16
_FIRST_INDEX = 100


def add_chips(directory: Path, count: int) -> None:
    """Add chips of four functions each to a simulated machine, with a cable in both ports.

    Args:
        directory: of the tree.
        count: at most 100; a second call on a tree writes the same ones.
    """
    writer = TreeWriter(directory)
    for chip in range(count):
        for way in range(2):
            for port in range(2):
                _add(writer, chip, 2 * chip + way, port)


def _add(writer: TreeWriter, chip: int, link: int, port: int) -> None:
    domain = _FIRST_DOMAIN + link
    address = f"{domain:04x}:01:00.{port}"
    build_function(
        writer,
        Function(
            address=address, identity="15b3:1021", class_code="020000", speed_gts="32.0", width=4,
            driver=MODULE,
        ),
    )  # fmt: skip
    number = 2 * link + port
    interface = Interface(
        name=f"enP{domain}p1s0f{port}np{port}",
        index=_FIRST_INDEX + number,
        address=address,
        port=f"p{port}",
        mac=f"02:9f:8f:01:{domain:02x}:{port:02x}",
        mtu=9000,
        rdma=f"roceP{domain}p1s0f{port}",
        ipv4=f"10.{number}.0.10",
    )
    build_interface(writer, interface)
    device = writer.resolve(f"/sys/class/infiniband/{interface.rdma}")
    writer.write(device, {"sys_image_guid": f"029f:8f01:0300:{chip:04x}"})
