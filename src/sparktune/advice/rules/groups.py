"""Which process of an engine a rule speaks about, so that four processes of one server are not told the same.

Judges by what was found in the same pass (`HostFacts.engines`), and reads nothing itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sparktune.advice.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sparktune.advice.model import Connection, Engine, Evidence, HostFacts

_WEB_PORTS = (80, 443)
"""Outgoing connections to these are downloads, not other nodes."""

_NUMBER = re.compile(r"[0-9]{1,4}")


def members(engine: Engine, host: HostFacts) -> tuple[Engine, ...]:
    """The processes of the same engine, itself included."""
    others = [one for one in host.engines if one.group == engine.group and one.kind is engine.kind]
    return tuple(others) if engine.group and others else (engine,)


def leads(engine: Engine, host: HostFacts) -> bool:
    """Whether the process has the command line that rules about options are judged by."""
    if engine.role is not Role.WORKER:
        return True
    return not any(one.role is Role.SERVER for one in members(engine, host))


def computes(engine: Engine, evidence: Evidence, host: HostFacts) -> bool:
    """Whether the process is one that exchanges tensors with other nodes.

    vLLM's engine core does so only where there is no worker beside it, or when it has the GPU open itself.
    """
    others = [one for one in host.engines if one.role is Role.WORKER and one.kind is engine.kind]
    if engine.role is not Role.WORKER:
        return engine.role is Role.SERVER and not any(one.group == engine.group for one in others)
    if "EngineCore" in engine.name and evidence.gpu is not True:
        return not any("EngineCore" not in one.name for one in others)
    return True


def ranks(engine: Engine, host: HostFacts) -> int:
    """Tensor times pipeline parallel size as the group's command line says; 1 if it says nothing.

    A Spark has one GPU: more than one rank is more than one node.
    """
    lines = members(engine, host)
    return _number(lines, "--tensor-parallel-size", "-tp", "--tp-size", "--tp") * _number(
        lines, "--pipeline-parallel-size", "-pp", "--pp-size", "--pp"
    )


def nodes(engine: Engine, host: HostFacts) -> int:
    """Number of nodes as the group's command line says (`--nnodes`); 1 if it says nothing."""
    return _number(members(engine, host), "--nnodes", "-n")


def _number(lines: Iterable[Engine], *names: str) -> int:
    found = [line.option(*names) for line in lines]
    return max((int(text) for text in found if text and _NUMBER.fullmatch(text)), default=1) or 1


def to_other_nodes(engine: Engine, evidence: Evidence) -> tuple[Connection, ...]:
    """Connections that may be those of a cluster: not local, no downloads, no clients of the API."""
    return tuple(
        one
        for one in evidence.remote
        if not (one.inbound and engine.role is Role.SERVER) and (one.inbound or one.port not in _WEB_PORTS)
    )


def without_rdma(evidence: Evidence) -> str:
    """What a process lacks that does not use RDMA: `no RDMA device open`."""
    if evidence.uverbs:
        return "an RDMA device open, but the kernel counts no queue pair of it"
    return "no RDMA device open" if evidence.uverbs == () else "no RDMA queue pair"


def is_clustered(engine: Engine, evidence: Evidence, host: HostFacts) -> bool:
    """Whether an engine of several nodes is at work: what it does first, then what its command line says."""
    if evidence.rdma or (engine.role is Role.WORKER and to_other_nodes(engine, evidence)):
        return True
    return ranks(engine, host) > 1 or nodes(engine, host) > 1
