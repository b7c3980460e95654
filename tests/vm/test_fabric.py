"""The fabric as found on a real RDMA core: Soft-RoCE's device, its GIDs and link, and what runs over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vm.disks import wait_for_verdict, wait_until_left
from vm.ledger import Ledger
from vm.perftest import RDMA, device_of, traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.guest import Guest

NETDEV = "enp1s0f0np0"
GIDS = f"/sys/class/infiniband/{RDMA}/ports/1"
MTU = f"roce.{NETDEV}.mtu"
TOS = f"roce.{RDMA}.default_roce_tos"


@pytest.fixture
def linked(spark: Guest) -> Iterator[Guest]:
    """The shared guest; afterwards its link and configuration are as they were."""
    yield spark
    spark.run(
        f"rm -f /etc/sparktune.toml.d/60-fabric.toml; sparktune reload; ip link set {NETDEV} mtu 1500 up"
    )
    spark.run(f"ip address delete 10.0.3.1/24 dev {NETDEV}", check=False)
    spark.wait_for_value(f"/sys/class/net/{NETDEV}/carrier", 1)


def test_the_device_is_shown_with_its_interface_and_gids_as_the_kernel_has_them(linked: Guest) -> None:
    device = device_of(linked)
    assert (device["rdma"], device["netdev"]) == (RDMA, NETDEV)
    assert (device["state"], device["link_layer"], device["carrier"]) == ("ACTIVE", "Ethernet", True)
    index = device["gid_index"]
    assert linked.cat(f"{GIDS}/gid_attrs/types/{index}") == "RoCE v2"
    assert linked.cat(f"{GIDS}/gids/{index}") == device["gid"]
    assert f"{device['ipv4']}/24" in device["addresses"]
    linked.run(["ip", "address", "add", "10.0.3.1/24", "dev", NETDEV])
    added = {gid["ipv4"] for gid in device_of(linked)["gids"]} - {gid["ipv4"] for gid in device["gids"]}
    assert added == {"10.0.3.1"}


def test_a_link_that_is_set_down_is_a_port_that_is_down_until_it_is_up_again(linked: Guest) -> None:
    linked.run(["ip", "link", "set", NETDEV, "down"])
    assert device_of(linked)["state"] == "DOWN"
    linked.run(["ip", "link", "set", NETDEV, "up"])
    linked.wait_until(lambda: device_of(linked)["state"] == "ACTIVE", "the port active")
    linked.wait_for_state("ok")


def configure(guest: Guest, text: str) -> None:
    guest.put("/etc/sparktune.toml.d/60-fabric.toml", f"[roce]\n{text}\n")
    guest.run(["sparktune", "reload"])


def test_the_tos_of_rdma_cm_is_held_in_configfs_also_for_the_next_device(linked: Guest) -> None:
    tos = f"/sys/kernel/config/rdma_cm/{RDMA}/ports/1/default_roce_tos"
    before = linked.cat(tos)
    configure(linked, "default_roce_tos = 104")
    linked.wait_for_value(tos, 104)
    linked.run(f"echo 8 > {tos}")
    linked.wait_for_value(tos, 104)
    linked.run(["rdma", "link", "delete", RDMA])
    wait_until_left(linked, TOS)
    linked.run(f"rdma link add {RDMA} type rxe netdev {NETDEV}")
    wait_for_verdict(linked, TOS, "ok")
    assert linked.cat(tos) == "104"
    configure(linked, "")
    linked.wait_for_value(tos, before)


def read_mtu(guest: Guest) -> int:
    """By the kernel's own file."""
    return int(guest.cat(f"/sys/class/net/{NETDEV}/mtu"))


def test_an_mtu_is_left_alone_while_a_perftest_holds_queue_pairs(linked: Guest) -> None:
    configure(linked, "mtu = 4200")
    assert read_mtu(linked) == 4200
    with traffic(linked):
        ledger = Ledger.open(linked)
        linked.run(["ip", "link", "set", NETDEV, "mtu", "1500"])
        found = wait_for_verdict(linked, MTU, "drift")
        assert "queue pair" in found["reason"]
        linked.run("sleep 11")  # longer than a sweep
        assert read_mtu(linked) == 1500
        assert "healed" not in {episode["action"] for episode in ledger.new()}
    linked.run(["sparktune", "apply", MTU])
    assert read_mtu(linked) == 4200
