"""Who wrote: seen in /proc while it lasts, trusted only while it is certain, never guessed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparktune.attribution import Attributor, writer
from sparktune.kernel import process as kernel
from sparktune.model import Cause, CauseKind, Process
from sparktune.snapshot import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

SLEEP = shutil.which("sleep") or "/bin/sleep"
GONE = "1999999999"  # beyond any pid_max


@contextmanager
def child(*arguments: str | Path, executable: str | Path | None = None) -> Iterator[int]:
    """A process that has certainly executed its program, and is still there, if only as a zombie."""
    process = subprocess.Popen(list(map(str, arguments)), executable=executable)
    cmdline = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)
    while Path(f"/proc/{process.pid}/cmdline").read_bytes() != cmdline:
        time.sleep(0.001)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def become_zombie(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def identify(pid: int, pidfd: int | None = None) -> Process:
    process = Attributor().identify(pid, pidfd).process
    assert process is not None
    return process


@contextmanager
def pidfd_of(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def reaped() -> int:
    """The pidfd of a process that is no more."""
    process = subprocess.Popen([SLEEP, "9"])
    descriptor = os.pidfd_open(process.pid)
    process.kill()
    process.wait()
    return descriptor


class Tree:
    """A /proc of plain files."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.attributor = Attributor(proc)

    def add(
        self, pid: int, *, ppid: int = 0, comm: str = "sh", uid: str = "0", start: int = 7, **files: str
    ) -> None:
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        status = f"Name:\t{comm}\nUmask:\t0022\nState:\tS (sleeping)\nPPid:\t{ppid}\nUid:\t{uid}\t0\t0\t0\n"
        stat = f"{pid} ({comm}) S {ppid} {' '.join(map(str, range(5, 22)))} {start} 0 0\n"
        for name, text in {"status": status, "stat": stat, "cmdline": f"{comm}\0-x\0", **files}.items():
            (folder / name).write_text(text)

    def identify(self, pid: int) -> Process:
        process = self.attributor.identify(pid).process
        assert process is not None
        return process

    def parent(self, pid: int) -> Process | None:
        return self.attributor.identify(pid).parent


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_living_writer_is_known_with_its_parent() -> None:
    with child(SLEEP, "9") as pid:
        cause = Attributor().identify(pid)
    assert cause.kind is CauseKind.PROCESS
    assert cause.process is not None
    assert cause.process.pid == pid
    assert cause.process.comm == "sleep"
    assert cause.process.uid == os.getuid()
    assert cause.process.exe == str(Path(SLEEP).resolve())
    assert cause.process.cmdline == f"{SLEEP} 9"
    assert cause.parent is not None
    assert (cause.parent.pid, cause.parent.uid) == (os.getpid(), os.getuid())
    assert cause.parent.comm == Path("/proc/self/comm").read_text().strip()
    assert cause.parent.exe == os.readlink("/proc/self/exe")  # noqa: PTH115 - compared as text


@pytest.mark.parametrize("name", ["a) R (b", "two words", ")", "State:\tZ", "back\\slash", "\\n"])
def test_a_writer_may_have_any_name(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    shutil.copy(SLEEP, program)
    with child(program, "9") as pid:
        process = identify(pid)
    assert process.comm == name.replace("\t", "?")
    assert process.exe == str(program).replace("\t", "?")


def test_no_control_character_of_a_writer_gets_through(tmp_path: Path) -> None:
    program = tmp_path / "a\x1b[2J\nb"
    shutil.copy(SLEEP, program)
    with child("\x1b]0;x\x07\u202e", "9", executable=program) as pid:
        process = identify(pid)
    assert process.comm == "a?[2J?b"
    assert process.exe == f"{tmp_path}/a?[2J?b"
    assert process.cmdline == "?]0;x?? 9"


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    program = tmp_path / os.fsdecode(b"\xff\xfe")
    shutil.copy(SLEEP, program)
    with child(program, "9") as pid:
        process = identify(pid)
    assert process.comm == "\ufffd\ufffd"
    assert process.exe == f"{tmp_path}/??"


def test_a_zombie_has_a_name_a_uid_and_a_parent_but_no_program() -> None:
    with child(SLEEP, "9") as pid:
        become_zombie(pid)
        cause = Attributor().identify(pid)
    assert cause.process is not None
    assert (cause.process.comm, cause.process.uid) == ("sleep", os.getuid())
    assert (cause.process.exe, cause.process.cmdline) == (None, None)
    assert cause.parent is not None
    assert cause.parent.pid == os.getpid()


def test_of_a_writer_that_is_gone_the_pid_is_left() -> None:
    assert Attributor().identify(int(GONE)) == Cause(kind=CauseKind.PROCESS, process=Process(pid=int(GONE)))


@pytest.mark.parametrize("pid", [0, -1])
def test_a_writer_outside_the_pid_namespace_is_unknown(pid: int) -> None:
    assert Attributor().identify(pid) == Cause(kind=CauseKind.UNKNOWN)


def test_a_pidfd_of_a_living_writer_changes_nothing() -> None:
    with child(SLEEP, "9") as pid, pidfd_of(pid) as pidfd:
        assert identify(pid, pidfd) == identify(pid)
        os.fstat(pidfd)  # still open: it is the caller's


def test_a_pidfd_of_a_zombie_still_vouches_for_its_name() -> None:
    with child(SLEEP, "9") as pid, pidfd_of(pid) as pidfd:
        become_zombie(pid)
        assert identify(pid, pidfd).comm == "sleep"


def test_a_pid_that_belongs_to_another_process_by_now_is_not_attributed_to_it() -> None:
    pidfd = reaped()
    try:
        assert identify(os.getpid(), pidfd) == Process(pid=os.getpid())
    finally:
        os.close(pidfd)


def test_not_even_to_a_zombie() -> None:
    pidfd = reaped()
    try:
        with child(SLEEP, "9") as pid:
            become_zombie(pid)
            assert identify(pid, pidfd) == Process(pid=pid)
    finally:
        os.close(pidfd)


def test_a_writer_reaped_before_its_event_was_read_is_not_looked_up() -> None:
    assert identify(os.getpid(), -1) == Process(pid=os.getpid())


def test_without_a_pidfd_from_the_kernel_the_pid_has_to_do() -> None:
    assert identify(os.getpid(), -2).uid == os.getuid()


def test_a_descriptor_that_is_no_pidfd_vouches_for_nothing() -> None:
    with Path(os.devnull).open() as file:
        assert kernel.pid_of("/proc", file.fileno()) == -1
    assert kernel.pid_of("/proc", 10**6) == -1


def test_no_descriptor_is_left_open() -> None:
    attributor = Attributor()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted
    with child(SLEEP, "9") as pid, pidfd_of(pid) as pidfd:
        for number in (pid, int(GONE), os.getpid()):
            attributor.identify(number, pidfd)
        become_zombie(pid)
        attributor.identify(pid, pidfd)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - counted


def test_secrets_are_hidden_before_anybody_sees_the_command_line() -> None:
    with child(sys.executable, "-c", "import time; time.sleep(9)", "--password", "hunter2") as pid:
        assert (identify(pid).cmdline or "").endswith("--password <redacted>")


def test_a_long_command_line_is_cut() -> None:
    with child(SLEEP, *["9"] * 3000) as pid:
        cmdline = identify(pid).cmdline
    assert cmdline is not None
    assert len(cmdline) == 512


def test_the_real_uid_counts_not_the_effective_one(tree: Tree) -> None:
    tree.add(5, uid="1000")
    assert tree.identify(5).uid == 1000


@pytest.mark.parametrize(("text", "loginuid"), [("4294967295", None), ("1000", 1000), ("0", 0), ("", None)])
def test_an_unset_login_uid_is_none(tree: Tree, text: str, loginuid: int | None) -> None:
    tree.add(5, loginuid=text)
    assert tree.identify(5).loginuid == loginuid


def test_a_program_that_was_replaced_keeps_its_path(tree: Tree) -> None:
    tree.add(5)
    (tree.proc / "5" / "exe").symlink_to("/usr/bin/cpupower (deleted)")
    assert tree.identify(5).exe == "/usr/bin/cpupower"


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/tuned.service\n", "tuned.service"),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service"),
        ("0::/system.slice/dev-disk-by\\x2duuid.swap\n", "dev-disk-by\\x2duuid.swap"),
        ("0::/system.slice/srv-my\\x2ddata.mount\n", "srv-my\\x2ddata.mount"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n", "x.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", "init.scope"),
        ("0::/system.slice/docker-0af3.scope/init\n", "docker-0af3.scope"),
        ("0::/system.slice/run.service/my:payload\n", "run.service"),
        ("0::/system.slice/gone.service (deleted)\n", "gone.service"),
        ("0::/system.slice/_cgroup.service\n", "cgroup.service"),
        ("0::/\n", None),
        ("0::/user.slice\n", None),
        ("0::/docker/0af3\n", None),
        ("9:name=systemd:/system.slice/x.service\n8:pids:/y.service\n0::/\n", "x.service"),
        ("9:name=systemd:/a.service\n0::/b.service\n", "b.service"),
        ("4:memory:/system.slice/x.service\n", None),
        ("garbage", None),
    ],
)
def test_the_unit_is_the_deepest_one_named_by_the_cgroup(tree: Tree, cgroup: str, unit: str | None) -> None:
    tree.add(5, cgroup=cgroup)
    assert tree.identify(5).unit == unit


def test_the_parent_is_told_with_program_and_command(tree: Tree) -> None:
    tree.add(4, comm="bash", uid="1000", cmdline="-bash\0")
    (tree.proc / "4" / "exe").symlink_to("/usr/bin/bash")
    tree.add(5, ppid=4)
    assert tree.parent(5) == Process(pid=4, comm="bash", exe="/usr/bin/bash", uid=1000, cmdline="-bash")


def test_a_parent_that_is_gone_is_none(tree: Tree) -> None:
    tree.add(5, ppid=4)
    assert tree.parent(5) is None


def test_the_parent_of_the_next_writer_is_not_read_again(tree: Tree) -> None:
    tree.add(4, uid="1000")
    tree.add(5, ppid=4)
    first = tree.parent(5)
    tree.add(6, ppid=4)
    assert first is not None
    assert tree.parent(6) is first


@pytest.mark.parametrize("change", [{"start": 8}, {"comm": "python3"}])
def test_a_parent_with_the_same_pid_but_another_start_or_name_is_read_anew(
    tree: Tree, change: dict[str, int | str]
) -> None:
    tree.add(4, uid="1000")
    tree.add(5, ppid=4)
    tree.parent(5)
    tree.add(4, **{"uid": "2000", **change})  # type: ignore[arg-type]  # a mixed bag of keywords
    parent = tree.parent(5)
    assert parent is not None
    assert parent.uid == 2000


def test_only_the_latest_parents_are_kept(tree: Tree) -> None:
    tree.add(1)
    for pid in range(100, 200):
        tree.add(pid, ppid=pid - 1)
        tree.parent(pid)
    assert list(tree.attributor._parents) == list(range(135, 199))


@settings(deadline=None)  # a loaded machine is no defect
@given(
    st.dictionaries(
        st.sampled_from(["status", "stat", "cmdline", "cgroup", "loginuid"]), st.binary(max_size=99)
    )
)
def test_whatever_stands_in_the_files_nothing_is_raised(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    tree = Tree(tmp_path_factory.mktemp("proc"))
    tree.add(4)
    tree.add(5, ppid=4)
    for name, data in files.items():
        for pid in ("4", "5"):
            (tree.proc / pid / name).write_bytes(data)
    assert tree.identify(5).pid == 5


def test_everybody_may_see_all_but_the_command_lines() -> None:
    cause = Cause(
        kind=CauseKind.PROCESS,
        process=Process(
            pid=5, comm="sh", exe="/bin/sh", uid=0, loginuid=1, unit="x.service", cmdline="sh -c x"
        ),
        parent=Process(pid=4, comm="bash", cmdline="-bash"),
        suspects=(Process(pid=6),),
    )
    assert writer(cause) == Writer(
        kind="process",
        comm="sh",
        pid=5,
        exe="/bin/sh",
        uid=0,
        unit="x.service",
        parent="bash[4]",
        suspects=("?[6]",),
    )


def test_a_kernel_event_is_told_by_its_detail() -> None:
    shown = writer(Cause(kind=CauseKind.DEVICE, detail="udev change nvme0n1"))
    assert shown == Writer(kind="device", detail="udev change nvme0n1")


def test_a_process_in_one_word() -> None:
    assert Process(pid=811, comm="bash").label == "bash[811]"
    assert Process(pid=811).label == "?[811]"
