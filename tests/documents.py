"""Published documents for the API's tests: a small host, made from the dataclasses of the snapshot."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from sparktune.fabric.model import Fabric, Function, Gid, Owner, OwnerKind, Presence, RdmaPort
from sparktune.fabric.report import FabricFinding, FabricReport, Judged, report
from sparktune.published import encode, publish, timestamp
from sparktune.snapshot import (
    Advice,
    AdviceReport,
    AdviceSummary,
    AreaSummary,
    Checked,
    ClusterInfo,
    ConfigReport,
    ConfigSummary,
    ConfigValue,
    Conflict,
    Conflicts,
    Counters,
    Daemon,
    DriftReport,
    DriftSummary,
    EngineInfo,
    EvidenceItem,
    Hardware,
    HostSummary,
    LastDrift,
    Neighbour,
    NotHolding,
    Status,
    Tunables,
    TunableState,
    Writer,
)

if TYPE_CHECKING:
    from pathlib import Path

SWEEP_S = 10.0
WRITER = Writer(kind="process", comm="cpupower", pid=812, exe="/usr/bin/cpupower", uid=0, parent="bash[811]")
NOT_HOLDING = NotHolding(
    id="roce.rocep1s0f0.default_roce_mode",
    wanted="RoCE v2",
    actual="IB/RoCE v1",
    verdict="contested",
    reason="somebody writes it back",
    since="2026-11-23T16:00:00.000000Z",
    owner=None,
    do="stop the rival",
)
DRIFT = DriftSummary(
    at="2026-11-23T16:00:00.000000Z",
    area="cpuidle",
    tunables=60,
    ids=("cpuidle.cpu0.state1",),
    wanted=1,
    found=0,
    noticed="fanotify",
    action="healed",
    reason="",
    took_us=4100,
    by=WRITER,
)

CONFLICT = Conflict(
    who="udev rule",
    unit=None,
    file="/etc/udev/rules.d/60-read-ahead.rules",
    line=3,
    text='ATTR{queue/read_ahead_kb}="4096"',
    area="nvme",
    attribute="/sys/block/nvme0n1/queue/read_ahead_kb",
    tunables=1,
    ids=("nvme.nvme0n1.read_ahead_kb",),
    value="4096",
    wanted=8192,
    agrees=False,
    says="sets read_ahead_kb of nvme0n1 to 4096 KiB, sparktune holds 8192 KiB",
    do="take it out of there",
)


def make_advice() -> AdviceReport:
    """One engine that maps its model, and one finding about it."""
    engine = EngineInfo(
        pid=4711,
        kind="llama.cpp",
        role="server",
        name="llama-server",
        version=None,
        version_from="",
        container="3f2a5b6c7d8e",
        unit="docker.service",
        uid=1000,
        started_at="2026-11-23T15:00:00.000000Z",
        signs=("program llama-server", "has /models/gpt-oss-120b.gguf mapped or open"),
        model="gpt-oss-120b, MXFP4",
        mapped_bytes=63 << 30,
        resident_bytes=60 << 30,
        rdma=False,
        queue_pairs=None,
        unreadable=(),
    )
    finding = Advice(
        rule="llama-mmap",
        severity="warning",
        pid=4711,
        engine="llama-server",
        since="2026-11-23T15:01:00.000000Z",
        what="60 GiB of its model are mapped and resident",
        why="the GPU reads mapped pages 4 KiB at a time",
        do="--load-mode none",
        expect="a load in 22 s instead of 90",
        source="llama.cpp b10605, common/arg.cpp",
        certainty="reported",
    )
    says = "1 finding (1 costly), 1 engine examined: sparktune advise"
    return AdviceReport(
        looked_at="2026-11-23T15:01:00.000000Z",
        summary=AdviceSummary(enabled=True, engines=1, findings=1, warnings=1, says=says),
        findings=(finding,),
        engines=(engine,),
        ignored=(),
        unseen="",
    )


def make_status(*, age_s: float = 0.0, instance: str = "a1b2", number: int = 7) -> Status:
    """A status that was verified `age_s` seconds ago."""
    return Status(
        state="degraded",
        summary="checked 3 of 3; 2 hold; somebody keeps writing default_roce_mode back",
        host=HostSummary(name="spark-9f8f", model="NVIDIA_DGX_Spark", kernel="6.17.0-nvidia"),
        checked=Checked(
            hold=2, of=3, read=3, drift=0, blocked=0, contested=1, failed=0, absent=0, paused=0, unmanaged=0
        ),
        mode="enforce",
        paused_until=None,
        config=ConfigSummary(sha256="3f2a", on_disk="same", error=None),
        areas={
            "nvme": AreaSummary(state="ok", says="8192 KiB on 1 disk"),
            "cpuidle": AreaSummary(state="ok", says="LPI-0 only"),
            "roce": AreaSummary(state="contested", says="RDMA-CM default not held"),
        },
        not_holding=(NOT_HOLDING,),
        drifts=(DRIFT,),
        warnings=(),
        advice=AdviceSummary(
            enabled=True, engines=3, findings=0, warnings=0, says="nothing to advise, 3 engines examined"
        ),
        daemon=Daemon(
            version="0.1.0",
            instance=instance,
            number=number,
            pid=os.getpid(),
            started_at="2026-11-23T15:00:00.000000Z",
            verified_at=timestamp(),
            verified_monotonic=time.monotonic() - age_s,
            sweep_s=SWEEP_S,
            events="fanotify+pid",
        ),
    )


def make_tunables() -> Tunables:
    """One tunable of each area; the last does not hold."""
    first = TunableState(
        id="nvme.nvme0n1.read_ahead_kb",
        area="nvme",
        device="nvme0n1",
        attribute="/sys/block/nvme0n1/queue/read_ahead_kb",
        check=False,
        policy="enforce",
        wanted=8192,
        actual=8192,
        original=128,
        unit="KiB",
        verdict="ok",
        reason="",
        since="2026-11-23T16:00:00.000000Z",
        last_drift=LastDrift(at="2026-11-23T16:00:00.000000Z", found=128, action="healed", by=WRITER),
        heals=1,
        disruptive=False,
        why="sequential reads",
        source="measured",
        risk="",
        key="nvme.read_ahead_kb",
        layer="default",
        owner=None,
        do="",
        verified_at="2026-11-23T16:31:00.000000Z",
    )
    second = replace(first, id="cpuidle.cpu0.state1", area="cpuidle", device="cpu0", unit="µs")
    third = replace(first, id=NOT_HOLDING.id, area="roce", device="rocep1s0f0", verdict="contested")
    return Tunables(
        instance="a1b2", verified_at="2026-11-23T16:31:00.000000Z", tunables=(first, second, third)
    )


def make_drift() -> DriftReport:
    """What does not hold, and one episode."""
    return DriftReport(not_holding=(NOT_HOLDING,), episodes=(DRIFT,))


def make_hardware() -> Hardware:
    """A GB10."""
    return Hardware(
        verdict="gb10",
        evidence=(EvidenceItem(what="DMI product family", found="DGX Spark", speaks="for"),),
        name="spark-9f8f",
        vendor="NVIDIA",
        model="NVIDIA_DGX_Spark",
        family="DGX Spark",
        board="P4242",
        clusters=(
            ClusterInfo(kind="performance", name="Cortex-X925", cpus="5-9,15-19", count=10, read_from="MIDR"),
        ),
        kernel="6.17.0-nvidia",
        architecture="aarch64",
        page_size_kib=4,
        os_release="Ubuntu 24.04.3 LTS",
        dgx_release="DGX Spark 7.2.3",
        conflicts=Conflicts(
            looked_at="2026-11-23T16:00:01.000000Z",
            files=87,
            found=(CONFLICT,),
            neighbours=(Neighbour(unit="tlp.service", file="/etc/tlp.conf", says="governor"),),
            gaps=("/etc/cron.d/x: not readable",),
        ),
    )


def make_fabric() -> FabricReport:
    """One port whose second twin is down, and a Soft-RoCE device."""
    rdma = RdmaPort(
        device="rocep1s0f0",
        number=1,
        state="ACTIVE",
        physical="LinkUp",
        link_layer="Ethernet",
        rate_gbps=200.0,
        gids=(
            Gid(
                index=3, gid="0000:0000:0000:0000:0000:ffff:c0a8:640a", kind="RoCE v2", ipv4="192.168.100.10"
            ),
        ),
    )
    first = Function(
        bdf="0000:01:00.0", netdev="enp1s0f0np0", rdma=rdma, port="p0", driver="mlx5_core", out_of_tree=False,
        firmware="28.45.4028", carrier=True, mtu=9000, pcie_gts=32.0, pcie_width=4,
        addresses=("192.168.100.10/24",),
        owner=Owner(kind=OwnerKind.NETPLAN, file="/etc/netplan/40-cx7.yaml", key="network.x", mtu=9000),
    )  # fmt: skip
    second = Function(bdf="0002:01:00.0", netdev="enP2p1s0f0np0", port="p0", carrier=False, mtu=9000)
    other = Function(
        bdf="", netdev="eth0", rdma=RdmaPort(device="rxe0", number=1, state="ACTIVE"), carrier=True
    )
    finding = FabricFinding(
        id="roce.enP2p1s0f0np0.link", verdict="drift", wanted="up", actual="down", reason="no carrier",
        do="look at the cable",
    )  # fmt: skip
    holding = FabricFinding(id="roce.rocep1s0f0.rate", verdict="ok", wanted=200, actual=200, reason="", do="")
    fabric = Fabric(presence=Presence.PRESENT, functions=(first, second), others=(other,))
    judged = (Judged(device="enP2p1s0f0np0", finding=finding), Judged(device="rocep1s0f0", finding=holding))
    return report(fabric, judged)


def make_config() -> ConfigReport:
    """An effective configuration with a value of each type."""
    return ConfigReport(
        sha256="3f2a",
        on_disk="same",
        error=None,
        files=("/etc/sparktune.toml",),
        values={
            "mode": ConfigValue(value="enforce", layer="default"),
            "nvme.read_ahead_kb": ConfigValue(value=8192, layer="/etc/sparktune.toml"),
            "nvme.devices": ConfigValue(value=["nvme*"], layer="default"),
            "require_gb10": ConfigValue(value=True, layer="default"),
            "sweep": ConfigValue(value=10.0, layer="default"),
        },
    )


def make_counters() -> Counters:
    """Three heals: two within 100 µs, one within 1 ms."""
    return Counters(
        drifts={"cpuidle": {"healed": 60, "left": 1}, "nvme": {"healed": 2}},
        heal_us_buckets=((100, 2), (1000, 3)),
        heal_us_sum=650,
        heals=3,
        overflows=1,
        history_dropped=0,
        sweeps=42,
        sweep_last_us=250,
    )


def publish_status(run_dir: Path, status: Status) -> bytes:
    """Publish a status as the daemon does; gives the bytes on disk."""
    publish(run_dir, "status", encode(status))
    return (run_dir / "status.json").read_bytes()


def publish_everything(run_dir: Path) -> None:
    """Publish all documents of a fresh snapshot."""
    publish_status(run_dir, make_status())
    for name, document in (
        ("tunables", make_tunables()),
        ("drift", make_drift()),
        ("hardware", make_hardware()),
        ("fabric", make_fabric()),
        ("advice", make_advice()),
        ("config", make_config()),
        ("counters", make_counters()),
    ):
        publish(run_dir, name, encode(document))
