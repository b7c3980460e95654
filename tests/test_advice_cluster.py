"""Advice about engines over several nodes: RDMA, what NCCL is pinned to, and llama.cpp's RPC."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advised import FABRIC, SPARK, advice, function, inbound, judged, llama, outbound, sglang, vllm
from sparktune.advice.model import Engine, Evidence, Role, Severity
from sparktune.advice.rules.cluster import RDMA
from sparktune.advice.rules.nccl import DOWN, GID, TWIN
from sparktune.advice.rules.rpc import LAYERS, TCP
from sparktune.fabric.model import Fabric, Presence

NO_RDMA = Evidence(uverbs=(), gpu=True, connections=(outbound(),))
WITH_RDMA = replace(NO_RDMA, uverbs=("/dev/infiniband/uverbs0", "/dev/infiniband/uverbs1"))
ALONE = replace(NO_RDMA, connections=())


def worker(*, name: str = "VLLM::Worker_TP0", **more: object) -> Engine:
    made = vllm(role=Role.WORKER, name=name, arguments=(name,))
    return replace(made, **more)  # type: ignore[arg-type]


# -- RDMA ----------------------------------------------------------------------------------------------------


def test_a_worker_with_peers_and_no_uverbs_is_told_that_roce_is_mandatory() -> None:
    found = advice(RDMA, worker(), NO_RDMA)
    assert found.severity is Severity.WARNING
    assert "192.168.100.11 over enp1s0f0np0" in found.what
    assert "`sparktune nccl`" in found.do
    assert "export NCCL_IB_HCA=" in found.do
    assert "mandatory" in RDMA.recommendation


def test_a_worker_with_uverbs_open_is_left_alone_whatever_its_environment_says() -> None:
    assert judged(RDMA, worker(environment=(("NCCL_IB_DISABLE", "1"),)), WITH_RDMA) is None


def test_a_worker_without_peers_works_on_one_node() -> None:
    assert judged(RDMA, worker(), ALONE) is None
    here = replace(outbound("192.168.100.10"), is_local=True)
    assert judged(RDMA, worker(), replace(ALONE, connections=(here,))) is None


def test_what_could_not_be_read_is_not_advised_on() -> None:
    assert judged(RDMA, worker(), replace(NO_RDMA, uverbs=None)) is None


def test_a_download_is_no_peer() -> None:
    assert judged(RDMA, worker(), replace(ALONE, connections=(outbound("151.101.1.1", port=443),))) is None


def test_clients_of_the_api_are_no_peers() -> None:
    server = vllm("qwen", "-tp", "2")
    assert judged(RDMA, server, replace(ALONE, connections=(inbound(port=8000),))) is None


def test_the_variable_that_forbids_rdma_is_named_and_to_be_unset() -> None:
    found = advice(RDMA, worker(environment=(("NCCL_IB_DISABLE", "1"),)), NO_RDMA)
    assert found.what.endswith("NCCL_IB_DISABLE is set")
    assert found.do.startswith("unset NCCL_IB_DISABLE; ")
    found = advice(RDMA, worker(environment=(("NCCL_NET", "Socket"),)), NO_RDMA)
    assert found.do.startswith("unset NCCL_NET; ")
    assert not advice(RDMA, worker(environment=(("NCCL_IB_DISABLE", "0"),)), NO_RDMA).do.startswith("unset")


def test_sockets_on_the_management_network_are_called_that() -> None:
    found = advice(RDMA, worker(), replace(NO_RDMA, connections=(outbound("10.0.0.2", interface="enP7s7"),)))
    assert "10.0.0.2 over enP7s7, the management network" in found.what


def test_a_container_is_told_to_get_the_device() -> None:
    assert "--device /dev/infiniband" in advice(RDMA, worker(container="0123456789ab"), NO_RDMA).do


@pytest.mark.parametrize(
    ("fabric", "text"),
    [
        (None, "start it with what `sparktune nccl` prints"),
        (Fabric(presence=Presence.POWERED_DOWN), "plug a QSFP cable in"),
        (Fabric(presence=Presence.NONE), "no ConnectX-7 was found"),
    ],
)
def test_what_to_do_depends_on_the_fabric(fabric: Fabric | None, text: str) -> None:
    assert text in advice(RDMA, worker(), NO_RDMA, host=replace(SPARK, fabric=fabric)).do


def test_where_connections_are_unreadable_the_command_line_counts() -> None:
    unread = replace(NO_RDMA, connections=None)
    assert "2 ranks" in advice(RDMA, vllm("qwen", "--tensor-parallel-size", "2"), unread).what
    assert judged(RDMA, vllm("qwen", "--tensor-parallel-size", "1"), unread) is None
    assert judged(RDMA, sglang("--nnodes=2"), unread)


def test_one_process_of_a_server_is_told_and_not_all() -> None:
    server = vllm("qwen", "-tp", "2", pid=1, group=1)
    core = worker(name="VLLM::EngineCore", pid=2, group=1)
    remote = worker(name="ray::RayWorkerWrapper", pid=3, group=3)
    host = replace(SPARK, engines=(server, core, remote))
    assert judged(RDMA, server, replace(NO_RDMA, gpu=False), host=host) is None
    assert judged(RDMA, core, replace(NO_RDMA, gpu=False), host=host) is None
    assert judged(RDMA, remote, NO_RDMA, host=host)


def test_an_engine_core_that_computes_itself_is_told() -> None:
    core = worker(name="VLLM::EngineCore")
    assert judged(RDMA, core, NO_RDMA)
    assert judged(RDMA, core, replace(NO_RDMA, gpu=None))


def test_llama_cpp_is_not_told_about_nccl() -> None:
    assert judged(RDMA, llama("--rpc", "192.168.100.11:50052"), NO_RDMA) is None


# -- what NCCL is pinned to ----------------------------------------------------------------------------------


def pinned(name: str, value: str, *, nccl: str | None = None) -> Engine:
    return worker(environment=((name, value),), nccl=nccl)


@pytest.mark.parametrize(
    "value", ["rocep1s0f0", "=rocep1s0f0", "rocep1s0f0:1", "^roceP2p1s0f0", "=rocep1s0f0,"]
)
def test_one_twin_of_a_cabled_port_is_half_of_it(value: str) -> None:
    found = advice(TWIN, pinned("NCCL_IB_HCA", value), WITH_RDMA)
    assert "which leaves roceP2p1s0f0 out, the twin of rocep1s0f0 on port p0" in found.what
    assert "export NCCL_IB_HCA=" in found.do


@pytest.mark.parametrize(
    "value", ["rocep1s0f0,roceP2p1s0f0", "=rocep1s0f0:1,roceP2p1s0f0:1", "roce", "^mlx5", ""]
)
def test_both_twins_are_right(value: str) -> None:
    assert judged(TWIN, pinned("NCCL_IB_HCA", value), WITH_RDMA) is None


def test_a_twin_that_is_down_cannot_be_used() -> None:
    one_down = (
        FABRIC.functions[0],
        function("0002:01:00.0", "enP2p1s0f0np0", "roceP2p1s0f0", "p0", up=False),
    )
    host = replace(SPARK, fabric=Fabric(presence=Presence.PRESENT, functions=one_down))
    assert judged(TWIN, pinned("NCCL_IB_HCA", "rocep1s0f0"), WITH_RDMA, host=host) is None


def test_pinning_does_not_matter_on_one_node() -> None:
    quiet = Evidence(uverbs=(), gpu=True, connections=())
    assert judged(TWIN, pinned("NCCL_IB_HCA", "rocep1s0f0"), quiet) is None
    assert judged(DOWN, pinned("NCCL_IB_HCA", "rocep1s0f1"), quiet) is None
    assert judged(GID, pinned("NCCL_IB_GID_INDEX", "3", nccl="2.27.3"), quiet) is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("rocep1s0f1", "rocep1s0f1 is down"),
        ("=rocep1s0f0,rocep1s0f1", "rocep1s0f1 is down"),
        ("mlx5_0", "mlx5_0 is not there"),
        ("=mlx5_0,rocep1s0f0", "mlx5_0 is not there"),
        ("rocep1s0f1,roceP2p1s0f1", "rocep1s0f1 is down, roceP2p1s0f1 is down"),
    ],
)
def test_a_device_that_is_down_or_gone_is_named(value: str, says: str) -> None:
    assert says in advice(DOWN, pinned("NCCL_IB_HCA", value), WITH_RDMA).what


@pytest.mark.parametrize("value", ["rocep1s0f0", "=rocep1s0f0,roceP2p1s0f0", "roce", "^rocep1s0f1"])
def test_devices_that_are_up_are_right_also_by_prefix(value: str) -> None:
    assert judged(DOWN, pinned("NCCL_IB_HCA", value), WITH_RDMA) is None


def test_a_fabric_that_was_not_looked_at_is_not_judged() -> None:
    host = replace(SPARK, fabric=None)
    assert judged(TWIN, pinned("NCCL_IB_HCA", "rocep1s0f0"), WITH_RDMA, host=host) is None
    assert judged(DOWN, pinned("NCCL_IB_HCA", "mlx5_0"), WITH_RDMA, host=host) is None


def test_names_from_the_environment_are_printed_safely() -> None:
    found = advice(DOWN, pinned("NCCL_IB_HCA", "\x1b[2Jevil"), WITH_RDMA)
    assert found.what.isprintable()


@pytest.mark.parametrize(("nccl", "reported"), [("2.27.3", True), ("2.21.5", True), ("2.20.5", False)])
def test_a_gid_index_is_pinned_in_vain_from_nccl_2_21_on(nccl: str, reported: bool) -> None:  # noqa: FBT001
    found = judged(GID, pinned("NCCL_IB_GID_INDEX", "3", nccl=nccl), WITH_RDMA)
    assert (found is not None) is reported
    if found:
        assert found.do.startswith("unset NCCL_IB_GID_INDEX")


def test_an_unknown_nccl_gets_both_cases() -> None:
    do = advice(GID, pinned("NCCL_IB_GID_INDEX", "3"), WITH_RDMA).do
    assert "if it is NCCL 2.21 or later, unset" in do
    assert "an earlier one needs it" in do


def test_blanks_are_index_zero_and_an_empty_text_or_minus_one_is_none() -> None:
    assert "read as 0" in advice(GID, pinned("NCCL_IB_GID_INDEX", " ", nccl="2.27.3"), WITH_RDMA).what
    assert judged(GID, pinned("NCCL_IB_GID_INDEX", "", nccl="2.27.3"), WITH_RDMA) is None
    assert judged(GID, pinned("NCCL_IB_GID_INDEX", "-1", nccl="2.27.3"), WITH_RDMA) is None


def test_an_index_that_is_not_set_is_not_reported() -> None:
    assert judged(GID, worker(nccl="2.27.3"), WITH_RDMA) is None


# -- llama.cpp's RPC -----------------------------------------------------------------------------------------

TO_RPC = Evidence(uverbs=(), connections=(outbound(port=50052),))
RPC_CLIENT = ("--rpc", "192.168.100.11:50052")


def test_rpc_over_tcp_is_told_of_a_build_with_rdma() -> None:
    found = advice(TCP, llama(*RPC_CLIENT), TO_RPC)
    assert "192.168.100.11 over TCP" in found.what
    assert "-DGGML_RPC_RDMA=ON" in found.do
    assert found.do.startswith("with sources of 2026-04-15")


def test_a_server_for_others_is_told_likewise() -> None:
    server = llama(role=Role.RPC, name="rpc-server", arguments=("rpc-server", "-p", "50052"))
    assert judged(TCP, server, Evidence(uverbs=(), connections=(inbound(),)))
    assert judged(TCP, server, Evidence(uverbs=(), connections=())) is None


@pytest.mark.parametrize(
    ("version", "new"), [("b9437", True), ("b9436", False), ("b1", False), (None, False)]
)
def test_a_build_that_is_surely_new_enough_is_called_that(version: str | None, new: bool) -> None:  # noqa: FBT001
    do = advice(TCP, llama(*RPC_CLIENT, version=version), TO_RPC).do
    assert do.startswith("this build is new enough") is new


def test_a_build_with_rdma_whose_other_end_lacks_it_is_told_to_look_there() -> None:
    do = advice(TCP, llama(*RPC_CLIENT, libraries=("libibverbs.so.1",)), TO_RPC).do
    assert "look at the other end" in do
    assert "GGML_RPC_RDMA" not in do


def test_rpc_with_rdma_is_left_alone() -> None:
    assert judged(TCP, llama(*RPC_CLIENT), replace(TO_RPC, uverbs=("/dev/infiniband/uverbs0",))) is None
    assert judged(TCP, llama(*RPC_CLIENT), replace(TO_RPC, uverbs=None)) is None


@pytest.mark.parametrize("servers", ["127.0.0.1:50052", "localhost:50052,[::1]:50053", "50052", ""])
def test_rpc_within_the_machine_is_no_cluster(servers: str) -> None:
    one = llama("--rpc", servers)
    assert judged(TCP, one, replace(TO_RPC, connections=None)) is None
    assert judged(LAYERS, one, replace(TO_RPC, connections=None)) is None


def test_what_it_does_outranks_what_it_was_told() -> None:
    assert judged(TCP, llama(*RPC_CLIENT), replace(TO_RPC, connections=())) is None
    assert judged(TCP, llama(*RPC_CLIENT), replace(TO_RPC, connections=None))


def test_the_servers_may_be_named_in_the_environment() -> None:
    one = llama(environment=(("LLAMA_ARG_RPC", "192.168.100.11:50052"),))
    assert judged(TCP, one, TO_RPC)


def test_layers_over_nodes_are_explained_with_or_without_rdma() -> None:
    found = advice(LAYERS, llama(*RPC_CLIENT), replace(TO_RPC, uverbs=("/dev/infiniband/uverbs0",)))
    assert found.severity is Severity.INFO
    assert "Tensor parallelism, as in vLLM" in found.why
    assert "twice the throughput" in found.expect


def test_the_computing_end_does_not_choose_the_layers() -> None:
    server = llama(role=Role.RPC, name="rpc-server", arguments=("rpc-server",))
    assert judged(LAYERS, server, Evidence(uverbs=(), connections=(inbound(),))) is None


def test_many_peers_are_counted_not_listed() -> None:
    servers = [f"10.0.0.{number}" for number in range(2, 8)]
    one = llama("--rpc", ",".join(f"{server}:50052" for server in servers))
    many = replace(TO_RPC, connections=tuple(outbound(server, port=50052) for server in servers))
    assert "and 3 more" in advice(TCP, one, many).what
