"""It is killed, the power fails, the disk fills up, IPv6 is off, it hangs.

Whatever happens, the originals are those of before sparktune, and no value is written without its original
on disk.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from vm.guest import PROGRAMS, READ_AHEAD
from vm.installation import read_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vm.figures import Figures
    from vm.guest import Guest, Job
    from vm.installation import Installation

WANTED = 8192
STATE = "/var/lib/sparktune"
DROP_INS = "/etc/sparktune.toml.d"
NEVER_TIRED = "[contest]\nafter = 0\n"
KILLS = 20
EASY_RESTARTS = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=100ms\n"
OTHER_DISK = "/sys/block/vda/queue/read_ahead_kb"
CHECK_HISTORY = f"""
import sqlite3
history = sqlite3.connect("file:{STATE}/history.db?mode=ro", uri=True)
print(*history.execute("PRAGMA integrity_check").fetchone())
"""
READ_AND_STAY = f"""
import sqlite3, time
history = sqlite3.connect("file:{STATE}/history.db?mode=ro", uri=True)
history.execute("PRAGMA schema_version").fetchone()
time.sleep(900)
"""
"""Without a reader, SQLite would free its log when the daemon closes the history: room for others."""
LOCALHOSTS = ("127.0.0.1", "localhost")


@pytest.fixture
def tireless(spark: Guest) -> Iterator[Guest]:
    """The shared guest, sparktune never giving up."""
    never_tire(spark)
    yield spark
    tire_again(spark)


def never_tire(guest: Guest) -> None:
    """Let the daemon heal for ever, where many would otherwise be called a rival after five times."""
    guest.put(f"{DROP_INS}/50-tireless.toml", NEVER_TIRED)
    guest.run(["systemctl", "reload", "sparktune"])


def tire_again(guest: Guest) -> None:
    """Undo it, and whatever it has led to."""
    guest.run(
        f"rm {DROP_INS}/50-tireless.toml; rmdir --ignore-fail-on-non-empty {DROP_INS}; "
        "systemctl reload sparktune; sparktune apply"
    )


@contextmanager
def unit_setting(guest: Guest, text: str) -> Iterator[None]:
    """The daemon's unit with a drop-in."""
    directory = "/run/systemd/system/sparktune.service.d"
    guest.put(f"{directory}/50-scenario.conf", text)
    guest.run(["systemctl", "daemon-reload"])
    try:
        yield
    finally:
        guest.run(f"rm -r {directory}; systemctl daemon-reload; systemctl reset-failed sparktune")


def begin_storm(guest: Guest, mean_pause_s: float = 0.02) -> Job:
    """Somebody writes wrong values, at random, until he is killed."""
    return guest.start_job(
        f"exec python3 -I {PROGRAMS}/storm.py {mean_pause_s} {READ_AHEAD} "
        "/sys/devices/system/cpu/cpu*/cpuidle/state*/disable",
        limit_s=900,
    )


def restore_and_compare(guest: Guest, installation: Installation) -> None:
    """`sparktune restore --all` leaves what was there before the package was installed."""
    tuned = read_attributes(guest)
    before = installation.originals_of(guest)
    assert tuned[READ_AHEAD] == str(WANTED) != before[READ_AHEAD]
    guest.run(["sparktune", "restore", "--all"])
    assert read_attributes(guest) == before
    guest.run(["sparktune", "apply"])
    assert read_attributes(guest) == tuned


def judge_journal(guest: Guest) -> None:
    """Nothing in this boot's journal that only a developer could read."""
    said = guest.out("journalctl --boot --unit=sparktune --unit=sparktune-api --output=cat")
    assert "started" in said
    for defect in ("Traceback", "internal error", "defect"):
        assert defect not in said, said


# -- killed --------------------------------------------------------------------------------------------------


def test_a_killed_daemon_is_back_by_itself(spark: Guest, figures: Figures) -> None:
    spark.run(["systemctl", "reset-failed", "sparktune"])
    before = spark.show("sparktune", "MainPID", "NRestarts")
    spark.run(["systemctl", "kill", "--signal=KILL", "--kill-whom=main", "sparktune"])
    spark.wait_until(
        lambda: (
            spark.show("sparktune", "NRestarts", "ActiveState")
            == {"NRestarts": str(int(before["NRestarts"]) + 1), "ActiveState": "active"}
        ),
        "another daemon is active",
    )
    after = spark.show(
        "sparktune", "MainPID", "ActiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic"
    )
    assert after["MainPID"] != before["MainPID"]
    assert spark.cat(READ_AHEAD) == str(WANTED)
    away_us = int(after["ActiveEnterTimestampMonotonic"]) - int(after["ActiveExitTimestampMonotonic"])
    figures.record(
        "kill -9, until the next daemon is ready (2 s of it RestartSec)", round(away_us / 1e6, 2), "s"
    )


@pytest.mark.timeout(900, func_only=True)
def test_twenty_kills_at_any_moment_lose_no_original(
    tireless: Guest, installation: Installation, figures: Figures
) -> None:
    seed = str(random.SystemRandom().randrange(10**6))
    with unit_setting(tireless, EASY_RESTARTS):
        storm = begin_storm(tireless)
        start_s = max(time_a_start(tireless) for _ in range(2))
        command = ["python3", "-I", f"{PROGRAMS}/kill_daemon.py", str(KILLS), str(1.5 * start_s), seed]
        kills: list[dict[str, Any]] = json.loads(tireless.out(command, limit_s=800))
        assert storm.end().code < 0, "the storm was to last"
        tireless.wait_for_state("ok")
    assert len({kill["pid"] for kill in kills}) == KILLS
    moments = {kill["was"] for kill in kills}
    assert moments == {"activating", "active"}, f"seed {seed}: {kills}"
    restore_and_compare(tireless, installation)
    judge_journal(tireless)
    figures.record("kill -9: times in all", len(kills), "")
    figures.record(
        "kill -9: times before it was ready", sum(kill["was"] == "activating" for kill in kills), ""
    )


def time_a_start(guest: Guest) -> float:
    """Seconds from the start of the process to READY, by systemd's clock."""
    guest.run(["systemctl", "restart", "sparktune"])
    times = guest.show("sparktune", "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    return (int(times["ActiveEnterTimestampMonotonic"]) - int(times["ExecMainStartTimestampMonotonic"])) / 1e6


# -- power cut -----------------------------------------------------------------------------------------------


@pytest.mark.timeout(900, func_only=True)
def test_a_power_cut_while_it_writes_leaves_a_clean_state(
    boot_spark: Callable[..., Guest], installation: Installation, figures: Figures
) -> None:
    guest = boot_spark(name="power-cut", cpus=1)
    guest.wait_for_state("ok")
    never_tire(guest)
    kept = [episode["id"] for episode in guest.history("limit=1000")]
    guest.run(["sync"])
    begin_storm(guest)
    guest.start_job("while :; do sparktune restore --all; sparktune apply; done", limit_s=600)
    guest.wait_until(lambda: len(guest.history("limit=1000")) > len(kept) + 20, "a storm in the history")
    time.sleep(random.uniform(0, 2))  # noqa: S311 - any moment will do
    last = guest.history("limit=1")[0]["id"]
    guest.power_cut()

    guest.power_on()
    guest.link.await_boot(1, guest.platform.boot_limit_s * guest.site.patience)
    guest.wait_until(
        lambda: guest.run("pgrep --full '^/usr/bin/python3.*sparktune daemon'", check=False).code == 0,
        "the daemon of the next boot is about to apply", every_s=0.05,
    )  # fmt: skip
    guest.power_cut()

    guest.start()
    guest.wait_for_state("ok")
    judge_journal(guest)
    assert "corrupt" not in guest.out(f"ls -A {STATE}")
    assert guest.out(["python3", "-c", CHECK_HISTORY]) == "ok"
    found = [episode["id"] for episode in guest.history("limit=1000")]
    assert set(kept) <= set(found)
    assert guest.cat(READ_AHEAD) == str(WANTED)
    restore_and_compare(guest, installation)
    figures.record(
        "power cut: episodes of the last seconds that were lost",
        last - max(i for i in found if i <= last),
        "",
    )


# -- the disk is full ----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tireless: Guest) -> Iterator[Guest]:
    """The shared guest, its state on a disk that is easily filled."""
    tireless.run(
        f"""set -e
        truncate --size=8M /var/tmp/state.ext4
        mkfs.ext4 -q -m 0 /var/tmp/state.ext4
        systemctl stop sparktune sparktune-api.service
        mount -o loop /var/tmp/state.ext4 /mnt
        rmdir /mnt/lost+found
        cp --archive {STATE}/. /mnt
        umount /mnt
        mount -o loop /var/tmp/state.ext4 {STATE}
        systemctl start sparktune"""
    )
    reader = tireless.start_job(["python3", "-c", READ_AND_STAY], limit_s=900)
    yield tireless
    reader.end()
    tireless.run(
        f"""set -e
        systemctl stop sparktune sparktune-api.service
        cp --archive {STATE}/. /var/tmp/state
        umount {STATE}
        cp --archive /var/tmp/state/. {STATE}
        rm -r /var/tmp/state /var/tmp/state.ext4
        systemctl start sparktune"""
    )


def fill_disk(guest: Guest) -> None:
    """To the last block."""
    guest.run(
        f"for size in 64k 1k; do dd if=/dev/zero bs=$size oflag=append conv=notrunc of={STATE}/ballast; done",
        check=False,
    )
    probe = guest.run(
        f"dd if=/dev/zero bs=1k count=1 of={STATE}/probe; code=$?; rm {STATE}/probe; exit $code", check=False
    )
    assert "No space left on device" in probe.err


def is_history_lost(guest: Guest) -> bool:
    """Whether the status says that the history cannot be stored."""
    return any("the history cannot be stored" in notice["says"] for notice in guest.status()["warnings"])


def test_a_full_disk_stops_no_heal_but_every_write_without_an_original(
    small_disk: Guest, figures: Figures
) -> None:
    guest = small_disk
    before, daemon = guest.cat(OTHER_DISK), guest.show("sparktune", "MainPID")
    fill_disk(guest)

    def drift_until_told() -> bool:
        times_us.append(guest.measure_heal(READ_AHEAD, 128, WANTED))
        return is_history_lost(guest)

    times_us: list[int] = []
    guest.wait_until(drift_until_told, "the status says that the history cannot be stored", every_s=0.2)

    refused = guest.run(["sparktune", "pause", "--for", "1m"], check=False)
    assert (refused.code, "marks.json: No space left on device" in refused.err) == (1, True), refused.err

    guest.put(f"{DROP_INS}/60-another-disk.toml", '[nvme]\ndevices = ["nvme*", "vda"]\n')
    guest.run(["systemctl", "reload", "sparktune"])
    status = guest.wait_for_state("degraded")
    [failed] = [item for item in status["not_holding"] if item["id"] == "nvme.vda.read_ahead_kb"]
    assert (failed["verdict"], failed["actual"]) == ("failed", int(before))
    assert "No space left on device" in failed["reason"]
    looked = status["daemon"]["verified_at"]
    guest.wait_until(lambda: guest.status()["daemon"]["verified_at"] != looked, "another sweep")
    assert guest.cat(OTHER_DISK) == before != str(WANTED)
    assert "vda" not in guest.cat(f"{STATE}/originals.jsonl")
    times_us.append(guest.measure_heal(READ_AHEAD, 128, WANTED))

    guest.run(["rm", f"{STATE}/ballast"])
    waited_s = guest.wait_for_value(OTHER_DISK, WANTED)
    assert f'"value": {before}' in guest.out(f"grep /vda/ {STATE}/originals.jsonl")
    guest.wait_until(lambda: not is_history_lost(guest), "the history is stored again")
    guest.wait_for_state("ok")
    assert guest.show("sparktune", "MainPID") == daemon
    guest.run(f"rm {DROP_INS}/60-another-disk.toml; systemctl reload sparktune")
    assert guest.cat(OTHER_DISK) == before
    figures.record("disk full: heals, median", statistics.median(times_us), "µs")
    figures.record("disk full: room again, until the write that had waited", round(waited_s, 2), "s")


# -- IPv6 is off ---------------------------------------------------------------------------------------------


def ask_by(guest: Guest, host: str) -> str:
    """The state as `curl` gets it from one address."""
    answer = guest.out(
        ["curl", "--silent", "--show-error", "--globoff", "--max-time", "60", f"http://{host}:9300/status"]
    )
    state: str = json.loads(answer)["state"]
    return state


def restart_sockets(guest: Guest) -> None:
    """Bind them anew."""
    guest.run(
        "systemctl stop sparktune-api.service sparktune-api.socket && systemctl start sparktune-api.socket"
    )


def test_the_api_answers_where_ipv6_is_switched_off(spark: Guest) -> None:
    spark.run("sysctl --write net.ipv6.conf.all.disable_ipv6=1")
    try:
        restart_sockets(spark)
        assert [ask_by(spark, host) for host in LOCALHOSTS] == ["ok", "ok"]
    finally:
        spark.run("sysctl --write net.ipv6.conf.all.disable_ipv6=0")
        restart_sockets(spark)
    assert ask_by(spark, "[::1]") == "ok"


def test_the_api_answers_with_a_kernel_that_has_no_ipv6(boot_spark: Callable[..., Guest]) -> None:
    guest = boot_spark("ipv6.disable=1", name="no-ipv6", cpus=1)
    guest.wait_for_state("ok")
    assert guest.run(["test", "-e", "/proc/net/if_inet6"], check=False).code == 1
    assert [ask_by(guest, host) for host in LOCALHOSTS] == ["ok", "ok"]
    assert guest.show("sparktune-api.socket", "Result", "ActiveState") == {
        "Result": "success",
        "ActiveState": "active",
    }


# -- it hangs ------------------------------------------------------------------------------------------------


def test_a_daemon_that_hangs_is_restarted_by_the_watchdog(spark: Guest, figures: Figures) -> None:
    spark.run(["systemctl", "reset-failed", "sparktune"])
    before = spark.show("sparktune", "MainPID", "NRestarts")
    limit_s = str(150 * spark.site.patience)
    command = ["python3", "-I", f"{PROGRAMS}/watch_outage.py", READ_AHEAD, limit_s]
    seen: dict[str, Any] = json.loads(spark.out(command, limit_s=200))
    assert seen["values"] == [str(WANTED)]
    assert "down" in seen["states"]
    assert seen["ready_s"] is not None, seen
    after = spark.show("sparktune", "MainPID", "NRestarts", "Result")
    assert after["MainPID"] != before["MainPID"]
    assert int(after["NRestarts"]) == int(before["NRestarts"]) + 1
    assert "Watchdog timeout" in spark.out("journalctl --boot --unit=sparktune --output=cat --lines=60")
    figures.record("daemon stopped, until the watchdog ended it", round(seen["ended_s"], 1), "s")
    figures.record("daemon stopped, until the next one is ready", round(seen["ready_s"], 1), "s")
