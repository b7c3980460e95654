"""The checks of the fabric as pure judgements: each one holding, not holding, and with nothing to judge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparktune.fabric import checks, twins
from sparktune.fabric.model import Fabric, Function, Gid, Presence, RdmaPort
from sparktune.fabric.naming import listed, shell_word
from sparktune.model import Reading, ReadingKind

FIRST, SECOND = "0000:01:00.0", "0002:01:00.0"
V1, V2 = "IB/RoCE v1", "RoCE v2"


def gid(index: int, ipv4: str = "", kind: str = V2) -> Gid:
    return Gid(index=index, gid="fe80:0000:0000:0000:0000:0000:0000:0001", kind=kind, ipv4=ipv4)


def rdma(device: str = "rocep1s0f0", **changes: Any) -> RdmaPort:
    port = RdmaPort(
        device=device,
        number=1,
        state="ACTIVE",
        physical="LinkUp",
        link_layer="Ethernet",
        rate_gbps=200.0,
        gids=(gid(0, kind=V1), gid(1), gid(2, "192.168.100.10", V1), gid(3, "192.168.100.10")),
    )
    return replace(port, **changes)


def function(bdf: str = FIRST, name: str = "enp1s0f0np0", **changes: Any) -> Function:
    one = Function(
        bdf=bdf,
        netdev=name,
        rdma=rdma(),
        port="p0",
        carrier=True,
        mtu=1500,
        firmware="28.45.4028",
        driver="mlx5_core",
        pcie_gts=32.0,
        pcie_width=4,
        addresses=("192.168.100.10/24",),
    )
    return replace(one, **changes)


def fabric(*functions: Function) -> Fabric:
    return Fabric(presence=Presence.PRESENT, functions=functions)


def pair(first: dict[str, Any] | None = None, second: dict[str, Any] | None = None) -> Fabric:
    """Two twins of one port; each with what is changed about it."""
    other = {"rdma": rdma("roceP2p1s0f0"), "addresses": ("192.168.101.10/24",), **(second or {})}
    return fabric(function(**(first or {})), function(SECOND, "enP2p1s0f0np0", **other))


def value(reading: Reading) -> object:
    assert reading.kind is ReadingKind.VALUE, reading
    return reading.value


def reason(reading: Reading) -> str:
    assert reading.kind is ReadingKind.ABSENT, reading
    return reading.reason


# -- one function --------------------------------------------------------------------------------------------


def test_a_healthy_function_holds_in_everything() -> None:
    found = fabric(function())
    assert value(checks.port_state(found, FIRST)) == "ACTIVE"
    assert value(checks.link_layer(found, FIRST)) == "Ethernet"
    assert value(checks.link_rate(found, FIRST)) == 200
    assert value(checks.pcie_speed(found, FIRST)) == "32.0"
    assert value(checks.pcie_width(found, FIRST)) == 4
    assert value(checks.active_mtu(found, FIRST)) == checks.AT_LEAST
    assert value(checks.gid(found, FIRST)) == checks.V2_GID


def test_a_port_that_is_down_says_its_physical_state() -> None:
    down = function(rdma=rdma(state="DOWN", physical="Polling"))
    reading = checks.port_state(fabric(down), FIRST)
    assert (value(reading), reading.reason) == ("DOWN", "physical state Polling")


def test_a_function_without_an_rdma_device_says_which_driver_it_has() -> None:
    reading = checks.port_state(fabric(function(rdma=None, driver="vfio-pci")), FIRST)
    assert (value(reading), reading.reason) == (checks.NO_RDMA, "driver: vfio-pci")
    assert "no RDMA device" in reason(checks.link_rate(fabric(function(rdma=None)), FIRST))


def test_an_infiniband_port_is_told() -> None:
    assert (
        value(checks.link_layer(fabric(function(rdma=rdma(link_layer="InfiniBand"))), FIRST)) == "InfiniBand"
    )


def test_the_rate_of_a_port_without_a_link_means_nothing() -> None:
    slow = function(rdma=rdma(rate_gbps=100.0))
    assert value(checks.link_rate(fabric(slow), FIRST)) == 100
    down = function(rdma=rdma(state="DOWN", rate_gbps=40.0))
    assert "its rate means nothing" in reason(checks.link_rate(fabric(down), FIRST))


@pytest.mark.parametrize(
    "judge", [checks.port_state, checks.link_layer, checks.link_rate, checks.active_mtu, checks.gid]
)
def test_a_port_without_a_cable_is_no_finding(judge: Any) -> None:
    found = fabric(function(carrier=False, rdma=rdma(state="DOWN")))
    assert reason(judge(found, FIRST)) == "no carrier on port p0: no cable, or the other end is off"


@pytest.mark.parametrize("judge", [checks.pcie_speed, checks.pcie_width])
def test_the_pcie_link_counts_also_without_a_cable(judge: Any) -> None:
    assert judge(fabric(function(carrier=False)), FIRST).kind is ReadingKind.VALUE


@pytest.mark.parametrize(
    "judge",
    [
        checks.port_state, checks.link_layer, checks.link_rate, checks.active_mtu, checks.gid,
        checks.pcie_speed, checks.pcie_width, twins.arp_ignore, twins.arp_announce,
    ],
)  # fmt: skip
def test_a_function_that_left_is_absent(judge: Any) -> None:
    assert reason(judge(fabric(), FIRST)) == "PCI function 0000:01:00.0 left"


@pytest.mark.parametrize(
    ("judge", "changes"),
    [
        (checks.port_state, {"rdma": rdma(state="")}),
        (checks.link_layer, {"rdma": rdma(link_layer="")}),
        (checks.link_rate, {"rdma": rdma(rate_gbps=None)}),
        (checks.active_mtu, {"mtu": None}),
        (checks.pcie_speed, {"pcie_gts": None}),
        (checks.pcie_width, {"pcie_width": None}),
    ],
)
def test_what_the_kernel_does_not_tell_is_absent_and_never_ok(judge: Any, changes: dict[str, Any]) -> None:
    assert reason(judge(fabric(function(**changes)), FIRST)).startswith("the kernel does not tell")


@pytest.mark.parametrize(("gts", "said"), [(16.0, "16.0"), (2.5, "2.5"), (32.0, "32.0")])
def test_the_pcie_speed_is_written_as_the_kernel_does(gts: float, said: str) -> None:
    assert value(checks.pcie_speed(fabric(function(pcie_gts=gts)), FIRST)) == said


@pytest.mark.parametrize(
    ("mtu", "size"),
    [(9000, 4096), (4200, 4096), (4192, 4096), (4191, 2048), (1500, 1024), (1119, 512), (576, 256), (68, 0)],
)
def test_the_rdma_mtu_is_derived_as_the_kernel_does(mtu: int, size: int) -> None:
    assert checks.rdma_mtu(mtu) == size


def test_a_small_mtu_is_told_with_what_rdma_makes_of_it() -> None:
    reading = checks.active_mtu(fabric(function(mtu=1000)), FIRST)
    assert (value(reading), reading.reason) == ("512", "512, derived from the interface's MTU 1000")


def test_the_gid_is_told_with_its_index_and_a_moved_one_holds_as_well() -> None:
    moved = function(rdma=rdma(gids=(gid(0, kind=V1), gid(5, "192.168.100.10"))))
    for one, index in ((function(), 3), (moved, 5)):
        reading = checks.gid(fabric(one), FIRST)
        assert (value(reading), reading.reason) == (checks.V2_GID, f"index {index}: 192.168.100.10")


@pytest.mark.parametrize(
    ("gids", "said"),
    [
        ((), "none"),
        ((gid(0, kind=V1), gid(1)), "link-local and IPv6 only"),
        ((gid(0, "192.168.100.10", V1),), "RoCE v1 only"),
    ],
)
def test_a_table_without_a_v2_entry_of_an_ipv4_address_does_not_hold(
    gids: tuple[Gid, ...], said: str
) -> None:
    assert value(checks.gid(fabric(function(rdma=rdma(gids=gids))), FIRST)) == said


def test_a_full_table_of_256_entries_is_judged_by_its_entry_with_ipv4() -> None:
    gids = (*(gid(index) for index in range(255)), gid(255, "10.0.0.1"))
    assert checks.gid(fabric(function(rdma=rdma(gids=gids))), FIRST).reason == "index 255: 10.0.0.1"


# -- twins ---------------------------------------------------------------------------------------------------


def test_healthy_twins_hold_in_everything() -> None:
    found = pair()
    assert value(twins.up(found, "p0")) == twins.BOTH_UP
    assert value(twins.mtu(found, "p0")) == twins.EQUAL
    assert value(twins.subnets(found, "p0")) == twins.APART
    assert value(twins.zeroconf(found, "p0")) == twins.NOT_ALONE
    assert value(twins.firmware(found)) == twins.EQUAL
    assert "share no subnet" in reason(twins.arp_ignore(found, FIRST))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"carrier": False}, "enP2p1s0f0np0 has no carrier, its twin has"),
        ({"carrier": None}, "enP2p1s0f0np0 is switched off (administratively down)"),
        (
            {"rdma": rdma("roceP2p1s0f0", state="DOWN")},
            "enP2p1s0f0np0 has a carrier, its RDMA port is DOWN",
        ),
        ({"netdev": "", "carrier": None}, "roceP2p1s0f0 has no network interface"),
    ],
)
def test_a_twin_that_is_down_is_named_with_the_reason(changes: dict[str, Any], why: str) -> None:
    reading = twins.up(pair(second=changes), "p0")
    assert str(value(reading)).endswith(" down")
    assert reading.reason == why


def test_a_function_without_its_twin_is_no_pair() -> None:
    reading = twins.up(fabric(function()), "p0")
    assert (value(reading), reading.reason) == ("no twin", "enp1s0f0np0 is alone on port p0")


@pytest.mark.parametrize("judge", [twins.up, twins.mtu, twins.subnets, twins.zeroconf])
def test_twins_without_a_cable_are_no_finding(judge: Any) -> None:
    found = pair({"carrier": False, "mtu": 9000}, {"carrier": None})
    assert "no cable" in reason(judge(found, "p0"))
    assert reason(judge(fabric(), "p0")) == "port p0 left"


def test_unequal_mtus_are_told_with_whose_they_are() -> None:
    reading = twins.mtu(pair({"mtu": 9000}), "p0")
    assert value(reading) == "1500 and 9000"
    assert reading.reason == "enp1s0f0np0 9000, enP2p1s0f0np0 1500"
    assert "1 known" in reason(twins.mtu(pair({"mtu": None}), "p0"))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("192.168.100.10/24", "192.168.100.11/24", "both in 192.168.100.0/24"),
        ("192.168.100.10/24", "192.168.7.11/16", "both in 192.168.0.0/16"),
        ("169.254.1.1/16", "169.254.2.2/16", "both in 169.254.0.0/16"),
        ("10.0.0.1/31", "10.0.0.2/31", twins.APART),
        ("192.168.100.10/24", "192.168.101.11/24", twins.APART),
        ("nonsense", "192.168.101.11/24", twins.APART),
        ("10.0.0.1/99", "10.0.0.2/99", twins.APART),
        ("10.0.0.²/24", "10.0.0.2/24", twins.APART),
        ("9" * 65536 + ".0.0.1/24", "10.0.0.2/24", twins.APART),
        ("10.0.0.999/24", "10.0.0.2/24", twins.APART),
    ],
)
def test_twins_want_a_subnet_each(first: str, second: str, said: str) -> None:
    assert value(twins.subnets(pair({"addresses": (first,)}, {"addresses": (second,)}), "p0")) == said


def test_subnets_are_judged_only_where_both_twins_have_an_address() -> None:
    assert "1 have one" in reason(twins.subnets(pair(second={"addresses": ()}), "p0"))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (("192.168.100.10/24",), ("169.254.7.7/16",), "on enP2p1s0f0np0 alone"),
        ((), ("169.254.7.7/16",), "on enP2p1s0f0np0 alone"),
        (("169.254.1.1/16",), ("169.254.7.7/16",), twins.NOT_ALONE),
        (("10.0.0.1/24", "169.254.1.1/16"), ("10.0.1.1/24",), twins.NOT_ALONE),
        ((), (), twins.NOT_ALONE),
    ],
)
def test_a_zeroconf_address_is_a_finding_on_one_twin_alone(
    first: tuple[str, ...], second: tuple[str, ...], said: str
) -> None:
    assert value(twins.zeroconf(pair({"addresses": first}, {"addresses": second}), "p0")) == said


def test_different_firmware_is_told_with_where_it_is() -> None:
    reading = twins.firmware(pair(second={"firmware": "28.43.1000"}))
    assert value(reading) == "28.43.1000 and 28.45.4028"
    assert reading.reason == "enp1s0f0np0 28.45.4028, enP2p1s0f0np0 28.43.1000"
    assert "does not tell" in reason(twins.firmware(fabric(function(firmware=""))))


@pytest.mark.parametrize(("ignore", "said"), [(0, "0"), (1, "1 or 2"), (2, "1 or 2"), (8, "8")])
def test_where_twins_share_a_subnet_arp_has_to_tell_them_apart(ignore: int, said: str) -> None:
    shared = {"addresses": ("192.168.100.11/24",)}
    found = pair({"arp_ignore": ignore, "arp_announce": 2}, shared)
    assert value(twins.arp_ignore(found, FIRST)) == said
    assert value(twins.arp_announce(found, FIRST)) == 2
    assert "cannot be read" in reason(twins.arp_ignore(found, SECOND))
    assert "cannot be read" in reason(twins.arp_announce(found, SECOND))


@pytest.mark.parametrize("count", [0, 1, 4, 8])
def test_any_number_of_functions_is_judged(count: int) -> None:
    functions = [
        function(f"000{number}:01:00.0", f"enP{number}p1s0f0np0", port=f"p{number // 2}", mtu=9000)
        for number in range(count)
    ]
    found = fabric(*functions)
    ports = {one.name for one in found.ports}
    said = {twins.up(found, name).value for name in ports}
    assert said == ({"no twin"} if count == 1 else {twins.BOTH_UP} if count else set())


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("enp1s0f0np0", "enp1s0f0np0"),
        ("eth0;reboot", "'eth0;reboot'"),
        ("a'b", "'a'\"'\"'b'"),
        ("\x1b[31m", "$'\\x1b[31m'"),
        ("a'\x07\\", "$'a\\'\\x07\\\\'"),
        ("\udcff", "$'\\xff'"),
    ],
)
def test_a_name_is_one_harmless_word_of_a_command(name: str, word: str) -> None:
    assert shell_word(name) == word


def test_names_are_listed_without_control_characters() -> None:
    assert listed(["a", "b\x1b", "c"]) == "a, b\\x1b and c"
    assert listed([]) == ""
