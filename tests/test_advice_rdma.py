"""Queue pairs as evidence: counted once for all engines, joined by process, stronger than flags."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from advised import advice, inbound, judged, llama, outbound, vllm
from passes import Published
from sparktune.advice.model import Evidence, Limit, Role, Severity
from sparktune.advice.rules.cluster import RDMA
from sparktune.advice.rules.memory import MEMLOCK
from sparktune.advice.rules.rpc import TCP
from sparktune.cli.advise import _say_rdma

if TYPE_CHECKING:
    from pathlib import Path

DEVICE = "rocep1s0f0"
UVERBS = "/dev/infiniband/uverbs0"


class Tree:
    """A tree of processes and RDMA devices, and the advisor's pass over it."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "root"
        (self.path / "proc").mkdir(parents=True)
        (self.path / "proc/loadavg").write_text("0.00 0.00 0.00 1/100 1000\n")
        self.published = Published(tmp_path, self.path)

    def add_engine(self, pid: int, *opened: str, container: str = "") -> None:
        """A llama-server that has a model mapped, and these files open."""
        folder = self.path / "proc" / str(pid)
        (folder / "fd").mkdir(parents=True)
        for number, target in enumerate(opened):
            (folder / "fd" / str(number)).symlink_to(target)
        (folder / "cmdline").write_bytes(b"llama-server\0")
        (folder / "stat").write_text(f"{pid} (x) S 1 " + "0 " * 17 + "100 0 0\n")
        (folder / "status").write_text(
            f"Name:\tx\nTgid:\t{pid}\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t\n"
        )
        (folder / "maps").write_text("7f00-8f00 r--p 0 08:01 12      /models/one.gguf\n")
        (folder / "cgroup").write_text(
            f"0::/system.slice/docker-{container}.scope\n" if container else "0::/\n"
        )

    def add_thread(self, thread: int, of: int) -> None:
        folder = self.path / "proc" / str(thread)
        folder.mkdir()
        (folder / "status").write_text(f"Name:\tproxy\nTgid:\t{of}\nPid:\t{thread}\n")

    def add_device(self, *lines: str, name: str = DEVICE) -> None:
        folder = self.path / "sys/class/infiniband" / name / "netlink"
        folder.mkdir(parents=True)
        (folder / "qps").write_text("".join(f"{line}\n" for line in lines))

    def engine(self, pid: int) -> Any:
        return next(engine for engine in self.published.run_pass().engines if engine.pid == pid)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


# -- counting ------------------------------------------------------------------------------------------------


def test_queue_pairs_are_counted_over_all_devices_for_the_process_that_has_them(tree: Tree) -> None:
    tree.add_engine(500, UVERBS)
    tree.add_engine(501)
    tree.add_device("500 llama-server 90", "500 llama-server 91", "777 ib_write_bw 92")
    tree.add_device("500 llama-server 90", name="roceP2p1s0f0")
    assert (tree.engine(500).queue_pairs, tree.engine(500).rdma) == (3, True)
    assert (tree.engine(501).queue_pairs, tree.engine(501).rdma) == (0, False)


def test_those_that_a_thread_made_belong_to_its_process(tree: Tree) -> None:
    tree.add_engine(500, UVERBS)
    tree.add_thread(512, of=500)
    tree.add_device("512 proxy 90", "500 llama-server 91")
    assert tree.engine(500).queue_pairs == 2


def test_nobody_is_asked_while_no_engine_has_a_device_open(tree: Tree) -> None:
    tree.add_engine(500)
    tree.add_device("damaged")
    assert (tree.engine(500).queue_pairs, tree.engine(500).unreadable) == (None, ())


def test_without_an_rdma_device_there_is_nothing_to_count(tree: Tree) -> None:
    tree.add_engine(500, UVERBS)
    assert (tree.engine(500).queue_pairs, tree.engine(500).rdma) == (None, True)


def test_where_they_cannot_be_read_the_reason_is_told_to_those_whom_it_concerns(tree: Tree) -> None:
    tree.add_engine(500, UVERBS)
    tree.add_engine(501)
    tree.add_device("damaged")
    engine = tree.engine(500)
    assert engine.queue_pairs is None
    [gap] = engine.unreadable
    assert gap.startswith("ask for RDMA queue pairs: no queue pair: 'damaged' (EBADMSG)")
    assert tree.engine(501).unreadable == ()


def test_none_listed_for_a_container_need_not_be_none(tree: Tree) -> None:
    tree.add_engine(500, UVERBS, container="0123456789abcdef" * 4)
    tree.add_engine(501, UVERBS, container="fedcba9876543210" * 4)
    tree.add_device("501 llama-server 90")
    assert tree.engine(500).queue_pairs is None
    assert tree.engine(501).queue_pairs == 1


@pytest.mark.parametrize(
    ("rdma", "pairs", "says"),
    [(True, 0, "a device is open, no queue pair"), (True, 1, "1 queue pair"), (False, 2, "2 queue pairs"),
     (True, None, "a device is open; queue pairs not known")],
)  # fmt: skip
def test_people_are_told_how_many(rdma: bool, pairs: int | None, says: str) -> None:  # noqa: FBT001
    assert _say_rdma({"rdma": rdma, "queue_pairs": pairs}) == says


# -- judging -------------------------------------------------------------------------------------------------

OPEN = (UVERBS,)
CLUSTERED = Evidence(uverbs=(), gpu=True, connections=(outbound(),))
FORBIDDEN = (("NCCL_IB_DISABLE", "1"),)


def test_who_has_queue_pairs_uses_rdma_whatever_else_is_seen() -> None:
    worker = vllm(role=Role.WORKER, environment=FORBIDDEN)
    assert judged(RDMA, worker, replace(CLUSTERED, queue_pairs=8)) is None
    assert judged(RDMA, worker, replace(CLUSTERED, uverbs=None, queue_pairs=8)) is None
    serving = Evidence(uverbs=None, queue_pairs=2, connections=(inbound(),))
    assert judged(TCP, llama(role=Role.RPC), serving) is None


def test_a_device_that_is_open_without_a_queue_pair_is_a_weaker_sign() -> None:
    found = advice(RDMA, vllm(role=Role.WORKER), replace(CLUSTERED, uverbs=OPEN, queue_pairs=0))
    assert found.severity is Severity.INFO
    assert found.what.endswith("has an RDMA device open, but the kernel counts no queue pair of it")
    assert found.do.startswith("if that stays so once it serves: ")
    found = advice(TCP, llama(role=Role.RPC), Evidence(uverbs=OPEN, queue_pairs=0, connections=(inbound(),)))
    assert found.severity is Severity.INFO
    assert "look at the other end" in found.do


def test_a_device_that_is_open_counts_where_queue_pairs_are_not_known() -> None:
    assert judged(RDMA, vllm(role=Role.WORKER), replace(CLUSTERED, uverbs=OPEN)) is None


def test_where_open_files_are_unreadable_queue_pairs_tell() -> None:
    found = advice(RDMA, vllm(role=Role.WORKER), replace(CLUSTERED, uverbs=None, queue_pairs=0))
    assert found.severity is Severity.WARNING
    assert found.what.endswith("has no RDMA queue pair")
    assert judged(RDMA, vllm(role=Role.WORKER), replace(CLUSTERED, uverbs=None)) is None


def test_an_open_device_alone_is_no_work_with_other_nodes() -> None:
    alone = Evidence(uverbs=OPEN, gpu=True, connections=(), queue_pairs=0)
    assert judged(RDMA, vllm(role=Role.WORKER), alone) is None


def test_memory_that_may_be_locked_is_judged_by_queue_pairs_too() -> None:
    little = Evidence(memlock=Limit(soft=8 << 20, hard=8 << 20), ipc_lock=False, uverbs=None, queue_pairs=4)
    assert "works over RDMA: 4 queue pairs" in advice(MEMLOCK, llama(), little).what
    about_to = replace(little, uverbs=OPEN, queue_pairs=0)
    assert "or is about to" in advice(MEMLOCK, llama(), about_to).what
    assert judged(MEMLOCK, llama(), replace(little, uverbs=(), queue_pairs=0)) is None
