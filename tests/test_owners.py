"""Who owns an interface: netplan, NetworkManager, systemd-networkd, and what makes an MTU permanent there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sparktune.fabric.model import OwnerKind
from sparktune.kernel.netplan import parse, read_netplan
from sparktune.kernel.owners import Owners, parse_sections
from sparktune.kernel.root import Root

if TYPE_CHECKING:
    from pathlib import Path

NETDEV = "enp1s0f0np0"
MAC = "02:9f:8f:00:00:00"
CX7 = """\
network:
  version: 2   # NVIDIA's
  ethernets:
    enp1s0f0np0:
      addresses:
        - 192.168.100.10/24
      dhcp4: no
    "enP2p1s0f0np0":
      addresses: [ 192.168.200.10/24 ]
      mtu: 9000
"""


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A tree with one interface, number 3."""
    put(tmp_path, f"sys/class/net/{NETDEV}/ifindex", "3\n")
    return Root(tmp_path)


def put(tree: Path, name: str, text: str) -> None:
    """Write a file of the tree."""
    path = tree / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_nothing_owns_an_interface_that_nobody_configures(root: Root) -> None:
    owner = Owners(root).find(NETDEV, MAC, "mlx5_core")
    assert (owner.kind, owner.file, owner.mtu, owner.change) == (OwnerKind.NOBODY, "", None, "")


def test_an_interface_without_a_name_has_no_owner(root: Root) -> None:
    put(root.directory, "etc/systemd/network/any.network", "[Match]\nName=*\n")
    assert Owners(root).find("").kind is OwnerKind.NOBODY


# -- netplan -------------------------------------------------------------------------------------------------


def test_netplan_owns_what_its_file_names_and_may_set_no_mtu(root: Root) -> None:
    put(root.directory, "etc/netplan/40-cx7.yaml", CX7)
    owner = Owners(root).find(NETDEV, MAC, "mlx5_core")
    assert (owner.kind, owner.file, owner.key, owner.mtu) == (
        OwnerKind.NETPLAN,
        "/etc/netplan/40-cx7.yaml",
        "network.ethernets.enp1s0f0np0",
        None,
    )
    assert owner.change == (
        "set `mtu: MTU` below network.ethernets.enp1s0f0np0 in /etc/netplan/40-cx7.yaml, "
        "then run: sudo netplan apply"
    )


def test_netplan_s_mtu_is_read_from_a_quoted_definition(root: Root) -> None:
    put(root.directory, "etc/netplan/40-cx7.yaml", CX7)
    assert Owners(root).find("enP2p1s0f0np0").mtu == 9000


def test_a_later_file_amends_a_definition_and_owns_the_mtu_it_sets(root: Root) -> None:
    put(root.directory, "etc/netplan/40-cx7.yaml", CX7)
    put(root.directory, "etc/netplan/90.yaml", "network:\n ethernets:\n  enp1s0f0np0:\n   mtu: 4200\n")
    put(root.directory, "etc/netplan/95.yaml", "network:\n ethernets:\n  enp1s0f0np0:\n   dhcp4: no\n")
    owner = Owners(root).find(NETDEV)
    assert (owner.file, owner.mtu) == ("/etc/netplan/90.yaml", 4200)


def test_a_file_in_run_hides_the_one_of_the_same_name_in_etc(root: Root) -> None:
    put(root.directory, "etc/netplan/40-cx7.yaml", CX7)
    put(root.directory, "run/netplan/40-cx7.yaml", "network:\n  version: 2\n")
    assert Owners(root).find(NETDEV).kind is OwnerKind.NOBODY


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ("name: enp1s0f0*", True),
        ("name: enP2*", False),
        (f'macaddress: "{MAC.upper()}"', True),
        ("macaddress: 02:9f:8f:00:00:99", False),
        ("driver: mlx5*", True),
        ('driver: ["e1000e", "mlx5_core"]', True),
        ("driver: [e1000e]", False),
        ("path: platform-*", False),
    ],
)
def test_netplan_matches_by_name_address_and_driver(root: Root, match: str, fits: bool) -> None:  # noqa: FBT001
    text = f"network:\n  ethernets:\n    cable:\n      match:\n        {match}\n      mtu: 9000\n"
    put(root.directory, "etc/netplan/1.yaml", text)
    assert (Owners(root).find(NETDEV, MAC, "mlx5_core").mtu == 9000) is fits


def test_a_renamed_interface_is_known_by_its_new_name(root: Root) -> None:
    text = "network:\n  ethernets:\n    cable:\n      match: {}\n      set-name: enp1s0f0np0\n"
    put(root.directory, "etc/netplan/1.yaml", text)
    assert Owners(root).find(NETDEV).key == "network.ethernets.cable"


@pytest.mark.parametrize(
    "text", ["", "\0\xff", "network: 3", "- a\n- b", "network:\n\tethernets:\n", "{" * 5000]
)
def test_what_is_no_usual_yaml_owns_nothing(root: Root, text: str) -> None:
    put(root.directory, "etc/netplan/1.yaml", text)
    assert read_netplan(root) == ()


def test_a_colon_within_a_value_is_no_key() -> None:
    assert list(parse("a:\n  b: 1:2:3 # x\n  'c d': \"e\"\n")) == [
        (("a",), ""),
        (("a", "b"), "1:2:3"),
        (("a", "c d"), "e"),
    ]


# -- NetworkManager ------------------------------------------------------------------------------------------

KEYFILE = (
    "[connection]\nid=cable 1\nuuid=u-1\ntype=ethernet\ninterface-name=enp1s0f0np0\n\n[ethernet]\nmtu=9000\n"
)
KEYFILE_PATH = "/etc/NetworkManager/system-connections/cable.nmconnection"


def test_networkmanager_owns_what_a_keyfile_names(root: Root) -> None:
    put(root.directory, KEYFILE_PATH, KEYFILE)
    owner = Owners(root).find(NETDEV)
    assert (owner.kind, owner.file, owner.key, owner.mtu) == (
        OwnerKind.NETWORK_MANAGER,
        KEYFILE_PATH,
        "cable 1",
        9000,
    )
    assert owner.change == (
        "run: sudo nmcli connection modify 'cable 1' ethernet.mtu MTU && sudo nmcli connection up 'cable 1'"
    )


def test_an_automatic_mtu_of_networkmanager_asks_for_none(root: Root) -> None:
    put(root.directory, KEYFILE_PATH, KEYFILE.replace("9000", "0"))
    assert Owners(root).find(NETDEV).mtu is None


def test_the_connection_that_is_active_is_the_owner_whatever_else_would_match(root: Root) -> None:
    put(root.directory, KEYFILE_PATH, KEYFILE)
    other = "[connection]\nid=any\nuuid=u-2\ntype=ethernet\n"
    put(root.directory, "run/NetworkManager/system-connections/any.nmconnection", other)
    put(root.directory, "run/NetworkManager/devices/3", "[device]\nmanaged=true\nconnection-uuid=u-2\n")
    assert Owners(root).find(NETDEV).key == "any"


def test_a_connection_whose_file_nobody_can_read_is_asked_of_nmcli(root: Root) -> None:
    put(root.directory, "run/NetworkManager/devices/3", "[device]\nconnection-uuid=u-9\n")
    owner = Owners(root).find(NETDEV)
    assert (owner.kind, owner.file) == (OwnerKind.NETWORK_MANAGER, "")
    assert "nmcli -g GENERAL.CONNECTION device show enp1s0f0np0" in owner.change


def test_a_keyfile_may_name_the_hardware_address_instead(root: Root) -> None:
    text = f"[connection]\nid=m\n\n[802-3-ethernet]\nmac-address={MAC.upper()}\n"
    put(root.directory, KEYFILE_PATH, text)
    assert Owners(root).find(NETDEV, MAC).key == "m"


def test_a_wireless_connection_owns_no_cable(root: Root) -> None:
    put(root.directory, KEYFILE_PATH, KEYFILE.replace("type=ethernet", "type=wifi"))
    assert Owners(root).find(NETDEV).kind is OwnerKind.NOBODY


# -- systemd-networkd ----------------------------------------------------------------------------------------


def test_networkd_says_which_file_it_uses(root: Root) -> None:
    put(root.directory, "etc/systemd/network/20-cx7.network", "[Match]\nName=enp1*\n[Link]\nMTUBytes=9000\n")
    put(root.directory, "etc/systemd/network/10-any.network", "[Match]\nName=*\n")
    state = "# private\nADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/20-cx7.network\n"
    put(root.directory, "run/systemd/netif/links/3", state)
    owner = Owners(root).find(NETDEV)
    assert (owner.kind, owner.file, owner.mtu) == (
        OwnerKind.NETWORKD,
        "/etc/systemd/network/20-cx7.network",
        9000,
    )
    assert "/etc/systemd/network/20-cx7.network.d/mtu.conf" in owner.change
    assert owner.change.endswith("sudo networkctl reconfigure enp1s0f0np0")


def test_what_networkd_leaves_alone_is_nobody_s(root: Root) -> None:
    put(root.directory, "etc/systemd/network/10-any.network", "[Match]\nName=*\n")
    put(root.directory, "run/systemd/netif/links/3", "ADMIN_STATE=unmanaged\n")
    assert Owners(root).find(NETDEV).kind is OwnerKind.NOBODY


def test_without_a_state_the_first_file_that_matches_is_the_owner_s(root: Root) -> None:
    put(root.directory, "usr/lib/systemd/network/30-x.network", "[Match]\nName=enp1s0f0np0\n")
    put(root.directory, "etc/systemd/network/40-y.network", f"[Match]\nMACAddress={MAC}\n")
    put(root.directory, "etc/systemd/network/50-z.network", "[Match]\nDriver=e1000e\n")
    assert Owners(root).find(NETDEV, MAC, "mlx5_core").file == "/usr/lib/systemd/network/30-x.network"


def test_a_file_without_a_match_section_is_taken_to_match_nothing(root: Root) -> None:
    put(root.directory, "etc/systemd/network/1.network", "[Link]\nMTUBytes=1\n")
    assert Owners(root).find(NETDEV).kind is OwnerKind.NOBODY


def test_sections_are_read_whatever_stands_between_them() -> None:
    assert parse_sections("x=0\n;c=1\n[a]\nb = 1 = 2\nnonsense\n[b]\n[a]\nb=3") == {"a": {"b": "3"}, "b": {}}


# -- what only root may read, and what netplan rendered ------------------------------------------------------


def hide(root: Root, name: str) -> None:
    """Make a file that cannot be read, by root neither: reading a directory answers EISDIR."""
    root.path(name).mkdir(parents=True)


NETWORKD_STATE = "ADMIN_STATE=configured\nNETWORK_FILE=/run/systemd/network/10-netplan-enp1s0f0np0.network\n"


def test_without_rights_netplan_is_known_by_what_it_rendered_for_networkd(root: Root) -> None:
    hide(root, "etc/netplan/40-cx7.yaml")
    put(root.directory, "run/systemd/netif/links/3", NETWORKD_STATE)
    owner = Owners(root).find(NETDEV)
    assert (owner.kind, owner.file, owner.key, owner.mtu) == (
        OwnerKind.NETPLAN,
        "/etc/netplan/40-cx7.yaml",
        "network.ethernets.enp1s0f0np0",
        None,
    )
    assert owner.change == (
        "set `mtu: MTU` below network.ethernets.enp1s0f0np0 in /etc/netplan/40-cx7.yaml "
        "(only root may read /etc/netplan/40-cx7.yaml), then run: sudo netplan apply"
    )


def test_where_only_root_may_read_nobody_is_not_claimed(root: Root) -> None:
    hide(root, "etc/netplan/40-cx7.yaml")
    owner = Owners(root).find(NETDEV)
    assert (owner.kind, owner.is_somebody) == (OwnerKind.UNKNOWN, False)
    assert owner.change == "look as root who configures it: only root may read /etc/netplan/40-cx7.yaml"


def test_which_of_two_unreadable_files_it_is_is_not_guessed(root: Root) -> None:
    hide(root, "etc/netplan/40-cx7.yaml")
    hide(root, "etc/netplan/50-cloud-init.yaml")
    put(root.directory, "run/systemd/netif/links/3", NETWORKD_STATE)
    owner = Owners(root).find(NETDEV)
    assert (owner.kind, owner.file) == (OwnerKind.NETPLAN, "")
    assert "in the file in /etc/netplan that has it (only root may read /etc/netplan/40" in owner.change


def test_without_rights_netplan_is_known_by_what_it_rendered_for_networkmanager(root: Root) -> None:
    hide(root, "etc/netplan/40-cx7.yaml")
    hide(root, "run/NetworkManager/system-connections/netplan-enp1s0f0np0.nmconnection")
    put(root.directory, "run/NetworkManager/devices/3", "[device]\nmanaged=1\nconnection-uuid=u-7\n")
    assert Owners(root).find(NETDEV).kind is OwnerKind.NETPLAN


def test_the_mtu_of_a_definition_that_is_no_usual_yaml_is_that_of_what_it_rendered(root: Root) -> None:
    put(root.directory, "etc/netplan/1.yaml", "network: {ethernets: {enp1s0f0np0: {mtu: 9000}}}")
    name = "run/systemd/network/10-netplan-enp1s0f0np0.network"
    put(root.directory, name, "[Match]\nName=enp1s0f0np0\n\n[Link]\nMTUBytes=9000\n")
    put(root.directory, "run/systemd/netif/links/3", NETWORKD_STATE)
    owner = Owners(root).find(NETDEV)
    assert (owner.kind, owner.mtu) == (OwnerKind.NETPLAN, 9000)


def test_a_connection_that_nmcli_keeps_in_netplan_is_changed_by_nmcli(root: Root) -> None:
    text = "network:\n  ethernets:\n    NM-u-1:\n      match:\n        name: enp1s0f0np0\n"
    put(root.directory, "etc/netplan/90-NM-u-1.yaml", text)
    name = "run/NetworkManager/system-connections/netplan-NM-u-1-cable 1.nmconnection"
    put(root.directory, name, KEYFILE)
    owner = Owners(root).find(NETDEV)
    assert (owner.kind, owner.mtu) == (OwnerKind.NETWORK_MANAGER, 9000)
    assert owner.change.startswith("run: sudo nmcli connection modify 'cable 1' ethernet.mtu MTU")


# -- .link files ---------------------------------------------------------------------------------------------


def test_a_link_file_that_sets_an_mtu_owns_what_nobody_else_does(root: Root) -> None:
    put(root.directory, "etc/systemd/network/70-cx7.link", "[Match]\nDriver=mlx5*\n[Link]\nMTUBytes=9000\n")
    put(root.directory, "usr/lib/systemd/network/99-default.link", "[Match]\nOriginalName=*\n")
    put(root.directory, "run/systemd/netif/links/3", "ADMIN_STATE=unmanaged\n")
    owner = Owners(root).find(NETDEV, MAC, "mlx5_core")
    assert (owner.kind, owner.file, owner.mtu) == (
        OwnerKind.NETWORKD,
        "/etc/systemd/network/70-cx7.link",
        9000,
    )
    assert owner.change.endswith("sudo udevadm trigger --action=add /sys/class/net/enp1s0f0np0")


def test_only_the_first_link_file_that_matches_counts(root: Root) -> None:
    put(root.directory, "usr/lib/systemd/network/10-any.link", "[Match]\nOriginalName=*\n")
    put(root.directory, "etc/systemd/network/70-cx7.link", "[Match]\nDriver=mlx5*\n[Link]\nMTUBytes=9000\n")
    assert Owners(root).find(NETDEV, MAC, "mlx5_core").kind is OwnerKind.NOBODY
