"""`roce.peers`: which addresses are taken, which interface leads to which, and what is said of the others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparktune import hardware
from sparktune.errors import ConfigurationError, UsageError
from sparktune.fabric.model import Fabric, Function, Presence
from sparktune.fabric.peers import parse_own, parse_peer
from sparktune.kernel.path import Found, PathAttribute
from sparktune.model import ReadingKind
from sparktune.settings import Settings
from sparktune.tunables.peers import declare

if TYPE_CHECKING:
    from collections.abc import Callable

    from machines import Machine
    from sparktune.model import Reading, Tunable
    from sparktune.tunables.area import Discovery

FIRST, SECOND = "enp1s0f0np0", "enP2p1s0f0np0"


def twin(netdev: str, *addresses: str, carrier: bool = True, mtu: int | None = 9000) -> Function:
    return Function(bdf=netdev, netdev=netdev, port="p0", carrier=carrier, mtu=mtu, addresses=addresses)


TWO_SUBNETS = (twin(FIRST, "192.168.100.10/24"), twin(SECOND, "192.168.101.10/24"))


@pytest.fixture
def declared(machine: Machine) -> Callable[..., Discovery]:
    """What the part declares for some peers and functions."""

    def declared(peers: list[str], functions: tuple[Function, ...] = TWO_SUBNETS) -> Discovery:
        settings = Settings.model_validate({"roce": {"peers": peers}})
        fabric = Fabric(presence=Presence.PRESENT, functions=functions)
        return declare(hardware.detect(machine.root), settings, fabric)

    return declared


def ids(discovery: Discovery) -> list[str]:
    return [tunable.id for tunable in discovery.tunables]


def reading(discovery: Discovery, suffix: str) -> Reading:
    [tunable] = [one for one in discovery.tunables if one.id.endswith(suffix)]
    return tunable.attribute.read()


# -- which interface leads to which --------------------------------------------------------------------------


def test_without_peers_nothing_is_checked(declared: Callable[..., Discovery]) -> None:
    discovery = declared([])
    assert (discovery.tunables, discovery.notes, discovery.absent) == ((), (), "")


def test_a_peer_is_looked_for_on_the_twin_on_whose_subnet_it_is(declared: Callable[..., Discovery]) -> None:
    assert ids(declared(["192.168.100.11", "192.168.101.11"])) == [
        f"roce.{FIRST}.peer_192-168-100-11",
        f"roce.{FIRST}.peer_192-168-100-11_path_mtu",
        f"roce.{SECOND}.peer_192-168-101-11",
        f"roce.{SECOND}.peer_192-168-101-11_path_mtu",
    ]


def test_where_twins_share_a_subnet_both_are_tried(declared: Callable[..., Discovery]) -> None:
    shared = (twin(FIRST, "10.0.0.1/24"), twin(SECOND, "10.0.0.2/24"))
    assert {one.device for one in declared(["10.0.0.9"], shared).tunables} == {FIRST, SECOND}


def test_the_path_is_wanted_to_take_what_the_interface_sends(declared: Callable[..., Discovery]) -> None:
    _, mtu = declared(["192.168.100.11"]).tunables
    assert (mtu.wanted, mtu.unit) == (9000, "B")
    assert "192.168.100.11" in mtu.do
    assert "9000" in mtu.do


def test_an_unusual_name_is_quoted_for_the_shell_and_not_printed_raw(
    declared: Callable[..., Discovery],
) -> None:
    odd = (twin("a b\x1b[1m", "10.0.0.1/24"),)
    first, _ = declared(["10.0.0.9"], odd).tunables
    assert "ping -I $'a b\\x1b[1m' 10.0.0.9" in first.do
    assert "\x1b" not in first.do + first.attribute.location


def test_soft_roce_leads_to_peers_too(machine: Machine) -> None:
    fabric = Fabric(presence=Presence.NONE, others=(twin("eth1", "10.0.0.1/24"),))
    settings = Settings.model_validate({"roce": {"peers": ["10.0.0.9"]}})
    assert {one.device for one in declare(hardware.detect(machine.root), settings, fabric).tunables} == {
        "eth1"
    }


def test_an_address_of_this_machine_is_left_out_with_a_note(declared: Callable[..., Discovery]) -> None:
    discovery = declared(["192.168.100.10", "192.168.100.11"])
    assert all("peer_192-168-100-11" in name for name in ids(discovery))
    [note] = discovery.notes
    assert note.level == "info"
    assert "192.168.100.10 is an address of this machine" in note.says


def test_a_peer_on_no_subnet_does_not_hold_and_says_what_to_do(declared: Callable[..., Discovery]) -> None:
    [one] = declared(["10.9.9.9"]).tunables
    assert one.id == "roce.peers.10-9-9-9"
    assert one.attribute.read().value == "on no twin's subnet"
    assert FIRST in one.do
    assert SECOND in one.do


def test_without_a_carrier_nobody_is_looked_for(declared: Callable[..., Discovery]) -> None:
    down = (twin(FIRST, "192.168.100.10/24", carrier=False),)
    discovery = declared(["192.168.100.11", "10.9.9.9"], down)
    for one in discovery.tunables:
        assert one.attribute.read().kind is ReadingKind.ABSENT
        assert f"{FIRST} has" in one.attribute.read().reason or "has a carrier" in one.attribute.read().reason


def test_without_interfaces_the_reason_is_told(declared: Callable[..., Discovery]) -> None:
    assert "to reach the peers by" in declared(["192.168.100.11"], ()).absent


def test_an_mtu_that_cannot_be_read_is_no_mtu(declared: Callable[..., Discovery]) -> None:
    discovery = declared(["192.168.100.11"], (twin(FIRST, "192.168.100.10/24", mtu=None),))
    assert {one.attribute.read().kind for one in discovery.tunables} == {ReadingKind.FAILED}


def test_ipv6_addresses_are_matched_by_subnet_and_link_local_ones_by_their_interface(
    machine: Machine, declared: Callable[..., Discovery]
) -> None:
    lines = (
        f"fd000000000000000000000000000010 05 40 00 80 {FIRST}\n"
        f"fe800000000000000a0027fffe000001 05 40 20 80 {FIRST}\n"
        f"fe800000000000000a0027fffe000002 06 40 20 80 {SECOND}\n"
        "not a line of it\n"
    )
    path = machine.root.path("/proc/net/if_inet6")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines)
    discovery = declared(["fd00::11", f"fe80::5%{SECOND}", "fd00::10"])
    assert ids(discovery)[::2] == [f"roce.{FIRST}.peer_fd00--11", f"roce.{SECOND}.peer_fe80--5"]
    assert "fd00::10 is an address of this machine" in discovery.notes[0].says


def test_a_change_that_moves_a_way_is_found_and_others_cost_nothing(machine: Machine) -> None:
    tuner = machine.start('roce.peers = ["192.168.100.11", "fd00::11"]')
    assert tuner.changed_areas() == []
    machine.write(f"/sys/class/net/{FIRST}/mtu", "1280")
    assert tuner.changed_areas() == ["roce"]
    tuner.discover()
    machine.root.path("/proc/net").mkdir(parents=True, exist_ok=True)
    machine.root.path("/proc/net/if_inet6").write_text("changed\n")
    assert tuner.changed_areas() == ["roce"]
    without = machine.start("")
    machine.write(f"/sys/class/net/{FIRST}/mtu", "9000")
    assert "roce" not in without.changed_areas()


# -- what they read ------------------------------------------------------------------------------------------


def answer(machine: Machine, netdev: str, address: str, text: str) -> None:
    path = machine.root.path(f"/sys/class/net/{netdev}/netlink/peer/{address}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("text", "answers", "mtu"),
    [("9000\n", "answers", 9000), ("1500\n", "answers", 1500), ("no answer\n", "no answer", None)],
)
def test_a_tree_says_what_its_peers_answer(
    machine: Machine,
    declared: Callable[..., Discovery],
    text: str,
    answers: str,
    mtu: int | None,
) -> None:
    answer(machine, FIRST, "192.168.100.11", text)
    discovery = declared(["192.168.100.11"])
    assert reading(discovery, "peer_192-168-100-11").value == answers
    assert reading(discovery, "path_mtu").value == mtu


def test_before_the_first_ping_nothing_is_known(declared: Callable[..., Discovery]) -> None:
    one = reading(declared(["192.168.100.11"]), "path_mtu")
    assert one.kind is ReadingKind.ABSENT
    assert "not asked yet" in one.reason


def attribute(tunable: Tunable) -> PathAttribute:
    assert isinstance(tunable.attribute, PathAttribute)
    return tunable.attribute


def test_a_new_discovery_keeps_what_is_known_of_the_same_way_only(declared: Callable[..., Discovery]) -> None:
    before = attribute(declared(["192.168.100.11"]).tunables[0])
    before.found = Found("answers", 9000)
    same = attribute(declared(["192.168.100.11"]).tunables[0])
    same.inherit(before)
    assert same.found == before.found
    changed = (twin(FIRST, "192.168.100.10/24", mtu=1500),)
    other = attribute(declared(["192.168.100.11"], changed).tunables[0])
    other.inherit(before)
    assert other.found is None


def test_a_check_of_a_peer_is_never_written(declared: Callable[..., Discovery]) -> None:
    for one in declared(["192.168.100.11", "10.9.9.9"]).tunables:
        assert one.is_check
        with pytest.raises(OSError, match="cannot be set"):
            one.attribute.write("answers")


# -- which addresses are taken -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("spark-2", "names are not resolved"),
        ("spark-2.local", "names are not resolved"),
        ("10.0.0.1/24", "without a prefix length"),
        ("10.0.0.256", "an IPv4 or IPv6 address"),
        ("10.0.0.01", "an IPv4 or IPv6 address"),
        ("", "an IPv4 or IPv6 address"),
        ("127.0.0.1", "no single machine"),
        ("0.0.0.1", "no single machine"),
        ("224.0.0.1", "no single machine"),
        ("255.255.255.255", "no single machine"),
        ("10.0.0.1%eth0", "has no scope"),
        ("::", "no single machine"),
        ("::1", "for this one"),
        ("ff02::1", "no single machine"),
        ("::ffff:10.0.0.1", "write that as such"),
        ("fe80::1", "needs its interface"),
        ("fd00::1%eth0", "needs its interface, and only that"),
        ("fe80::1%a/b", "no name of an interface"),
        ("\x1b[1m", "names are not resolved"),
    ],
)  # fmt: skip
def test_what_is_no_address_of_another_node_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_peer(text)
    assert says in caught.value.hint


def test_a_refused_peer_is_told_with_file_line_and_hint(machine: Machine) -> None:
    with pytest.raises(ConfigurationError) as caught:
        machine.effective('[roce]\npeers = ["192.168.100.11", "spark-2"]\n')
    [problem] = caught.value.problems
    assert problem.line == 2
    assert 'found "spark-2"' in str(problem)
    assert "names are not resolved" in str(problem)


@pytest.mark.parametrize("peers", [["10.0.0.1", "10.0.0.1"], ["FD00::0:1", "fd00::1"]])
def test_a_peer_that_is_listed_twice_is_refused(machine: Machine, peers: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="is there twice"):
        machine.effective(f"[roce]\npeers = {json.dumps(peers)}\n")


def test_at_most_64_peers_are_taken(machine: Machine) -> None:
    peers = [f"10.0.0.{number}" for number in range(1, 66)]
    assert len(machine.effective(f"[roce]\npeers = {json.dumps(peers[:64])}\n").settings.roce.peers) == 64
    with pytest.raises(ConfigurationError, match="more than 64"):
        machine.effective(f"[roce]\npeers = {json.dumps(peers)}\n")


def test_addresses_are_kept_in_one_form() -> None:
    assert str(parse_peer("FD00:0:0::0B")) == "fd00::b"
    assert str(parse_peer("FE80::1%enp1s0f0np0")) == "fe80::1%enp1s0f0np0"


@given(st.ip_addresses(), st.ip_addresses())
def test_no_two_addresses_have_the_same_name(first: object, second: object) -> None:
    try:
        one, other = parse_peer(str(first)), parse_peer(str(second))
    except UsageError:
        return
    assert (one.name == other.name) == (one.address == other.address)
    assert "." not in one.name


@given(st.text())
def test_no_text_does_more_than_be_refused(text: str) -> None:
    parse_own(text)
    try:
        peer = parse_peer(text)
    except UsageError:
        return
    assert parse_peer(str(peer)) == peer
