"""The daemon and the fabric: functions that power management takes away and brings back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from daemons import FAST, TreeDaemon, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = FAST.replace('[roce]\npolicy = "off"\n', "")
PLACES = ("sys/bus/pci/drivers/mlx5_core", "sys/bus/pci/devices", "sys/class/net", "sys/class/infiniband")
"""Where a function, its interface and its RDMA device have a link each."""
STATE = "roce.rocep1s0f0.port_state"


@pytest.fixture
def daemon(fast_path: Path) -> Iterator[TreeDaemon]:
    """A DGX Spark whose daemon does not run yet."""
    daemon = TreeDaemon.build(fast_path / "tree", config=CONFIG)
    yield daemon
    daemon.close()


def power_down(daemon: TreeDaemon) -> dict[Path, Path]:
    """Take all functions away, as DGX OS does without a cable; what to give `power_up`."""
    (daemon.tree / "etc/nvidia").mkdir(parents=True, exist_ok=True)
    (daemon.tree / "etc/nvidia/cx7-hotplug-enabled").touch()
    taken: dict[Path, Path] = {}
    for place in PLACES:
        for link in (daemon.tree / place).iterdir():
            names = link.resolve().parts
            if link.is_symlink() and any(part[:8] in ("0000:01:", "0002:01:") for part in names):
                taken[link] = link.readlink()
    for link in taken:
        link.unlink()
    return taken


def power_up(taken: dict[Path, Path]) -> None:
    """Bring them back, the PCI functions first."""
    for link, target in taken.items():
        link.symlink_to(target)


def published(daemon: TreeDaemon) -> dict[str, Any]:
    """The fabric as it is published."""
    found: dict[str, Any] = json.loads((daemon.run_dir / "fabric.json").read_text())
    return found


def devices(daemon: TreeDaemon) -> list[str]:
    """RDMA devices of the published fabric."""
    return [twin["rdma"] for port in published(daemon)["ports"] for twin in port["twins"]]


def inode(daemon: TreeDaemon, name: str) -> int:
    """Which file a document is: each publication makes a new one."""
    return (daemon.run_dir / f"{name}.json").stat().st_ino


def test_functions_that_come_with_the_cable_are_found_without_a_restart(daemon: TreeDaemon) -> None:
    taken = power_down(daemon)
    daemon.start()
    assert (published(daemon)["presence"], devices(daemon)) == ("powered-down", [])
    assert daemon.published()["areas"]["roce"]["state"] == "absent"
    power_up(taken)
    daemon.await_verdict("ok", STATE)
    wait_until(lambda: len(devices(daemon)) == 4, "all four functions")
    assert published(daemon)["presence"] == "present"
    assert devices(daemon) == ["rocep1s0f0", "roceP2p1s0f0", "rocep1s0f1", "roceP2p1s0f1"]


def test_functions_that_go_with_the_cable_are_absent_and_found_again(daemon: TreeDaemon) -> None:
    daemon.start()
    daemon.await_verdict("ok", STATE)
    taken = power_down(daemon)
    daemon.await_verdict("absent", STATE)
    wait_until(lambda: published(daemon)["presence"] == "powered-down", "no function")
    wait_until(lambda: daemon.published()["areas"]["roce"]["state"] == "absent", "the area absent")
    power_up(taken)
    daemon.await_verdict("ok", STATE)
    wait_until(lambda: len(devices(daemon)) == 4, "all four functions")


def test_the_fabric_is_not_written_again_while_nothing_changes(daemon: TreeDaemon) -> None:
    daemon.start()
    daemon.await_verdict("ok", STATE)
    written = inode(daemon, "fabric")
    whole = inode(daemon, "tunables")
    wait_until(lambda: inode(daemon, "tunables") != whole, "a publication of everything")
    assert inode(daemon, "fabric") == written
