"""Peers on real links: two network namespaces joined by a pair of interfaces, with equal and unequal MTUs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ASKER = Path(__file__).parent / "asker.py"
FIRST, SECOND, MISSING = "10.99.0.1", "10.99.0.2", "10.99.0.99"
FIRST_6, SECOND_6 = "fd99::1", "fd99::2"

pytestmark = [
    pytest.mark.root,
    pytest.mark.real_kernel,
    pytest.mark.timeout(60),
    pytest.mark.skipif(shutil.which("ip") is None, reason="iproute2 is not installed"),
]


class Pair(NamedTuple):
    """Two nodes: a network namespace each. The first one's interface is `va`, the second one's `vb`."""

    here: str
    there: str

    def ip(self, command: str) -> None:
        """Run `ip` with the names of the namespaces put in."""
        words = command.format(here=self.here, there=self.there).split()
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)

    def run(self, *command: str) -> str:
        """Run a command on the first node."""
        enter = ["ip", "netns", "exec", self.here, *command]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, *asked: object) -> dict[str, Any]:
        """Ping from the first node; interface, address and MTU, as often as wanted."""
        document: dict[str, Any] = json.loads(
            self.run(sys.executable, str(ASKER), *(str(word) for word in asked))
        )
        return document

    def path(self, address: str, mtu: int = 9000) -> tuple[Any, Any]:
        """What the two checks of one way read."""
        readings = self.ask("va", address, mtu)["readings"]
        return readings[f"va {address} answers"][1], readings[f"va {address} mtu"][1]


@pytest.fixture
def pair() -> Iterator[Pair]:
    nodes = Pair(f"sparktune-a-{os.getpid()}", f"sparktune-b-{os.getpid()}")
    try:
        for name in nodes:
            nodes.ip(f"netns add {name}")
        nodes.ip("link add va netns {here} type veth peer name vb netns {there}")
        for place, netdev, ipv4, ipv6 in (("here", "va", FIRST, FIRST_6), ("there", "vb", SECOND, SECOND_6)):
            nodes.ip(f"-n {{{place}}} address add {ipv4}/24 dev {netdev}")
            nodes.ip(f"-n {{{place}}} address add {ipv6}/64 dev {netdev} nodad")
            nodes.ip(f"-n {{{place}}} link set {netdev} mtu 9000 up")
        yield nodes
    finally:
        for name in nodes:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=10)


@pytest.mark.parametrize("address", [SECOND, SECOND_6])
def test_a_path_of_the_interface_s_own_mtu_is_found(pair: Pair, address: str) -> None:
    assert pair.path(address) == ("answers", 9000)


@pytest.mark.parametrize("address", [SECOND, SECOND_6])
def test_1500_at_the_other_end_is_found(pair: Pair, address: str) -> None:
    pair.ip("-n {there} link set vb mtu 1500")
    assert pair.path(address) == ("answers", 1500)


def test_an_mtu_that_is_not_usual_is_found_as_the_largest_usual_one_that_passes(pair: Pair) -> None:
    pair.ip("-n {there} link set vb mtu 5000")
    assert pair.path(SECOND) == ("answers", 4200)


def test_one_who_takes_large_packets_and_answers_in_pieces_is_found(pair: Pair) -> None:
    pair.ip(f"-n {{there}} route add {FIRST}/32 dev vb mtu lock 1500")
    assert pair.path(SECOND) == ("answers", 1500)


def test_a_router_that_says_what_it_takes_is_believed(pair: Pair) -> None:
    far = f"sparktune-c-{os.getpid()}"
    pair.ip(f"netns add {far}")
    try:
        pair.ip(f"link add vc netns {{there}} mtu 1400 type veth peer name vd netns {far} mtu 1400")
        pair.ip("-n {there} address add 10.98.0.1/24 dev vc")
        pair.ip(f"-n {far} address add 10.98.0.2/24 dev vd")
        pair.ip("-n {there} link set vc up")
        pair.ip(f"-n {far} link set vd up")
        pair.ip(f"-n {far} route add default via 10.98.0.1")
        pair.ip("-n {here} route add default via " + SECOND)
        forward = ["sysctl", "-qw", "net.ipv4.ip_forward=1"]
        subprocess.run(["ip", "netns", "exec", pair.there, *forward], check=True, timeout=10)
        assert pair.path("10.98.0.2") == ("answers", 1400)
    finally:
        pair.ip(f"netns delete {far}")


def test_one_who_is_not_there_does_not_answer_and_has_no_path_mtu(pair: Pair) -> None:
    asked = pair.ask("va", MISSING, 9000)
    answers, mtu = asked["readings"].values()
    assert answers[1] in ("no answer", "host unreachable")
    assert (mtu[0], mtu[1]) == ("absent", None)
    assert MISSING in mtu[2]


def test_an_answer_that_comes_in_by_another_interface_is_none(pair: Pair) -> None:
    pair.ip("link add vx netns {here} type veth peer name vy netns {there}")
    for command in ("address add 10.97.0.1/24 dev vx", "link set vx up"):
        pair.ip("-n {here} " + command)
    for command in ("address add 10.97.0.2/24 dev vy", "link set vy up"):
        pair.ip("-n {there} " + command)
    assert pair.path(SECOND, 1500) == ("answers", 1500)
    pair.ip("-n {there} route replace 10.99.0.0/24 dev vy")
    assert pair.path(SECOND, 1500)[0] != "answers"


def test_datagram_sockets_do_where_the_group_may_use_them(pair: Pair) -> None:
    pair.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    pair.ip("-n {there} link set vb mtu 1500")
    drop = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    words = [sys.executable, str(ASKER), "va", SECOND, "9000", "va", SECOND_6, "9000"]
    readings = json.loads(pair.run(*drop, *words))["readings"]
    assert [reading[1] for reading in readings.values()] == ["answers", 1500] * 2


def test_who_may_not_ping_is_told_what_would_let_him(pair: Pair) -> None:
    drop = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    readings = json.loads(pair.run(*drop, sys.executable, str(ASKER), "va", SECOND, "9000"))["readings"]
    for kind, value, reason in readings.values():
        assert (kind, value) == ("blocked", None)
        assert "EPERM" in reason
        assert "/usr/share/sparktune/peers.conf" in reason


def test_an_interface_that_left_says_so(pair: Pair) -> None:
    readings = pair.ask("gone", SECOND, 9000)["readings"]
    assert {(kind, value) for kind, value, _ in readings.values()} == {("absent", None)}
    assert all("ENODEV" in reason for _, _, reason in readings.values())


def test_sixty_four_peers_cost_hardly_more_wake_ups_than_one(pair: Pair) -> None:
    for number in range(3, 66):
        pair.ip(f"-n {{there}} address add 10.99.0.{number}/24 dev vb")
    asked = pair.ask(*(word for number in range(2, 66) for word in ("va", f"10.99.0.{number}", 9000)))
    assert {reading[1] for reading in asked["readings"].values()} == {"answers", 9000}
    assert asked["turns"] <= 12
    assert asked["told"] == 1
