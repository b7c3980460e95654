"""The RoCE mode in configfs, as far as rxe has one: it knows RoCE v2 and refuses the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vm.ledger import Ledger

if TYPE_CHECKING:
    from vm.figures import Figures
    from vm.guest import Guest

DEVICE = "/sys/kernel/config/rdma_cm/rocep1s0f0"
MODE = f"{DEVICE}/ports/1/default_roce_mode"
ID = "roce.rocep1s0f0.default_roce_mode"
WANTED = "RoCE v2"
V1 = "IB/RoCE v1"


def test_a_mode_the_kernel_refuses_changes_nothing_and_is_no_drift(spark: Guest) -> None:
    assert spark.cat(MODE) == WANTED
    ledger = Ledger.open(spark)
    refused = spark.run(f"echo '{V1}' > {MODE}", check=False)
    assert refused.code != 0
    assert "Invalid argument" in refused.err
    assert spark.cat(MODE) == WANTED
    spark.run(f"echo '{WANTED}' > {MODE}")  # an event, but no change
    spark.run(["sleep", "1"])
    assert ledger.new() == []


def test_a_directory_that_somebody_removed_is_made_again_by_the_sweep(spark: Guest, figures: Figures) -> None:
    inode = spark.out(["stat", "--format=%i", DEVICE])
    ledger = Ledger.open(spark)
    spark.run(["rmdir", DEVICE])
    took_s = spark.wait_until(lambda: spark.out(f"ls -d {DEVICE} || true"), "the directory")
    assert spark.out(["stat", "--format=%i", DEVICE]) != inode
    assert spark.cat(MODE) == WANTED
    [episode] = ledger.await_new()
    assert (episode["noticed"], episode["by"]["kind"]) == ("sweep", "unknown")
    [drift] = episode["drifts"]
    assert (drift["tunable"], drift["found"], drift["action"]) == (ID, "(not set)", "healed")
    figures.record("heal, rmdir in configfs (by the host's clock)", round(took_s, 1), "s")


def test_a_configured_mode_the_kernel_refuses_is_blocked_in_its_own_words(spark: Guest) -> None:
    drop_in = "/etc/sparktune.toml.d/60-roce.toml"
    spark.put(drop_in, f'[roce]\ndefault_roce_mode = "{V1}"\n')
    reload = spark.run(["sparktune", "reload"], check=False)
    status = spark.status()
    told = spark.run(["sparktune", "status"], check=False)
    value = spark.cat(MODE)
    spark.run(f"rm {drop_in}; sparktune reload")
    assert value == WANTED
    assert reload.code == 0
    assert status["state"] == "degraded"
    [item] = status["not_holding"]
    assert (item["id"], item["verdict"], item["wanted"], item["actual"]) == (ID, "blocked", V1, WANTED)
    assert item["reason"] == f"write {V1} to {MODE}: Invalid argument (EINVAL)"
    assert "roce.default_roce_mode" in item["do"]
    assert told.code == 4
    spark.wait_for_state("ok")
