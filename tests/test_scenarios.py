"""The scenarios: what each shows of the fabric, read back as sparktune reads a host."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from sparktune.errors import SparktuneError, UsageError
from sparktune.fabric.model import OwnerKind
from sparktune.kernel.fabric import read_fabric
from sparktune.kernel.root import Root
from sparktune.simulate import tree
from sparktune.simulate.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator

TWINS = ("enp1s0f0np0", "enP2p1s0f0np0")
NET = "/sys/class/net"
RDMA = "/sys/class/infiniband"
WANTED = {
    "healthy-pair", "no-cable", "one-twin-down", "pcie-x2", "mtu-mismatch", "gid-moved", "mlx5-names",
    "zeroconf-twin", "stale-configfs", "no-dcb", "flapping", "unreadable-counter",
}  # fmt: skip
DIFFERENCES = {
    "one-twin-down": ("/0002:01:00.0/net/", "/0002:01:00.0/infiniband/"),
    "pcie-x2": ("/pci0002:00/0002:00:00.0/",),
    "mtu-mismatch": ("/enP2p1s0f0np0/mtu", "/40-cx7.yaml"),
    "gid-moved": ("/rocep1s0f0/ports/1/gid",),
    "mlx5-names": ("/infiniband",),
    "zeroconf-twin": (
        "/netlink/addr/ipv4",
        "/roceP2p1s0f0/ports/1/gid",
        "/40-cx7.yaml",
        "/run",
        "/NetworkManager",
    ),
    "stale-configfs": ("/rdma_cm/rocep1s0f0",),
    "no-dcb": ("/netlink/dcb",),
    "flapping": ("/enP2p1s0f0np0/carrier_",),
    "unreadable-counter": ("/rocep1s0f0/ports/1/hw_counters/out_of_sequence",),
}
"""What may differ from the healthy pair: parts of the paths."""


@pytest.fixture(scope="module")
def roots() -> Iterator[dict[str, Root]]:
    """A tree of each scenario, only to be read; a short name, as paths are compared."""
    with TemporaryDirectory() as name:
        found = {}
        for scenario in SCENARIOS:
            tree.build(Path(name, scenario), scenario=scenario)
            found[scenario] = Root(Path(name, scenario))
        yield found


def contents(root: Root) -> dict[str, bytes | str]:
    """Every file of a tree but the boot id and the marker; of what is no file, what it is."""
    found: dict[str, bytes | str] = {}
    for path in root.directory.rglob("*"):
        name = root.name(path)
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file() and path.name not in {"boot_id", tree.MARKER}:
            found[name] = path.read_bytes()
        elif not path.is_file():
            found[name] = "directory" if path.is_dir() else "no file"
    return found


def test_every_scenario_of_the_specification_is_there_and_says_what_it_is() -> None:
    assert set(SCENARIOS) >= WANTED
    assert all(len(scenario.about) > 20 for scenario in SCENARIOS.values())


@pytest.fixture(scope="module")
def healthy(roots: dict[str, Root]) -> dict[str, bytes | str]:
    return contents(roots["healthy-pair"])


@pytest.mark.parametrize("scenario", DIFFERENCES)
def test_a_scenario_differs_from_the_healthy_pair_only_in_what_it_is_about(
    scenario: str, roots: dict[str, Root], healthy: dict[str, bytes | str]
) -> None:
    other = contents(roots[scenario])
    differing = {name for name in healthy.keys() | other.keys() if healthy.get(name) != other.get(name)}
    assert differing
    assert not [name for name in differing if not any(part in name for part in DIFFERENCES[scenario])]


def test_both_twins_of_the_healthy_pair_are_up_in_subnets_of_their_own(roots: dict[str, Root]) -> None:
    root = roots["healthy-pair"]
    addresses = [root.read(f"{NET}/{twin}/netlink/addr/ipv4") for twin in TWINS]
    assert addresses == ["192.168.100.10/24", "192.168.200.10/24"]
    for twin in TWINS:
        assert (root.read(f"{NET}/{twin}/carrier"), root.read(f"{NET}/{twin}/mtu")) == ("1", "9000")
        assert root.read(f"{NET}/{twin}/netlink/dcb/trust") == "pcp"
        assert root.read(f"{NET}/{twin}/netlink/ethtool/statistics/rx_prio3_pause") == "0"
        assert root.read(f"{NET}/{twin}/device/max_link_width") == "4"
        assert root.resolve(f"{NET}/{twin}/device/driver") == "/sys/bus/pci/drivers/mlx5_core"
    assert "mtu: 9000" in (root.read("/etc/netplan/40-cx7.yaml") or "")


def test_the_driver_is_the_kernels_own(roots: dict[str, Root]) -> None:
    root = roots["healthy-pair"]
    assert root.resolve("/sys/bus/pci/drivers/mlx5_core/module") == "/sys/module/mlx5_core"
    assert root.read("/sys/module/mlx5_core/taint") == ""
    assert not root.exists("/sys/module/mlx5_core/version")
    assert "O" in (root.read("/sys/module/nvidia/taint") or "")


def test_dgx_os_answers_arp_for_the_asked_interface_only(roots: dict[str, Root]) -> None:
    conf = "/proc/sys/net/ipv4/conf"
    root = roots["healthy-pair"]
    assert [root.read(f"{conf}/all/{name}") for name in ("arp_ignore", "arp_announce")] == ["1", "2"]
    assert root.read(f"{conf}/{TWINS[0]}/arp_ignore") == "0"


def test_without_a_cable_the_switch_that_powers_it_down_is_there(roots: dict[str, Root]) -> None:
    root = roots["no-cable"]
    assert root.exists("/sys/bus/platform/devices/MTKP0001:00/pcie_hotplug")
    assert root.exists("/etc/nvidia/cx7-hotplug-enabled")
    assert root.names(RDMA) == ()


def test_the_gid_of_one_twin_moved_and_that_of_the_other_did_not(roots: dict[str, Root]) -> None:
    root = roots["gid-moved"]
    ipv4 = ":ffff:c0a8:"
    for device, index in (("rocep1s0f0", 5), ("roceP2p1s0f0", 3)):
        port = f"{RDMA}/{device}/ports/1"
        assert ipv4 in (root.read(f"{port}/gids/{index}") or "")
        assert root.read(f"{port}/gid_attrs/types/{index}") == "RoCE v2"
        assert ipv4 not in (root.read(f"{port}/gids/{8 - index}") or "")


def test_the_twins_of_the_zeroconf_scenario_have_different_owners(roots: dict[str, Root]) -> None:
    one, other = (
        function for function in read_fabric(roots["zeroconf-twin"]).functions if function.netdev in TWINS
    )
    assert (one.owner.kind, one.addresses) == (OwnerKind.NETPLAN, ("192.168.100.10/24",))
    assert (other.owner.kind, other.addresses) == (OwnerKind.NETWORK_MANAGER, ("169.254.71.9/16",))


def test_rdma_devices_are_numbered_by_their_pci_addresses(roots: dict[str, Root]) -> None:
    root = roots["mlx5-names"]
    assert root.names(RDMA) == ("mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3")
    assert root.resolve(f"{RDMA}/mlx5_2/device").endswith("/0002:01:00.0")


def test_a_stale_directory_in_configfs_answers_every_user_that_the_device_is_gone(
    roots: dict[str, Root],
) -> None:
    path = roots["stale-configfs"].path("/sys/kernel/config/rdma_cm/rocep1s0f0/ports/1/default_roce_mode")
    for mode in (os.O_RDONLY, os.O_WRONLY):
        with pytest.raises(OSError, match=os.strerror(errno.ENXIO)) as caught:
            os.open(path, mode | os.O_NONBLOCK)
        assert caught.value.errno == errno.ENXIO


def test_an_unreadable_counter_answers_with_an_error_and_the_one_beside_it_with_a_number(
    roots: dict[str, Root],
) -> None:
    counters = roots["unreadable-counter"].path(f"{RDMA}/rocep1s0f0/ports/1/hw_counters")
    with pytest.raises(IsADirectoryError):
        (counters / "out_of_sequence").read_bytes()
    assert (counters / "packet_seq_err").read_text() == "0\n"


def test_an_unknown_scenario_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no scenario 'mtu-mismach'") as caught:
        tree.build(tmp_path, scenario="mtu-mismach")
    assert caught.value.hint == "did you mean mtu-mismatch?"
    assert not list(tmp_path.iterdir())


def test_changes_of_a_scenario_know_its_machine(tmp_path: Path) -> None:
    tree.build(tmp_path, scenario="mlx5-names")
    tree.set_carrier(tmp_path, TWINS[1], up=False)
    assert Root(tmp_path).read(f"{RDMA}/mlx5_2/ports/1/state") == "1: DOWN"
    tree.add_disk(tmp_path, "nvme1n1")
    tree.set_carrier(tmp_path, TWINS[1], up=True)
    assert Root(tmp_path).read(f"{NET}/{TWINS[1]}/carrier_down_count") == "1"


def test_a_machine_built_over_a_scenario_has_nothing_of_it(tmp_path: Path) -> None:
    for scenario in SCENARIOS:
        tree.build(tmp_path / "tree", scenario=scenario)
    tree.build(tmp_path / "tree", "no-cable")
    tree.build(tmp_path / "fresh", "no-cable")
    assert contents(Root(tmp_path / "tree")) == contents(Root(tmp_path / "fresh"))


def test_a_directory_of_somebody_else_is_refused_for_a_scenario_too(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SparktuneError, match="nothing was written"):
        tree.build(tmp_path, scenario="healthy-pair")
