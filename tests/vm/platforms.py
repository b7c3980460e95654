"""What differs between the guests: one frozen description for each architecture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FIRMWARE = Path("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "python3",
    "libudev1",
    "iproute2",
    "linux-cpupower",
    "curl",
    "cryptsetup-bin",
    "lvm2",
    "kmod",
    "procps",
    "e2fsprogs",
    "util-linux",
    "passwd",
    "ethtool",
    "strace",
    "tuned",
    "perftest",
    "ibverbs-providers",
)
"""What every guest has installed; tuned is there, but disabled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """One kind of guest.

    Attributes:
        name: Debian's name of the architecture; also ARCH= of `make test-vm`.
        suite: the Debian release.
        kernel_package: the meta package of the kernel.
        packages: what is installed.
        qemu: QEMU's binary and the arguments that make the machine.
        cpus: how many.
        memory_mib: how much.
        console: the serial console by the kernel's name.
        network: NIC model.
        first_modules: modules without which the root cannot be mounted or the agent not be reached.
        table: ACPI source that adds the idle states.
        table_in_initrd: whether the table goes before the initrd (QEMU's -acpitable is for x86 only).
        idle_states: names of the idle states the guest then has.
        disabled_states: those that are disabled in guests which booted from the installed disk.
        tools: the host's programs this guest needs, and files by their path, each with its Debian package.
        keeps_read_ahead: whether its kernel leaves read_ahead_kb alone when a controller is reset.
        resting: a drop-in for /etc/sparktune.toml.d under which idle CPUs halt, if by default they spin.
        boot_limit_s: longest time from QEMU's start to a system that is up.
        slowness: how many times slower than the amd64 guest; patience is multiplied by it.
    """

    name: str
    suite: str
    kernel_package: str
    packages: tuple[str, ...]
    qemu: tuple[str, ...]
    cpus: int
    memory_mib: int
    console: str
    network: str
    first_modules: tuple[str, ...]
    table: Path
    table_in_initrd: bool
    idle_states: tuple[str, ...]
    disabled_states: tuple[str, ...]
    tools: dict[str, str]
    keeps_read_ahead: bool
    resting: str
    boot_limit_s: float
    slowness: float


_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "mke2fs": "e2fsprogs",
    "depmod": "kmod",
    "iasl": "acpica-tools",
    "cpio": "cpio",
    "tar": "tar",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}

_FIRST_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "crc32c_generic", "ext4")

AMD64 = Platform(
    name="amd64",
    suite="bookworm",
    kernel_package="linux-image-amd64",
    packages=PACKAGES,
    # The plainest CPU: emulated, every feature that a kernel uses because it is there costs time.
    qemu=("qemu-system-x86_64", "-machine", "q35", "-cpu", "qemu64,+rdrand"),
    cpus=2,
    memory_mib=1024,
    console="ttyS0",
    network="e1000e",
    first_modules=_FIRST_MODULES,
    table=HERE / "tables/amd64.asl",
    table_in_initrd=False,
    idle_states=("POLL", "C1", "C2", "C3"),
    disabled_states=("C2", "C3"),
    tools={**_TOOLS, "qemu-system-x86_64": "qemu-system-x86"},
    keeps_read_ahead=False,
    resting="[cpuidle]\ndisable_latency_us = 2\n",
    boot_limit_s=240,
    slowness=1.0,
)

ARM64 = Platform(
    name="arm64",
    suite="trixie",
    kernel_package="linux-image-arm64",
    packages=PACKAGES,
    # The firmware brings ACPI and SMBIOS and keeps no variables; the random numbers spare the boot a wait.
    qemu=(
        *("qemu-system-aarch64", "-machine", "virt,gic-version=3", "-cpu", "cortex-a76"),
        *("-bios", str(FIRMWARE), "-device", "virtio-rng-pci"),
    ),
    cpus=2,
    memory_mib=1024,
    console="ttyAMA0",
    network="e1000e",
    first_modules=_FIRST_MODULES,
    table=HERE / "tables/arm64.asl",
    table_in_initrd=True,
    idle_states=("LPI-0", "LPI-1", "LPI-2", "LPI-3"),
    disabled_states=("LPI-0", "LPI-1", "LPI-2", "LPI-3"),
    tools={
        **_TOOLS,
        "qemu-system-aarch64": "qemu-system-arm",
        "arch-test": "arch-test",
        str(FIRMWARE): "qemu-efi-aarch64",
    },
    keeps_read_ahead=True,
    resting="",
    boot_limit_s=480,
    slowness=2.0,
)

PLATFORMS = {platform.name: platform for platform in (AMD64, ARM64)}
