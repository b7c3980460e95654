"""The daemon as a process: what it makes of writers, devices, clients and fights, and what it logs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import children
from daemons import (
    FAST,
    NVME,
    READ_AHEAD,
    SMALL,
    TreeDaemon,
    idle_state,
    wait_until,
    write_attribute,
    write_unseen,
)
from sparktune.control import MOST_CLIENTS
from sparktune.errors import RefusedError
from sparktune.redaction import REDACTED
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

needs_root = pytest.mark.root

CONTESTED = SMALL.replace("after = 0", "after = 2")
IDLE = "cpuidle.cpu{}.state0.disable"


@pytest.fixture
def build(fast_path: Path) -> Iterator[Callable[..., TreeDaemon]]:
    daemons: list[TreeDaemon] = []

    def make(variant: str = "gb10", config: str = SMALL) -> TreeDaemon:
        daemons.append(TreeDaemon.build(fast_path / f"tree-{len(daemons)}", variant, config))
        return daemons[-1]

    yield make
    for daemon in daemons:
        daemon.close()


@pytest.fixture
def daemon(build: Callable[..., TreeDaemon]) -> TreeDaemon:
    """A running daemon on a DGX Spark; the sweep is far away."""
    return build().start()


@pytest.fixture
def sweeping(build: Callable[..., TreeDaemon]) -> TreeDaemon:
    """A running daemon that sweeps twice a second."""
    return build(config=FAST).start()


WRITER = """
    import ctypes, os, sys, time
    def write(path, value):
        opened = os.open(path, os.O_WRONLY)
        os.write(opened, (value.encode() + b"\\n").ljust(6, b"\\n"))
        os.close(opened)
    def name(text):
        ctypes.CDLL(None).prctl(15, text, 0, 0, 0)
"""


def run_writer(code: str, *arguments: str | Path) -> int:
    """Run a Python program that writes; its pid."""
    program = textwrap.dedent(WRITER) + textwrap.dedent(code)
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)])
    assert process.wait(20) == 0
    return process.pid


# -- who did it ----------------------------------------------------------------------------------------------


@needs_root
def test_a_write_is_healed_and_named_with_how_long_it_took(daemon: TreeDaemon) -> None:
    pid = run_writer("write(sys.argv[1], '64'); time.sleep(0.1)", daemon.tree / READ_AHEAD)
    daemon.await_value(8192)
    [episode] = daemon.await_episodes(1)
    assert (episode.by.pid, episode.by.uid, episode.action) == (pid, 0, "healed")
    assert episode.took_us is not None
    assert 0 < episode.took_us < 1_000_000
    assert [(drift.found, drift.wanted) for drift in episode.drifts] == [(64, 8192)]


@needs_root
def test_a_burst_by_one_process_is_one_episode(daemon: TreeDaemon) -> None:
    names = [daemon.tree / idle_state(cpu, state) for cpu in (0, 1) for state in range(4)]
    run_writer("for path in sys.argv[1:]: write(path, '0')", *names)
    [episode] = daemon.await_episodes(1)
    time.sleep(0.4)
    assert len(daemon.episodes()) == 1
    assert episode.count == 8


@needs_root
def test_the_same_burst_by_two_processes_is_two_episodes(daemon: TreeDaemon) -> None:
    names = [daemon.tree / idle_state(cpu, state) for cpu in (0, 1) for state in range(4)]
    run_writer(
        """
        child = os.fork()
        for path in sys.argv[1:]:
            write(path, '0')
            time.sleep(0.001)
        if child:
            os.wait()
        """,
        *names,
    )
    episodes = daemon.await_episodes(2)
    assert len({episode.by.pid for episode in episodes}) == 2


@needs_root
def test_a_process_that_has_become_another_program_is_named_anew(daemon: TreeDaemon) -> None:
    run_writer(
        """
        name(b"before")
        write(sys.argv[1], '64')
        time.sleep(0.5)
        name(b"after")
        write(sys.argv[1], '32')
        time.sleep(0.2)
        """,
        daemon.tree / READ_AHEAD,
    )
    after, before = daemon.await_episodes(2)
    assert (before.by.comm, after.by.comm) == ("before", "after")


@needs_root
def test_a_secret_on_a_writer_s_command_line_is_stored_nowhere(build: Callable[..., TreeDaemon]) -> None:
    daemon = build(config=FAST).start("--log-format", "json")
    code = "write(sys.argv[1], '64'); time.sleep(0.3)"
    run_writer(code, daemon.tree / READ_AHEAD, "--token", "SESAME-1", "--password=SESAME-2", "-pSESAME-3")
    run_writer(code, daemon.tree / READ_AHEAD, "API_KEY=SESAME-4", "https://me:SESAME-5@host/")
    command = daemon.await_episodes(2)[0].command
    daemon.await_sweeps(2)
    daemon.end()
    assert REDACTED in str(command)  # it was stored at all
    places = [daemon.run_dir, daemon.state_dir, daemon.tree.parent / f"{daemon.tree.name}.log"]
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*"))]
    contents = {path.name: path.read_bytes() for path in files if path.is_file()}
    assert {"history.db", "status.json", "originals.jsonl"} <= contents.keys()
    leaks = {name: re.findall(rb"SESAME-[124]", data) for name, data in contents.items()}
    assert {name: found for name, found in leaks.items() if found} == {}


def test_a_change_without_an_event_is_healed_by_the_sweep_and_nobody_is_blamed(sweeping: TreeDaemon) -> None:
    write_unseen(sweeping.tree / READ_AHEAD, b"64\n\n")
    sweeping.await_value(8192)
    [episode] = sweeping.await_episodes(1, "sweep")
    assert (episode.by.kind, episode.by.pid, episode.drifts[0].found) == ("unknown", None, 64)
    assert sweeping.episodes() == []


# -- policies ------------------------------------------------------------------------------------------------


@needs_root
def test_a_writer_who_is_gone_is_named_where_a_sweep_is_due_as_well(sweeping: TreeDaemon) -> None:
    sweeping.await_sweeps()
    sweeping.running.send_signal(signal.SIGSTOP)
    pid = run_writer("write(sys.argv[1], '64')", sweeping.tree / READ_AHEAD)
    time.sleep(0.6)
    sweeping.running.send_signal(signal.SIGCONT)
    sweeping.await_value(8192)
    [episode] = sweeping.await_episodes(1)
    assert (episode.by.pid, episode.by.comm) == (pid, Path(sys.executable).name)
    assert sweeping.episodes("sweep") == []


def test_mode_report_sees_and_records_drift_but_heals_none(build: Callable[..., TreeDaemon]) -> None:
    daemon = build(config='mode = "report"\n' + SMALL)
    daemon.write(8192)
    daemon.start()
    daemon.write(64)
    daemon.await_verdict("drift")
    assert daemon.read() == "64"
    assert "reported" in {episode.action for episode in daemon.await_episodes(1)}
    assert daemon.published()["mode"] == "report"
    with pytest.raises(FileNotFoundError):
        (daemon.state_dir / "originals.jsonl").stat()


def test_policy_report_holds_for_its_area_only(build: Callable[..., TreeDaemon]) -> None:
    daemon = build(config=SMALL + '[nvme]\npolicy = "report"\n').start()
    assert daemon.read() == "128"
    assert daemon.read(idle_state(0)) == "1"
    daemon.write(0, idle_state(0))
    daemon.await_value(1, idle_state(0))
    assert daemon.published()["areas"]["nvme"]["says"].endswith("(reported, not healed)")


# -- pauses and fights ---------------------------------------------------------------------------------------


def test_a_pause_of_an_area_leaves_the_other_areas_held(daemon: TreeDaemon) -> None:
    daemon.ask("pause", for_s=60, ids=["nvme"])
    daemon.write(64)
    daemon.write(0, idle_state(1))
    daemon.await_value(1, idle_state(1))
    assert daemon.read() == "64"
    daemon.await_verdict("paused")
    daemon.ask("resume", ids=["nvme"])
    assert daemon.read() == "8192"


def test_a_pause_of_one_id_leaves_its_area_held(daemon: TreeDaemon) -> None:
    daemon.ask("pause", for_s=60, ids=[IDLE.format(0)])
    daemon.write(0, idle_state(0))
    daemon.write(0, idle_state(1))
    daemon.await_value(1, idle_state(1))
    assert daemon.read(idle_state(0)) == "0"
    daemon.await_verdict("paused", IDLE.format(0))


def test_a_pause_that_ends_by_itself_is_followed_by_the_heal(daemon: TreeDaemon) -> None:
    daemon.ask("pause", for_s=0.6)
    daemon.write(64)
    time.sleep(0.2)
    assert daemon.read() == "64"
    daemon.await_value(8192)
    wait_until(lambda: daemon.published()["state"] == "ok", "ok")
    assert daemon.published()["paused_until"] is None


def test_a_pause_survives_a_restart(daemon: TreeDaemon) -> None:
    daemon.ask("pause", for_s=60)
    daemon.write(64)
    daemon.end()
    daemon.start()
    assert daemon.read() == "64"
    assert daemon.verdict() == "paused"


def test_apply_ends_a_pause(daemon: TreeDaemon) -> None:
    daemon.ask("pause", for_s=60)
    assert daemon.published()["paused_until"] is not None
    daemon.write(64)
    daemon.ask("apply")
    assert daemon.read() == "8192"
    assert daemon.published()["paused_until"] is None


def test_impossible_pauses_are_refused(daemon: TreeDaemon) -> None:
    for for_s in (0, -1, "1h", True, None, 10**9, float("nan"), float("inf")):
        with pytest.raises(RefusedError, match="between 1 s and 30 days"):
            daemon.ask("pause", for_s=for_s)
    daemon.heal()


def fight(daemon: TreeDaemon) -> None:
    """Write until the daemon has stopped fighting."""
    for _ in range(2):
        daemon.heal()
        time.sleep(0.15)
    daemon.write(64)
    daemon.await_verdict("contested")


def test_a_rival_who_keeps_writing_is_named_and_left_alone_until_apply(
    build: Callable[..., TreeDaemon],
) -> None:
    daemon = build(config=CONTESTED).start()
    fight(daemon)
    assert daemon.read() == "64"
    assert daemon.published()["state"] == "degraded"
    daemon.ask("apply")
    assert daemon.read() == "8192"
    daemon.heal()


@needs_root
def test_a_rival_that_writes_faster_than_the_books_are_kept_is_named_as_well(
    build: Callable[..., TreeDaemon],
) -> None:
    daemon = build(config=CONTESTED).start()
    loop = f"while :; do printf '64\\n\\n\\n' 1<> {daemon.tree / READ_AHEAD}; done"  # one write each
    with subprocess.Popen(["sh", "-c", loop]) as rival:
        try:
            daemon.await_verdict("contested")
        finally:
            rival.kill()
    [item] = daemon.published()["not_holding"]
    assert item["reason"].startswith(f"sh[{rival.pid}]")
    assert item["do"].startswith(f"stop sh[{rival.pid}]")
    [episode] = daemon.await_episodes(1)
    assert [drift.action for drift in episode.drifts] == ["healed", "healed", "left"]
    assert episode.drifts[-1].reason == item["reason"]


@pytest.mark.parametrize("request_", [{"what": "pause", "for_s": 60}, {"what": "resume"}])
def test_a_pause_of_something_else_does_not_go_on_with_a_fight(
    build: Callable[..., TreeDaemon], request_: dict[str, object]
) -> None:
    daemon = build(config=CONTESTED).start()
    fight(daemon)
    arguments = dict(request_)
    daemon.ask(str(arguments.pop("what")), ids=["cpuidle"], **arguments)
    assert daemon.read() == "64"
    assert daemon.verdict() == "contested"


# -- devices -------------------------------------------------------------------------------------------------


def test_a_new_disk_is_tuned_by_the_next_sweep(sweeping: TreeDaemon) -> None:
    tree.add_disk(sweeping.tree, "nvme1n1")
    sweeping.await_value(8192, READ_AHEAD.replace("nvme0", "nvme1"))
    sweeping.await_verdict("ok", NVME.replace("nvme0", "nvme1"))
    sweeping.write(64, READ_AHEAD.replace("nvme0", "nvme1"))
    sweeping.await_value(8192, READ_AHEAD.replace("nvme0", "nvme1"))


def test_a_disk_that_left_is_absent_and_comes_back_with_a_new_original(sweeping: TreeDaemon) -> None:
    tree.add_disk(sweeping.tree, "nvme1n1")
    name, id_ = READ_AHEAD.replace("nvme0", "nvme1"), NVME.replace("nvme0", "nvme1")
    sweeping.await_verdict("ok", id_)
    tree.remove_disk(sweeping.tree, "nvme1n1")
    sweeping.await_verdict("absent", id_)
    assert re.match(r"left at 2\d{3}-", sweeping.tunable(id_)["reason"])
    assert sweeping.published()["state"] == "ok"
    tree.add_disk(sweeping.tree, "nvme1n1")
    sweeping.write(512, name)
    sweeping.await_verdict("ok", id_)
    wait_until(lambda: sweeping.tunable(id_)["original"] in (128, 512), "a new original")
    original = sweeping.tunable(id_)["original"]
    sweeping.ask("restore", ids=[id_])
    assert sweeping.read(name) == str(original)
    assert sweeping.read() == "8192"


def test_a_disk_that_was_swapped_between_two_sweeps_is_tuned_too(sweeping: TreeDaemon) -> None:
    tree.remove_disk(sweeping.tree, "nvme0n1")
    tree.add_disk(sweeping.tree, "nvme0n1")
    assert sweeping.read() == "128"
    sweeping.await_value(8192)
    sweeping.await_verdict("ok")
    assert sweeping.tunable()["original"] == 128
    sweeping.heal()


def test_a_cpu_that_goes_offline_is_absent_and_tuned_again_when_it_is_back(sweeping: TreeDaemon) -> None:
    tree.set_cpu_online(sweeping.tree, 1, online=False)
    sweeping.await_verdict("absent", IDLE.format(1))
    assert sweeping.verdict(IDLE.format(0)) == "ok"
    sweeping.write(0, idle_state(1))
    tree.set_cpu_online(sweeping.tree, 1, online=True)
    sweeping.await_value(1, idle_state(1))
    sweeping.await_verdict("ok", IDLE.format(1))
    sweeping.write(0, idle_state(1))
    sweeping.await_value(1, idle_state(1))
    sweeping.ask("restore")
    assert sweeping.read(idle_state(1)) == "0"


def test_that_a_device_left_is_logged_once(sweeping: TreeDaemon) -> None:
    tree.remove_disk(sweeping.tree, "nvme0n1")
    sweeping.await_verdict("absent")
    assert sweeping.log.count("device left") == 1
    tree.add_disk(sweeping.tree, "nvme1n1")
    sweeping.await_verdict("ok", NVME.replace("nvme0", "nvme1"))
    assert sweeping.log.count("device left") == 1


def test_idle_states_follow_the_cable_both_ways(build: Callable[..., TreeDaemon]) -> None:
    config = FAST.replace('cpus = "0-1"', 'cpus = "0-1"\nwhen = "cluster"')
    daemon = build(config=config)
    ports = [path.name for path in sorted((daemon.tree / "sys/class/net").iterdir()) if "p1s0" in path.name]
    for port in ports:
        tree.set_carrier(daemon.tree, port, up=False)
    daemon.start()
    assert daemon.read(idle_state(0)) == "0"
    assert daemon.published()["areas"]["cpuidle"]["state"] == "absent"
    tree.set_carrier(daemon.tree, ports[0], up=True)
    daemon.await_value(1, idle_state(0))
    daemon.await_verdict("ok", IDLE.format(0))
    tree.set_carrier(daemon.tree, ports[0], up=False)
    daemon.await_value(0, idle_state(0))
    wait_until(lambda: daemon.published()["areas"]["cpuidle"]["state"] == "absent", "absent again")
    assert daemon.read() == "8192"


# -- clients -------------------------------------------------------------------------------------------------


def connect(daemon: TreeDaemon) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(10)
    wait_until(lambda: client.connect_ex(str(daemon.run_dir / "control.sock")) == 0, "a connection")
    return client


def test_a_bad_client_costs_only_itself(daemon: TreeDaemon) -> None:
    for said in (b"", b'{"request": "app', b"x" * (1 << 20), b"\xff\x00\n", b"[" * 60000 + b"\n"):
        with connect(daemon) as client:
            with suppress(OSError):  # it hung up on us: we said too much
                client.sendall(said)
            daemon.heal()
            assert daemon.ask("apply")["ok"]
        daemon.heal()


def test_twenty_silent_clients_do_not_stop_the_healing_and_go_in_the_end(daemon: TreeDaemon) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(daemon)) for _ in range(20)]
        daemon.heal()
        answers = [client.recv(65536) for client in clients[MOST_CLIENTS:]]
        assert all(b"too many requests at once" in answer for answer in answers)
        assert clients[0].recv(1) == b""  # its time is over
        assert daemon.ask("apply")["ok"]


def test_as_many_clients_as_can_wait_are_all_answered_after_a_standstill(daemon: TreeDaemon) -> None:
    daemon.running.send_signal(signal.SIGSTOP)
    with ExitStack() as stack:
        clients = []
        while True:
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.setblocking(False)  # noqa: FBT003 - the standard library's own
            if client.connect_ex(str(daemon.run_dir / "control.sock")):
                break
            clients.append(client)
        assert len(clients) >= MOST_CLIENTS
        daemon.running.send_signal(signal.SIGCONT)
        for client in clients:
            client.settimeout(3)
            with suppress(BrokenPipeError):  # one too many: told so already
                client.sendall(b'{"request": "apply", "ids": ["nvme"]}\n')
        answers = [json.loads(client.makefile().readline()) for client in clients]
    assert sum(answer["ok"] for answer in answers) >= MOST_CLIENTS


def test_a_client_that_leaves_before_its_answer_is_no_harm(daemon: TreeDaemon) -> None:
    for _ in range(50):
        with connect(daemon) as client:
            client.sendall(b'{"request": "apply"}\n')
    daemon.heal()
    wait_until(lambda: answers(daemon), "an answer")


def answers(daemon: TreeDaemon) -> bool:
    """Whether it answers; not yet while those who left are still being dealt with."""
    with suppress(RefusedError):
        return bool(daemon.ask("apply")["ok"])
    return False


def test_a_client_that_never_takes_its_answer_costs_no_cpu_time(daemon: TreeDaemon) -> None:
    with connect(daemon) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.sendall(b'{"request": "apply"}\n' + b"more" * 100)
        wait_until(lambda: is_at_rest(daemon), "the daemon does nothing")


def is_at_rest(daemon: TreeDaemon) -> bool:
    """Whether it used no more than a tick in half a second; one that spins never does."""
    before = cpu_ticks(daemon)
    time.sleep(0.5)
    return cpu_ticks(daemon) - before <= 1


def cpu_ticks(daemon: TreeDaemon) -> int:
    fields = Path(f"/proc/{daemon.running.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@needs_root
def test_a_request_of_another_user_is_refused_and_logged(daemon: TreeDaemon) -> None:
    path = daemon.run_dir / "control.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    for opened in (daemon.tree.parent, daemon.tree, daemon.run_dir.parent, daemon.run_dir):
        opened.chmod(0o755)
    path.chmod(0o666)

    def ask_as_nobody() -> int:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            daemon.ask("restore")
        except RefusedError as error:
            return 0 if "only root" in error.message else 1
        return 2

    assert children.run(ask_as_nobody) == 0
    assert daemon.read() == "8192"
    wait_until(lambda: "control request refused: not root" in daemon.log, "the log line")
    assert "uid=65534" in daemon.log


def test_requests_that_make_no_sense_are_refused_and_change_nothing(daemon: TreeDaemon) -> None:
    nonsense: tuple[dict[str, object], ...] = (
        {"request": "format"},
        {"request": ["apply"]},
        {},
        {"request": "apply", "ids": "nvme"},
        {"request": "apply", "ids": [1]},
        {"request": "restore", "ids": ["nvme.nvme0n1.read_ahead"]},
        {"request": "pause", "for_s": 1, "ids": [["x"]]},
    )
    for request in nonsense:
        with connect(daemon) as client:
            client.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(client.makefile().readline())
        assert (answer["ok"], answer["exit_code"]) == (False, 2)
        assert answer["hint"] or "ids" in answer["error"]
    assert daemon.read() == "8192"


# -- the log -------------------------------------------------------------------------------------------------


@needs_root
def test_at_most_ten_lines_a_minute_tell_of_drift_and_the_rest_is_counted(daemon: TreeDaemon) -> None:
    for _ in range(25):
        run = subprocess.Popen(["sh", "-c", f"echo 64 > {daemon.tree / READ_AHEAD}"])
        run.wait()
        daemon.await_value(8192)
    daemon.await_episodes(25)
    assert daemon.log.count("drift healed") + daemon.log.count("applied  ") <= 10


@pytest.mark.parametrize("log_format", ["journal", "json"])
@needs_root
def test_each_log_record_is_one_line_whatever_a_writer_is_called(
    build: Callable[..., TreeDaemon], log_format: str
) -> None:
    daemon = build().start("--log-format", log_format)
    run_writer(
        "name(b'a\\n<0>b\\x1b[2J'); write(sys.argv[1], '64'); time.sleep(0.2)", daemon.tree / READ_AHEAD
    )
    daemon.await_episodes(1)
    daemon.configure("nvme = [[[[\n\n")
    with pytest.raises(RefusedError):
        daemon.ask("reload")
    daemon.end()
    lines = daemon.log.split("\n")[:-1]
    assert len(lines) >= 4
    assert all(character.isprintable() for line in lines for character in line)
    if log_format == "json":
        assert all({"event", "level", "timestamp"} <= json.loads(line).keys() for line in lines)
    else:
        assert all(re.match(r"<[346]>\S", line) for line in lines)


def test_a_log_that_nobody_reads_any_more_does_not_end_it(build: Callable[..., TreeDaemon]) -> None:
    daemon = build()
    reader, writer = os.pipe()
    line = [sys.executable, "-m", "sparktune.cli.main", "--root", str(daemon.tree), "daemon"]
    daemon.process = subprocess.Popen(line, stderr=writer)
    os.close(writer)
    wait_until((daemon.run_dir / "control.sock").exists, "the control socket")
    os.close(reader)
    for _ in range(3):
        daemon.heal()
        time.sleep(0.2)
        assert daemon.running.poll() is None
    assert daemon.ask("apply")["ok"]
    assert daemon.end() == 0


def test_a_write_that_covers_nothing_is_no_drift(daemon: TreeDaemon) -> None:
    for _ in range(20):
        write_attribute(daemon.tree / READ_AHEAD, 8192)
    time.sleep(0.4)
    assert daemon.episodes() == []
    assert daemon.published()["drifts"] == [] or daemon.published()["drifts"][0]["action"] == "applied"
