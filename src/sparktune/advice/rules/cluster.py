"""vLLM and SGLang over several nodes: whether they use RDMA, and whether NCCL may use all of the fabric.

Queue pairs outrank open uverbs devices, and both every variable: who has them uses RDMA, whatever its
environment says. A device that is open without a queue pair is a weaker sign: then it is information only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, EngineKind, Rule, Severity
from sparktune.advice.rules.groups import computes, is_clustered, nodes, ranks, to_other_nodes, without_rdma
from sparktune.advice.rules.saying import find
from sparktune.fabric.model import Presence
from sparktune.wording import plain

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts
    from sparktune.fabric.model import Fabric

_ON = ("1", "true", "yes")
_SHOWN = 3


def _judge_rdma(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    if engine.kind not in (EngineKind.VLLM, EngineKind.SGLANG) or evidence.rdma is not False:
        return None
    if not computes(engine, evidence, host) or not is_clustered(engine, evidence, host):
        return None
    if evidence.connections is not None and not to_other_nodes(engine, evidence):
        return None  # what the command line plans, it does not do (yet)
    return find(
        RDMA,
        engine,
        severity=Severity.INFO if evidence.uverbs else None,
        what=(
            f"works with other nodes ({_peers(engine, evidence, host)}) and has "
            f"{without_rdma(evidence)}{_cause(engine)}"
        ),
        why=(
            "tensors go through TCP and the CPU of both nodes: latency in every layer, and a fraction of "
            "the 200 Gb/s"
        ),
        do=("if that stays so once it serves: " if evidence.uverbs else "") + _do(engine, host),
    )


def _peers(engine: Engine, evidence: Evidence, host: HostFacts) -> str:
    found = to_other_nodes(engine, evidence)
    if not found:
        number = max(ranks(engine, host), nodes(engine, host))
        return f"its command line says {number} ranks or nodes, and a Spark has one GPU"
    shown = [
        f"{plain(one.remote)} over {plain(one.interface) or 'an unknown interface'}"
        + (", the management network" if one.interface in host.management else "")
        for one in found[:_SHOWN]
    ]
    return "; ".join(shown) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def _cause(engine: Engine) -> str:
    """What in its environment keeps NCCL away from RDMA, as far as it can be seen there."""
    if (engine.variable("NCCL_IB_DISABLE") or "").strip().lower() in _ON:
        return ": NCCL_IB_DISABLE is set"
    if (engine.variable("NCCL_NET") or "").strip().lower() == "socket":
        return ": NCCL_NET asks for sockets"
    return ""


def _do(engine: Engine, host: HostFacts) -> str:
    unset = {
        ": NCCL_IB_DISABLE is set": "unset NCCL_IB_DISABLE; ",
        ": NCCL_NET asks for sockets": "unset NCCL_NET; ",
    }
    container = (
        "pass `--device /dev/infiniband --ulimit memlock=-1` to its container; " if engine.container else ""
    )
    return unset.get(_cause(engine), "") + container + how_to_use(host.fabric)


def how_to_use(fabric: Fabric | None) -> str:
    """What to put before a program that uses NCCL on this machine now, or what to mend first."""
    if fabric is None:
        return "start it with what `sparktune nccl` prints"
    if fabric.presence is Presence.POWERED_DOWN:
        return "plug a QSFP cable in: without one the ConnectX-7 is powered down; then see `sparktune nccl`"
    if fabric.presence is Presence.NONE or not fabric.functions:
        return "no ConnectX-7 was found here, and nodes need one to work together: see `sparktune fabric`"
    from sparktune.fabric.nccl import describe_for_advice

    lines = describe_for_advice(fabric).splitlines()
    return f"start it with what `sparktune nccl` prints, now: {'; '.join(lines)}"


RDMA = Rule(
    id="cluster-without-rdma",
    severity=Severity.WARNING,
    looks_for="vLLM or SGLang over several nodes without RDMA.",
    evidence=(
        "Connections with other machines, and no RDMA queue pair of the process (RDMA netlink); where those "
        "cannot be counted, not one open /dev/infiniband/uverbs*. The command line only where connections "
        "cannot be read; NCCL_IB_DISABLE and NCCL_NET explain it. Who has queue pairs is never reported; a "
        "device open without one is information only."
    ),
    recommendation="RoCE is mandatory between nodes: start it with what `sparktune nccl` prints.",
    expect=(
        "Two nodes with tensor parallelism reached up to twice the throughput of one for dense models (vLLM "
        "0.11.1rc4). NVIDIA's pass mark between two Sparks is 21.875 GB/s all-gather."
    ),
    versions="Every version of vLLM, SGLang and NCCL.",
    source=(
        "The user's document (vLLM 0.11.1rc4); NVIDIA/nccl src/transport/net_ib/init.cc at 2.30.7; "
        "docs/engines.md"
    ),
    certainty=Certainty.SOURCE,
    judge=_judge_rdma,
)
