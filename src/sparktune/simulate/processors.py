"""The CPUs of a simulated machine: clusters, idle states, clocks; and CPUs that go offline and come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparktune.cpus import format_cpu_list
from sparktune.errors import UsageError
from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.simulate.writer import TreeWriter

CPU = "/sys/devices/system/cpu"

_IMPLEMENTER = 0x41
_REVISION = 1
_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm sve sve2 bti"


@frozen
class Core:
    """One kind of core.

    Attributes:
        part: part number of its MIDR_EL1; None for a CPU that is no Arm.
        capacities: the values its cpu_capacity takes, one CPU with another; empty: the file is missing.
        fastest_khz: its highest clock.
    """

    part: int | None = None
    capacities: range = range(0)
    fastest_khz: int


@dataclass(frozen=True, slots=True)
class IdleState:
    """One idle state, as `cpuidle/stateN` shows it."""

    name: str
    desc: str
    latency_us: int
    residency_us: int


@frozen
class Processor:
    """All CPUs of a machine.

    Attributes:
        cores: the kind of each CPU, by number.
        states: the idle states every CPU has.
        idle_driver: name of the cpuidle driver.
        frequency_driver: name of the cpufreq driver.
        package: physical_package_id.
    """

    cores: tuple[Core, ...]
    states: tuple[IdleState, ...]
    idle_driver: str = "acpi_idle"
    frequency_driver: str = "cppc_cpufreq"
    package: int


def build_cpus(writer: TreeWriter, processor: Processor) -> None:
    """Make everything below /sys/devices/system/cpu, all CPUs online, and /proc/cpuinfo."""
    everything = format_cpu_list(range(len(processor.cores)))
    writer.write(CPU, {"present": everything, "possible": everything, "kernel_max": 511, "isolated": ""})
    writer.write(
        f"{CPU}/cpuidle",
        {
            "current_driver": processor.idle_driver,
            "current_governor": "menu",
            "current_governor_ro": "menu",
            "available_governors": "ladder menu teo",
        },
    )
    for cpu in range(len(processor.cores)):
        _build_cpu(writer, processor, cpu)
        _show_online(writer, processor, cpu)
    _list_online(writer, processor, range(len(processor.cores)))


def set_cpu_online(writer: TreeWriter, processor: Processor, cpu: int, *, online: bool) -> None:
    """Take a CPU offline or bring it back, with what the kernel removes and adds for it.

    Offline: its registers, topology, capacity and clocks are gone and cpuinfo leaves it out; its idle states
    stay. Online again: the idle states are new files that keep their values.
    """
    if not 0 < cpu < len(processor.cores):
        raise UsageError(
            f"cannot switch CPU {cpu} of the simulated machine",
            hint=f"it has CPUs 1 to {len(processor.cores) - 1} that can be switched",
        )
    if writer.read(f"{CPU}/cpu{cpu}/online") == str(int(online)):
        return
    writer.write(f"{CPU}/cpu{cpu}", {"online": int(online)})
    if online:
        _show_online(writer, processor, cpu)
        writer.replace_directory(f"{CPU}/cpu{cpu}/cpuidle")
    else:
        _hide_offline(writer, cpu)
    switched = range(1, len(processor.cores))
    numbers = [number for number in switched if writer.read(f"{CPU}/cpu{number}/online") == "1"]
    _list_online(writer, processor, [0, *numbers])


def _build_cpu(writer: TreeWriter, processor: Processor, cpu: int) -> None:
    directory = f"{CPU}/cpu{cpu}"
    if cpu:  # the boot CPU cannot be switched off and has no such file
        writer.write(directory, {"online": 1})
    writer.write(
        f"{directory}/power",
        {"control": "auto", "pm_qos_resume_latency_us": 0, "runtime_status": "unsupported"},
    )
    for index, state in enumerate(processor.states):
        writer.write(f"{directory}/cpuidle/state{index}", _idle_files(state, index, cpu))


def _idle_files(state: IdleState, index: int, cpu: int) -> dict[str, str | int]:
    """The files of one state; the counters look like those of a machine that has been up for a while."""
    usage = 100_000 // (index + 1) + 37 * cpu
    return {
        "name": state.name,
        "desc": state.desc,
        "latency": state.latency_us,
        "residency": state.residency_us,
        "disable": 0,
        "default_status": "enabled",
        "usage": usage,
        "time": usage * (state.residency_us + 20),
        "above": usage // 50 if index else 0,
        "below": usage // 40,
        "rejected": 0,
        "power": 0,
    }


def _show_online(writer: TreeWriter, processor: Processor, cpu: int) -> None:
    """Make what only a CPU that is online has."""
    core = processor.cores[cpu]
    directory = f"{CPU}/cpu{cpu}"
    if core.part is not None:
        midr = _IMPLEMENTER << 24 | 0xF << 16 | core.part << 4 | _REVISION
        registers = {"midr_el1": f"{midr:#018x}", "revidr_el1": f"{0:#018x}"}
        writer.write(f"{directory}/regs/identification", registers)
    if core.capacities:
        spread = (11 * cpu) % len(core.capacities)  # no two neighbours alike, as on a real one
        writer.write(directory, {"cpu_capacity": core.capacities[spread]})
    writer.write(
        f"{directory}/topology",
        {
            "core_id": cpu,
            "physical_package_id": processor.package,
            "core_cpus_list": cpu,
            "thread_siblings_list": cpu,
            "package_cpus_list": format_cpu_list(range(len(processor.cores))),
        },
    )
    policy = f"{CPU}/cpufreq/policy{cpu}"
    writer.write(
        policy,
        {
            "affected_cpus": cpu,
            "related_cpus": cpu,
            "scaling_driver": processor.frequency_driver,
            "scaling_governor": "performance",
            "cpuinfo_min_freq": 338_000,
            "cpuinfo_max_freq": core.fastest_khz,
            "scaling_min_freq": 338_000,
            "scaling_max_freq": core.fastest_khz,
        },
    )
    writer.link(f"{directory}/cpufreq", policy)


def _hide_offline(writer: TreeWriter, cpu: int) -> None:
    directory = f"{CPU}/cpu{cpu}"
    for name in ("regs", "topology", "cpu_capacity", "cpufreq"):
        if writer.exists(f"{directory}/{name}"):
            writer.remove(f"{directory}/{name}")
    writer.remove(f"{CPU}/cpufreq/policy{cpu}")


def _list_online(writer: TreeWriter, processor: Processor, online: Sequence[int]) -> None:
    offline = set(range(len(processor.cores))).difference(online)
    writer.write(CPU, {"online": format_cpu_list(online), "offline": format_cpu_list(offline)})
    blocks = "\n\n".join(_describe_cpu(processor.cores[cpu], cpu) for cpu in online)
    writer.write("/proc", {"cpuinfo": f"{blocks}\n"})


def _describe_cpu(core: Core, cpu: int) -> str:
    """The lines of one CPU in /proc/cpuinfo."""
    if core.part is None:
        return (
            f"processor\t: {cpu}\nvendor_id\t: SimulatedX86\nmodel name\t: Simulated x86-64 CPU\n"
            f"cpu MHz\t\t: {core.fastest_khz // 1000}.000\ncpu cores\t: 8"
        )
    return (
        f"processor\t: {cpu}\nBogoMIPS\t: 2000.00\nFeatures\t: {_FEATURES}\n"
        f"CPU implementer\t: {_IMPLEMENTER:#x}\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: {core.part:#x}\nCPU revision\t: {_REVISION}"
    )
