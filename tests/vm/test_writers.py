"""Somebody writes a tuned value, in every way there is: it is put back, and the history says who it was.

What the kernel holds is read by `cat`, `cpupower` and a measuring program, what sparktune says by its API.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from vm.guest import READ_AHEAD
from vm.ledger import Ledger, disabled_states, measure, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.figures import Figures
    from vm.guest import Guest

WANTED = 8192
QUIET_S = 0.1
SH = f"echo 128 > {READ_AHEAD}"


@pytest.fixture
def calm(spark: Guest) -> Guest:
    """The shared guest, with no fight on sparktune's books: it may heal five times before it gives up."""
    spark.run(["sparktune", "apply"])
    return spark


@pytest.fixture
def tireless(spark: Guest) -> Iterator[Guest]:
    """The shared guest, sparktune never giving up."""
    drop_in = "/etc/sparktune.toml.d/50-tireless.toml"
    spark.put(drop_in, "[contest]\nafter = 0\n")
    spark.run(["sparktune", "reload"])
    yield spark
    spark.run(f"rm {drop_in}; sparktune reload; sparktune apply")


def bdi_of(guest: Guest) -> str:
    """The other name of the same value."""
    return f"/sys/class/bdi/{guest.cat('/sys/block/nvme0n1/dev')}/read_ahead_kb"


# -- seen at once --------------------------------------------------------------------------------------------


def test_a_shell_is_named_by_curl_and_by_the_history_command(calm: Guest) -> None:
    ledger = Ledger.open(calm)
    pid = int(calm.out(["sh", "-c", f"echo $$; {SH}"]))
    calm.wait_for_value(READ_AHEAD, WANTED)
    [episode] = ledger.await_new()
    by = episode["by"]
    assert (by["kind"], by["comm"], by["pid"], by["uid"]) == ("process", "sh", pid, 0)
    assert (episode["noticed"], episode["action"], episode["count"]) == ("fanotify", "healed", 1)
    [drift] = episode["drifts"]
    assert (drift["found"], drift["wanted"]) == (128, WANTED)
    told = json.loads(calm.out(["sparktune", "history", "--json", "--limit", "1"]))["episodes"]
    told += calm.curl("/history?limit=1")["episodes"]
    assert [entry["by"] for entry in told] == [by, by]
    assert f"sh[{pid}] uid 0" in calm.out(["sparktune", "history", "--limit", "1"])


def test_a_service_is_named_with_its_unit_and_its_command_line(calm: Guest) -> None:
    ledger = Ledger.open(calm)
    start = ["systemd-run", "--wait", "--quiet", "--collect", "--unit=foreign"]
    calm.run([*start, "sh", "-c", f"{SH}; sleep 3"])
    calm.wait_for_value(READ_AHEAD, WANTED)
    [episode] = ledger.await_new()
    by = episode["by"]
    assert (by["comm"], by["uid"], by["unit"], by["parent"]) == ("sh", 0, "foreign.service", "systemd[1]")
    assert by["exe"] == calm.out(["readlink", "-f", "/bin/sh"])
    assert episode["command"] is None
    line = ["sparktune", "history", "--json", "--commands", "--limit", "1"]
    [told] = json.loads(calm.out(line))["episodes"]
    assert told["command"] == f"/usr/bin/sh -c {SH}; sleep 3"


def test_a_service_that_only_writes_and_ends_is_named_as_well(tireless: Guest, figures: Figures) -> None:
    """It is often reaped before anybody can look; its pid, name and user are known all the same."""
    tireless.put(
        "/run/systemd/system/brief.service", f"[Service]\nType=oneshot\nExecStart=/bin/sh -c '{SH}'\n"
    )
    tireless.run(["systemctl", "daemon-reload"])
    ledger, count = Ledger.open(tireless), 10
    tireless.run(f"for n in {{1..{count}}}; do systemctl start brief.service; sleep 0.3; done")
    tireless.wait_for_value(READ_AHEAD, WANTED)
    writers = [episode["by"] for episode in ledger.await_new(count)]
    tireless.run("rm /run/systemd/system/brief.service; systemctl daemon-reload")
    assert {(by["comm"], by["uid"]) for by in writers} == {("sh", 0)}
    assert len({by["pid"] for by in writers}) == count
    assert {by["unit"] for by in writers} <= {"brief.service", None}
    named = sum(by["unit"] == "brief.service" for by in writers)
    figures.record(f"services that only write and end, named with unit, of {count}", named, "")
    assert named >= 1


def test_cpupower_is_one_episode_and_shows_the_states_disabled_again(calm: Guest) -> None:
    """Or more, where the machine does not let it write all of them without a pause of 100 ms."""
    held = disabled_states(calm)
    shown = calm.out(["cpupower", "--cpu", "all", "idle-info"]).count("(DISABLED)")
    assert shown == len(held) > 0
    ledger = Ledger.open(calm)
    calm.run(["cpupower", "idle-set", "--enable-all"])
    calm.wait_until(lambda: disabled_states(calm) == held, "the same states disabled again")
    calm.wait_until(lambda: sum(one["count"] for one in ledger.new()) >= len(held), "all in the history")
    episodes = ledger.new()
    assert {(one["by"]["comm"], one["by"]["uid"]) for one in episodes} == {("cpupower", 0)}
    assert len({one["by"]["pid"] for one in episodes}) == 1
    assert {(one["area"], one["action"]) for one in episodes} == {("cpuidle", "healed")}
    drifts = [drift["tunable"] for one in episodes for drift in one["drifts"]]
    assert len(set(drifts)) == len(drifts) == len(held)
    began_s = sorted(datetime.fromisoformat(one["at"]).timestamp() for one in episodes)
    assert all(second - first > QUIET_S for first, second in pairwise(began_s)), episodes
    assert calm.out(["cpupower", "--cpu", "all", "idle-info"]).count("(DISABLED)") == shown


def test_the_bdi_alias_is_watched_as_well(calm: Guest) -> None:
    alias, ledger = bdi_of(calm), Ledger.open(calm)
    pid = int(calm.out(["sh", "-c", f"echo $$; echo 4096 > {alias}"]))
    calm.wait_for_value(READ_AHEAD, WANTED)
    assert calm.cat(alias) == str(WANTED)
    [episode] = ledger.await_new()
    assert (episode["noticed"], episode["by"]["comm"], episode["by"]["pid"]) == ("fanotify", "sh", pid)
    assert [drift["found"] for drift in episode["drifts"]] == [4096]


def test_a_process_in_a_pid_namespace_is_named_by_its_pid_outside(calm: Guest) -> None:
    ledger = Ledger.open(calm)
    inside = calm.start_job(["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", f"{SH}; sleep 60"])
    [episode] = ledger.await_new()
    by = episode["by"]
    assert by["comm"] == "sh"
    assert by["pid"] > 1
    assert calm.cat(f"/proc/{by['pid']}/comm") == "sh"
    assert calm.out(f"grep NSpid /proc/{by['pid']}/status").split() == ["NSpid:", str(by["pid"]), "1"]
    inside.end(signal.SIGKILL)
    assert calm.cat(READ_AHEAD) == str(WANTED)


def test_a_process_in_a_network_namespace_alone_is_seen_and_named(calm: Guest) -> None:
    ledger = Ledger.open(calm)
    pid = int(calm.out(["unshare", "--net", "sh", "-c", f"echo $$; {SH}"]))
    calm.wait_for_value(READ_AHEAD, WANTED)
    [episode] = ledger.await_new()
    assert (episode["noticed"], episode["by"]["comm"], episode["by"]["pid"]) == ("fanotify", "sh", pid)


def test_another_user_cannot_write_and_nothing_is_recorded(calm: Guest) -> None:
    ledger = Ledger.open(calm)
    refused = calm.run(["sh", "-c", SH], user="nobody", check=False)
    assert refused.code != 0
    assert "Permission denied" in refused.err
    assert calm.cat(READ_AHEAD) == str(WANTED)
    calm.run("sleep 1")
    assert ledger.new() == []


def test_root_without_any_capability_can_write_and_is_named(calm: Guest) -> None:
    """Block queue attributes ask for uid 0 and nothing else: a container's root is such a writer."""
    ledger = Ledger.open(calm)
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    capabilities, pid = calm.out(
        [*bare, "sh", "-c", f"grep CapEff /proc/$$/status; echo $$; {SH}"]
    ).splitlines()
    assert int(capabilities.split()[1], 16) == 0
    calm.wait_for_value(READ_AHEAD, WANTED)
    [episode] = ledger.await_new()
    assert (episode["by"]["pid"], episode["by"]["uid"], episode["action"]) == (int(pid), 0, "healed")


# -- how long it takes ---------------------------------------------------------------------------------------


def test_how_long_the_wrong_value_stands(tireless: Guest, figures: Figures) -> None:
    """Measured inside the guest by a program that polls the kernel; the emulated CPU is slow."""
    ledger = Ledger.open(tireless)
    disables = disabled_states(tireless)
    ways: list[tuple[str, list[str], int]] = [
        ("write by a shell", ["sh", "-c", SH], 20),
        ("write through the bdi alias", ["sh", "-c", f"echo 4096 > {bdi_of(tireless)}"], 20),
        ("write by a service", ["systemd-run", "--wait", "--quiet", "--collect", "sh", "-c", SH], 5),
    ]
    direct = measure(tireless, [READ_AHEAD], wanted=WANTED, count=50, write="128")
    record(figures, "write by the measuring program", direct)
    for what, command, count in ways:
        record(figures, what, measure(tireless, [READ_AHEAD], wanted=WANTED, count=count, command=command))
    burst = measure(tireless, disables, wanted=1, count=5, command=["cpupower", "idle-set", "-E"])
    record(figures, f"cpupower idle-set -E, {len(disables)} values", burst)
    noticed = Counter(episode["noticed"] for episode in ledger.new())
    assert set(noticed) <= {"fanotify", "sweep"}
    assert noticed["fanotify"] > 0.9 * noticed.total()  # who writes in the middle of a sweep is found by it
    assert len(direct) == 50
    assert max(direct) < 1e6 * tireless.site.patience
