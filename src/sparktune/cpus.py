"""The CPUs of a machine: which are there, of which kind each is, and how Linux writes lists of them.

Kinds are read from the hardware, never from CPU numbers; nothing here knows which machine it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from sparktune.cpulist import HIGHEST_CPU, parse_cpu_list
from sparktune.errors import UsageError
from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sparktune.kernel.root import Root

Kind = Literal["performance", "efficiency", "uniform"]

CORES = {0xD85: "Cortex-X925", 0xD87: "Cortex-A725"}
"""Names of the parts a GB10 has (MIDR_EL1, bits 4 to 15), the fastest first."""

LEAST_GAP = 1.15
"""Capacities inside a cluster of a GB10 differ by up to 3 %, those of its clusters by 36 %."""

_CPU = "/sys/devices/system/cpu"
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,16}")
_DECIMAL = re.compile(r"[0-9]{1,9}")


@frozen
class Cluster:
    """The CPUs of one kind.

    Attributes:
        kind: `performance`, `efficiency`, or `uniform` where nothing tells CPUs apart.
        name: `Cortex-X925` where the part number is known; empty otherwise.
        cpus: CPU numbers, ascending.
        read_from: `MIDR`, `cpu_capacity` or `nothing`.
    """

    kind: Kind
    name: str
    cpus: tuple[int, ...]
    read_from: str


def format_cpu_list(cpus: Iterable[int]) -> str:
    """CPU numbers the way the kernel lists them: `5-9,15-19`; empty for none."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def list_present(root: Root) -> tuple[int, ...]:
    """All CPUs that are there, online or not; Documentation/ABI/testing/sysfs-devices-system-cpu."""
    try:
        cpus = parse_cpu_list(root.read(f"{_CPU}/present") or "")
    except UsageError:  # missing or damaged: the directories say it too
        cpus = ()
    if cpus:
        return cpus
    directories = (name.removeprefix("cpu") for name in root.names(_CPU) if name.startswith("cpu"))
    numbers = {int(number) for number in directories if _DECIMAL.fullmatch(number)}
    return tuple(sorted(numbers or _parts_in_cpuinfo(root)))


def read_parts(root: Root, cpus: Iterable[int]) -> dict[int, int]:
    """The part number of each CPU that shows it: from MIDR_EL1, else from /proc/cpuinfo.

    The kernel shows both only for CPUs that are online (Documentation/arch/arm64/cpu-feature-registers.rst).
    """
    registers = {cpu: root.read(f"{_CPU}/cpu{cpu}/regs/identification/midr_el1") or "" for cpu in cpus}
    parts = {
        cpu: int(midr, 16) >> 4 & 0xFFF for cpu, midr in registers.items() if _HEXADECIMAL.fullmatch(midr)
    }
    if len(parts) == len(registers):
        return parts
    return {cpu: part for cpu, part in _parts_in_cpuinfo(root).items() if cpu in registers} | parts


def _parts_in_cpuinfo(root: Root) -> dict[int, int]:
    parts: dict[int, int] = {}
    cpu: int | None = None
    for line in (root.read("/proc/cpuinfo") or "").splitlines():
        key, _, value = (piece.strip() for piece in line.partition(":"))
        if key == "processor":
            cpu = int(value) if _DECIMAL.fullmatch(value) and int(value) <= HIGHEST_CPU else None
        elif key == "CPU part" and cpu is not None and _HEXADECIMAL.fullmatch(value):
            parts[cpu] = int(value, 16) & 0xFFF
    return parts


def read_capacities(root: Root, cpus: Iterable[int]) -> dict[int, int]:
    """The relative speed of each CPU, 1024 being the fastest; Documentation/scheduler/sched-capacity.rst."""
    texts = {cpu: root.read(f"{_CPU}/cpu{cpu}/cpu_capacity") or "" for cpu in cpus}
    return {cpu: int(text) for cpu, text in texts.items() if _DECIMAL.fullmatch(text) and int(text)}


def find_clusters(
    cpus: Sequence[int], parts: Mapping[int, int], capacities: Mapping[int, int]
) -> tuple[Cluster, ...]:
    """The CPUs by kind, the fastest first. A CPU that is offline and so tells nothing is in no cluster."""
    ranked = _rank_parts(parts, capacities)
    if ranked:
        groups = [tuple(cpu for cpu in sorted(parts) if parts[cpu] == part) for part in ranked]
        return _name_clusters(groups, [CORES.get(part, "") for part in ranked], "MIDR")
    names = {CORES.get(part, "") for part in parts.values()}
    name = names.pop() if len(names) == 1 else ""
    groups = _group_capacities(capacities)
    if len(groups) > 1:
        return _name_clusters(groups, [name] * len(groups), "cpu_capacity")
    if not cpus:
        return ()
    if name:
        return (Cluster(kind="uniform", name=name, cpus=tuple(sorted(parts)), read_from="MIDR"),)
    return (Cluster(kind="uniform", name="", cpus=tuple(cpus), read_from="nothing"),)


def _rank_parts(parts: Mapping[int, int], capacities: Mapping[int, int]) -> list[int]:
    """The part numbers, the fastest first; none where they do not differ or nothing ranks them."""
    different = sorted(set(parts.values()))
    if len(different) < 2:  # noqa: PLR2004 - two kinds of cores
        return []
    known = [part for part in CORES if part in different]
    measured = {
        part: max((capacities[cpu] for cpu in parts if parts[cpu] == part and cpu in capacities), default=0)
        for part in different
    }
    if 0 not in measured.values() and len(set(measured.values())) == len(different):
        return sorted(different, key=measured.__getitem__, reverse=True)
    return known if len(known) == len(different) else []


def _group_capacities(capacities: Mapping[int, int]) -> list[tuple[int, ...]]:
    """CPUs in groups that differ clearly in capacity, the fastest first."""
    groups: list[list[int]] = []
    slowest = 0
    for cpu in sorted(capacities, key=lambda number: (-capacities[number], number)):
        if not groups or slowest >= LEAST_GAP * capacities[cpu]:
            groups.append([])
        groups[-1].append(cpu)
        slowest = capacities[cpu]
    return [tuple(sorted(group)) for group in groups]


def _name_clusters(
    groups: Sequence[tuple[int, ...]], names: Sequence[str], read_from: str
) -> tuple[Cluster, ...]:
    return tuple(
        Cluster(kind="efficiency" if place else "performance", name=name, cpus=cpus, read_from=read_from)
        for place, (name, cpus) in enumerate(zip(names, groups, strict=True))
    )
