"""What stands on a disk: LVM on LUKS on a partition is found, held, and gone again with it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from vm.disks import (
    count_checked,
    id_of,
    plug_in,
    pull_out,
    read_ahead_of,
    wait_for_count,
    wait_for_verdict,
    wait_until_left,
)
from vm.ledger import Ledger, measure, record
from vm.tracing import trace_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.figures import Figures
    from vm.guest import Guest

WANTED, DEFAULT = "8192", "128"
SLOT = 2
SECTOR_BYTES = 512
FIRST_SECTOR, SECTORS = 2048, 120 * 2048
LUKS = "--batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000"
KEY = "/run/vault.key"
TEAR_DOWN = ("umount /run/models", "vgchange --quiet --activate n models", "cryptsetup close vault")


def partition_table() -> bytes:
    """A master boot record with one Linux partition."""
    entry = struct.pack("<B3sB3sII", 0, bytes(3), 0x83, bytes(3), FIRST_SECTOR, SECTORS)
    return (bytes(446) + entry).ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"


@pytest.fixture
def disk(spark: Guest) -> Iterator[str]:
    """A second disk with one partition, pulled out afterwards."""
    name = plug_in(spark, SLOT)
    spark.put("/run/table", partition_table())
    spark.run(f"cat /run/table > /dev/{name}; udevadm settle; test -b /dev/{name}p1")
    yield name
    spark.run(
        f"{'; '.join(TEAR_DOWN)}; dd if=/dev/zero of=/dev/{name} bs=1M count=4; udevadm settle", check=False
    )
    pull_out(spark, SLOT)


def find_mapped(guest: Guest, name: str) -> str:
    """The kernel's name of a device-mapper device."""
    return guest.out(["readlink", "-f", f"/dev/mapper/{name}"]).rpartition("/")[2]


def test_lvm_on_luks_on_a_partition_is_held_and_leaves_with_it(
    spark: Guest, disk: str, figures: Figures
) -> None:
    wait_for_verdict(spark, id_of(disk), "ok")
    of = count_checked(spark)
    partition = f"/dev/{disk}p1"
    spark.put(KEY, "a key for a test", mode=0o600)
    spark.run(f"cryptsetup luksFormat {LUKS} --key-file {KEY} {partition}")
    ledger = Ledger.open(spark)
    opened = trace_command(
        spark, read_ahead_of("dm-0"), WANTED, ["cryptsetup", "open", "--key-file", KEY, partition, "vault"]
    )
    vault = find_mapped(spark, "vault")
    assert vault == "dm-0"
    assert opened.went(None, DEFAULT, WANTED), opened
    assert wait_for_verdict(spark, id_of(vault), "ok")["original"] == int(DEFAULT)
    ledger.await_told(id_of(vault), opened, wrong=DEFAULT, wanted=WANTED, applied=1)

    spark.run("pvcreate --quiet /dev/mapper/vault; vgcreate --quiet models /dev/mapper/vault")
    spark.run("lvcreate --quiet --name weights --size 32M models")
    volume = find_mapped(spark, "models-weights")
    wait_for_verdict(spark, id_of(volume), "ok")
    spark.run("mkfs.ext4 -q /dev/models/weights; mkdir -p /run/models; mount /dev/models/weights /run/models")
    assert spark.out("findmnt --noheadings --output SOURCE /run/models") == "/dev/mapper/models-weights"
    assert spark.cat(read_ahead_of(volume)) == WANTED
    status = wait_for_count(spark, of + 2)
    assert {disk, vault, volume} <= set(status["areas"]["nvme"]["says"].replace(",", "").split())

    ledger = Ledger.open(spark)
    measure(spark, [read_ahead_of(volume)], wanted=WANTED, write=DEFAULT)
    [(episode, drift)] = ledger.await_drifts(id_of(volume))
    assert (episode["noticed"], drift["found"], drift["action"]) == ("fanotify", int(DEFAULT), "healed")

    for command in TEAR_DOWN:
        spark.run(command)
    for gone in (volume, vault):
        wait_until_left(spark, id_of(gone))
        assert spark.run(["test", "-e", read_ahead_of(gone)], check=False).code == 1
    wait_for_count(spark, of)
    record(figures, "LUKS device opened, from its appearance", opened.stood_us(DEFAULT))
