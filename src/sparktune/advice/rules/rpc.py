"""llama.cpp over several nodes by its RPC: over TCP, and by layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, EngineKind, Role, Rule, Severity
from sparktune.advice.rules.groups import without_rdma
from sparktune.advice.rules.saying import find
from sparktune.advice.rules.versions import build_of
from sparktune.wording import plain

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts

SURELY_RDMA = 9437
"""A build of 2026-05-31. RPC learnt RDMA on 2026-04-15; the number of that build is not known."""

_HERE = ("localhost", "127.", "[::1]", "::1", "0.0.0.0")  # noqa: S104 - compared, not bound
_SHOWN = 3


def _peers(engine: Engine, evidence: Evidence) -> list[str]:
    """The machines it computes with: by what it does, by its command line where that is unreadable."""
    if engine.kind is not EngineKind.LLAMA_CPP:
        return []
    named = _named(engine)
    if engine.role is Role.RPC:
        return sorted({plain(one.remote) for one in evidence.remote if one.inbound})
    if evidence.connections is None:
        return sorted({plain(host) for host, _ in named})
    ports = {port for _, port in named}
    return sorted(
        {plain(one.remote) for one in evidence.remote if not one.inbound and str(one.port) in ports}
    )


def _named(engine: Engine) -> list[tuple[str, str]]:
    """Host and port of the remote servers of `--rpc` or LLAMA_ARG_RPC."""
    text = engine.option("--rpc") or engine.variable("LLAMA_ARG_RPC") or ""
    pairs = [entry.strip().rpartition(":") for entry in text.split(",")]
    return [(host, port) for host, _, port in pairs if host and not host.startswith(_HERE)]


def _shown(peers: list[str]) -> str:
    more = f" and {len(peers) - _SHOWN} more" if len(peers) > _SHOWN else ""
    return ", ".join(peers[:_SHOWN]) + more


def _judge_tcp(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    peers = _peers(engine, evidence)
    if not peers or evidence.rdma is not False:
        return None
    return find(
        TCP,
        engine,
        severity=Severity.INFO if evidence.uverbs else None,
        what=f"computes with {_shown(peers)} over TCP: it has {without_rdma(evidence)}",
        why="every token crosses the network once for each node, and TCP adds its latency to each crossing",
        do=_how(engine, evidence),
    )


def _how(engine: Engine, evidence: Evidence) -> str:
    container = (
        " In a container pass `--device /dev/infiniband --ulimit memlock=-1`." if engine.container else ""
    )
    if evidence.uverbs or any(name.startswith("libibverbs") for name in engine.libraries):
        return (
            "its build has RDMA, so look at the other end: it needs such a build as well, and both need "
            f"an active RoCE v2 device in one subnet (`sparktune fabric`).{container}"
        )
    number = build_of(engine)
    new = (
        "this build is new enough, so"
        if number is not None and number >= SURELY_RDMA
        else ("with sources of 2026-04-15 (commit adb541a6a) or later")
    )
    return (
        f"{new} build llama.cpp on all nodes where libibverbs-dev is installed, with `-DGGML_RPC=ON "
        "-DGGML_RPC_RDMA=ON`; nothing changes on the command line, and its log then says `RDMA "
        f"activated`.{container}"
    )


def _judge_layers(
    engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts
) -> Finding | None:
    peers = _peers(engine, evidence)
    if not peers or engine.role is Role.RPC:
        return None
    return find(
        LAYERS,
        engine,
        what=f"spreads its layers over this machine and {_shown(peers)}",
        why=(
            "nodes compute one after the other for each token: a second one adds memory, not speed. Tensor "
            "parallelism, as in vLLM and SGLang, has all of them compute every layer at the same time"
        ),
        do=(
            "if the model fits into one machine, run it there; if it does not, or speed is what the second "
            "one is for, compare with vLLM's `--tensor-parallel-size 2` over RoCE (`sparktune nccl`)"
        ),
    )


TCP = Rule(
    id="llama-rpc-tcp",
    severity=Severity.WARNING,
    looks_for="llama.cpp that computes with other nodes without RDMA.",
    evidence=(
        "Connections of an rpc-server, or to the ports of `--rpc`, with other machines, and no RDMA queue "
        "pair; where those cannot be counted, not one open /dev/infiniband/uverbs*. Information only while "
        "a device is open without a queue pair."
    ),
    recommendation="A build with GGML_RPC_RDMA on all nodes.",
    expect=(
        "Prefill +4.1 %, decode +6.5 % between two AMD machines over 25 GbE. On two Sparks over QSFP a model "
        "computed on the other one was almost as fast as locally (gpt-oss-20b)."
    ),
    versions="llama.cpp from 2026-04-15 on, commit adb541a6a; an earlier one has to be replaced.",
    source=(
        "ggml-org/llama.cpp#20590; ggml/src/ggml-rpc/CMakeLists.txt at 87d56b7c; tools/rpc/README.md at "
        "038514c9"
    ),
    certainty=Certainty.SOURCE,
    judge=_judge_tcp,
)

LAYERS = Rule(
    id="llama-rpc-layers",
    severity=Severity.INFO,
    looks_for="llama.cpp whose layers are spread over several nodes.",
    evidence="Connections to the ports of `--rpc` on other machines.",
    recommendation="One node if the model fits; else compare with tensor parallelism in vLLM.",
    expect=(
        "27B Q4_K_M on two Sparks against one: decode 12.42 and 12.83 t/s, prefill 73.4 and 106.0 (TCP, "
        "August 2026). vLLM 0.11.1rc4: up to twice the throughput with two nodes, for dense models."
    ),
    versions="llama.cpp of any build: `-sm tensor` over RPC was still an open change (#26610) on 2026-11-28.",
    source="The user's document; defilantech/LLMKube#1423; ggml-org/llama.cpp#26610",
    certainty=Certainty.REPORTED,
    judge=_judge_layers,
)
