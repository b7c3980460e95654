"""What the two processes cost a machine on which nothing happens, by the kernel's own counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vm.figures import Figures
    from vm.guest import Guest

WATCHED_S = 60
MOST_RSS_MIB = {"sparktune": 48, "sparktune-api": 96}
MOST_WAKEUPS = {"sparktune": 16, "sparktune-api": 4}
"""Twice the budgets: the counter also counts waiting for the disk or a lock."""


def read_rss_kib(guest: Guest, pid: str) -> int:
    """Resident memory by /proc/PID/status."""
    return int(guest.out(f"grep VmRSS: /proc/{pid}/status").split()[1])


@pytest.mark.timeout(400)
def test_both_processes_are_small_and_sleep(spark: Guest, figures: Figures) -> None:
    spark.status()  # the API is started by its first request
    pids = {unit: spark.show(unit, "MainPID")["MainPID"] for unit in ("sparktune", "sparktune-api")}
    files = " ".join(f"/proc/{pid}/task/*/status" for pid in pids.values())
    count = f"grep -H ^voluntary_ctxt_switches: {files}"
    spark.run(["sleep", "3"])  # what the questions above have caused is over
    before, after = spark.out(f"{count}; sleep {WATCHED_S}; echo --; {count}", limit_s=120).split("--\n")
    for unit, pid in pids.items():
        rss_mib = read_rss_kib(spark, pid) / 1024
        wakeups = sum_up(after, pid) - sum_up(before, pid)
        figures.record(f"{unit}: resident memory", round(rss_mib, 1), "MiB")
        figures.record(f"{unit}: wakeups in {WATCHED_S} s of nothing", wakeups, "")
        assert rss_mib <= MOST_RSS_MIB[unit]
        assert wakeups <= MOST_WAKEUPS[unit]


def sum_up(lines: str, pid: str) -> int:
    """The counters of all threads of a process."""
    return sum(int(line.split()[-1]) for line in lines.splitlines() if line.startswith(f"/proc/{pid}/"))
