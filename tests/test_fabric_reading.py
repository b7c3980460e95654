"""The fabric as found: functions, twins, GIDs, addresses, drivers, and why there are none."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sparktune.fabric.model import Presence
from sparktune.kernel.fabric import read_fabric
from sparktune.kernel.gids import read_gids
from sparktune.kernel.ipv4 import ipv4_addresses, parse_address
from sparktune.kernel.root import Root
from sparktune.simulate.chips import add_chips
from sparktune.simulate.tree import build, set_carrier

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.fabric.model import Fabric

PORT = "/sys/class/infiniband/rocep1s0f0/ports/1"
NET = "sys/class/net/enp1s0f0np0"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A simulated DGX Spark with a cable in p0."""
    build(tmp_path / "tree")
    return Root(tmp_path / "tree")


def put(root: Root, name: str, text: str) -> None:
    """Write a file of the tree."""
    path = root.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names(fabric: Fabric) -> list[str]:
    """Interfaces of all functions."""
    return [function.netdev for function in fabric.functions]


def test_each_function_is_found_with_its_interface_and_its_rdma_device(root: Root) -> None:
    found = [
        (one.bdf, one.netdev, one.rdma and one.rdma.device, one.port) for one in read_fabric(root).functions
    ]
    assert found == [
        ("0000:01:00.0", "enp1s0f0np0", "rocep1s0f0", "p0"),
        ("0000:01:00.1", "enp1s0f1np1", "rocep1s0f1", "p1"),
        ("0002:01:00.0", "enP2p1s0f0np0", "roceP2p1s0f0", "p0"),
        ("0002:01:00.1", "enP2p1s0f1np1", "roceP2p1s0f1", "p1"),
    ]


def test_twins_are_paired_by_the_port_they_name(root: Root) -> None:
    fabric = read_fabric(root)
    assert [(port.name, port.is_cabled, len(port.functions)) for port in fabric.ports] == [
        ("p0", True, 2),
        ("p1", False, 2),
    ]
    twin = fabric.twin_of(fabric.functions[0])
    assert twin is not None
    assert twin.netdev == "enP2p1s0f0np0"


@pytest.mark.parametrize("chips", [1, 15])
def test_twins_of_several_chips_are_paired_within_their_chip(root: Root, chips: int) -> None:
    add_chips(root.directory, chips)
    fabric = read_fabric(root)
    assert len(fabric.functions) == 4 + 4 * chips
    assert {len(port.functions) for port in fabric.ports} == {2}
    assert fabric.functions[0].port == "p0@0000:01:00.0"
    assert fabric.functions[4].port == "p0@0010:01:00.0"
    twin = fabric.twin_of(fabric.functions[-1])
    assert twin is not None
    assert (twin.port, twin.netdev) == (fabric.functions[-1].port, fabric.functions[-3].netdev)


def test_a_single_function_is_a_port_without_a_twin(root: Root) -> None:
    for address in ("0000:01:00.1", "0002:01:00.0", "0002:01:00.1"):
        root.path(f"/sys/bus/pci/devices/{address}").unlink()
    fabric = read_fabric(root)
    assert [(port.name, len(port.functions)) for port in fabric.ports] == [("p0", 1)]
    assert fabric.twin_of(fabric.functions[0]) is None


def test_state_rate_and_pcie_of_a_function_are_numbers(root: Root) -> None:
    function = read_fabric(root).functions[0]
    assert function.rdma is not None
    assert (function.rdma.state, function.rdma.physical, function.rdma.rate_gbps) == (
        "ACTIVE",
        "LinkUp",
        200.0,
    )
    assert (function.rdma.link_layer, function.rdma.number) == ("Ethernet", 1)
    assert (function.pcie_gts, function.pcie_width, function.carrier, function.speed_mbps) == (
        32.0, 4, True, 200_000,
    )  # fmt: skip
    assert function.firmware == "28.45.4028"


def test_a_pulled_cable_is_seen_on_its_function_alone(root: Root) -> None:
    set_carrier(root.directory, "enp1s0f0np0", up=False)
    fabric = read_fabric(root)
    assert [one.is_up for one in fabric.functions] == [False, False, True, False]
    assert fabric.functions[0].speed_mbps is None


def test_the_first_v2_gid_with_an_ipv4_address_is_the_one(root: Root) -> None:
    rdma = read_fabric(root).functions[0].rdma
    assert rdma is not None
    assert rdma.v2_gid is not None
    assert (rdma.v2_gid.index, rdma.v2_gid.ipv4, rdma.v2_gid.netdev) == (3, "192.168.100.10", "enp1s0f0np0")


def test_a_gid_at_the_end_of_a_table_of_256_is_found(root: Root) -> None:
    for index in range(16, 256):
        put(root, f"{PORT}/gids/{index}", ":".join(["0000"] * 8))
    put(root, f"{PORT}/gids/255", "0000:0000:0000:0000:0000:ffff:0a00:0001")
    put(root, f"{PORT}/gid_attrs/types/255", "RoCE v2")
    last = read_gids(root, PORT)[-1]
    assert (last.index, last.ipv4, last.netdev, last.is_v2) == (255, "10.0.0.1", "", True)


def test_a_gid_names_its_interface_byte_for_byte(root: Root) -> None:
    root.path(f"{PORT}/gid_attrs/ndevs/3").write_bytes(b"en\xff\xe9\n")
    assert read_gids(root, PORT)[3].netdev == "en\udcff\udce9"


def test_a_table_with_something_else_in_it_is_read_all_the_same(root: Root) -> None:
    root.path(f"{PORT}/gids/5").unlink()
    root.path(f"{PORT}/gids/5").mkdir()
    put(root, f"{PORT}/gids/notes", "fe80::1")
    assert [gid.index for gid in read_gids(root, PORT)] == [0, 1, 2, 3]


def test_an_entry_that_is_emptied_while_it_is_read_is_left_out(root: Root) -> None:
    root.path(f"{PORT}/gid_attrs/types/3").unlink()
    assert [gid.index for gid in read_gids(root, PORT)] == [0, 1, 2]


@pytest.mark.parametrize("gid", ["nonsense", "0000:0000:0000:0000:0000:ffff:zz00:0001", "0" * 5000])
def test_a_gid_of_an_odd_form_stands_for_no_ipv4_address(root: Root, gid: str) -> None:
    put(root, f"{PORT}/gids/3", gid)
    assert read_gids(root, PORT)[3].ipv4 == ""


def test_devices_may_be_called_mlx5(root: Root) -> None:
    device = root.resolve("/sys/class/infiniband/rocep1s0f0")
    root.path("/sys/class/infiniband/rocep1s0f0").unlink()
    moved = root.path(device).with_name("mlx5_0")
    root.path(device).rename(moved)
    root.path("/sys/class/infiniband/mlx5_0").symlink_to(moved)
    rdma = read_fabric(root).functions[0].rdma
    assert rdma is not None
    assert (rdma.device, rdma.state) == ("mlx5_0", "ACTIVE")


@pytest.mark.parametrize("name", ["eth 0", "en;rm -rf", "en'\"$(x)", "\udcff\udcfe", "a" * 15])
def test_an_interface_may_have_any_name(root: Root, name: str) -> None:
    directory = root.resolve("/sys/class/net/enp1s0f0np0")
    root.path("/sys/class/net/enp1s0f0np0").unlink()
    moved = root.path(directory).with_name(name)
    root.path(directory).rename(moved)
    root.path(f"/sys/class/net/{name}").symlink_to(moved)
    function = read_fabric(root).functions[0]
    assert (function.netdev, function.carrier, function.port) == (name, True, "p0")


def test_an_interface_that_left_leaves_its_function(root: Root) -> None:
    shutil.rmtree(root.path(root.resolve("/sys/class/net/enp1s0f0np0")))
    function = read_fabric(root).functions[0]
    assert (function.netdev, function.carrier, function.mtu, function.name) == ("", None, None, "rocep1s0f0")


def test_an_rdma_device_that_left_leaves_its_function(root: Root) -> None:
    shutil.rmtree(root.path(root.resolve("/sys/class/infiniband/rocep1s0f0")))
    function = read_fabric(root).functions[0]
    assert (function.rdma, function.netdev) == (None, "enp1s0f0np0")


@pytest.mark.parametrize(("taint", "out_of_tree"), [("\n", False), ("OE\n", True), (None, False)])
def test_a_driver_that_taints_the_kernel_is_out_of_tree(
    root: Root,
    taint: str | None,
    out_of_tree: bool,  # noqa: FBT001
) -> None:
    driver = root.path(f"{root.resolve('/sys/bus/pci/devices/0000:01:00.0')}/driver")
    driver.unlink(missing_ok=True)
    driver.symlink_to(root.path("/sys/bus/pci/drivers/mlx5_core"))
    put(root, "/sys/module/mlx5_core/version", "24.10-1.1.4")
    if taint is None:
        root.path("/sys/module/mlx5_core/taint").unlink(missing_ok=True)
    else:
        put(root, "/sys/module/mlx5_core/taint", taint)
    function = read_fabric(root).functions[0]
    assert (function.driver, function.driver_version, function.out_of_tree) == (
        "mlx5_core", "24.10-1.1.4", out_of_tree,
    )  # fmt: skip


# -- machines without, and other devices ---------------------------------------------------------------------


def test_a_spark_without_a_cable_has_its_chip_powered_down(tmp_path: Path) -> None:
    build(tmp_path / "tree", "no-cable")
    root = Root(tmp_path / "tree")
    put(root, "/etc/nvidia/cx7-hotplug-enabled", "")
    fabric = read_fabric(root)
    assert (fabric.presence, fabric.functions) == (Presence.POWERED_DOWN, ())
    assert "/etc/nvidia/cx7-hotplug-enabled" in fabric.evidence


HOTPLUG = "/sys/bus/platform/devices/MTKP0001:00/pcie_hotplug"


@pytest.mark.parametrize(
    ("marked", "enabled", "state", "presence"),
    [
        (True, "1", "0", Presence.POWERED_DOWN),
        (True, None, None, Presence.POWERED_DOWN),
        (False, "1", "0", Presence.POWERED_DOWN),
        (False, None, None, Presence.POWERED_DOWN),
        (False, "0", "0", Presence.NONE),
        (True, "1", "1", Presence.NONE),
    ],
)
def test_power_management_is_the_reason_only_where_it_is_on_and_no_cable_is_in(
    tmp_path: Path,
    marked: bool,  # noqa: FBT001
    enabled: str | None,
    state: str | None,
    presence: Presence,
) -> None:
    root = Root(tmp_path)
    root.path(HOTPLUG).mkdir(parents=True)
    if marked:
        put(root, "/etc/nvidia/cx7-hotplug-enabled", "")
    for name, text in (("hotplug_enabled", enabled), ("debug_state", state)):
        if text is not None:
            put(root, f"{HOTPLUG}/{name}", f"{text}\n")
    fabric = read_fabric(root)
    assert fabric.presence is presence
    assert (f"{HOTPLUG}/debug_state is {state}" in fabric.evidence) is (state is not None)


def test_another_machine_has_none_at_all(tmp_path: Path) -> None:
    build(tmp_path / "tree", "not-gb10")
    fabric = read_fabric(Root(tmp_path / "tree"))
    assert (fabric.presence, fabric.functions, fabric.others) == (Presence.NONE, (), ())


def test_an_empty_tree_has_none_at_all(tmp_path: Path) -> None:
    assert read_fabric(Root(tmp_path)).presence is Presence.NONE


@pytest.mark.parametrize("says", ["gid_attrs", "parent"])
def test_soft_roce_is_another_device_and_its_interface_is_known(root: Root, says: str) -> None:
    device = "/sys/class/infiniband/rxe0"
    put(root, f"{device}/ports/1/state", "4: ACTIVE")
    put(root, f"{device}/parent" if says == "parent" else f"{device}/ports/1/gid_attrs/ndevs/0", "enP7s7\n")
    fabric = read_fabric(root)
    assert names(fabric) == ["enp1s0f0np0", "enp1s0f1np1", "enP2p1s0f0np0", "enP2p1s0f1np1"]
    [other] = fabric.others
    assert (other.netdev, other.bdf, other.rdma and other.rdma.device) == ("enP7s7", "0007:01:00.0", "rxe0")


def test_an_rdma_device_without_an_interface_is_shown_as_it_is(root: Root) -> None:
    put(root, "/sys/class/infiniband/odd/ports/1/link_layer", "InfiniBand")
    [other] = read_fabric(root).others
    assert (other.netdev, other.bdf, other.name, other.carrier) == ("", "", "odd", None)


# -- IPv4 addresses ------------------------------------------------------------------------------------------


def test_addresses_of_a_tree_are_the_lines_of_a_file(root: Root) -> None:
    put(root, f"{NET}/netlink/addr/ipv4", "192.168.100.10/24\n10.0.0.1/8\n")
    assert read_fabric(root).functions[0].addresses == ("192.168.100.10/24", "10.0.0.1/8")


@pytest.mark.real_kernel
@pytest.mark.alone
def test_addresses_of_this_machine_come_from_its_kernel() -> None:
    program = (
        "from sparktune.kernel.ipv4 import ipv4_addresses; from sparktune.kernel.root import Root;"
        "print(sorted(ipv4_addresses(Root()).items()))"
    )
    script = (
        "ip link set lo up && ip address add 192.0.2.1/30 dev lo && "
        'ip address add 192.0.2.9/32 dev lo && exec "$@"'
    )
    heard = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-c", program],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert heard.stdout == "[('lo', ('127.0.0.1/8', '192.0.2.1/30', '192.0.2.9/32'))]\n"


ADDRESS = struct.pack("=BBBBi", socket.AF_INET, 24, 0, 0, 7) + struct.pack(
    "=HH4s", 8, 2, bytes([10, 0, 0, 1])
)


def test_an_address_message_gives_index_and_address() -> None:
    assert parse_address(ADDRESS) == (7, "10.0.0.1/24")


@pytest.mark.parametrize("cut", range(len(ADDRESS)))
def test_a_damaged_message_gives_none(cut: int) -> None:
    assert parse_address(ADDRESS[:cut]) is None


def test_another_family_is_no_ipv4_address() -> None:
    body = struct.pack("=BBBBi", socket.AF_INET6, 64, 0, 0, 7) + struct.pack("=HH16s", 20, 1, bytes(16))
    assert parse_address(body) is None


def test_a_tree_without_interfaces_has_no_addresses(tmp_path: Path) -> None:
    assert ipv4_addresses(Root(tmp_path)) == {}
