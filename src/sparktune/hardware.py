"""What machine this is, with every piece of evidence for and against it being a GB10. Reads, never writes."""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from typing import TYPE_CHECKING, Literal

from sparktune.cpus import (
    CORES,
    Cluster,
    find_clusters,
    format_cpu_list,
    list_present,
    read_capacities,
    read_parts,
)
from sparktune.frozen import frozen
from sparktune.snapshot import NOT_LOOKED, ClusterInfo, EvidenceItem, Hardware

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sparktune.kernel.root import Root
    from sparktune.snapshot import Conflicts

__all__ = ["Cluster", "Evidence", "Host", "describe", "detect", "format_cpu_list"]

Speaks = Literal["for", "against", "neither"]

FAMILY = "DGX Spark"
"""DMI product_family of the Founders Edition and of the OEM machines whose strings are known."""
NVIDIA = "0x10de"
GB10_GPU = "0x2e12"
NOTHING = "nothing"

MOST_CHARACTERS = 256
"""Longer than any firmware string (SMBIOS allows 255 of them in practice); the rest is cut."""

_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,16}")
_AT_PAGESZ = 6


@frozen
class Evidence:
    """One thing that was looked at.

    Attributes:
        what: `DMI product family`, `GPU PCI id`, `CPU parts`, `DGX release`.
        found: what was found there, as found; `nothing` if it is missing.
        speaks: which way it speaks.
    """

    what: str
    found: str
    speaks: Speaks


@frozen
class Host:
    """The machine.

    Attributes:
        root: where its files are.
        verdict: `gb10` or `not-gb10`.
        evidence: everything that was looked at.
        name: host name.
        vendor, model, family, board: DMI strings as found; empty if absent.
        clusters: the CPUs by kind, performance first; one that was offline when looked at may be in none.
        cpus: all CPUs present, ascending.
        kernel: kernel release.
        architecture: `aarch64`, `x86_64`.
        page_size_kib: size of a page in KiB.
        os_release: PRETTY_NAME.
        dgx_release: name and version; empty if this is no DGX OS.
        boot_id: the kernel's random id of this boot.
    """

    root: Root
    verdict: Literal["gb10", "not-gb10"]
    evidence: tuple[Evidence, ...]
    name: str
    vendor: str
    model: str
    family: str
    board: str
    clusters: tuple[Cluster, ...]
    cpus: tuple[int, ...]
    kernel: str
    architecture: str
    page_size_kib: int
    os_release: str
    dgx_release: str
    boot_id: str


def detect(root: Root) -> Host:
    """Look at everything that tells what machine this is. Never raises: what cannot be read is unknown.

    Any one of product family, GPU and both CPU parts makes it a GB10; /etc/dgx-release only supports that,
    and the vendor never counts.
    """
    cpus = list_present(root)
    parts = read_parts(root, cpus)
    family = _firmware(root, "product_family")
    release = _assignments(root, "/etc/dgx-release")
    decisive = (_judge_family(family), _judge_gpu(root), _judge_parts(root, parts, of=len(cpus)))
    return Host(
        root=root,
        verdict="gb10" if any(evidence.speaks == "for" for evidence in decisive) else "not-gb10",
        evidence=(*decisive, _judge_release(release)),
        name=_text(root, "/proc/sys/kernel/hostname") or _text(root, "/etc/hostname"),
        vendor=_firmware(root, "sys_vendor"),
        model=_firmware(root, "product_name"),
        family=family,
        board=_firmware(root, "board_name"),
        clusters=find_clusters(cpus, parts, read_capacities(root, cpus)),
        cpus=cpus,
        kernel=_text(root, "/proc/sys/kernel/osrelease"),
        architecture=_architecture(root, parts),
        page_size_kib=_page_size(root) // 1024,
        os_release=_operating_system(root),
        dgx_release=_name_and_version(release),
        boot_id=_text(root, "/proc/sys/kernel/random/boot_id"),
    )


def describe(host: Host, conflicts: Conflicts = NOT_LOOKED) -> Hardware:
    """The machine as it is published, with the conflicts that were found on it."""
    return Hardware(
        verdict=host.verdict,
        evidence=tuple(
            EvidenceItem(what=evidence.what, found=evidence.found, speaks=evidence.speaks)
            for evidence in host.evidence
        ),
        name=host.name,
        vendor=host.vendor,
        model=host.model,
        family=host.family,
        board=host.board,
        clusters=tuple(
            ClusterInfo(
                kind=cluster.kind,
                name=cluster.name,
                cpus=format_cpu_list(cluster.cpus),
                count=len(cluster.cpus),
                read_from=cluster.read_from,
            )
            for cluster in host.clusters
        ),
        kernel=host.kernel,
        architecture=host.architecture,
        page_size_kib=host.page_size_kib,
        os_release=host.os_release,
        dgx_release=host.dgx_release,
        conflicts=conflicts,
    )


def _judge_family(family: str) -> Evidence:
    if not family.strip():
        return Evidence(what="DMI product family", found=NOTHING, speaks="neither")
    same = " ".join(family.split()) == FAMILY  # firmware strings come with odd blanks
    return Evidence(what="DMI product family", found=family, speaks="for" if same else "against")


def _judge_gpu(root: Root) -> Evidence:
    """Look for the GPU among all PCI devices; a GB10 always has it there, so its absence says something."""
    addresses = root.names("/sys/bus/pci/devices")
    found = {address: device for address in addresses if (device := _nvidia_gpu(root, address))}
    speaks: Speaks = "against" if addresses else "neither"
    if GB10_GPU in found.values():
        speaks = "for"
    listed = ", ".join(f"10de:{device[2:]} at {address}" for address, device in found.items())
    return Evidence(what="GPU PCI id", found=_printable(listed) or NOTHING, speaks=speaks)


def _nvidia_gpu(root: Root, address: str) -> str | None:
    """The PCI device id if this is an NVIDIA display controller (class 0x03, or the GB10's own id)."""
    directory = f"/sys/bus/pci/devices/{address}"
    if root.read(f"{directory}/vendor") != NVIDIA:  # bridges and NICs of NVIDIA exist too
        return None
    device = root.read(f"{directory}/device") or ""
    is_display = (root.read(f"{directory}/class") or "").startswith("0x03")
    return device if device == GB10_GPU or (is_display and _HEXADECIMAL.fullmatch(device)) else None


def _judge_parts(root: Root, parts: Mapping[int, int], *, of: int) -> Evidence:
    """Compare the CPU parts. CPUs that are offline show none, so one kind alone then proves nothing."""
    if not parts:  # a cpuinfo without any part is that of another architecture
        speaks: Speaks = "against" if root.read("/proc/cpuinfo") else "neither"
        return Evidence(what="CPU parts", found=NOTHING, speaks=speaks)
    counted = Counter(parts.values())
    listed = ", ".join(_name_part(part, counted[part]) for part in sorted(counted))
    speaks = "neither" if len(parts) < of else "against"
    if counted.keys() >= CORES.keys():
        speaks = "for"
    return Evidence(what="CPU parts", found=listed[:MOST_CHARACTERS], speaks=speaks)


def _name_part(part: int, count: int) -> str:
    name = f" ({CORES[part]})" if part in CORES else ""
    return f"{part:#05x}{name} on {count} CPU{'' if count == 1 else 's'}"


def _judge_release(release: Mapping[str, str]) -> Evidence:
    """Supporting evidence only: a GB10 with another distribution has no such file."""
    name = release.get("DGX_NAME", "")
    if not name:
        return Evidence(what="DGX release", found=NOTHING, speaks="neither")
    return Evidence(
        what="DGX release", found=_name_and_version(release), speaks="for" if name == FAMILY else "against"
    )


def _architecture(root: Root, parts: Mapping[int, int]) -> str:
    """As uname says; in a tree from /proc/sys/kernel/arch (since Linux 6.1), else by what its CPUs show."""
    if root.is_real:
        return os.uname().machine
    return _text(root, "/proc/sys/kernel/arch") or ("aarch64" if parts else "x86_64")


def _page_size(root: Root) -> int:
    """Size of a page in bytes; in a tree from AT_PAGESZ of the auxiliary vector (getauxval(3)), else 4096."""
    if root.is_real:
        return os.sysconf("SC_PAGE_SIZE")
    vector = root.read_bytes("/proc/self/auxv") or b""
    whole = len(vector) // 16 * 16
    sizes = [size for key, size in struct.iter_unpack("<QQ", vector[:whole]) if key == _AT_PAGESZ]
    return sizes[0] if sizes and sizes[0] in {4096, 16384, 65536} else 4096


def _operating_system(root: Root) -> str:
    """PRETTY_NAME of os-release(5); empty if there is none."""
    release = _assignments(root, "/etc/os-release") or _assignments(root, "/usr/lib/os-release")
    return release.get("PRETTY_NAME", "")


def _name_and_version(release: Mapping[str, str]) -> str:
    """DGX_NAME and the version of the latest update, else of the image it was installed from."""
    version = release.get("DGX_OTA_VERSION") or release.get("DGX_SWBUILD_VERSION", "")
    return f"{release.get('DGX_NAME', '')} {version}".strip()


def _assignments(root: Root, name: str) -> dict[str, str]:
    """The `KEY="value"` lines of a file; of several with the same key the last one counts."""
    lines = (root.read(name) or "").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {_printable(key.strip()): _printable(value.strip().strip("\"'")) for key, _, value in pairs}


def _firmware(root: Root, name: str) -> str:
    """A DMI string as found, blanks and all; Documentation/ABI/testing/sysfs-class-dmi."""
    data = root.read_bytes(f"/sys/class/dmi/id/{name}") or b""
    return _printable(data.decode(errors="replace").removesuffix("\n"))


def _text(root: Root, name: str) -> str:
    return _printable(root.read(name) or "")


def _printable(text: str) -> str:
    """The text, cut, and with a mark for each character that could disturb a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text[:MOST_CHARACTERS])
