"""What NCCL and UCX need on a fabric, and which fabrics are not fit: on fabrics made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fabrics import changed, fabric, function, gids, healthy, named, with_rdma
from sparktune.errors import UsageError
from sparktune.fabric.model import Fabric, Function, Owner, OwnerKind, Presence
from sparktune.fabric.nccl import describe_for_advice, suggest
from sparktune.fabric.nccl_text import render
from sparktune.fabric.nccl_version import Version, parse_version

TWIN = "enP2p1s0f0np0"


def variables(found: Fabric, version: str = "") -> dict[str, str]:
    suggestion = suggest(found, parse_version(version) if version else None)
    assert suggestion.fit, suggestion.problems
    return {one.name: one.value for one in suggestion.variables}


def problem(found: Fabric, version: str = "") -> tuple[str, str]:
    """The only problem: what, and what to do."""
    suggestion = suggest(found, parse_version(version) if version else None)
    assert not suggestion.fit
    assert not suggestion.variables
    [only] = suggestion.problems
    return only.what, only.do


def test_a_healthy_pair_gets_both_twins_of_its_cabled_port_by_exact_name() -> None:
    assert variables(healthy()) == {
        "NCCL_IB_HCA": "=rocep1s0f0,roceP2p1s0f0",
        "NCCL_SOCKET_IFNAME": "=enp1s0f0np0",
        "UCX_NET_DEVICES": "rocep1s0f0:1,roceP2p1s0f0:1",
    }


def test_no_gid_index_is_pinned_but_a_pin_is_unset() -> None:
    suggestion = suggest(healthy())
    assert [one.name for one in suggestion.unset] == ["NCCL_IB_GID_INDEX"]
    assert suggestion.nccl_version == "2.21 or later"


def test_every_variable_has_its_reason() -> None:
    suggestion = suggest(healthy(both_ports=True))
    assert all(one.reason for one in suggestion.variables)
    assert all(one.reason for one in suggestion.unset)


def test_a_moved_gid_index_changes_nothing() -> None:
    moved = changed(
        healthy(), TWIN, lambda one: with_rdma(one, gids=gids(one.netdev, "192.168.101.10", first=3))
    )
    assert suggest(moved) == suggest(healthy())


def test_devices_may_be_called_mlx5() -> None:
    found = named([("enp1s0f0np0", "mlx5_0"), (TWIN, "mlx5_2")])
    assert variables(found)["NCCL_IB_HCA"] == "=mlx5_0,mlx5_2"
    assert variables(found)["UCX_NET_DEVICES"] == "mlx5_0:1,mlx5_2:1"


def test_the_other_port_is_taken_where_the_cable_is_there() -> None:
    found = fabric(
        function(0, up=False),
        function(1, "192.168.100.10"),
        function(2, up=False),
        function(3, "192.168.101.10"),
    )
    assert variables(found)["NCCL_IB_HCA"] == "=rocep1s0f1,roceP2p1s0f1"
    assert variables(found)["NCCL_SOCKET_IFNAME"] == "=enp1s0f1np1"


def test_the_nodes_find_each_other_through_a_twin_with_a_real_address() -> None:
    found = fabric(
        replace(function(0, "169.254.3.4", "192.168.100.10"), rdma=function(0, "192.168.100.10").rdma),
        function(2, "192.168.101.10"),
    )
    assert variables(found)["NCCL_SOCKET_IFNAME"] == "=enp1s0f0np0"
    reasons = {one.name: one.reason for one in suggest(found).variables}
    assert "192.168.100.10" in reasons["NCCL_SOCKET_IFNAME"]


def test_two_cabled_ports_list_four_devices_and_keep_them_apart() -> None:
    found = variables(healthy(both_ports=True))
    assert found == {
        "NCCL_IB_HCA": "=rocep1s0f0,roceP2p1s0f0,rocep1s0f1,roceP2p1s0f1",
        "NCCL_NET_MERGE_LEVEL": "LOC",
        "NCCL_IB_SUBNET_AWARE_ROUTING": "1",
        "NCCL_NET_PLUGIN": "none",
    }


def test_two_cabled_ports_say_what_that_means_and_what_is_left_to_the_user() -> None:
    notes = " ".join(suggest(healthy(both_ports=True)).notes)
    assert "a ring of three nodes, a switch, or two cables to one node" in notes
    assert "NCCL_SOCKET_IFNAME and UCX_NET_DEVICES are left to you" in notes


def test_subnets_of_another_size_are_told_to_nccl() -> None:
    found = healthy(both_ports=True)
    small = (replace(one, addresses=(one.addresses[0].replace("/24", "/30"),)) for one in found.functions)
    assert variables(replace(found, functions=tuple(small)))["NCCL_IB_SUBNET_PREFIX_LEN"] == "30"


@pytest.mark.parametrize(
    ("version", "name"), [("2.20.5", "NCCL_IB_MERGE_NICS"), ("2.24.3", "NCCL_NET_MERGE_LEVEL")]
)
def test_what_keeps_two_ports_apart_depends_on_the_version(version: str, name: str) -> None:
    merging = {one for one in variables(healthy(both_ports=True), version) if "MERGE" in one}
    assert merging == {name}


def test_an_nccl_that_cannot_do_a_ring_is_said_to_hang_in_one() -> None:
    suggestion = suggest(healthy(both_ports=True), Version(2, 29, 7))
    assert any("NCCL 2.29.7 hangs in a ring: that needs 2.30.7" in note for note in suggestion.notes)
    assert "NCCL_IB_SUBNET_AWARE_ROUTING" not in {one.name for one in suggestion.variables}


@pytest.mark.parametrize("version", ["2.21", "2.21.5", "v2.27.3-1", "2.28.9+cuda13.0", "2.30.7"])
def test_an_nccl_that_chooses_gids_itself_gets_the_same_as_without_a_version(version: str) -> None:
    assert variables(healthy(), version) == variables(healthy())


def test_an_older_nccl_gets_the_index_pinned() -> None:
    assert variables(healthy(), "2.20.5")["NCCL_IB_GID_INDEX"] == "3"
    assert not suggest(healthy(), Version(2, 20, 5)).unset


def test_an_older_nccl_gets_an_index_that_is_right_on_every_device() -> None:
    found = fabric(
        function(0, "192.168.100.10", "192.168.100.11"), function(2, "192.168.101.10", first=2)
    )  # 3 or 5 here, 5 there
    assert variables(found, "2.20.5")["NCCL_IB_GID_INDEX"] == "5"


def test_an_older_nccl_cannot_serve_devices_that_need_different_indices() -> None:
    found = fabric(function(0, "192.168.100.10", first=2), function(2, "192.168.101.10"))
    what, do = problem(found, "2.20.5")
    assert "rocep1s0f0 5, roceP2p1s0f0 3" in what
    assert "use NCCL 2.21 or later" in do
    assert "do without rocep1s0f0" in do
    assert "NCCL_IB_HCA='=roceP2p1s0f0' NCCL_IB_GID_INDEX=3" in do
    assert suggest(found).fit


@pytest.mark.parametrize(
    "text", ["", "2", "two", "2.21.", "2.21.5.1", "-2.21", "2.21 ", "٢.٢١", "2.9999", "2.4.8"]
)
def test_what_is_no_version_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_version(text)
    assert "2.27.3" in caught.value.hint


def test_no_cable_and_no_nic_are_told_apart() -> None:
    what, do = problem(Fabric(presence=Presence.POWERED_DOWN))
    assert "powered down" in what
    assert "plug in the QSFP cable" in do
    what, _ = problem(Fabric(presence=Presence.NONE))
    assert "no ConnectX-7" in what


def test_a_fabric_without_a_link_is_not_fit() -> None:
    what, do = problem(fabric(function(0, up=False), function(2, carrier=None, up=False)))
    assert "no port has a link" in what
    assert "sudo ip link set enP2p1s0f0np0 up" in do


@pytest.mark.parametrize(
    ("change", "said", "done"),
    [
        (lambda one: replace(one, carrier=False), "has no link, although the cable is in", "journalctl"),
        (lambda one: replace(one, carrier=None), "is switched off", "sudo ip link set enP2p1s0f0np0 up"),
        (lambda one: with_rdma(one, state="DOWN"), "roceP2p1s0f0 is DOWN, not ACTIVE", "enP2p1s0f0np0 down"),
        (lambda one: replace(one, rdma=None), "has no RDMA device", "modprobe mlx5_ib"),
        (lambda one: with_rdma(one, link_layer="InfiniBand"), "InfiniBand, not Ethernet", "mlxconfig"),
        (lambda one: replace(with_rdma(one, gids=()), addresses=()), "no IPv4 address", "ip address add"),
        (lambda one: with_rdma(one, gids=()), "no RoCE v2 GID for it", "sparktune fabric"),
    ],
)  # fmt: skip
def test_a_twin_that_nccl_could_not_use_is_named(change, said: str, done: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    what, do = problem(changed(healthy(), TWIN, change))
    assert "enP2p1s0f0np0 (p0, twin of enp1s0f0np0)" in what
    assert said in what
    assert done in do


def test_only_v1_gids_are_as_good_as_none() -> None:
    def drop_v2(one: Function) -> Function:
        assert one.rdma is not None
        return with_rdma(one, gids=tuple(gid for gid in one.rdma.gids if not gid.is_v2))

    assert "no RoCE v2 GID" in problem(changed(healthy(), TWIN, drop_v2))[0]


@pytest.mark.parametrize(
    ("owner", "said"),
    [
        (
            Owner(kind=OwnerKind.NETPLAN, file="/etc/netplan/40-cx7.yaml", key="network.ethernets.cx7"),
            "addresses: below network.ethernets.cx7 in /etc/netplan/40-cx7.yaml",
        ),
        (
            Owner(kind=OwnerKind.NETWORK_MANAGER, key="Wired connection 2"),
            "sudo nmcli connection modify 'Wired connection 2' ipv4.method manual",
        ),
        (Owner(kind=OwnerKind.NETWORKD, file="/etc/systemd/network/cx"), "/etc/systemd/network/cx"),
    ],
)  # fmt: skip
def test_an_address_is_missed_where_the_owner_keeps_it(owner: Owner, said: str) -> None:
    bare = changed(healthy(), TWIN, lambda one: replace(with_rdma(one, gids=()), addresses=(), owner=owner))
    assert said in problem(bare)[1]


def test_a_self_made_address_on_one_twin_alone_is_not_fit() -> None:
    what, do = problem(fabric(function(0, "192.168.100.10"), function(2, "169.254.3.4")))
    assert "enP2p1s0f0np0 (p0, twin of enp1s0f0np0) would use the self-made address 169.254.3.4" in what
    assert "sudo ip address add" in do


def test_a_self_made_address_that_nccl_would_take_before_the_real_one_is_to_be_removed() -> None:
    what, do = problem(fabric(function(0, "192.168.100.10"), function(2, "169.254.3.4", "192.168.101.10")))
    assert "169.254.3.4" in what
    assert "sudo ip address delete 169.254.3.4/16 dev enP2p1s0f0np0" in do


def test_a_self_made_address_behind_the_real_one_does_no_harm() -> None:
    assert suggest(fabric(function(0, "192.168.100.10"), function(2, "192.168.101.10", "169.254.3.4"))).fit


def test_self_made_addresses_on_both_twins_are_fit() -> None:
    assert suggest(fabric(function(0, "169.254.3.4"), function(2, "169.254.3.5"))).fit


def test_different_mtus_are_a_note_because_nccl_works_with_them() -> None:
    suggestion = suggest(changed(healthy(), TWIN, lambda one: replace(one, mtu=1500)))
    assert suggestion.fit
    assert any("enp1s0f0np0 9000, enP2p1s0f0np0 1500" in note for note in suggestion.notes)


def test_a_healthy_pair_has_no_notes() -> None:
    assert suggest(healthy()).notes == ()


def test_the_only_function_of_a_machine_is_used_and_the_half_rate_said() -> None:
    suggestion = suggest(fabric(function(0, "192.168.100.10")))
    assert suggestion.variables[0].value == "=rocep1s0f0"
    assert any("about half the rate" in note for note in suggestion.notes)


def test_a_twin_that_is_gone_is_not_fit() -> None:
    what, _ = problem(fabric(function(0, "192.168.100.10"), function(1, up=False)))
    assert "enp1s0f0np0 (p0) has no twin" in what


def test_eight_functions_are_eight_devices() -> None:
    found = fabric(
        *(
            replace(
                function(0, f"192.168.10{number}.10", netdev=f"net{number}", device=f"mlx5_{number}"),
                bdf=f"000{number}:01:00.0",
                port=f"p{number // 2}",
            )
            for number in range(8)
        )
    )
    assert variables(found)["NCCL_IB_HCA"] == "=" + ",".join(f"mlx5_{number}" for number in range(8))


@pytest.mark.parametrize("name", ["a,b", "a:b", "a b", "a\tb", "a\nb", "^a", "a[0]", "a\x1b", "a\udcff"])
def test_a_name_that_no_variable_can_carry_is_refused(name: str) -> None:
    for names in ((name, "rocep1s0f0"), ("enp1s0f0np0", name)):
        what, do = problem(named([names, (TWIN, "roceP2p1s0f0")]))
        assert what.isprintable()
        assert "give it another name" in do


def test_the_advisor_gets_the_lines_or_the_reason() -> None:
    assert describe_for_advice(healthy()).splitlines() == [
        "export NCCL_IB_HCA='=rocep1s0f0,roceP2p1s0f0'",
        "export NCCL_SOCKET_IFNAME='=enp1s0f0np0'",
        "export UCX_NET_DEVICES='rocep1s0f0:1,roceP2p1s0f0:1'",
        "unset NCCL_IB_GID_INDEX",
    ]
    assert describe_for_advice(Fabric(presence=Presence.POWERED_DOWN)) == (
        "not fit for NCCL: the ConnectX-7 is powered down: no cable is plugged in "
        "(plug in the QSFP cable; the NIC comes back by itself)"
    )


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("version", [None, Version(2, 20, 5), Version(2, 30, 7)])
def test_nccl_conf_has_only_its_own_variables_and_no_equals_sign_in_a_comment(
    both: bool,  # noqa: FBT001
    version: Version | None,
) -> None:
    suggestion = suggest(healthy(both_ports=both), version)
    found = {}
    for line in render(suggestion, "nccl.conf").splitlines():
        if line.startswith("#"):
            assert "=" not in line
        elif line:
            name, _, value = line.partition("=")
            found[name] = value
    assert found == {one.name: one.value for one in suggestion.variables if one.name.startswith("NCCL_")}


def test_nccl_conf_of_an_unfit_fabric_is_comments() -> None:
    text = render(suggest(fabric(function(0, "192.168.100.10", first=2), function(2, "192.168.101.10")),
                          Version(2, 20)), "nccl.conf")  # fmt: skip
    assert text
    assert all(line.startswith("# ") and "=" not in line for line in text.splitlines())
