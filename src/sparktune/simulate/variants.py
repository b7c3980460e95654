"""The machines that can be simulated, as data. What a GB10 looks like is known from dumps of real ones.

Not known and made up: idle residencies, NVMe and root port ids, addresses, counters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sparktune.frozen import frozen
from sparktune.simulate import fabric, rivals
from sparktune.simulate.disks import Controller, Disk, default_disk, hidden_path, mapped_disk, nvme_disk
from sparktune.simulate.fabric import Interface
from sparktune.simulate.pci import Function
from sparktune.simulate.processors import Core, IdleState, Processor
from sparktune.simulate.software import Mount, Software

if TYPE_CHECKING:
    from collections.abc import Mapping


@frozen
class Machine:
    """One simulated machine."""

    about: str
    processor: Processor
    functions: tuple[Function, ...]
    interfaces: tuple[Interface, ...]
    controllers: tuple[Controller, ...]
    disks: tuple[Disk, ...]
    software: Software


def netplan(addresses: Mapping[str, str], *, mtu: int | Mapping[str, int] = 0) -> dict[str, str]:
    """The file in which NVIDIA's instructions have the ConnectX-7 configured.

    Args:
        addresses: IPv4 address with prefix length, by interface.
        mtu: for all of them, or by interface; those without one get no line.
    """
    lines = ["network:", "  version: 2", "  ethernets:"]
    for name, address in addresses.items():
        lines += [f"    {name}:", f"      addresses: [{address}]"]
        size = mtu if isinstance(mtu, int) else mtu.get(name, 0)
        lines += [f"      mtu: {size}"] * bool(size)
    return {"/etc/netplan/40-cx7.yaml": "\n".join(lines)}


_A725 = Core(part=0xD87, capacities=range(718, 732), fastest_khz=2_808_000)
_X925 = Core(part=0xD85, capacities=range(997, 1025), fastest_khz=3_900_000)
_GB10_CPUS = Processor(
    cores=((_A725,) * 5 + (_X925,) * 5) * 2,
    states=(
        IdleState("LPI-0", "WFI", 0, 0),
        IdleState("LPI-1", "core standby", 42, 150),
        IdleState("LPI-2", "core off", 231, 900),
        IdleState("LPI-3", "cluster off", 433, 1700),
    ),
    package=36,
)
_OTHER_STATES = (
    IdleState("WFI", "ARM WFI", 1, 1),
    IdleState("cluster-sleep", "cluster retention", 310, 1200),
    IdleState("cpu-sleep", "core retention", 70, 260),
)
_X86_CPUS = Processor(
    cores=(Core(fastest_khz=5_200_000),) * 8,
    states=(
        IdleState("POLL", "CPUIDLE CORE POLL IDLE", 0, 0),
        IdleState("C1", "ACPI FFH MWAIT 0x0", 1, 1),
        IdleState("C2", "ACPI IOPORT 0x414", 18, 36),
        IdleState("C3", "ACPI IOPORT 0x415", 350, 700),
    ),
    frequency_driver="acpi-cpufreq",
    package=0,
)

_NVME = Function(
    address="0004:01:00.0", identity="144d:a811", class_code="010802", speed_gts="32.0", width=4,
    driver="nvme",
)  # fmt: skip
_PHISON = replace(_NVME, identity="1987:5027", speed_gts="16.0")
_SECOND_NVME = replace(_NVME, address="0011:01:00.0", speed_gts="16.0")
_CONNECTX = tuple(
    Function(
        address=address, identity="15b3:1021", class_code="020000", speed_gts="32.0", width=4,
        driver=fabric.MODULE,
    )
    for address in ("0000:01:00.0", "0000:01:00.1", "0002:01:00.0", "0002:01:00.1")
)  # fmt: skip
_RTL8127 = Function(
    address="0007:01:00.0", identity="10ec:8127", class_code="020000", speed_gts="16.0", width=1
)
_GPU = Function(
    address="000f:01:00.0", identity="10de:2e12", class_code="030000", speed_gts="2.5", width=1,
    fastest_gts="32.0",
)  # fmt: skip

_LOOPBACK = Interface(name="lo", index=1, mtu=65536)
_WIRED = Interface(name="enP7s7", index=2, address="0007:01:00.0", mac="02:9f:8f:00:07:00", speed_mbps=10_000)
_TWINS = (
    Interface(
        name="enp1s0f0np0", index=3, address="0000:01:00.0", port="p0", mac="02:9f:8f:00:00:00",
        rdma="rocep1s0f0", ipv4="192.168.100.10",
    ),
    Interface(
        name="enp1s0f1np1", index=4, address="0000:01:00.1", port="p1", mac="02:9f:8f:00:00:01",
        rdma="rocep1s0f1", up=False,
    ),
    Interface(
        name="enP2p1s0f0np0", index=5, address="0002:01:00.0", port="p0", mac="02:9f:8f:00:02:00",
        rdma="roceP2p1s0f0", ipv4="192.168.200.10",
    ),
    Interface(
        name="enP2p1s0f1np1", index=6, address="0002:01:00.1", port="p1", mac="02:9f:8f:00:02:01",
        rdma="roceP2p1s0f1", up=False,
    ),
)  # fmt: skip

_CONTROLLER = Controller(
    name="nvme0", address="0004:01:00.0", model="SAMSUNG MZALC4T0HBL1-00B07", serial="SIMULATED0001",
    firmware="NXH8100Q",
)  # fmt: skip
_SYSTEM_DISK = replace(nvme_disk("nvme0n1"), gib=3726, partitions=(1, 3724))
_VIRTUAL_DISKS = (
    default_disk("loop0"),
    default_disk("loop1"),
    replace(default_disk("zram0"), scheduler="none"),
)
_LUKS = "CRYPT-LUKS2-5f0c2a61d1b84a7c9e3f6b1d20a4c8e7-dm_crypt-0"
_LVM = "LVM-q7Rk0Zs1vTn3uXw5yBa9cDe2fGh4iJk6"
_ENCRYPTED_DISKS = (
    replace(_SYSTEM_DISK, partitions=(1, 2, 3722)),
    mapped_disk("dm-0", label="dm_crypt-0", uuid=_LUKS, slaves=("nvme0n1p3",), gib=3722),
    mapped_disk(
        "dm-1", label="ubuntu--vg-ubuntu--lv", uuid=f"{_LVM}AbCdEfGhIjKlMnOp", slaves=("dm-0",), gib=512
    ),
    mapped_disk(
        "dm-2", label="ubuntu--vg-models", uuid=f"{_LVM}QrStUvWxYz012345", slaves=("dm-0",), gib=3200
    ),
)

_SPARK_FIRMWARE = {
    "sys_vendor": "NVIDIA",
    "product_name": "NVIDIA_DGX_Spark",
    "product_version": "A.7",
    "product_family": "DGX Spark",
    "board_vendor": "NVIDIA",
    "board_name": "P4242",
    "board_version": "A04",
    "chassis_type": "17",
    "bios_vendor": "American Megatrends International, LLC.",
    "bios_version": "5.36_0ACUM018",
}
_DELL_FIRMWARE = {  # what its board_name is has not been published
    "sys_vendor": "Dell  Inc.",
    "product_name": "Dell Pro Max with GB10 FCM1253",
    "product_family": "DGX Spark",
    "board_vendor": "Dell  Inc.",
    "chassis_type": "35",
}
_DESKTOP_FIRMWARE = {
    "sys_vendor": "Example Computer Co.",
    "product_name": "Desktop 8",
    "product_family": "Desktop",
    "board_name": "EX-B1",
    "chassis_type": "3",
}
_MODULES = (
    "nvme",
    "nvme_core",
    "mlx5_core",
    "mlx5_ib",
    "ib_core",
    "ib_uverbs",
    "rdma_cm",
    "rdma_ucm",
    "nvidia",
)
_ROOT = Mount(number="259:2", point="/", kind="ext4", source="/dev/nvme0n1p2")
_FIRMWARE_MOUNT = Mount(number="259:1", point="/boot/efi", kind="vfat", source="/dev/nvme0n1p1")
_DGX_OS = Software(
    firmware=_SPARK_FIRMWARE,
    kernel="6.17.0-1014-nvidia",
    host_name="spark-9f8f",
    modules=_MODULES,
    mounts=(_ROOT, _FIRMWARE_MOUNT),
    files=netplan({"enp1s0f0np0": "192.168.100.10/24", "enP2p1s0f0np0": "192.168.200.10/24"}),
)

_GB10 = Machine(
    about="an NVIDIA DGX Spark Founders Edition, a cable in port p0",
    processor=_GB10_CPUS,
    functions=(_NVME, *_CONNECTX, _RTL8127, _GPU),
    interfaces=(_LOOPBACK, _WIRED, *_TWINS),
    controllers=(_CONTROLLER,),
    disks=(_SYSTEM_DISK, *_VIRTUAL_DISKS),
    software=_DGX_OS,
)
_DESKTOP_ADDRESS = "0000:02:00.0"

MACHINES: Mapping[str, Machine] = {
    "gb10": _GB10,
    "no-cable": replace(
        _GB10,
        about="a DGX Spark without a cable: all four ConnectX-7 functions are powered down",
        functions=(_NVME, _RTL8127, _GPU),
        interfaces=(_LOOPBACK, _WIRED),
    ),
    "lvm-luks": replace(
        _GB10,
        about="a DGX Spark whose root is LVM on LUKS on the third partition",
        disks=(*_ENCRYPTED_DISKS, *_VIRTUAL_DISKS),
        software=replace(
            _DGX_OS,
            modules=(*_MODULES, "dm_crypt"),
            mounts=(
                Mount(number="252:1", point="/", kind="ext4", source="/dev/mapper/ubuntu--vg-ubuntu--lv"),
                _FIRMWARE_MOUNT,
                Mount(number="259:2", point="/boot", kind="ext4", source="/dev/nvme0n1p2"),
                Mount(number="252:2", point="/models", kind="ext4", source="/dev/mapper/ubuntu--vg-models"),
            ),
        ),
    ),
    "pages-64k": replace(
        _GB10,
        about="a DGX Spark with the 64 KiB page kernel",
        software=replace(_DGX_OS, kernel="6.17.0-1014-nvidia-64k", page_size=65536),
    ),
    "oem-dell": replace(
        _GB10,
        about="a Dell Pro Max with GB10: other firmware strings, an NVMe of Phison on a Gen4 link",
        functions=(_PHISON, *_CONNECTX, _RTL8127, _GPU),
        controllers=(
            replace(_CONTROLLER, model="ESL04TBTLCZ-27J2-TYN", serial="SIMULATED0002", firmware="ERFMJ0.0"),
        ),
        software=replace(_DGX_OS, firmware=_DELL_FIRMWARE),
    ),
    "not-gb10": Machine(
        about="an x86-64 desktop with another GPU, one NVMe and one SATA disk, and no ConnectX",
        processor=_X86_CPUS,
        functions=(
            replace(_NVME, address=_DESKTOP_ADDRESS),
            Function(
                address="0000:01:00.0", identity="10de:2684", class_code="030000", speed_gts="16.0", width=16
            ),
            Function(
                address="0000:03:00.0", identity="8086:7ae2", class_code="010601", speed_gts="8.0", width=1
            ),
            Function(
                address="0000:04:00.0", identity="8086:125c", class_code="020000", speed_gts="5.0", width=1
            ),
        ),
        interfaces=(
            _LOOPBACK,
            replace(_WIRED, name="enp4s0", address="0000:04:00.0", speed_mbps=2500),
        ),
        controllers=(replace(_CONTROLLER, address=_DESKTOP_ADDRESS),),
        disks=(
            replace(nvme_disk("nvme0n1", address=_DESKTOP_ADDRESS), partitions=(1, 929)),
            replace(default_disk("sda"), partitions=(1862,), rotational=True),
            *_VIRTUAL_DISKS,
        ),
        software=Software(
            firmware=_DESKTOP_FIRMWARE,
            kernel="6.8.0-45-generic",
            architecture="x86_64",
            host_name="desktop",
            is_dgx_os=False,
            modules=("nvme", "nvme_core", "ahci", "nvidia"),
            mounts=(
                _ROOT,
                _FIRMWARE_MOUNT,
                Mount(number="8:1", point="/data", kind="ext4", source="/dev/sda1"),
            ),
        ),
    ),
    "other-idle-states": replace(
        _GB10,
        about="a DGX Spark whose kernel names and orders the idle states otherwise, and has three of them",
        processor=replace(_GB10_CPUS, states=_OTHER_STATES, idle_driver="psci_idle"),
        software=replace(_DGX_OS, kernel="7.0.0-1004-nvidia"),
    ),
    "other-tuners": replace(
        _GB10,
        about="a DGX Spark on which TuneD, a udev rule and a unit of the owner set what sparktune sets",
        software=replace(_DGX_OS, files={**_DGX_OS.files, **rivals.FILES}, links=rivals.LINKS),
    ),
    "multipath": replace(
        _GB10,
        about="a DGX Spark whose disk is seen through NVMe multipath, with a hidden path beside it",
        disks=(*hidden_path(_SYSTEM_DISK), *_VIRTUAL_DISKS),
    ),
    "two-disks": replace(
        _GB10,
        about="a DGX Spark with a second NVMe disk",
        functions=(*_GB10.functions, _SECOND_NVME),
        controllers=(
            _CONTROLLER,
            replace(_CONTROLLER, name="nvme1", address="0011:01:00.0", serial="SIMULATED0003"),
        ),
        disks=(_SYSTEM_DISK, nvme_disk("nvme1n1"), *_VIRTUAL_DISKS),
    ),
}
