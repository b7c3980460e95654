"""Whether queue pairs exist: in a tree, from a scripted kernel, and when it cannot be told."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers_of_netlink import DONE, Kernel, Request, attribute, error, message, u8, u32
from sparktune.kernel.netlink import RDMA, Netlink
from sparktune.kernel.queuepairs import Holders, QueuePairs, find_holders
from sparktune.kernel.root import Root

if TYPE_CHECKING:
    from pathlib import Path

    from machines import Machine

DEVICE = "rocep1s0f0"
DEVICES, QUEUE_PAIRS = 0x1401, 0x140A
RC, GSI = 2, 1


def entry(number: int, kind: int, *, pid: int | None = None, kernel: str = "") -> bytes:
    """A queue pair as nldev tells it: an owner is a pid or a kernel module, or nobody any more."""
    inner = attribute(21, u32(number)) + attribute(26, u8(kind))
    if pid is not None:
        inner += attribute(28, u32(pid))
    if kernel:
        inner += attribute(29, kernel.encode() + b"\0")
    return attribute(20 | 0x8000, inner)


OWN = [entry(1, GSI, kernel="ib_core"), entry(77, 0, kernel="mlx5_ib"), entry(78, RC, kernel="mlx5_ib")]
"""What every mlx5 device has of itself."""


class RealRoot(Root):
    """A tree that is asked over netlink as the machine itself is."""

    @property
    def is_real(self) -> bool:
        return True


def asking(
    path: Path, *entries: bytes, fails: int = 0, clock: list[float] | None = None
) -> tuple[QueuePairs, Kernel]:
    (path / "sys/class/infiniband" / DEVICE).mkdir(parents=True, exist_ok=True)

    def answer(request: Request) -> list[bytes]:
        if fails and request.kind == QUEUE_PAIRS:
            return [error(fails, request.sequence)]
        if request.kind == DEVICES:
            bodies = [
                attribute(1, u32(n)) + attribute(2, f"{name}\0".encode())
                for n, name in ((0, "x"), (5, DEVICE))
            ]
        else:
            assert request.body == attribute(1, u32(5))
            bodies = [attribute(1, u32(5)) + attribute(19 | 0x8000, one) for one in entries]
        return [
            *(message(request.kind, body, request.sequence, 2) for body in bodies),
            message(DONE, u32(0), request.sequence),
        ]

    kernel = Kernel(answer)
    times = [0.0] if clock is None else clock
    return QueuePairs(RealRoot(path), DEVICE, Netlink(RDMA, kernel.open), lambda: times[0]), kernel


# -- which count ---------------------------------------------------------------------------------------------


def test_those_that_a_driver_has_for_itself_are_no_traffic(tmp_path: Path) -> None:
    assert asking(tmp_path, *OWN)[0].running() == ""


def test_those_of_a_process_are_and_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "proc/812").mkdir(parents=True)
    (tmp_path / "proc/812/comm").write_text("ib_write_bw\n")
    said = asking(tmp_path, *OWN, entry(90, RC, pid=812))[0].running()
    assert said == f"queue pairs of ib_write_bw[812] on {DEVICE}"


def test_those_of_a_process_that_ended_are_too(tmp_path: Path) -> None:
    assert asking(tmp_path, entry(90, RC))[0].running() == f"queue pairs of a process that ended on {DEVICE}"


@pytest.mark.parametrize("module", ["rdma_cm", "rpcrdma", "smc"])
def test_those_of_kernel_clients_are_too(module: str, tmp_path: Path) -> None:
    assert (
        asking(tmp_path, entry(90, RC, kernel=module))[0].running() == f"queue pairs of {module} on {DEVICE}"
    )


def test_a_device_without_any_runs_nothing(tmp_path: Path) -> None:
    assert asking(tmp_path)[0].running() == ""


def test_a_device_that_is_gone_runs_nothing(tmp_path: Path) -> None:
    pairs, kernel = asking(tmp_path, entry(90, RC))
    (tmp_path / "sys/class/infiniband" / DEVICE).rmdir()
    assert (pairs.running(), kernel.asked) == ("", [])


# -- when it cannot be told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["EPERM", "EOPNOTSUPP", "EINVAL"])
def test_what_cannot_be_told_is_taken_for_existing_and_said_so(name: str, tmp_path: Path) -> None:
    said = asking(tmp_path, fails=getattr(errno, name))[0].running()
    assert said.startswith(f"whether there are queue pairs on {DEVICE} cannot be told (ask for queue pairs: ")
    assert name in said
    assert said.endswith("taken for existing")


def test_a_damaged_entry_cannot_be_told_either(tmp_path: Path) -> None:
    damaged = attribute(20, attribute(21, b"\1\2"))
    assert "taken for existing" in asking(tmp_path, damaged)[0].running()


@given(st.binary(max_size=80))
def test_whatever_an_entry_is_it_is_told_in_words(data: bytes) -> None:
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as directory:
        assert isinstance(asking(Path(directory), attribute(20, data))[0].running(), str)


# -- who holds them ------------------------------------------------------------------------------------------


def holders(path: Path, *entries: bytes, fails: int = 0) -> Holders | None:
    kernel = asking(path, *entries, fails=fails)[1]
    return find_holders(RealRoot(path), Netlink(RDMA, kernel.open))


def test_they_are_counted_for_processes_though_the_kernel_names_threads(tmp_path: Path) -> None:
    (tmp_path / "proc/815").mkdir(parents=True)
    (tmp_path / "proc/815/status").write_text("Name:\tNCCL Service 0\nTgid:\t812\nPid:\t815\n")
    (tmp_path / "proc/812").mkdir()
    (tmp_path / "proc/812/comm").write_text("python3\n")
    entries = [*OWN, entry(90, RC, pid=812), entry(91, RC, pid=815), entry(92, RC, kernel="rpcrdma")]
    assert holders(tmp_path, *entries) == Holders({812: 2})
    assert asking(tmp_path, entry(91, RC, pid=815))[0].owners() == {"python3[812]"}


def test_those_of_threads_that_ended_are_nobodys(tmp_path: Path) -> None:
    assert holders(tmp_path, entry(90, RC), entry(91, RC, pid=812)) == Holders({812: 1}, orphans=1)


def test_what_the_kernel_refuses_is_raised(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not permitted"):
        holders(tmp_path, fails=errno.EPERM)


def test_without_a_device_nobody_is_asked(tmp_path: Path) -> None:
    kernel = Kernel(lambda _: None)
    assert find_holders(RealRoot(tmp_path), Netlink(RDMA, kernel.open)) is None
    assert kernel.asked == []


# -- how often it is asked -----------------------------------------------------------------------------------


def test_while_there_are_some_they_are_listed_once_a_minute(tmp_path: Path) -> None:
    clock = [0.0]
    pairs, kernel = asking(tmp_path, entry(90, RC), clock=clock)
    for clock[0] in (0.0, 10.0, 59.0):
        assert pairs.running()
    assert [request.kind for request in kernel.asked] == [DEVICES, QUEUE_PAIRS]
    clock[0] = 60.0
    pairs.running()
    assert len(kernel.asked) == 4


def test_that_there_are_none_is_asked_each_time(tmp_path: Path) -> None:
    pairs, kernel = asking(tmp_path, *OWN)
    pairs.running()
    pairs.running()
    assert len(kernel.asked) == 4


# -- in a tree -----------------------------------------------------------------------------------------------


def in_tree(machine: Machine, text: str | None) -> str:
    directory = machine.root.path(f"/sys/class/infiniband/{DEVICE}/netlink")
    directory.mkdir(exist_ok=True)
    if text is not None:
        (directory / "qps").write_text(text)
    return QueuePairs(machine.root, DEVICE).running()


def test_a_trees_file_names_them(machine: Machine) -> None:
    assert (
        in_tree(machine, "812 ib_write_bw 90\n813 python 91\n")
        == f"queue pairs of ib_write_bw[812] on {DEVICE}"
    )


def test_a_name_may_have_blanks(machine: Machine) -> None:
    assert "of my worker[812]" in in_tree(machine, "812 my worker 90\n")


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_without_a_line_there_are_none(text: str | None, machine: Machine) -> None:
    assert in_tree(machine, text) == ""


def test_a_line_that_is_none_cannot_be_told(machine: Machine) -> None:
    assert "taken for existing" in in_tree(machine, "nonsense\n")
