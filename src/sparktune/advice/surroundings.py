"""The facts of the machine that rules need besides the engine: memory, CPUs, idle states, read-ahead."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparktune.advice.model import HostFacts
from sparktune.advice.rules.cpus import may_answer_nodes
from sparktune.cpus import list_present
from sparktune.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sparktune.advice.model import Engine
    from sparktune.fabric.model import Fabric
    from sparktune.kernel.root import Root
    from sparktune.tuner import Tuner

_CPU = "/sys/devices/system/cpu"


def read_uptime_s(root: Root) -> float:
    """Seconds since boot, suspend included (proc_uptime(5)); 0 where that is not known."""
    try:
        return float((root.read("/proc/uptime") or "").split()[0])
    except (IndexError, ValueError):  # no procfs
        return 0.0


def read_host(tuner: Tuner, *, engines: tuple[Engine, ...], fabric: Fabric | None) -> HostFacts:
    """The machine as it is now; its idle states, hundreds of files, only for engines they can matter to."""
    root = tuner.host.root
    memory = _read_meminfo(root)
    kinds = {cluster.kind: frozenset(cluster.cpus) for cluster in tuner.host.clusters}
    cached, shared = memory.get("Cached"), memory.get("Shmem")
    swap, free = memory.get("SwapTotal"), memory.get("SwapFree")
    return HostFacts(
        kernel=tuner.host.kernel,
        memory_bytes=memory.get("MemTotal"),
        available_bytes=memory.get("MemAvailable"),
        page_cache_bytes=None if cached is None else cached - (shared or 0),
        swap_total_bytes=swap,
        swap_used_bytes=None if swap is None or free is None else swap - free,
        performance_cpus=kinds.get("performance", frozenset()),
        efficiency_cpus=kinds.get("efficiency", frozenset()),
        deepest_idle_us=read_deepest_idle_us(root) if any(map(may_answer_nodes, engines)) else None,
        read_ahead_kb=tuner.settings.nvme.read_ahead_kb if _holds_read_ahead(tuner) else None,
        uptime_s=read_uptime_s(root),
        engines=engines,
        fabric=fabric,
        management=_management(root, fabric),
    )


def _read_meminfo(root: Root) -> Mapping[str, int]:
    """proc_meminfo(5), in bytes."""
    found: dict[str, int] = {}
    for line in (root.read("/proc/meminfo") or "").splitlines():
        key, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            found[key] = int(words[0]) * 1024
    return found


def read_deepest_idle_us(root: Root) -> int | None:
    """The longest exit latency of a state that is enabled on any CPU; None: no cpuidle here.

    Source: Documentation/admin-guide/pm/cpuidle.rst.
    """
    deepest: int | None = None
    for cpu in list_present(root):
        for state in root.names(f"{_CPU}/cpu{cpu}/cpuidle"):
            latency = root.read(f"{_CPU}/cpu{cpu}/cpuidle/{state}/latency") or ""
            if latency.isdigit() and root.read(f"{_CPU}/cpu{cpu}/cpuidle/{state}/disable") == "0":
                deepest = max(deepest or 0, int(latency))
    return deepest


def _holds_read_ahead(tuner: Tuner) -> bool:
    return any(_is_read_ahead(name) for name in tuner.engine.held)


def _is_read_ahead(name: str) -> bool:
    return name.startswith("nvme.") and name.endswith(".read_ahead_kb")


def read_ahead_since(tuner: Tuner, device: str) -> float | None:
    """When the read-ahead of the file system on `major:minor` was last changed by us, in seconds since boot.

    None: it was not, or does not hold now.
    """
    root = tuner.host.root
    path = root.resolve(f"/sys/dev/block/{device}").split("/")
    for name in (path[-1], path[-2] if len(path) > 1 else ""):  # a partition lies below its disk
        held = tuner.engine.held.get(f"nvme.{name}.read_ahead_kb")
        if held is None or held.verdict is not Verdict.OK:
            continue
        original = tuner.engine.originals.find(held.key)
        moments = [original.at] if original is not None else []
        if held.last_drift is not None and held.last_drift.action in {"healed", "applied"}:
            moments.append(held.last_drift.at)
        ages = [(datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds() for moment in moments]
        return max(read_uptime_s(root) - min(ages), 0.0) if ages else None
    return None


def _management(root: Root, fabric: Fabric | None) -> tuple[str, ...]:
    """Interfaces that are up and no function of the fabric; virtual ones have no device."""
    ours = {function.netdev for function in fabric.functions} if fabric else set()
    return tuple(
        name
        for name in root.names("/sys/class/net")
        if name not in ours
        and root.exists(f"/sys/class/net/{name}/device")
        and root.read(f"/sys/class/net/{name}/operstate") == "up"
    )
