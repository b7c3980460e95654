"""The main job on this machine's real kernel: what the issue wants shown, as sentences."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from real_host import DISABLES, LOOP, READ_AHEAD, RealHost, real_host, shell, wait_until, write_by_shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.real_kernel, pytest.mark.timeout(180)]

needs_cpupower = pytest.mark.skipif(shutil.which("cpupower") is None, reason="cpupower is not installed")
needs_idle_states = pytest.mark.skipif(not DISABLES, reason="this kernel has no idle states")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealHost]:
    with real_host(tmp_path) as running:
        running.configure()
        yield running


def read() -> int:
    return int(READ_AHEAD.read_text())


def heal_one(value: int = 128) -> int:
    """A shell writes; returns its pid once the value is back."""
    pid = write_by_shell(value)
    wait_until(lambda: read() == 8192, "the heal")
    return pid


def test_the_daemon_sets_read_ahead_at_start(host: RealHost) -> None:
    READ_AHEAD.write_text("128")
    host.start()
    assert read() == 8192
    assert host.status()["state"] == "ok"
    assert "checked 1 of 1" in host.status()["summary"]


def test_a_shell_s_write_is_healed_in_under_a_millisecond_and_the_history_names_it(host: RealHost) -> None:
    host.start()
    pids = []
    for _ in range(20):
        pids.append(heal_one())
        time.sleep(0.02)
    episodes = host.wait_for_episodes(20, "fanotify")
    assert {episode.by.pid for episode in episodes} == set(pids)
    assert {(episode.by.comm, episode.by.uid, episode.by.unit) for episode in episodes} == {("sh", 0, None)}
    assert min(episode.took_us or 10**9 for episode in episodes) < 1000
    told = host.command("history", "--limit", "1")
    assert told.returncode == 0
    assert f"sh[{pids[-1]}]" in told.stdout


def test_short_lived_writers_are_known_by_name_and_uid(host: RealHost) -> None:
    host.start()
    count = 300
    for _ in range(count):
        heal_one()
    episodes = host.wait_for_episodes(count * 95 // 100, "fanotify")
    known = [episode for episode in episodes if episode.by.comm == "sh" and episode.by.uid == 0]
    assert len(known) >= 0.95 * len(episodes)


def test_a_writer_of_another_uid_is_named_with_that_uid(host: RealHost) -> None:
    host.start()
    READ_AHEAD.chmod(0o666)
    try:
        pid = os.fork()
        if pid == 0:
            os.setgid(65534)
            os.setuid(65534)
            os.execvp("sh", ["sh", "-c", f"echo 64 > {READ_AHEAD}; sleep 0.2"])  # noqa: S606 - a shell it is
        os.waitpid(pid, 0)
    finally:
        READ_AHEAD.chmod(0o644)
    [episode] = host.wait_for_episodes(1, "fanotify")
    assert (episode.by.pid, episode.by.uid) == (pid, 65534)


def test_a_write_through_the_bdi_alias_is_healed(host: RealHost) -> None:
    host.start()
    number = (READ_AHEAD.parent.parent / "dev").read_text().strip()
    pid = shell(f"echo 4096 > /sys/class/bdi/{number}/read_ahead_kb")
    wait_until(lambda: read() == 8192, "the heal")
    [episode] = host.wait_for_episodes(1, "fanotify")
    assert (episode.by.pid, episode.drifts[0].found) == (pid, 4096)


def test_blockdev_setra_is_healed_by_the_sweep_with_an_unknown_cause(host: RealHost) -> None:
    host.configure(top='sweep = "1s"')
    host.start()
    subprocess.run(["blockdev", "--setra", "1024", f"/dev/{LOOP}"], check=True)
    assert read() == 512
    wait_until(lambda: read() == 8192, "the sweep")
    [episode] = host.wait_for_episodes(1, "sweep")
    assert (episode.by.kind, episode.drifts[0].found) == ("unknown", 512)


def test_a_silent_change_soon_after_a_device_event_does_not_wait_for_the_sweep(host: RealHost) -> None:
    host.configure(top='sweep = "60s"')
    host.start()
    time.sleep(1.5)  # the second sweep comes a second after the start
    (READ_AHEAD.parent.parent / "uevent").write_text("change")
    time.sleep(0.2)
    subprocess.run(["blockdev", "--setra", "1024", f"/dev/{LOOP}"], check=True)
    assert read() == 512
    wait_until(lambda: read() == 8192, "the look some moments after the event")
    [episode] = host.wait_for_episodes(1, "udev")
    assert (episode.by.kind, episode.drifts[0].found) == ("device", 512)
    assert episode.by.detail.endswith(f"s after udev change block {LOOP}")


@needs_cpupower
@needs_idle_states
def test_cpupower_is_one_episode_that_names_cpupower(host: RealHost) -> None:
    host.configure(cpuidle="disable_latency_us = 0")
    host.start()
    assert {path.read_text() for path in DISABLES} == {"1\n"}
    subprocess.run(["cpupower", "idle-set", "-E"], check=True, capture_output=True)
    wait_until(lambda: {path.read_text() for path in DISABLES} == {"1\n"}, "the heal")
    [episode] = host.wait_for_episodes(1, "fanotify")
    assert (episode.by.comm, episode.by.uid, episode.count) == ("cpupower", 0, len(DISABLES))


@needs_cpupower
@needs_idle_states
@pytest.mark.parametrize("limit", [0, 1, 2, 50])
def test_idle_states_are_disabled_to_the_letter_of_cpupower(host: RealHost, limit: int) -> None:
    subprocess.run(["cpupower", "idle-set", "-D", str(limit)], check=True, capture_output=True)
    theirs = [path.read_text() for path in DISABLES]
    subprocess.run(["cpupower", "idle-set", "-E"], check=True, capture_output=True)
    host.configure(cpuidle=f"disable_latency_us = {limit}")
    host.start()
    assert [path.read_text() for path in DISABLES] == theirs


def test_the_sixth_drift_in_a_minute_is_left_standing_and_the_rival_named(host: RealHost) -> None:
    host.configure(contest="after = 5")
    host.start()
    for _ in range(5):
        heal_one()
        time.sleep(0.15)
    write_by_shell(128)
    wait_until(lambda: host.status()["not_holding"], "the verdict")
    [contested] = host.status()["not_holding"]
    assert (contested["verdict"], contested["actual"]) == ("contested", 128)
    assert contested["reason"].startswith("sh[")
    assert host.status()["state"] == "degraded"
    assert host.command("apply").returncode == 0
    assert read() == 8192
    heal_one()  # the hold has ended


def test_a_pause_leaves_a_write_alone_and_resume_heals_it(host: RealHost) -> None:
    host.start()
    assert host.command("pause", "--for", "1h").returncode == 0
    write_by_shell(128)
    time.sleep(0.3)
    assert read() == 128
    assert host.status()["paused_until"] is not None
    wait_until(lambda: host.status()["not_holding"], "the verdict")
    assert host.command("status").returncode == 4
    assert host.command("resume").returncode == 0
    assert read() == 8192


def test_a_pause_ends_by_itself(host: RealHost) -> None:
    host.start()
    host.command("pause", "--for", "1s")
    write_by_shell(128)
    assert read() == 128
    wait_until(lambda: read() == 8192, "the end of the pause")


def test_restore_puts_back_what_was_there_and_it_stays(host: RealHost) -> None:
    READ_AHEAD.write_text("256")
    host.start()
    assert host.command("restore", "--all").returncode == 0
    assert read() == 256
    time.sleep(1.5)
    assert read() == 256
    assert host.command("apply").returncode == 0
    assert read() == 8192


def test_after_kill_9_and_a_restart_the_original_is_still_the_original(host: RealHost) -> None:
    READ_AHEAD.write_text("256")
    host.start()
    host.stop(signal.SIGKILL)
    assert read() == 8192
    host.start()
    heal_one()
    assert host.command("restore", "--all").returncode == 0
    assert read() == 256


def test_restore_without_a_daemon_puts_back_the_same(host: RealHost) -> None:
    READ_AHEAD.write_text("256")
    host.start()
    host.stop(signal.SIGKILL)
    assert host.command("restore", "--all").returncode == 0
    assert read() == 256


def test_stopping_leaves_the_tuned_value(host: RealHost) -> None:
    host.start()
    assert host.stop() == 0
    assert read() == 8192


def test_a_second_daemon_says_so_and_ends_with_1(host: RealHost) -> None:
    host.start()
    second = host.command("--run-dir", f"{host.directory}/other", "daemon")
    assert second.returncode == 1
    assert "another sparktune already tunes this host" in second.stderr


def test_a_machine_that_is_no_gb10_is_left_alone(host: RealHost) -> None:
    READ_AHEAD.write_text("128")
    config = host.directory / "sparktune.toml"
    config.write_text(config.read_text().replace("require_gb10 = false", ""))
    ended = host.command("daemon")
    assert ended.returncode == 5
    assert read() == 128
    assert host.status()["state"] == "unsupported"


def test_another_user_reads_the_history_live_stopped_and_killed(host: RealHost) -> None:
    """The API process is that other user; here a child of ours is."""
    host.start()
    heal_one()
    host.wait_for_episodes(1, "fanotify")
    state = host.directory / "state"
    for path in (host.directory, *host.directory.parents):
        if path.stat().st_uid == os.getuid() and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    os.chown(state, 0, 65534)
    code = (
        "import os, sys; from pathlib import Path; from sparktune import history\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "page = history.read(Path(sys.argv[1]), since=None, until=None, tunable=None, limit=9, cursor=None,\n"
        "                    show_commands=False)\n"
        "print(sum(episode.noticed == 'fanotify' for episode in page.episodes))\n"
    )

    def count() -> str:
        for path in state.glob("history.db*"):
            os.chown(path, 0, 65534)
        line = [sys.executable, "-c", code, str(state / "history.db")]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    assert count() == "1"
    host.stop()
    assert count() == "1"
    host.start()
    heal_one()
    host.wait_for_episodes(2, "fanotify")
    host.stop(signal.SIGKILL)
    assert count() == "2"
