"""Engines, evidence and machines for the tests of the advisor's rules: a Spark with two cabled functions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sparktune.advice.model import (
    Connection,
    Engine,
    EngineKind,
    Evidence,
    HostFacts,
    ModelFacts,
    ModelFile,
    Role,
)
from sparktune.fabric.model import Fabric, Function, Gid, Presence, RdmaPort

if TYPE_CHECKING:
    from sparktune.advice.model import Finding, Rule

GIB = 1 << 30
MIB = 1 << 20
GGUF = "/models/gpt-oss-120b.gguf"
SHARD = "/models/qwen/model-00001-of-00008.safetensors"


def llama(*options: str, version: str | None = None, role: Role = Role.SERVER, **more: object) -> Engine:
    return engine(EngineKind.LLAMA_CPP, role, "llama-server", ("llama-server", *options), version, more)


def ollama(*, version: str | None = None, role: Role = Role.RUNNER) -> Engine:
    return engine(EngineKind.OLLAMA, role, "llama-server", ("llama-server",), version, {})


def vllm(*options: str, version: str | None = None, role: Role = Role.SERVER, **more: object) -> Engine:
    name = "vllm" if role is Role.SERVER else "VLLM::Worker_TP0"
    return engine(EngineKind.VLLM, role, name, ("vllm", "serve", *options), version, more)


def sglang(*options: str, version: str | None = None, role: Role = Role.SERVER, **more: object) -> Engine:
    line = ("python3", "-m", "sglang.launch_server", *options)
    return engine(EngineKind.SGLANG, role, "sglang", line, version, more)


def engine(
    kind: EngineKind,
    role: Role,
    name: str,
    line: tuple[str, ...],
    version: str | None,
    more: dict[str, object],
) -> Engine:
    made = Engine(
        pid=4242,
        start_ticks=100,
        started_s=1000.0,
        kind=kind,
        role=role,
        name=name,
        version=version,
        arguments=line,
        group=4242,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def mapped(resident: int, *, whole: int = 60 * GIB, path: str = GGUF) -> Evidence:
    """A model that is mapped, so much of it resident."""
    return Evidence(
        models=(ModelFile(path=path, size_bytes=whole, mapped_bytes=whole, resident_bytes=resident),)
    )


def model(quantisation: str = "", *, name: str = "qwen", shard: int = 4 * GIB, files: int = 8) -> ModelFacts:
    return ModelFacts(
        path="/models/qwen",
        format="safetensors",
        name=name,
        quantisation=quantisation,
        bytes=shard * files,
        largest_bytes=shard,
        files=files,
    )


def outbound(
    remote: str = "192.168.100.11", *, port: int = 29500, interface: str = "enp1s0f0np0"
) -> Connection:
    return Connection(local="192.168.100.10", remote=remote, port=port, inbound=False, interface=interface)


def inbound(remote: str = "192.168.100.11", *, port: int = 50052, count: int = 1) -> Connection:
    return Connection(
        local="192.168.100.10", remote=remote, port=port, inbound=True, interface="enp1s0f0np0", count=count
    )


def function(bdf: str, netdev: str, device: str, port: str, *, up: bool = True) -> Function:
    number = bdf[3] + bdf[-1]
    address = f"192.168.{number}.10"
    return Function(
        bdf=bdf,
        netdev=netdev,
        port=port,
        carrier=up,
        operstate="up" if up else "down",
        mtu=9000,
        pcie_gts=32.0,
        pcie_width=4,
        addresses=(f"{address}/24",) if up else (),
        rdma=RdmaPort(
            device=device,
            number=1,
            state="ACTIVE" if up else "DOWN",
            physical="LinkUp" if up else "Disabled",
            link_layer="Ethernet",
            rate_gbps=200.0,
            gids=(Gid(index=3, gid="0" * 8, kind="RoCE v2", netdev=netdev, ipv4=address),) if up else (),
        ),
    )


FABRIC = Fabric(
    presence=Presence.PRESENT,
    functions=(
        function("0000:01:00.0", "enp1s0f0np0", "rocep1s0f0", "p0"),
        function("0000:01:00.1", "enp1s0f1np1", "rocep1s0f1", "p1", up=False),
        function("0002:01:00.0", "enP2p1s0f0np0", "roceP2p1s0f0", "p0"),
        function("0002:01:00.1", "enP2p1s0f1np1", "roceP2p1s0f1", "p1", up=False),
    ),
)

SPARK = HostFacts(
    kernel="6.17.0-1014-nvidia",
    memory_bytes=120 * GIB,
    available_bytes=100 * GIB,
    page_cache_bytes=10 * GIB,
    performance_cpus=frozenset({*range(5, 10), *range(15, 20)}),
    efficiency_cpus=frozenset({*range(5), *range(10, 15)}),
    deepest_idle_us=0,
    read_ahead_kb=8192,
    fabric=FABRIC,
    management=("enP7s7",),
)


def judged(
    rule: Rule,
    one: Engine,
    evidence: Evidence | None = None,
    *,
    model: ModelFacts | None = None,
    host: HostFacts = SPARK,
) -> Finding | None:
    """What the rule says; the engine is among those found in the same pass."""
    everyone = host if one in host.engines else replace(host, engines=(*host.engines, one))
    return rule.judge(one, evidence or Evidence(), model, everyone)


def advice(
    rule: Rule,
    one: Engine,
    evidence: Evidence | None = None,
    *,
    model: ModelFacts | None = None,
    host: HostFacts = SPARK,
) -> Finding:
    """What the rule says, where it must say something."""
    found = judged(rule, one, evidence, model=model, host=host)
    assert found is not None, f"{rule.id} says nothing"
    assert (found.rule, found.pid) == (rule.id, one.pid)
    return found
