"""What machine this is: verdict, evidence, clusters, and what hostile files do to them."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparktune.cpulist import parse_cpu_list
from sparktune.hardware import Evidence, Host, describe, detect, format_cpu_list
from sparktune.kernel.root import MOST_BYTES, Root
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Callable

A725 = (0, 1, 2, 3, 4, 10, 11, 12, 13, 14)
X925 = (5, 6, 7, 8, 9, 15, 16, 17, 18, 19)
CPU = "sys/devices/system/cpu"
DMI = "sys/devices/virtual/dmi/id"
GPU = "sys/devices/pci000f:00/000f:00:00.0/000f:01:00.0"


@pytest.fixture
def gb10(tmp_path: Path) -> Path:
    directory = tmp_path / "gb10"
    tree.build(directory)
    return directory


def write(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def speaks(host: Host) -> dict[str, str]:
    return {evidence.what: evidence.speaks for evidence in host.evidence}


def found(host: Host, what: str) -> Evidence:
    (evidence,) = (evidence for evidence in host.evidence if evidence.what == what)
    return evidence


def take_away_family(directory: Path) -> None:
    shutil.rmtree(directory / DMI)


def take_away_gpu(directory: Path) -> None:
    shutil.rmtree(directory / GPU)
    (directory / "sys/bus/pci/devices/000f:01:00.0").unlink()


def take_away_parts(directory: Path) -> None:
    for cpu in range(20):
        shutil.rmtree(directory / CPU / f"cpu{cpu}/regs")
    (directory / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: something\n")


TAKE_AWAY: dict[str, Callable[[Path], None]] = {
    "DMI product family": take_away_family,
    "GPU PCI id": take_away_gpu,
    "CPU parts": take_away_parts,
}


@pytest.mark.parametrize("variant", sorted(set(tree.VARIANTS) - {"not-gb10"}))
def test_every_gb10_variant_is_a_gb10_with_both_clusters_read_from_midr(variant: str, tmp_path: Path) -> None:
    tree.build(tmp_path, variant)
    host = detect(Root(tmp_path))
    assert host.verdict == "gb10"
    assert [(cluster.kind, cluster.name, cluster.cpus, cluster.read_from) for cluster in host.clusters] == [
        ("performance", "Cortex-X925", X925, "MIDR"),
        ("efficiency", "Cortex-A725", A725, "MIDR"),
    ]
    assert set(speaks(host).values()) == {"for"}


def test_a_desktop_is_no_gb10_and_every_piece_of_evidence_says_so(tmp_path: Path) -> None:
    tree.build(tmp_path, "not-gb10")
    host = detect(Root(tmp_path))
    assert host.verdict == "not-gb10"
    assert host.evidence == (
        Evidence(what="DMI product family", found="Desktop", speaks="against"),
        Evidence(what="GPU PCI id", found="10de:2684 at 0000:01:00.0", speaks="against"),
        Evidence(what="CPU parts", found="nothing", speaks="against"),
        Evidence(what="DGX release", found="nothing", speaks="neither"),
    )
    assert [(cluster.kind, cluster.cpus) for cluster in host.clusters] == [("uniform", tuple(range(8)))]
    assert (host.architecture, host.dgx_release) == ("x86_64", "")


def test_the_facts_of_a_spark_are_read_as_found(gb10: Path) -> None:
    host = detect(Root(gb10))
    assert (host.vendor, host.model, host.family, host.board) == (
        "NVIDIA",
        "NVIDIA_DGX_Spark",
        "DGX Spark",
        "P4242",
    )
    assert (host.name, host.kernel, host.architecture) == ("spark-9f8f", "6.17.0-1014-nvidia", "aarch64")
    assert (host.os_release, host.dgx_release) == ("Ubuntu 24.04.3 LTS", "DGX Spark 7.4.0")
    assert host.cpus == tuple(range(20))
    assert host.page_size_kib == 4
    assert host.boot_id == (gb10 / "proc/sys/kernel/random/boot_id").read_text().strip()
    assert found(host, "GPU PCI id").found == "10de:2e12 at 000f:01:00.0"
    assert found(host, "CPU parts").found == "0xd85 (Cortex-X925) on 10 CPUs, 0xd87 (Cortex-A725) on 10 CPUs"


def test_both_blanks_of_dells_vendor_survive(tmp_path: Path) -> None:
    tree.build(tmp_path, "oem-dell")
    assert detect(Root(tmp_path)).vendor == "Dell  Inc."


def test_leading_and_trailing_blanks_of_firmware_strings_survive(gb10: Path) -> None:
    write(gb10, f"{DMI}/product_name", " a name \n")
    assert detect(Root(gb10)).model == " a name "


def test_the_page_size_comes_from_the_auxiliary_vector(tmp_path: Path) -> None:
    tree.build(tmp_path, "pages-64k")
    assert detect(Root(tmp_path)).page_size_kib == 64


@pytest.mark.parametrize(
    "vector",
    [b"", b"\6", struct.pack("<QQ", 6, 0), struct.pack("<QQ", 6, 2**63), os.urandom(15)],
    ids=["empty", "short", "zero", "huge", "cut"],
)
def test_a_damaged_auxiliary_vector_means_4_kib(gb10: Path, vector: bytes) -> None:
    (gb10 / "proc/self/auxv").write_bytes(vector)
    assert detect(Root(gb10)).page_size_kib == 4


@pytest.mark.parametrize("left", TAKE_AWAY)
def test_each_of_the_three_suffices_alone(left: str, gb10: Path) -> None:
    for what, take_away in TAKE_AWAY.items():
        if what != left:
            take_away(gb10)
    (gb10 / "etc/dgx-release").unlink()
    host = detect(Root(gb10))
    assert host.verdict == "gb10"
    assert [what for what, way in speaks(host).items() if way == "for"] == [left]
    assert len(host.evidence) == 4


def test_the_dgx_release_alone_does_not_suffice(gb10: Path) -> None:
    for take_away in TAKE_AWAY.values():
        take_away(gb10)
    host = detect(Root(gb10))
    assert speaks(host)["DGX release"] == "for"
    assert host.verdict == "not-gb10"


def test_the_vendor_never_counts(tmp_path: Path) -> None:
    tree.build(tmp_path, "not-gb10")
    write(tmp_path, f"{DMI}/sys_vendor", "NVIDIA\n")
    assert detect(Root(tmp_path)).verdict == "not-gb10"


@pytest.mark.parametrize("device", ["0x2e03", "0x2e06"])
def test_the_gpu_of_another_chip_speaks_against(device: str, gb10: Path) -> None:
    write(gb10, f"{GPU}/device", f"{device}\n")
    assert found(detect(Root(gb10)), "GPU PCI id") == Evidence(
        what="GPU PCI id", found=f"10de:{device[2:]} at 000f:01:00.0", speaks="against"
    )


def test_bridges_of_nvidia_are_no_gpus(gb10: Path) -> None:
    take_away_gpu(gb10)
    assert (gb10 / "sys/bus/pci/devices/000f:00:00.0/vendor").read_text() == "0x10de\n"
    assert found(detect(Root(gb10)), "GPU PCI id").found == "nothing"


def test_one_part_alone_speaks_against(gb10: Path) -> None:
    midr = (gb10 / CPU / "cpu0/regs/identification/midr_el1").read_text()
    for cpu in X925:
        write(gb10, f"{CPU}/cpu{cpu}/regs/identification/midr_el1", midr)
    host = detect(Root(gb10))
    assert found(host, "CPU parts").found == "0xd87 (Cortex-A725) on 20 CPUs"
    assert found(host, "CPU parts").speaks == "against"


def test_one_part_proves_nothing_while_the_other_cpus_are_offline(gb10: Path) -> None:
    for cpu in (*X925, *A725[1:]):
        tree.set_cpu_online(gb10, cpu, online=False)
    host = detect(Root(gb10))
    assert found(host, "CPU parts") == Evidence(
        what="CPU parts", found="0xd87 (Cortex-A725) on 1 CPU", speaks="neither"
    )
    assert [(cluster.kind, cluster.cpus) for cluster in host.clusters] == [("uniform", (0,))]
    assert host.cpus == tuple(range(20))


def test_a_cpu_that_is_offline_is_in_no_cluster_but_is_present(gb10: Path) -> None:
    tree.set_cpu_online(gb10, 7, online=False)
    host = detect(Root(gb10))
    assert host.verdict == "gb10"
    assert host.clusters[0].cpus == tuple(cpu for cpu in X925 if cpu != 7)
    assert 7 in host.cpus


def test_without_midr_the_parts_come_from_cpuinfo(gb10: Path) -> None:
    for cpu in range(20):
        shutil.rmtree(gb10 / CPU / f"cpu{cpu}/regs")
    host = detect(Root(gb10))
    assert speaks(host)["CPU parts"] == "for"
    assert [cluster.cpus for cluster in host.clusters] == [X925, A725]


def test_without_parts_the_clusters_come_from_the_capacity(gb10: Path) -> None:
    take_away_parts(gb10)
    host = detect(Root(gb10))
    assert [(cluster.kind, cluster.name, cluster.cpus, cluster.read_from) for cluster in host.clusters] == [
        ("performance", "", X925, "cpu_capacity"),
        ("efficiency", "", A725, "cpu_capacity"),
    ]


def test_without_capacities_known_parts_are_ranked_by_name(gb10: Path) -> None:
    for cpu in range(20):
        (gb10 / CPU / f"cpu{cpu}/cpu_capacity").unlink()
    assert [(cluster.kind, cluster.cpus) for cluster in detect(Root(gb10)).clusters] == [
        ("performance", X925),
        ("efficiency", A725),
    ]


def test_the_part_with_the_higher_capacity_is_the_fast_one_whatever_its_name(gb10: Path) -> None:
    for cpu in range(20):
        write(gb10, f"{CPU}/cpu{cpu}/cpu_capacity", "1024\n" if cpu in A725 else "500\n")
    assert [(cluster.kind, cluster.name) for cluster in detect(Root(gb10)).clusters] == [
        ("performance", "Cortex-A725"),
        ("efficiency", "Cortex-X925"),
    ]


def test_unknown_parts_without_capacities_are_not_told_apart(gb10: Path) -> None:
    for cpu in range(20):
        write(gb10, f"{CPU}/cpu{cpu}/regs/identification/midr_el1", "0x410fd4{}0\n".format("07"[cpu in X925]))
        (gb10 / CPU / f"cpu{cpu}/cpu_capacity").unlink()
    (cluster,) = detect(Root(gb10)).clusters
    assert (cluster.kind, cluster.read_from, cluster.cpus) == ("uniform", "nothing", tuple(range(20)))


@pytest.mark.parametrize(("slower", "clusters"), [(1000, 1), (880, 1), (860, 2)])
def test_capacities_make_clusters_only_when_they_differ_clearly(
    slower: int, clusters: int, gb10: Path
) -> None:
    take_away_parts(gb10)
    for cpu in range(20):
        write(gb10, f"{CPU}/cpu{cpu}/cpu_capacity", f"{slower if cpu % 2 else 1000}\n")
    host = detect(Root(gb10))
    assert len(host.clusters) == clusters
    assert (host.clusters[0].kind == "uniform") == (clusters == 1)


def test_capacities_that_vary_in_small_steps_are_one_cluster(gb10: Path) -> None:
    take_away_parts(gb10)
    for cpu in range(20):
        write(gb10, f"{CPU}/cpu{cpu}/cpu_capacity", f"{600 + 20 * cpu}\n")
    (cluster,) = detect(Root(gb10)).clusters
    assert (cluster.kind, cluster.cpus) == ("uniform", tuple(range(20)))


def test_three_kinds_of_cpus_are_three_clusters(gb10: Path) -> None:
    take_away_parts(gb10)
    for cpu in range(20):
        write(gb10, f"{CPU}/cpu{cpu}/cpu_capacity", f"{(1024, 700, 250)[cpu % 3]}\n")
    clusters = detect(Root(gb10)).clusters
    assert [cluster.kind for cluster in clusters] == ["performance", "efficiency", "efficiency"]
    assert [cluster.cpus[0] for cluster in clusters] == [0, 1, 2]


def test_a_damaged_list_of_cpus_is_replaced_by_the_directories(gb10: Path) -> None:
    write(gb10, f"{CPU}/present", "0-99999\n")
    assert detect(Root(gb10)).cpus == tuple(range(20))


def test_an_empty_tree_is_an_unknown_machine(tmp_path: Path) -> None:
    host = detect(Root(tmp_path))
    assert host.verdict == "not-gb10"
    assert set(speaks(host).values()) == {"neither"}
    assert {evidence.found for evidence in host.evidence} == {"nothing"}
    assert (host.cpus, host.clusters, host.vendor, host.name) == ((), (), "", "")


READ = (
    f"{DMI}/product_family",
    f"{DMI}/sys_vendor",
    f"{GPU}/vendor",
    f"{GPU}/device",
    f"{CPU}/present",
    f"{CPU}/cpu3/cpu_capacity",
    f"{CPU}/cpu3/regs/identification/midr_el1",
    "proc/cpuinfo",
    "proc/self/auxv",
    "proc/sys/kernel/hostname",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/arch",
    "proc/sys/kernel/random/boot_id",
    "etc/dgx-release",
    "etc/os-release",
)


def spoil_with(data: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.write_bytes(data)

    return spoil


def replace_by_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SPOIL: dict[str, Callable[[Path], None]] = {
    "empty": spoil_with(b""),
    "binary": spoil_with(bytes(range(256)) * 8),
    "huge": spoil_with(b"9" * 2**20),
    "huge-lines": spoil_with(b"0x10de=\n" * 2**17),
    "missing": Path.unlink,
    "loop": replace_by_loop,
    "directory": replace_by_directory,
    "pipe": replace_by_pipe,
}


@pytest.mark.parametrize("how", SPOIL)
def test_one_spoilt_file_never_raises_and_never_costs_the_verdict(how: str, gb10: Path) -> None:
    for name in READ:
        saved = (gb10 / name).read_bytes()
        SPOIL[how](gb10 / name)
        host = detect(Root(gb10))
        assert host.verdict == "gb10", name
        assert len(host.evidence) == 4, name
        assert all(piece.found.isprintable() and len(piece.found) <= 300 for piece in host.evidence), name
        path = gb10 / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        path.write_bytes(saved)


@pytest.mark.parametrize("how", SPOIL)
def test_all_files_spoilt_at_once_never_raise(how: str, gb10: Path) -> None:
    for name in READ:
        SPOIL[how](gb10 / name)
    host = detect(Root(gb10))
    assert all(text.isprintable() for text in (host.vendor, host.family, host.name, host.kernel))
    assert host.page_size_kib == 4


def test_firmware_strings_cannot_speak_to_the_terminal(gb10: Path) -> None:
    write(gb10, f"{DMI}/product_name", "\x1b[2JSpark\n")
    assert detect(Root(gb10)).model == "\N{REPLACEMENT CHARACTER}[2JSpark"


def test_the_published_hardware_says_what_the_host_says(gb10: Path) -> None:
    hardware = describe(detect(Root(gb10)))
    assert [(info.kind, info.name, info.cpus, info.count) for info in hardware.clusters] == [
        ("performance", "Cortex-X925", "5-9,15-19", 10),
        ("efficiency", "Cortex-A725", "0-4,10-14", 10),
    ]
    assert (hardware.verdict, hardware.model, hardware.page_size_kib) == ("gb10", "NVIDIA_DGX_Spark", 4)
    assert [item.what for item in hardware.evidence] == [
        "DMI product family",
        "GPU PCI id",
        "CPU parts",
        "DGX release",
    ]


@pytest.mark.real_kernel
def test_this_machine_is_described_from_its_own_kernel() -> None:
    host = detect(Root())
    assert host.kernel == os.uname().release
    assert host.architecture == os.uname().machine
    assert host.page_size_kib * 1024 == os.sysconf("SC_PAGE_SIZE")
    assert set(os.sched_getaffinity(0)) <= set(host.cpus)
    assert sum(len(cluster.cpus) for cluster in host.clusters) <= len(host.cpus)


@pytest.mark.real_kernel
def test_a_long_file_of_procfs_is_read_beyond_the_first_page() -> None:
    data = Root().read_bytes("/proc/kallsyms")  # the kernel gives about 4 KiB for each read()
    assert data is not None
    assert len(data) == MOST_BYTES


@pytest.mark.parametrize(
    ("cpus", "text"),
    [((), ""), ((3,), "3"), ((0, 1), "0-1"), ((0, 2), "0,2"), (X925, "5-9,15-19"), ((9, 5, 5, 6), "5-6,9")],
)
def test_cpu_lists_are_written_as_the_kernel_does(cpus: tuple[int, ...], text: str) -> None:
    assert format_cpu_list(cpus) == text


@settings(deadline=None)  # a busy machine is no defect
@given(st.sets(st.integers(min_value=0, max_value=8191), min_size=1))
def test_a_written_cpu_list_is_read_back(cpus: set[int]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus)) == tuple(sorted(cpus))
