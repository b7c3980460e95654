"""The simulated machine: what is in it, read back as sparktune reads a host, and how it changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sparktune.errors import SparktuneError, UsageError
from sparktune.kernel.identity import identify_directory, identify_disk
from sparktune.kernel.root import Root
from sparktune.simulate import tree

TWINS = {
    "0000:01:00.0": ("enp1s0f0np0", "rocep1s0f0", "p0"),
    "0000:01:00.1": ("enp1s0f1np1", "rocep1s0f1", "p1"),
    "0002:01:00.0": ("enP2p1s0f0np0", "roceP2p1s0f0", "p0"),
    "0002:01:00.1": ("enP2p1s0f1np1", "roceP2p1s0f1", "p1"),
}
SYSTEM_DISK = "/sys/devices/pci0004:00/0004:00:00.0/0004:01:00.0/nvme/nvme0/nvme0n1"
CPU = "/sys/devices/system/cpu"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return built(tmp_path)


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A tree for tests that only read it."""
    return built(tmp_path_factory.mktemp("read-only"))


def built(tmp_path: Path, variant: str = "gb10") -> Root:
    directory = tmp_path / variant
    tree.build(directory, variant)
    return Root(directory)


def idle_states(root: Root, cpu: int) -> list[tuple[str | None, str | None]]:
    base = f"{CPU}/cpu{cpu}/cpuidle"
    return [
        (root.read(f"{base}/{state}/name"), root.read(f"{base}/{state}/latency"))
        for state in root.names(base)
    ]


@pytest.mark.parametrize("variant", tree.VARIANTS)
def test_no_link_of_a_tree_is_dangling_absolute_or_leads_out_of_it(variant: str, tmp_path: Path) -> None:
    root = built(tmp_path, variant)
    links = [path for path in root.directory.rglob("*") if path.is_symlink()]
    assert len(links) > 20
    for link in links:
        assert not link.readlink().is_absolute()
        assert link.resolve(strict=True).is_relative_to(root.directory.resolve())


@pytest.mark.parametrize("variant", tree.VARIANTS)
def test_every_read_ahead_has_its_bdi_alias_behind_the_same_inode(variant: str, tmp_path: Path) -> None:
    root = built(tmp_path, variant)
    for disk in root.names("/sys/block"):
        number = root.read(f"/sys/block/{disk}/dev")
        if number is None:
            assert root.read(f"/sys/block/{disk}/hidden") == "1"
            continue
        alias = root.path(f"/sys/class/bdi/{number}/read_ahead_kb")
        assert alias.samefile(root.path(f"/sys/block/{disk}/queue/read_ahead_kb"))
        assert alias.read_text() == "128\n"
        assert root.resolve(f"/sys/dev/block/{number}") == root.resolve(f"/sys/block/{disk}")


def test_the_tree_can_be_moved(root: Root) -> None:
    moved = root.directory.with_name("moved")
    root.directory.rename(moved)
    assert Root(moved).resolve("/sys/block/nvme0n1") == SYSTEM_DISK
    assert Root(moved).read("/sys/block/nvme0n1/queue/read_ahead_kb") == "128"


def test_the_system_disk_is_where_a_gb10_has_it(spark: Root) -> None:
    assert spark.names("/sys/block") == ("loop0", "loop1", "nvme0n1", "zram0")
    assert spark.resolve("/sys/block/nvme0n1") == SYSTEM_DISK
    assert spark.resolve("/sys/class/block/nvme0n1p2") == f"{SYSTEM_DISK}/nvme0n1p2"
    assert (
        spark.resolve("/sys/class/nvme/nvme0/device") == "/sys/devices/pci0004:00/0004:00:00.0/0004:01:00.0"
    )
    assert spark.read(f"{SYSTEM_DISK}/nvme0n1p2/partition") == "2"
    assert spark.read(f"{SYSTEM_DISK}/queue/rotational") == "0"
    assert spark.read("/sys/class/nvme/nvme0/device/current_link_speed") == "32.0 GT/s PCIe"


def test_the_root_of_the_file_systems_is_on_a_partition_that_exists(spark: Root) -> None:
    line = (spark.read("/proc/self/mountinfo") or "").splitlines()[0].split()
    assert line[2:5] == [spark.read("/sys/class/block/nvme0n1p2/dev"), "/", "/"]
    assert line[-3:-1] == ["ext4", "/dev/nvme0n1p2"]
    assert spark.read("/proc/mounts") == spark.read("/proc/self/mounts")


def test_cpus_have_the_idle_states_of_a_gb10(spark: Root) -> None:
    for cpu in range(20):
        assert idle_states(spark, cpu) == [
            ("LPI-0", "0"),
            ("LPI-1", "42"),
            ("LPI-2", "231"),
            ("LPI-3", "433"),
        ]
        assert spark.read(f"{CPU}/cpu{cpu}/cpuidle/state3/disable") == "0"
        assert spark.read(f"{CPU}/cpu{cpu}/power/pm_qos_resume_latency_us") == "0"
    assert spark.read(f"{CPU}/cpuidle/current_driver") == "acpi_idle"
    assert spark.read(f"{CPU}/cpuidle/current_governor") == "menu"


def test_capacities_lie_in_the_ranges_of_a_gb10_and_differ_inside_a_cluster(spark: Root) -> None:
    values = [int(spark.read(f"{CPU}/cpu{cpu}/cpu_capacity") or 0) for cpu in range(20)]
    slow = [values[cpu] for cpu in range(20) if cpu % 10 < 5]
    fast = [values[cpu] for cpu in range(20) if cpu % 10 >= 5]
    assert (min(slow) >= 718, max(slow) <= 731, min(fast) >= 997, max(fast)) == (True, True, True, 1024)
    assert min(len(set(slow)), len(set(fast))) > 3


def test_the_boot_cpu_cannot_be_switched(spark: Root) -> None:
    assert not spark.exists(f"{CPU}/cpu0/online")
    assert spark.read(f"{CPU}/cpu1/online") == "1"


@pytest.mark.parametrize("address", TWINS)
def test_each_connectx_function_has_its_interface_its_rdma_device_and_its_port(
    address: str, spark: Root
) -> None:
    netdev, ibdev, port = TWINS[address]
    function = spark.resolve(f"/sys/bus/pci/devices/{address}")
    assert (spark.read(f"{function}/vendor"), spark.read(f"{function}/device")) == ("0x15b3", "0x1021")
    assert spark.read(f"{function}/current_link_width") == "4"
    assert spark.resolve(f"/sys/class/net/{netdev}/device") == function
    assert spark.resolve(f"/sys/class/infiniband/{ibdev}/device") == function
    assert spark.read(f"/sys/class/net/{netdev}/phys_port_name") == port
    assert spark.read(f"/sys/class/infiniband/{ibdev}/ports/1/link_layer") == "Ethernet"
    cabled = port == "p0"
    assert spark.read(f"/sys/class/net/{netdev}/carrier") == str(int(cabled))
    assert spark.read(f"/sys/class/infiniband/{ibdev}/ports/1/state") == (
        "4: ACTIVE" if cabled else "1: DOWN"
    )


def test_the_gid_table_has_each_address_for_both_versions_link_local_first(spark: Root) -> None:
    port = "/sys/class/infiniband/rocep1s0f0/ports/1"
    gids = [spark.read(f"{port}/gids/{index}") or "" for index in range(16)]
    types = [spark.read(f"{port}/gid_attrs/types/{index}") for index in range(16)]
    netdevs = [spark.read(f"{port}/gid_attrs/ndevs/{index}") for index in range(16)]
    assert types == ["IB/RoCE v1", "RoCE v2"] * 2 + [""] * 12
    assert netdevs == ["enp1s0f0np0"] * 4 + [""] * 12
    assert gids[0] == gids[1] == "fe80:0000:0000:0000:009f:8fff:fe00:0000"
    assert gids[2] == gids[3] == "0000:0000:0000:0000:0000:ffff:c0a8:640a"
    assert set(gids[4:]) == {"0000:0000:0000:0000:0000:0000:0000:0000"}


def test_configfs_waits_for_a_mkdir(spark: Root) -> None:
    assert spark.exists("/sys/kernel/config/rdma_cm")
    assert spark.names("/sys/kernel/config/rdma_cm") == ()


def test_without_a_cable_there_is_no_connectx_but_its_modules_are_loaded(tmp_path: Path) -> None:
    root = built(tmp_path, "no-cable")
    assert not set(TWINS) & set(root.names("/sys/bus/pci/devices"))
    assert root.names("/sys/class/net") == ("enP7s7", "lo")
    assert root.exists("/sys/class/infiniband")
    assert root.names("/sys/class/infiniband") == ()
    assert root.exists("/sys/kernel/config/rdma_cm")


def test_lvm_on_luks_stands_on_the_third_partition(tmp_path: Path) -> None:
    root = built(tmp_path, "lvm-luks")
    assert root.names("/sys/class/block/nvme0n1p3/holders") == ("dm-0",)
    assert root.names("/sys/block/dm-0/holders") == ("dm-1", "dm-2")
    assert root.resolve("/sys/block/dm-0/slaves/nvme0n1p3") == f"{SYSTEM_DISK}/nvme0n1p3"
    assert root.resolve("/sys/block/dm-0/holders/dm-2") == "/sys/devices/virtual/block/dm-2"
    uuids = [root.read(f"/sys/block/dm-{index}/dm/uuid") or "" for index in range(3)]
    assert [uuid[:4] for uuid in uuids] == ["CRYP", "LVM-", "LVM-"]
    mounted = {
        line.split()[4]: line.split()[2] for line in (root.read("/proc/self/mountinfo") or "").splitlines()
    }
    assert mounted["/"] == root.read("/sys/block/dm-1/dev")
    assert mounted["/models"] == root.read("/sys/block/dm-2/dev")


def test_the_oem_machine_has_dells_strings_and_a_slower_disk(tmp_path: Path) -> None:
    root = built(tmp_path, "oem-dell")
    assert root.path("/sys/class/dmi/id/sys_vendor").read_text() == "Dell  Inc.\n"
    assert root.read("/sys/class/nvme/nvme0/device/vendor") == "0x1987"
    assert root.read("/sys/class/nvme/nvme0/device/current_link_speed") == "16.0 GT/s PCIe"


def test_the_desktop_has_its_own_idle_states_and_a_spinning_disk(tmp_path: Path) -> None:
    root = built(tmp_path, "not-gb10")
    assert idle_states(root, 0) == [("POLL", "0"), ("C1", "1"), ("C2", "18"), ("C3", "350")]
    assert root.read("/sys/block/sda/queue/rotational") == "1"
    assert root.read("/sys/class/block/sda1/partition") == "1"
    assert not root.exists("/sys/kernel/config/rdma_cm")
    assert not root.exists("/etc/dgx-release")


def test_other_idle_states_are_not_in_the_order_of_their_latencies(tmp_path: Path) -> None:
    states = idle_states(built(tmp_path, "other-idle-states"), 19)
    latencies = [int(latency or 0) for _, latency in states]
    assert len(latencies) == 3
    assert latencies != sorted(latencies)
    assert not any((name or "").startswith("LPI") for name, _ in states)


def test_multipath_shows_a_hidden_path_without_number_and_bdi(tmp_path: Path) -> None:
    root = built(tmp_path, "multipath")
    assert {"nvme0c0n1", "nvme0n1"} <= set(root.names("/sys/block"))
    assert root.read("/sys/block/nvme0c0n1/hidden") == "1"
    assert root.read("/sys/block/nvme0n1/hidden") == "0"
    assert not root.exists("/sys/block/nvme0c0n1/dev")
    assert not root.exists("/sys/block/nvme0c0n1/bdi")
    assert root.read("/sys/class/block/nvme0n1p2/partition") == "2"


def test_two_disks_have_their_own_instances(tmp_path: Path) -> None:
    root = built(tmp_path, "two-disks")
    assert root.read("/sys/block/nvme0n1/diskseq") != root.read("/sys/block/nvme1n1/diskseq")
    assert root.resolve("/sys/class/nvme/nvme1/device").endswith("/0011:01:00.0")


def test_a_disk_that_was_taken_out_leaves_nothing_behind(root: Root) -> None:
    tree.remove_disk(root.directory, "nvme0n1")
    assert "nvme0n1" not in root.names("/sys/block")
    assert not [name for name in root.names("/sys/class/block") if name.startswith("nvme")]
    assert not [name for name in root.names("/sys/dev/block") if name.startswith("259:")]
    assert "259:0" not in root.names("/sys/class/bdi")
    assert root.names("/sys/class/nvme") == ("nvme0",)


def test_a_disk_that_was_put_back_is_another_instance_with_the_default_again(root: Root) -> None:
    before = identify_disk(root, "/sys/block/nvme0n1")
    root.path("/sys/block/nvme0n1/queue/read_ahead_kb").write_text("8192\n")
    tree.remove_disk(root.directory, "nvme0n1")
    tree.add_disk(root.directory, "nvme0n1")
    path, instance = identify_disk(root, "/sys/block/nvme0n1")
    assert path == before[0]
    assert instance != before[1]
    assert root.read("/sys/class/bdi/259:0/read_ahead_kb") == "128"
    assert root.read("/sys/class/block/nvme0n1p2/partition") == "2"


@pytest.mark.parametrize("name", ["nvme1n1", "nvme0n2", "sdb", "loop7", "zram1"])
def test_new_disks_can_be_put_in_and_taken_out(name: str, root: Root) -> None:
    before = sorted(root.directory.rglob("*/block/*"))
    tree.add_disk(root.directory, name)
    number = root.read(f"/sys/block/{name}/dev")
    assert root.path(f"/sys/class/bdi/{number}/read_ahead_kb").samefile(
        root.path(f"/sys/block/{name}/queue/read_ahead_kb")
    )
    tree.remove_disk(root.directory, name)
    assert not root.exists(f"/sys/class/bdi/{number}")
    assert [path for path in sorted(root.directory.rglob("*/block/*")) if path.is_symlink()] == [
        path for path in before if path.is_symlink()
    ]


@pytest.mark.parametrize("name", ["nvme0n1", "..", "", "nvme", "hda", "sd/../x"])
def test_disks_that_make_no_sense_are_refused(name: str, spark: Root) -> None:
    with pytest.raises(UsageError):
        tree.add_disk(spark.directory, name)


@pytest.mark.parametrize("name", ["nvme7n1", "..", ""])
def test_disks_that_are_not_there_cannot_be_taken_out(name: str, spark: Root) -> None:
    with pytest.raises(UsageError, match="no disk"):
        tree.remove_disk(spark.directory, name)
    assert spark.exists("/sys/block/nvme0n1")


def test_an_upper_device_can_be_taken_out_and_lets_go_of_the_lower(tmp_path: Path) -> None:
    root = built(tmp_path, "lvm-luks")
    tree.remove_disk(root.directory, "dm-2")
    assert root.names("/sys/block/dm-0/holders") == ("dm-1",)
    tree.add_disk(root.directory, "dm-2")
    assert root.names("/sys/block/dm-0/holders") == ("dm-1", "dm-2")


def test_a_cpu_that_goes_offline_hides_what_a_kernel_hides(root: Root) -> None:
    tree.set_cpu_online(root.directory, 7, online=False)
    assert root.read(f"{CPU}/cpu7/online") == "0"
    assert (root.read(f"{CPU}/online"), root.read(f"{CPU}/offline")) == ("0-6,8-19", "7")
    for name in ("regs", "topology", "cpu_capacity", "cpufreq"):
        assert not root.exists(f"{CPU}/cpu7/{name}")
    assert "processor\t: 7\n" not in (root.read("/proc/cpuinfo") or "")
    assert root.read(f"{CPU}/cpu7/cpuidle/state3/disable") == "0"


def test_a_cpu_that_comes_back_keeps_its_settings_in_new_files(root: Root) -> None:
    disable = root.path(f"{CPU}/cpu7/cpuidle/state3/disable")
    disable.write_text("1\n")
    _, before = identify_directory(root, f"{CPU}/cpu7/cpuidle/state3")
    capacity = root.read(f"{CPU}/cpu7/cpu_capacity")
    tree.set_cpu_online(root.directory, 7, online=False)
    tree.set_cpu_online(root.directory, 7, online=True)
    assert disable.read_text() == "1\n"
    assert identify_directory(root, f"{CPU}/cpu7/cpuidle/state3")[1] != before
    assert root.read(f"{CPU}/cpu7/cpu_capacity") == capacity
    assert (root.read(f"{CPU}/online"), root.read(f"{CPU}/offline")) == ("0-19", "")


@pytest.mark.parametrize("cpu", [0, 20, -1])
def test_cpus_that_cannot_be_switched_are_refused(cpu: int, spark: Root) -> None:
    with pytest.raises(UsageError, match=f"CPU {cpu} "):
        tree.set_cpu_online(spark.directory, cpu, online=False)


def test_a_plugged_cable_changes_interface_and_rdma_port_in_place(root: Root) -> None:
    carrier = root.path("/sys/class/net/enp1s0f1np1/carrier")
    inode = carrier.stat().st_ino
    tree.set_carrier(root.directory, "enp1s0f1np1", up=True)
    assert (carrier.read_text(), carrier.stat().st_ino) == ("1\n", inode)
    assert root.read("/sys/class/net/enp1s0f1np1/operstate") == "up"
    assert root.read("/sys/class/infiniband/rocep1s0f1/ports/1/state") == "4: ACTIVE"
    assert root.read("/sys/class/net/enP2p1s0f1np1/carrier") == "0"
    tree.set_carrier(root.directory, "enp1s0f1np1", up=False)
    assert root.path("/sys/class/net/enp1s0f1np1/operstate").read_text() == "down\n"
    assert root.path("/sys/class/infiniband/rocep1s0f1/ports/1/state").read_text() == "1: DOWN\n"


def test_a_cable_needs_an_interface(tmp_path: Path) -> None:
    root = built(tmp_path, "no-cable")
    with pytest.raises(UsageError, match="enp1s0f0np0"):
        tree.set_carrier(root.directory, "enp1s0f0np0", up=True)


def test_an_nfs_mount_brings_its_own_bdi(root: Root) -> None:
    tree.add_nfs(root.directory, "/mnt/two words", 52)
    assert root.read("/sys/class/bdi/0:52/read_ahead_kb") == "128"
    line = (root.read("/proc/self/mountinfo") or "").splitlines()[-1].split()
    assert line[2:5] == ["0:52", "/", "/mnt/two\\040words"]
    assert line[line.index("-") + 1] == "nfs4"
    assert root.path("/mnt/two words").is_dir()


def test_every_build_is_a_new_boot(root: Root) -> None:
    before = root.read("/proc/sys/kernel/random/boot_id")
    tree.build(root.directory)
    assert root.read("/proc/sys/kernel/random/boot_id") not in {before, None}


def test_building_again_leaves_nothing_of_the_old_machine_but_keeps_files_of_others(root: Root) -> None:
    tree.add_disk(root.directory, "nvme5n1")
    root.path("/etc/sparktune.toml").write_text("# mine\n")
    root.path("/sys/kernel/config/rdma_cm/rocep1s0f0").mkdir()
    tree.build(root.directory, "not-gb10")
    fresh = built(root.directory.parent, "not-gb10")
    names = {path.relative_to(root.directory) for path in root.directory.rglob("*")}
    expected = {path.relative_to(fresh.directory) for path in fresh.directory.rglob("*")}
    assert names - expected == {Path("etc/sparktune.toml")}
    assert expected <= names


def test_a_directory_of_somebody_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SparktuneError, match="nothing was written") as caught:
        tree.build(tmp_path)
    assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SparktuneError, match="cannot build") as caught:
        tree.build(tmp_path / "file")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("variant", "hint"),
    [("gb11", "did you mean gb10"), ("quantum", "there are gb10, no-cable, lvm-luks")],
)
def test_an_unknown_variant_names_the_nearest_ones_or_all(variant: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no variant '{variant}'") as caught:
        tree.build(tmp_path, variant)
    assert caught.value.hint.startswith(hint)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [None, "", "[]", '{"variant": "gb10"}'])
def test_changes_need_a_tree_that_was_built(text: str | None, root: Root) -> None:
    marker = root.directory / tree.MARKER
    marker.unlink()
    if text is not None:
        marker.write_text(text)
    with pytest.raises(SparktuneError, match="holds no simulated machine"):
        tree.add_disk(root.directory, "nvme1n1")


def test_an_interrupted_build_can_be_repeated(root: Root) -> None:
    shutil.rmtree(root.directory / "sys/class")
    (root.directory / "proc/self/auxv").unlink()
    tree.build(root.directory)
    assert root.read("/sys/block/nvme0n1/queue/read_ahead_kb") == "128"
