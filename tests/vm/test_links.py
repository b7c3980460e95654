"""RDMA links that come and go, network links that change: ours is held, what is not ours is left alone."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from vm.disks import count_checked, wait_for_count, wait_for_verdict, wait_until_left
from vm.ledger import Ledger, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.figures import Figures
    from vm.guest import Guest

NETDEV, RDMA = "enp1s0f0np0", "rocep1s0f0"
ROCE = f"roce.{RDMA}.default_roce_mode"
MODE = f"/sys/kernel/config/rdma_cm/{RDMA}/ports/1/default_roce_mode"
ADD_LINK = f"rdma link add {RDMA} type rxe netdev {NETDEV}"


@pytest.fixture
def linked(spark: Guest) -> Iterator[Guest]:
    """The shared guest; afterwards it has its RDMA link and its MTU again."""
    yield spark
    if f"link {RDMA}/1" not in spark.out(["rdma", "link"]):
        spark.run(ADD_LINK)
    spark.run(f"ip link set {NETDEV} mtu 1500")


def test_the_mode_dies_with_the_rdma_link_and_holds_again_with_the_next(
    linked: Guest, figures: Figures
) -> None:
    """The emulated device knows RoCE v2 only, so what is shown is that it is found and held, not a write."""
    of = count_checked(linked)
    waits_us = []
    for _ in range(3):
        assert linked.cat(MODE) == "RoCE v2"
        linked.run(["rdma", "link", "delete", RDMA])
        stale = linked.run(["cat", MODE], check=False)
        assert (stale.code, "No such device" in stale.err) == (1, True)
        wait_until_left(linked, ROCE)
        status = wait_for_count(linked, of - 1)
        assert status["areas"]["roce"]["state"] == "absent"
        assert status["areas"]["roce"]["says"] == "no ConnectX-7 and no RDMA device on this machine"

        added_s = float(linked.out(f"date +%s.%N; {ADD_LINK}").split()[0])
        since = wait_for_verdict(linked, ROCE, "ok")["since"]
        waits_us.append(round((datetime.fromisoformat(since).timestamp() - added_s) * 1e6))
        assert linked.cat(MODE) == "RoCE v2"
        assert f"link {RDMA}/1" in linked.out(["rdma", "link"])
        wait_for_count(linked, of)
    assert min(waits_us) > 0
    record(figures, "RDMA link added, from `rdma link add` to the verdict ok", waits_us)


def read_mtu(guest: Guest) -> int:
    """By `ip`."""
    [link] = json.loads(guest.out(["ip", "-json", "link", "show", NETDEV]))
    return int(link["mtu"])


def test_an_mtu_that_nobody_asked_us_to_hold_is_left_alone(linked: Guest) -> None:
    ledger = Ledger.open(linked)
    linked.run(["ip", "link", "set", NETDEV, "mtu", "9000"])
    linked.run("sleep 11")  # longer than a sweep
    assert read_mtu(linked) == 9000
    assert linked.cat(MODE) == "RoCE v2"
    assert linked.status()["state"] == "ok"
    assert ledger.new() == []
