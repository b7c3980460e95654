"""Two virtual Sparks joined by a cable: what is found of the other end, and whether what is reported works.

Soft-RoCE over emulated NICs: nothing here says how fast anything is.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from vm.disks import wait_for_verdict
from vm.guest import Guest
from vm.machine import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.installation import Installation
    from vm.workshop import Workshop

NETDEV, RDMA = "enp1s0f0np0", "rocep1s0f0"
NEAR, FAR, OLD = "192.168.100.10", "192.168.100.11", "10.0.2.15"
ANSWERS = f"roce.{NETDEV}.peer_192-168-100-11"
PATH_MTU = f"{ANSWERS}_path_mtu"
CONFIG = f'[roce]\npeers = ["{NEAR}", "{FAR}"]\n'
ALLOW = (
    "install -D /usr/share/sparktune/peers.conf /etc/systemd/system/sparktune.service.d/peers.conf && "
    "systemctl daemon-reload && systemctl restart sparktune"
)

MOST_EXPOSED = 3.2
EXPOSURE = "systemd-analyze security --no-pager sparktune.service"


class Pair(NamedTuple):
    """Two guests, and each one's end of the cable is `NETDEV`."""

    near: Guest
    far: Guest

    def set_mtu(self, mtu: int) -> None:
        """At the far end only."""
        self.far.run(["ip", "link", "set", NETDEV, "mtu", str(mtu)])

    def ask(self) -> None:
        """Have the near daemon look now and not at its next round, once the far end has its carrier back."""
        self.far.wait_for_value(f"/sys/class/net/{NETDEV}/carrier", 1)
        self.near.run(["sparktune", "apply"], check=False)


@pytest.fixture(scope="module")
def pair(workshop: Workshop, installation: Installation) -> Iterator[Pair]:
    guests = [
        workshop.make(name, installation.disk, Wire(directory=workshop.directory, end=end), cpus=1)
        for end, name in enumerate(("near", "far"), start=1)
    ]
    near, far = guests
    Guest.start_together(near, far)
    link = f"ip link set {NETDEV} mtu 9000"
    remove = f"ip address delete {OLD}/24 dev {NETDEV}"
    # In this order the same address has another index in each GID table.
    near.run(f"{remove}; ip address add {NEAR}/24 dev {NETDEV}; {link}")
    far.run(f"ip address add {FAR}/24 dev {NETDEV}; {remove}; {link}")
    far.wait_for_value(f"/sys/class/net/{NETDEV}/carrier", 1)
    near.put("/etc/sparktune.toml.d/60-peers.toml", CONFIG)
    yield Pair(near, far)
    for guest in guests:
        guest.discard()


def test_without_leave_to_ping_the_checks_are_blocked_and_say_what_gives_it(pair: Pair) -> None:
    pair.near.run(["sparktune", "reload"])
    reason = wait_for_verdict(pair.near, ANSWERS, "blocked")["reason"]
    assert "/usr/share/sparktune/peers.conf" in reason
    assert pair.near.status()["state"] == "degraded"


def test_a_path_that_takes_the_whole_mtu_holds(pair: Pair) -> None:
    pair.near.run(ALLOW)
    assert wait_for_verdict(pair.near, PATH_MTU, "ok")["actual"] == 9000
    assert pair.near.tunable(ANSWERS)["actual"] == "answers"
    exposure = re.search(r"level for sparktune.service: ([0-9.]+)", pair.near.out(EXPOSURE))
    assert exposure is not None
    assert float(exposure[1]) <= MOST_EXPOSED


def test_1500_at_the_other_end_is_found_and_what_to_do_is_said(pair: Pair) -> None:
    pair.set_mtu(1500)
    pair.ask()
    found = wait_for_verdict(pair.near, PATH_MTU, "drift")
    assert (found["wanted"], found["actual"]) == (9000, 1500)
    assert pair.near.tunable(ANSWERS)["verdict"] == "ok"
    [item] = [one for one in pair.near.status()["not_holding"] if one["id"] == PATH_MTU]
    assert f"the interface that has {FAR}" in item["do"]
    verified = pair.near.run(["sparktune", "verify", PATH_MTU, "--json"], check=False)
    assert verified.code == 4
    assert json.loads(verified.out)["not_holding"][0]["actual"] == 1500
    pair.set_mtu(9000)
    pair.ask()
    wait_for_verdict(pair.near, PATH_MTU, "ok")


def test_a_peer_that_does_not_answer_is_found(pair: Pair) -> None:
    pair.far.run(["ip", "link", "set", NETDEV, "down"])
    pair.near.run(["sparktune", "apply"], check=False)
    assert wait_for_verdict(pair.near, ANSWERS, "drift")["actual"] in ("no answer", "host unreachable")
    assert pair.near.tunable(PATH_MTU)["verdict"] == "absent"
    pair.far.run(["ip", "link", "set", NETDEV, "up"])
    pair.ask()
    wait_for_verdict(pair.near, PATH_MTU, "ok")


def function_of(guest: Guest) -> dict[str, Any]:
    """What `sparktune fabric --json` reports of the cable's end."""
    report = json.loads(guest.run(["sparktune", "fabric", "--json"], check=False).out)
    [found] = [one for one in report["others"] if one["netdev"] == NETDEV]
    function: dict[str, Any] = found
    return function


def test_ib_write_bw_runs_with_the_device_and_gid_index_that_fabric_reports(pair: Pair) -> None:
    ends = [function_of(guest) for guest in pair]
    assert [end["ipv4"] for end in ends] == [NEAR, FAR]
    assert ends[0]["gid_index"] != ends[1]["gid_index"], "no end could guess the other's"
    near, far = (
        ["ib_write_bw", "-F", "-n", "20", "-s", "4096", "-d", end["rdma"], "-x", str(end["gid_index"])]
        for end in ends
    )
    server = pair.far.start_job(far)
    pair.far.wait_until(
        lambda: pair.far.out("ss --tcp --listening --numeric | grep 18515 || true"), "ib_write_bw"
    )
    client = pair.near.run([*near, FAR])
    assert [done.code for done in (client, server.wait())] == [0, 0]
    [measured] = [line.split() for line in client.out.splitlines() if line.split()[:2] == ["4096", "20"]]
    assert float(measured[3]) > 0
