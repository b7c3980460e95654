"""The PCI functions of a simulated machine: identity and link, below a root port of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.frozen import frozen

if TYPE_CHECKING:
    from sparktune.simulate.writer import TreeWriter

DEVICES = "/sys/bus/pci/devices"


@frozen
class Function:
    """One PCI function.

    Attributes:
        address: `0004:01:00.0`.
        identity: vendor and device, `144d:a811`.
        class_code: `010802` for an NVMe controller.
        speed_gts: what the link runs at, `32.0`.
        width: how many lanes it runs on.
        fastest_gts: what it could run at; empty if that is the same.
        widest: how many lanes it could run on; 0 if that is the same.
        driver: the kernel driver that is bound; empty: none is.
    """

    address: str
    identity: str
    class_code: str
    speed_gts: str
    width: int
    fastest_gts: str = ""
    widest: int = 0
    driver: str = ""


def pci_path(address: str) -> str:
    """The sysfs directory of a function behind the root port that leads to its bus."""
    return f"{_port_path(address)}/{address}"


def build_function(writer: TreeWriter, function: Function) -> None:
    """Make a function, its root port unless that is there already, and their links in /sys/bus/pci."""
    port = _port_path(function.address)
    if not writer.exists(port):
        _build(writer, port, Function(
            address=port.rpartition("/")[2], identity="10de:22ce", class_code="060400",
            speed_gts=function.speed_gts, width=function.width, widest=function.widest,
        ))  # fmt: skip
    _build(writer, pci_path(function.address), function)


def _port_path(address: str) -> str:
    domain, bus, _ = address.split(":")
    return f"/sys/devices/pci{domain}:00/{domain}:00:{int(bus, 16) - 1:02x}.0"


def _build(writer: TreeWriter, directory: str, function: Function) -> None:
    vendor, device = function.identity.split(":")
    writer.write(
        directory,
        {
            "vendor": f"0x{vendor}",
            "device": f"0x{device}",
            "class": f"0x{function.class_code}",
            "current_link_speed": f"{function.speed_gts} GT/s PCIe",
            "max_link_speed": f"{function.fastest_gts or function.speed_gts} GT/s PCIe",
            "current_link_width": function.width,
            "max_link_width": function.widest or function.width,
            "numa_node": -1,
            "uevent": f"PCI_CLASS={function.class_code.lstrip('0').upper()}\n"
            f"PCI_ID={function.identity.upper()}\nPCI_SLOT_NAME={function.address}",
        },
    )
    writer.link(f"{directory}/subsystem", "/sys/bus/pci")
    if function.driver:
        driver = f"/sys/bus/pci/drivers/{function.driver}"
        writer.make_directory(driver)
        writer.link(f"{directory}/driver", driver)
        writer.link(f"{driver}/{function.address}", directory)
    writer.link(f"{DEVICES}/{function.address}", directory)
