"""The daemon as a process: readiness, refusals, reload, crashes, damaged and full stores, two at once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemons import (
    FAST,
    NVME,
    READ_AHEAD,
    SMALL,
    ServiceManager,
    TreeDaemon,
    idle_state,
    wait_until,
    write_unseen,
)
from sparktune.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

needs_root = pytest.mark.root

DOCUMENTS = ("status", "tunables", "drift", "counters", "config", "hardware", "fabric", "advice")


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
    """On a DGX Spark with a small configuration; not started."""
    return build()


@pytest.fixture
def manager(fast_path: Path) -> Iterator[ServiceManager]:
    listening = ServiceManager(fast_path)
    yield listening
    listening.close()


def content(tree: Path) -> dict[str, tuple[str, int]]:
    """Every file and link of a machine but for our own directories, with its content and mtime."""
    found = {}
    for directory, directories, files in os.walk(tree):
        if Path(directory) == tree:
            directories[:] = [name for name in directories if name not in ("run", "var")]
        for name in (*directories, *files):
            path = Path(directory) / name
            status = path.lstat()
            text = str(path.readlink()) if path.is_symlink() else ""
            if path.is_file() and not path.is_symlink():
                text = path.read_text(errors="replace")
            found[str(path)] = (text, status.st_mtime_ns)
    return found


# -- what the service manager is told ------------------------------------------------------------------------


def test_ready_is_told_only_after_everything_was_applied_and_published(
    daemon: TreeDaemon, manager: ServiceManager
) -> None:
    manager.fill()
    daemon.launch(environment={"NOTIFY_SOCKET": str(manager.path)})
    wait_until(daemon.is_published, "the status before READY")  # it cannot have told us: our queue is full
    assert daemon.read() == "8192"
    assert daemon.published()["state"] == "ok"
    assert daemon.published()["checked"]["hold"] == 9
    [ready] = manager.hear("READY=1")
    assert ready == "READY=1\nSTATUS=ok: 9 of 9 hold; checked 9 of 9"


def test_stopping_is_told_and_the_exit_code_is_0(daemon: TreeDaemon, manager: ServiceManager) -> None:
    daemon.start(NOTIFY_SOCKET=str(manager.path))
    assert daemon.end() == 0
    assert manager.hear("STOPPING=1")[-1] == "STOPPING=1"
    assert daemon.read() == "8192"


def test_a_status_line_that_a_person_can_read_follows_the_state(
    build: Callable[..., TreeDaemon], manager: ServiceManager
) -> None:
    daemon = build(config=f'mode = "report"\n{SMALL}')
    daemon.write(8192)
    daemon.start(NOTIFY_SOCKET=str(manager.path))
    manager.hear("READY=1")
    daemon.write(128)
    line = manager.hear("STATUS=")[-1]
    assert line.startswith("STATUS=drift: ")
    assert "nvme.nvme0n1.read_ahead_kb is 128, wanted 8192" in line


@pytest.mark.alone
def test_the_watchdog_is_fed_at_least_every_half_interval_whatever_the_sweep_is(
    build: Callable[..., TreeDaemon], manager: ServiceManager
) -> None:
    daemon = build(config=f'sweep = "60s"\n{SMALL}')
    daemon.start(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="600000")
    assert "WATCHDOG=1" not in manager.hear("READY=1")
    fed = []
    for _ in range(6):
        manager.hear("WATCHDOG=1", patience_s=2.0)
        fed.append(time.monotonic())
    gaps = [after - before for before, after in pairwise(fed)]
    assert max(gaps) < 0.5
    assert sorted(gaps)[len(gaps) // 2] <= 0.3


def test_the_watchdog_is_fed_only_after_a_sweep(
    build: Callable[..., TreeDaemon], manager: ServiceManager
) -> None:
    daemon = build(config=f'sweep = "60s"\n{SMALL}')
    daemon.start(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="800000")
    manager.hear("READY=1")
    manager.hear("WATCHDOG=1")
    manager.hear("WATCHDOG=1")  # the first sweep changed the status line; that has been told, too
    manager.fill()  # from now on whoever tells us something waits
    write_unseen(daemon.tree / READ_AHEAD, b"64\n\n")
    daemon.await_value(8192)
    assert manager.hear("WATCHDOG=1")[-1] == "WATCHDOG=1"


def test_the_watchdog_of_another_process_is_not_fed(daemon: TreeDaemon, manager: ServiceManager) -> None:
    daemon.start(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="100000", WATCHDOG_PID="1")
    manager.hear("READY=1")
    with pytest.raises(TimeoutError):
        manager.hear("WATCHDOG=1", patience_s=0.5)


def test_a_reload_tells_reloading_and_then_ready(daemon: TreeDaemon, manager: ServiceManager) -> None:
    daemon.start(NOTIFY_SOCKET=str(manager.path))
    manager.hear("READY=1")
    daemon.ask("reload")
    reloading, ready = manager.hear("READY=1")[-2:]
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert ready.startswith("READY=1\nSTATUS=ok")


def test_a_refused_reload_tells_ready_all_the_same(daemon: TreeDaemon, manager: ServiceManager) -> None:
    daemon.start(NOTIFY_SOCKET=str(manager.path))
    manager.hear("READY=1")
    daemon.configure("nonsense")
    with pytest.raises(RefusedError):
        daemon.ask("reload")
    assert [message.partition("=")[0] for message in manager.hear("READY=1")] == ["RELOADING", "READY"]


# -- machines that are left alone ----------------------------------------------------------------------------


def test_a_machine_that_is_no_gb10_is_told_ready_then_left_untouched_with_5(
    build: Callable[..., TreeDaemon], manager: ServiceManager
) -> None:
    daemon = build("not-gb10")
    before = content(daemon.tree)
    daemon.launch(environment={"NOTIFY_SOCKET": str(manager.path)})
    assert daemon.outlive() == 5
    heard = manager.hear("STOPPING")
    assert heard[0].startswith("READY=1\nSTATUS=unsupported: this is no GB10 machine")
    assert content(daemon.tree) == before
    status = daemon.published()
    assert status["state"] == "unsupported"
    assert "require_gb10 = false" in status["summary"]


def test_a_machine_that_is_no_gb10_is_tuned_on_request(build: Callable[..., TreeDaemon]) -> None:
    daemon = build("not-gb10", f"require_gb10 = false\n{SMALL}").start()
    assert daemon.read() == "8192"
    assert daemon.published()["state"] != "unsupported"


def test_a_reload_that_makes_the_machine_unsupported_puts_all_back_and_ends_with_5(
    build: Callable[..., TreeDaemon],
) -> None:
    daemon = build("not-gb10", f"require_gb10 = false\n{SMALL}")
    before = {name: value for name, (value, _) in content(daemon.tree).items()}
    daemon.start()
    daemon.configure(SMALL)
    daemon.ask("reload")
    assert daemon.outlive() == 5
    after = {name: value for name, (value, _) in content(daemon.tree).items()}
    after.pop(str(daemon.tree / "etc/sparktune.toml"))
    before.pop(str(daemon.tree / "etc/sparktune.toml"))
    assert after == before
    assert daemon.published()["state"] == "unsupported"


def test_sparktune_off_on_the_kernel_command_line_writes_nothing(daemon: TreeDaemon) -> None:
    path = daemon.tree / "proc/cmdline"
    path.write_text(path.read_text().strip() + " sparktune=off\n")
    before = content(daemon.tree)
    daemon.start()
    with pytest.raises(RefusedError) as refusal:
        daemon.ask("apply")
    assert refusal.value.exit_code == 1
    assert "remove it and reboot" in refusal.value.hint
    daemon.ask("pause", for_s=1)
    daemon.ask("resume")
    daemon.ask("restore")
    daemon.ask("reload")
    daemon.write(64)
    time.sleep(0.2)
    assert daemon.read() == "64"
    daemon.write(128)
    after = content(daemon.tree)
    changed = {name for name in before if before[name][0] != after.get(name, ("gone", 0))[0]}
    assert (changed, after.keys() - before.keys()) == (set(), set())
    status = daemon.published()
    assert status["state"] == "paused"
    assert status["summary"].startswith("off: sparktune=off on the kernel command line")


def test_an_unknown_variable_of_ours_is_an_invalid_configuration(daemon: TreeDaemon) -> None:
    daemon.start(SPARKTUNE_NVME__READ_AHEAD="4096")
    status = daemon.published()
    assert status["state"] == "degraded"
    assert "SPARKTUNE_NVME__READ_AHEAD" in status["config"]["error"]
    assert daemon.read() == "128"


def test_a_variable_of_ours_is_the_last_layer(daemon: TreeDaemon) -> None:
    daemon.start(SPARKTUNE_NVME__READ_AHEAD_KB="4096")
    assert daemon.read() == "4096"
    assert daemon.tunable()["layer"] == "SPARKTUNE_NVME__READ_AHEAD_KB"


# -- stopping, crashing, restoring ---------------------------------------------------------------------------


def test_a_restart_keeps_the_originals(daemon: TreeDaemon) -> None:
    daemon.write(256)
    daemon.start()
    assert daemon.end() == 0
    assert daemon.read() == "8192"
    daemon.start()
    assert daemon.tunable()["original"] == 256
    daemon.ask("restore")
    assert daemon.read() == "256"


def test_sigint_ends_it_as_sigterm_does(daemon: TreeDaemon) -> None:
    daemon.start()
    assert daemon.end(signal.SIGINT) == 0
    assert not (daemon.run_dir / "control.sock").exists()


def test_after_kill_9_and_a_restart_restore_gives_the_originals_back(daemon: TreeDaemon) -> None:
    daemon.write(256)
    daemon.start()
    daemon.heal()
    daemon.end(signal.SIGKILL)
    daemon.start()
    daemon.heal()
    outcomes = {one["id"]: one["outcome"] for one in daemon.ask("restore")["outcomes"]}
    assert outcomes[NVME] == "restored"
    assert daemon.read() == "256"
    assert {daemon.read(idle_state(cpu, state)) for cpu in (0, 1) for state in range(4)} == {"0"}


def test_killed_at_any_moment_while_somebody_disturbs_no_original_is_lost(
    build: Callable[..., TreeDaemon],
) -> None:
    daemon = build(config=FAST)
    daemon.write(256)
    code = (
        "import os, sys, time, random\n"
        "while True:\n"
        "    for path in sys.argv[1:]:\n"
        "        opened = os.open(path, os.O_WRONLY)\n"
        "        os.write(opened, (b'0' if path.endswith('disable') else b'64').ljust(4, b'\\n') + b'\\n')\n"
        "        os.close(opened)\n"
        "        time.sleep(0.0005)\n"
    )
    names = [str(daemon.tree / name) for name in (READ_AHEAD, idle_state(0), idle_state(1, 3))]
    moments = random.Random(23)  # noqa: S311 - the same moments each time, nothing secret
    disturber: subprocess.Popen[bytes] | None = None
    try:
        for number in range(30):
            daemon.launch()
            if disturber is not None and number % 3 == 0:
                wait_until(daemon.is_published, "the first status")
            time.sleep(moments.uniform(0.0, 0.35))
            if disturber is None:
                wait_until(lambda: daemon.read() == "8192", "the first write")
                disturber = subprocess.Popen([sys.executable, "-c", code, *names])
            daemon.end(signal.SIGKILL)
    finally:
        if disturber is not None:
            disturber.kill()
            disturber.wait()
    daemon.start()
    daemon.ask("apply")
    daemon.ask("restore")
    assert daemon.read() == "256"
    assert {daemon.read(idle_state(cpu, state)) for cpu in (0, 1) for state in range(4)} == {"0"}


def test_restored_marks_survive_a_restart_but_not_a_reboot(daemon: TreeDaemon) -> None:
    daemon.start()
    daemon.ask("restore", ids=[NVME])
    daemon.end()
    daemon.start()
    assert daemon.read() == "128"
    assert daemon.verdict() == "unmanaged"
    daemon.end()
    (daemon.tree / "proc/sys/kernel/random/boot_id").write_text("7c1a4d52-1f0e-4c8a-a2d8-6c1b7e1b2f3d\n")
    daemon.start()
    assert daemon.read() == "8192"


def test_apply_ends_a_restored_mark(daemon: TreeDaemon) -> None:
    daemon.start()
    daemon.ask("restore", ids=["nvme"])
    assert daemon.read() == "128"
    daemon.write(64)
    time.sleep(0.1)
    assert daemon.read() == "64"
    daemon.ask("apply")
    assert daemon.read() == "8192"
    assert daemon.verdict() == "ok"


# -- reload --------------------------------------------------------------------------------------------------


def test_a_reload_writes_what_changed_and_nothing_else(daemon: TreeDaemon) -> None:
    daemon.start()
    names = [idle_state(cpu, state) for cpu in (0, 1) for state in range(4)]
    before = [(daemon.tree / name).stat().st_mtime_ns for name in names]
    daemon.configure(SMALL + "[nvme]\nread_ahead_kb = 4096\n")
    assert daemon.ask("reload")["written"] == 1
    assert daemon.read() == "4096"
    assert [(daemon.tree / name).stat().st_mtime_ns for name in names] == before


def test_a_reload_of_the_same_configuration_writes_nothing(daemon: TreeDaemon) -> None:
    daemon.start()
    before = (daemon.tree / READ_AHEAD).stat().st_mtime_ns
    assert daemon.ask("reload")["written"] == 0
    assert (daemon.tree / READ_AHEAD).stat().st_mtime_ns == before
    daemon.heal()


@pytest.mark.parametrize(
    ("config", "name", "original"),
    [
        (SMALL + '[nvme]\npolicy = "off"\n', READ_AHEAD, "256"),
        (SMALL + '[nvme]\ndevices = ["sd*"]\n', READ_AHEAD, "256"),
        (SMALL.replace("0-1", "1"), idle_state(0), "0"),
        (SMALL.replace('cpus = "0-1"', 'disable_latency_us = "off"'), idle_state(1), "0"),
        (SMALL.replace('cpus = "0-1"', 'policy = "off"'), idle_state(1), "0"),
    ],
)
def test_a_reload_restores_what_is_no_longer_managed(
    daemon: TreeDaemon, config: str, name: str, original: str
) -> None:
    daemon.write(256)
    daemon.start()
    assert daemon.read(name) != original
    daemon.configure(config)
    daemon.ask("reload")
    assert daemon.read(name) == original
    daemon.configure(SMALL)
    daemon.ask("reload")
    assert daemon.read(name) != original
    assert daemon.published()["state"] == "ok"


def test_a_reload_to_report_keeps_the_values_and_heals_no_more(daemon: TreeDaemon) -> None:
    daemon.start()
    daemon.configure('mode = "report"\n' + SMALL)
    daemon.ask("reload")
    assert daemon.read() == "8192"
    daemon.write(64)
    daemon.await_verdict("drift")
    assert daemon.read() == "64"


def test_a_reload_of_a_bad_file_changes_nothing_but_the_status(daemon: TreeDaemon) -> None:
    daemon.start()
    daemon.configure("[nvme]\nread_ahead_kb = -1\n")
    with pytest.raises(RefusedError) as refusal:
        daemon.ask("reload")
    assert refusal.value.exit_code == 2
    wait_until(lambda: daemon.published()["state"] == "degraded", "degraded")
    assert "read_ahead_kb" in daemon.published()["config"]["error"]
    daemon.heal()
    daemon.configure(SMALL)
    daemon.ask("reload")
    assert daemon.published()["state"] == "ok"
    assert daemon.published()["config"] | {"sha256": ""} == {"sha256": "", "on_disk": "same", "error": None}


def test_the_reload_command_ends_with_2_on_a_bad_file(daemon: TreeDaemon) -> None:
    daemon.start()
    daemon.configure("[nvme]\nread_ahead_kb = true\n")
    line = [sys.executable, "-m", "sparktune.cli.main", "--root", str(daemon.tree), "reload"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "sparktune.toml" in done.stderr


def test_sighup_reloads_and_a_bad_file_does_not_end_it(daemon: TreeDaemon) -> None:
    daemon.start()
    daemon.configure(SMALL + "[nvme]\nread_ahead_kb = 4096\n")
    daemon.running.send_signal(signal.SIGHUP)
    daemon.await_value(4096)
    daemon.configure("=")
    daemon.running.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.published()["state"] == "degraded", "degraded")
    daemon.write(64)
    daemon.await_value(4096)


def test_a_start_with_a_bad_file_uses_the_last_good_configuration(daemon: TreeDaemon) -> None:
    daemon.configure(SMALL + "[nvme]\nread_ahead_kb = 4096\n")
    daemon.start()
    daemon.end()
    daemon.write(128)
    daemon.configure("[nvme]\nread_ahead_kb = '8M'\n")
    daemon.start()
    assert daemon.read() == "4096"
    assert daemon.published()["state"] == "degraded"
    assert "last good one is used" in daemon.published()["config"]["error"]


def test_a_start_with_a_bad_file_and_no_last_good_one_only_reports(daemon: TreeDaemon) -> None:
    daemon.configure("[nvme\n")
    daemon.start()
    assert daemon.read() == "128"
    status = daemon.published()
    assert (status["state"], status["mode"]) == ("degraded", "report")
    assert daemon.verdict() == "drift"


# -- damaged, full and vanished directories ------------------------------------------------------------------


def test_a_damaged_store_is_set_aside_and_said_and_loses_nothing_readable(daemon: TreeDaemon) -> None:
    daemon.write(256)
    daemon.start()
    daemon.end(signal.SIGKILL)
    path = daemon.state_dir / "originals.jsonl"
    path.write_bytes(b"\x00\xff garbage\n" + path.read_bytes() + b'{"half": ')
    daemon.start()
    assert list(daemon.state_dir.glob("originals.jsonl.corrupt-*"))
    assert any("set aside" in notice["says"] for notice in daemon.published()["warnings"])
    assert "damaged store was set aside" in daemon.log
    daemon.ask("restore")
    assert daemon.read() == "256"


@pytest.mark.parametrize("name", ["marks.json", "history.db"])
@pytest.mark.parametrize("garbage", [b"\x00" * 5000, b"[" * 500])
def test_a_damaged_file_is_set_aside_and_the_status_says_so(
    daemon: TreeDaemon, name: str, garbage: bytes
) -> None:
    daemon.state_dir.mkdir(parents=True)
    (daemon.state_dir / name).write_bytes(garbage)
    daemon.start()
    assert daemon.read() == "8192"
    wait_until(lambda: list(daemon.state_dir.glob(f"{name}.corrupt-*")), "the damaged file set aside")
    daemon.heal()
    daemon.await_episodes(1)
    wait_until(lambda: any(name in notice["says"] for notice in daemon.published()["warnings"]), "a warning")


@pytest.mark.parametrize("config", [SMALL, "bad ="])
def test_a_damaged_last_good_configuration_is_no_obstacle(daemon: TreeDaemon, config: str) -> None:
    daemon.state_dir.mkdir(parents=True)
    (daemon.state_dir / "last-good.json").write_bytes(b"\xff\xfe[[[")
    daemon.configure(config)
    daemon.start()
    assert daemon.read() == ("8192" if config == SMALL else "128")
    error = daemon.published()["config"]["error"]
    assert error is None if config == SMALL else "there is no last good one" in error


def test_a_run_directory_that_vanishes_costs_only_what_is_published(build: Callable[..., TreeDaemon]) -> None:
    daemon = build(config=FAST).start()
    daemon.run_dir.chmod(0o755)
    shutil.rmtree(daemon.run_dir)
    daemon.heal()
    wait_until((daemon.run_dir / "control.sock").exists, "the control socket")
    wait_until((daemon.run_dir / "status.json").exists, "what is published last")
    assert {path.name for path in daemon.run_dir.glob("*.json")} == {f"{name}.json" for name in DOCUMENTS}
    assert daemon.ask("apply")["ok"]
    assert daemon.log.count("cannot publish /") == 1
    assert daemon.log.count("published again") == 1


def test_a_document_that_somebody_deletes_comes_back_with_a_third_sweep(
    build: Callable[..., TreeDaemon],
) -> None:
    daemon = build(config=FAST).start()
    daemon.await_sweeps(3)
    for name in DOCUMENTS:
        (daemon.run_dir / f"{name}.json").unlink()
        wait_until((daemon.run_dir / f"{name}.json").exists, name)
    assert "cannot publish" not in daemon.log


def test_while_nothing_happens_every_third_sweep_says_of_each_tunable_that_it_was_verified(
    build: Callable[..., TreeDaemon],
) -> None:
    daemon = build(config=FAST).start()
    daemon.await_sweeps(3)
    published = daemon.run_dir / "tunables.json"
    texts = [published.read_text()]
    for _ in range(3):
        wait_until(lambda: published.read_text() != texts[-1], "another time", patience_s=3 * 0.5 + 1.0)
        texts.append(published.read_text())
    told = [json.loads(text) for text in texts]
    times = [{one["verified_at"], *(entry["verified_at"] for entry in one["tunables"])} for one in told]
    assert [len(one) for one in times] == [1, 1, 1, 1]
    assert len(set.union(*times)) == 4
    assert len({text.replace(one["verified_at"], "") for text, one in zip(texts, told, strict=True)}) == 1


def test_a_run_directory_that_cannot_be_made_again_is_complained_of_once(
    build: Callable[..., TreeDaemon],
) -> None:
    daemon = build(config=FAST).start()
    shutil.rmtree(daemon.run_dir)
    daemon.run_dir.write_text("in the way")
    for _ in range(3):
        daemon.heal()
        time.sleep(0.6)
    assert daemon.log.count("cannot publish /") == 1
    assert daemon.end() == 0


@needs_root
@pytest.mark.parametrize("how", ["read-only", "full"])
def test_a_run_directory_that_takes_nothing_more_is_no_end(
    build: Callable[..., TreeDaemon], how: str
) -> None:
    daemon = build(config=FAST)
    daemon.run_dir.mkdir(parents=True)
    with tiny_disk(daemon.run_dir, "512k"):
        daemon.start()
        if how == "full":
            fill(daemon.run_dir)
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(daemon.run_dir)], check=True)
        for _ in range(3):
            daemon.heal()
            time.sleep(0.6)
        assert daemon.running.poll() is None
        assert daemon.log.count("cannot publish /") == 1
        if how == "full":
            (daemon.run_dir / "filler").unlink()
            daemon.configure(FAST + "[nvme]\nread_ahead_kb = 4096\n")
            daemon.ask("reload")
            daemon.await_value(4096)
            wait_until(lambda: daemon.tunable()["wanted"] == 4096, "published again")
            values = daemon.published("config")["values"]
            assert values["nvme.read_ahead_kb"]["value"] == 4096
        assert daemon.end() == 0


@needs_root
def test_a_full_state_directory_keeps_the_host_untouched_until_there_is_room(
    build: Callable[..., TreeDaemon],
) -> None:
    daemon = build(config=FAST)
    daemon.state_dir.mkdir(parents=True)
    with tiny_disk(daemon.state_dir, "256k"):
        fill(daemon.state_dir)
        before = content(daemon.tree)
        daemon.start()
        time.sleep(1.2)
        assert content(daemon.tree) == before
        status = daemon.published()
        assert status["state"] == "degraded"
        assert daemon.verdict() == "failed"
        assert "No space left" in daemon.tunable()["reason"]
        logged = len(daemon.log.splitlines())
        time.sleep(1.2)
        assert len(daemon.log.splitlines()) - logged <= 2
        (daemon.state_dir / "filler").unlink()
        daemon.await_verdict("ok")
        assert daemon.read() == "8192"
        daemon.ask("restore")
        assert daemon.read() == "128"
        assert daemon.end() == 0


class tiny_disk:  # noqa: N801 - a context manager, read as a verb
    """A small tmpfs over a directory."""

    def __init__(self, directory: Path, size: str) -> None:
        self._directory, self._size = directory, size

    def __enter__(self) -> None:
        options = f"size={self._size},mode=0755"
        line = ["mount", "-t", "tmpfs", "-o", options, "none", str(self._directory)]
        subprocess.run(line, check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self._directory)], check=True)


def fill(directory: Path) -> None:
    """Leave no byte free."""
    with (directory / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:  # full
            return


# -- two at once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_second_daemon_says_so_and_leaves_the_first_alone(
    daemon: TreeDaemon, fast_path: Path, *, elsewhere: bool
) -> None:
    daemon.start()
    instance = daemon.published()["daemon"]["instance"]
    line = [sys.executable, "-m", "sparktune.cli.main", "--root", str(daemon.tree)]
    if elsewhere:
        line += ["--run-dir", str(fast_path / "run2"), "--state-dir", str(fast_path / "state2")]
    second = subprocess.run([*line, "daemon"], capture_output=True, text=True, check=False, timeout=20)
    assert second.returncode == 1
    assert "another sparktune already tunes this host" in second.stderr
    assert "Traceback" not in second.stderr
    daemon.ask("apply")
    daemon.heal()
    assert daemon.published()["daemon"]["instance"] == instance


def test_a_killed_daemon_does_not_lock_the_host(daemon: TreeDaemon) -> None:
    daemon.start()
    daemon.end(signal.SIGKILL)
    assert (daemon.run_dir / "control.sock").exists()
    daemon.start()
    assert daemon.ask("apply")["ok"]


# -- without privileges --------------------------------------------------------------------------------------


@needs_root
def test_an_ordinary_user_s_daemon_heals_by_inotify_and_says_that_it_knows_no_causes(
    daemon: TreeDaemon, fast_path: Path
) -> None:
    fast_path.chmod(0o755)
    for directory, _, files in os.walk(daemon.tree):
        os.chown(directory, 65534, 65534)
        for name in files:
            os.chown(Path(directory) / name, 65534, 65534, follow_symlinks=False)
    code = (
        "import importlib, os, sys\n"
        "from sparktune.cli.main import main\n"
        "import sparktune.daemon, sparktune.cli.daemon, sqlite3, difflib\n"
        "from sparktune.simulate import tree\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    log = fast_path / "tree-0.log"
    with log.open("wb") as file:
        daemon.process = subprocess.Popen(
            [sys.executable, "-c", code, "--root", str(daemon.tree), "daemon"], stdout=file, stderr=file
        )
    wait_until(lambda: daemon.is_published() or daemon.running.poll() is not None, "the first status")
    assert daemon.running.poll() is None, daemon.log
    assert daemon.published()["daemon"]["events"] == "inotify"
    assert any("inotify" in notice["says"] for notice in daemon.published()["warnings"])
    daemon.heal()
    [episode] = daemon.await_episodes(1, "inotify")
    assert (episode.by.kind, episode.by.pid, episode.action) == ("unknown", None, "healed")
    assert daemon.end() == 0


def test_what_is_published_names_the_daemon_that_runs(daemon: TreeDaemon) -> None:
    daemon.start()
    assert daemon.published()["daemon"]["pid"] == daemon.running.pid
    for name in DOCUMENTS:
        path = daemon.run_dir / f"{name}.json"
        assert json.loads(path.read_bytes())
        assert path.stat().st_mode & 0o777 == 0o644
