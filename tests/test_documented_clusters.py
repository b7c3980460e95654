"""Engines of several nodes as real processes: two network namespaces, on the devices of a simulated GB10.

Command lines as in test_documented_engines.py, and the same table with `pytest -s`.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from engine_scene import EVERYWHERE, MIB, Case, Expected, Scene, check
from passes import Published
from stand_ins import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from machines import Machine

HERE, THERE, MANAGED, MANAGING = "192.168.100.10", "192.168.100.11", "10.1.2.10", "10.1.2.11"


class Cluster:
    """This node and another one, over a fabric and a management network; real processes on a GB10's /sys."""

    def __init__(self, scene: Scene, machine: Machine, tmp_path: Path) -> None:
        self.scene = scene
        self.here, self.there = (f"sparktune-{name}-{os.getpid()}" for name in ("engine", "peer"))
        self.published = Published(tmp_path, machine.directory)
        self._tree = machine.directory
        (self._tree / "proc/loadavg").write_text("0.00 0.00 0.00 1/100 4194304\n")

    def connect(self) -> None:
        for name in (self.here, self.there):
            _ip(f"netns add {name}")
            _ip(f"-n {name} link set lo up")
        for name, here, there in (("enp1s0f0np0", HERE, THERE), ("enP7s7", MANAGED, MANAGING)):
            _ip(f"link add {name} netns {self.here} type veth peer name {name} netns {self.there}")
            for netns, address in ((self.here, here), (self.there, there)):
                _ip(f"-n {netns} address add {address}/24 dev {name}")
                _ip(f"-n {netns} link set {name} up")

    def disconnect(self) -> None:
        for name in (self.here, self.there):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=10)

    def start(self, one: StandIn) -> int:
        """Start an engine on this node; it is a process of the tree as well."""
        pid = self.scene.stage.start(replace(one, netns=self.here))
        (self._tree / "proc" / str(pid)).symlink_to(f"/proc/{pid}")
        return pid

    def peer(self, **more: Any) -> None:
        """A process on the other node that listens, or connects."""
        self.scene.stage.start(StandIn(line=("peer",), netns=self.there, host=EVERYWHERE, **more))

    def add_queue_pairs(self, pid: int) -> None:
        folder = self._tree / "sys/class/infiniband/rocep1s0f0/netlink"
        folder.mkdir(exist_ok=True)
        with (folder / "qps").open("a") as file:
            file.write(f"{pid} engine 90\n")


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, timeout=10)


@pytest.fixture
def cluster(scene: Scene, build_machine: Callable[..., Machine], tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(scene, build_machine("gb10"), tmp_path)
    with ExitStack() as stack:
        stack.callback(found.disconnect)
        found.connect()
        yield found


@dataclass(frozen=True, kw_only=True)
class Clustered(Case):
    """A case of several nodes.

    Attributes:
        peer: where the other node listens, and connects to.
        pairs: whether the one beside has an RDMA queue pair.
    """

    peer: tuple[int, tuple[tuple[str, int], ...]] = (29500, ())
    pairs: bool = False


UVERBS = ("infiniband/uverbs0",)
TO_PEER, TO_MANAGED = ((THERE, 29500),), ((MANAGING, 29500),)
NODES = ("--nnodes", "2", "--node-rank", "0", "--master-addr", HERE)
TWO = ("--tp", "2", "--dist-init-addr", f"{HERE}:20000", "--nnodes", "2", "--node-rank", "1")
FROM_PEER = (0, ((HERE, 50052),))
RPC = (50052, ())
TO_RPC = ((THERE, 50052),)

CLUSTERED = (
    Clustered(
        name="vllm serve on two nodes",
        rule="cluster-without-rdma",
        says="192.168.100.11 over enp1s0f0np0",
        make=lambda s: (
            s.serve("plain", "--tensor-parallel-size", "2", *NODES, connects=TO_PEER),
            s.serve("plain", "--tensor-parallel-size", "2", *NODES, connects=TO_PEER, devices=UVERBS),
        ),
        beside="the same line with /dev/infiniband/uverbs0 open and a queue pair",
        pairs=True,
    ),
    Clustered(
        name="a Ray worker",
        rule="cluster-without-rdma",
        says="over enP7s7, the management network",
        make=lambda s: (
            s.ray_worker(connects=TO_MANAGED, environment={"NCCL_IB_DISABLE": "1"}),
            s.ray_worker(environment={"NCCL_IB_DISABLE": "1"}),
        ),
        beside="the same environment on one node",
    ),
    Clustered(
        name="sglang on two nodes",
        rule="cluster-without-rdma",
        says="no RDMA device open",
        make=lambda s: (
            s.launch("plain", *TWO, connects=TO_PEER),
            s.launch("plain", *TWO, connects=TO_PEER, devices=UVERBS),
        ),
        beside="the same line with /dev/infiniband/uverbs0 open and a queue pair",
        pairs=True,
    ),
    Clustered(
        name="uverbs open, no queue pair",
        rule="cluster-without-rdma",
        says="the kernel counts no queue pair of it",
        make=lambda s: (
            s.scheduler(connects=TO_PEER, devices=UVERBS),
            s.scheduler(connects=TO_PEER, devices=UVERBS),
        ),
        beside="the same with a queue pair",
        pairs=True,
    ),
    Clustered(
        name="one twin",
        rule="nccl-one-twin",
        says="which leaves roceP2p1s0f0 out",
        make=lambda s: (
            s.ray_worker(connects=TO_PEER, environment={"NCCL_IB_HCA": "rocep1s0f0"}),
            s.ray_worker(connects=TO_PEER, environment={"NCCL_IB_HCA": "rocep1s0f0,roceP2p1s0f0"}),
        ),
        beside="NCCL_IB_HCA=rocep1s0f0,roceP2p1s0f0: both twins",
    ),
    Clustered(
        name="a device that is down",
        rule="nccl-device-down",
        says="rocep1s0f1 is down",
        make=lambda s: (
            s.scheduler(connects=TO_PEER, environment={"NCCL_IB_HCA": "=rocep1s0f0,rocep1s0f1"}),
            s.scheduler(connects=TO_PEER, environment={"NCCL_IB_HCA": "=rocep1s0f0,roceP2p1s0f0"}),
        ),
        beside="NCCL_IB_HCA==rocep1s0f0,roceP2p1s0f0: both are up",
    ),
    Clustered(
        name="rpc-server",
        rule="llama-rpc-tcp",
        says=f"computes with {THERE} over TCP",
        make=lambda s: (s.rpc_server(), s.llama_cli("127.0.0.1:50052")),
        beside="llama-cli --rpc 127.0.0.1:50052: the same machine",
        peer=FROM_PEER,
    ),
    Clustered(
        name="llama-cli with a peer",
        rule="llama-rpc-tcp",
        says="-DGGML_RPC_RDMA=ON",
        make=lambda s: (
            s.llama_cli(f"{THERE}:50052", connects=TO_RPC),
            s.llama_cli(f"{THERE}:50052", connects=TO_RPC, devices=UVERBS),
        ),
        beside="the same line with /dev/infiniband/uverbs0 open and a queue pair",
        peer=RPC,
        pairs=True,
    ),
    Clustered(
        name="layers",
        rule="llama-rpc-layers",
        says="if the model fits into one machine",
        make=lambda s: (s.llama_cli(f"{THERE}:50052", connects=TO_RPC), s.llama_cli(f"{THERE}:50052")),
        beside="the same line, but nothing is connected",
        peer=RPC,
    ),
    Clustered(
        name="deep idle states",
        rule="idle-states-with-cluster",
        says="answers other nodes",
        make=lambda s: (s.rpc_server(), s.llama_cli(f"{THERE}:50052")),
        beside="llama-cli, which serves nobody",
        peer=FROM_PEER,
    ),
    Clustered(
        name="little memlock",
        rule="memlock-too-small",
        says="may lock 8 MiB",
        make=lambda s: (
            s.llama_cli(f"{THERE}:50052", connects=TO_RPC, devices=UVERBS, memlock=8 * MIB),
            s.llama_cli(f"{THERE}:50052", connects=TO_RPC, devices=UVERBS),
        ),
        beside="the same with CAP_IPC_LOCK, for which the limit does not count",
        peer=RPC,
    ),
)


@pytest.mark.root
@pytest.mark.parametrize("case", CLUSTERED, ids=lambda case: f"{case.rule}-{case.name}")
def test_work_with_other_nodes_is_advised_and_what_is_beside_it_is_not(
    case: Clustered, cluster: Cluster
) -> None:
    port, connects = case.peer
    triggers, beside = case.make(cluster.scene)
    if port:
        cluster.peer(port=port)
    pids = cluster.start(triggers), cluster.start(beside)
    if connects:
        cluster.peer(connects=connects)
    if case.pairs:
        cluster.add_queue_pairs(pids[1])
    report = cluster.published.run_pass()
    check(case, report, pids, triggers.line)
    told = {one.rule for one in report.findings if one.pid in pids}
    # A title has no options: what the server was told on the other node is not to be seen.
    assert not (triggers.title and told & {"vllm-lazy-load", "sglang-lazy-load"})


@pytest.mark.root
def test_a_pinned_gid_index_is_advised_for_an_nccl_that_chooses_itself(
    scene: Scene, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.peer(port=29500)
    pinned = {"connects": TO_PEER, "environment": {"NCCL_IB_GID_INDEX": "3"}}
    new = scene.ray_worker(maps={scene.nccl: 0}, **pinned)
    old = scene.ray_worker(maps={scene.old_nccl: 0}, **pinned)
    pids = cluster.start(new), cluster.start(old)
    case = Expected(
        rule="nccl-gid-pinned",
        says="which pins the GID index for NCCL 2.27.3",
        beside="the same with NCCL 2.20.5, which needs the index",
    )
    check(case, Published(tmp_path).run_pass(), pids, (*new.line, "with NCCL_IB_GID_INDEX=3"))
