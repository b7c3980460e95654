"""One QEMU process with its disks: power, monitor, hot-plug. It dies with the test run, however that ends."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vm import initrd, qmp
from vm.link import Link

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from vm.image import Image
    from vm.narrator import Narrator
    from vm.platforms import Platform

MAC = "52:54:00:5a:00:{:02}"
CABLE = "cable"
NVME_MIB = 512
HOT_PLUG_PORTS = 3
QEMU_LISTENS_WITHIN_S = 30.0
LETS_GO_WITHIN_S = 10.0

SPARK = (
    "type=1,manufacturer=NVIDIA,product=NVIDIA_DGX_Spark,version=A.7,family=DGX Spark",
    "type=2,manufacturer=NVIDIA,product=P4242",
)
OTHER = ("type=1,manufacturer=QEMU,product=Some PC,family=PC",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where and with what machines are made.

    Attributes:
        platform: which kind.
        image: what they boot.
        overlay: cpio archive of the files laid over the root.
        table: compiled ACPI table with the idle states.
        directory: their disks and sockets; gone after the run.
        logs: what stays.
        narrator: says what happens.
        patience: what every time limit is multiplied by.
    """

    platform: Platform
    image: Image
    overlay: Path
    table: Path
    directory: Path
    logs: Path
    narrator: Narrator
    patience: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One end of a cable between two machines.

    Attributes:
        directory: where the sockets of both ends are.
        end: 1 or 2.
    """

    directory: Path
    end: int

    @property
    def arguments(self) -> str:
        """For QEMU's -netdev: each frame is a datagram from one socket to the other."""
        here, there = (self.directory / f"wire-{end}.sock" for end in (self.end, 3 - self.end))
        return f"dgram,local.type=unix,local.path={here},remote.type=unix,remote.path={there}"


class Machine:
    """Disks that stay from power on to power on, and at most one QEMU."""

    def __init__(
        self, site: Site, name: str, base: Path | None, wire: Wire | None = None, cpus: int | None = None
    ) -> None:
        """Make the disks: an overlay over a base (the image, if none is given) and an empty NVMe disk."""
        self._wire = wire
        self._cpus = site.platform.cpus if cpus is None else cpus
        self.site = site
        self.name = name
        self.platform = site.platform
        self.narrator = site.narrator
        self.directory = site.directory / name
        self.directory.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._monitor: qmp.Monitor | None = None
        self._disk = self.directory / "root.qcow2"
        self._snapshots = 0
        backing = ("-b", str(base), "-F", "qcow2") if base else ("-b", str(site.image.disk), "-F", "raw")
        _create_disk(self._disk, *backing)
        _create_disk(self.directory / "nvme0.qcow2", size=f"{NVME_MIB}M")

    @property
    def link(self) -> Link:
        """The line to the agent."""
        assert self._link is not None, f"{self.name} is powered off"
        return self._link

    @property
    def monitor(self) -> qmp.Monitor:
        """QEMU's monitor, for what has no method here: `monitor.execute("device_add", …)`."""
        assert self._monitor is not None, f"{self.name} is powered off"
        return self._monitor

    @property
    def is_powered(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    # -- power -----------------------------------------------------------------------------------------------

    def power_on(self, append: str = "", *, gb10: bool = True) -> None:
        """Start QEMU and connect to it; the guest only begins to boot."""
        assert not self.is_powered, f"{self.name} is on already"
        for name in ("agent.sock", "monitor.sock"):
            (self.directory / name).unlink(missing_ok=True)
        with (self.site.logs / f"{self.name}.qemu").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(append, gb10=gb10),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we still have logs to fetch
            )
        try:
            self._monitor = qmp.Monitor(self._connect("monitor.sock"))
            self._link = Link(self._connect("agent.sock"))
        except (TimeoutError, OSError) as error:
            self.power_cut()
            raise RuntimeError(f"QEMU did not start: {error}\n{self.read_log_tails()}") from error

    def power_cut(self) -> None:
        """SIGKILL for QEMU: what the guest has not flushed is lost; `start` boots from these disks again."""
        if self._process is not None:
            self._process.kill()
            self._forget()

    def await_end(self, limit_s: float) -> None:
        """Wait until QEMU ends by itself, as after `poweroff`."""
        assert self._process is not None
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            tails = self.read_log_tails()
            self.power_cut()
            raise AssertionError(f"{self.name} did not power off within {limit_s:.0f} s\n{tails}") from None
        self._forget()

    def _forget(self) -> None:
        assert self._process is not None
        self._process.wait()
        self._process = None
        for connection in (self._link, self._monitor):
            if connection is not None:
                connection.close()
        self._link = self._monitor = None

    def discard(self) -> None:
        """Power off the hard way and delete the disks."""
        self.power_cut()
        shutil.rmtree(self.directory)

    def _connect(self, name: str) -> socket.socket:
        process = self._process
        return qmp.connect(
            self.directory / name,
            QEMU_LISTENS_WITHIN_S,
            lambda: process is None or process.poll() is not None,
        )

    # -- QEMU's command line ---------------------------------------------------------------------------------

    def _command(self, append: str, *, gb10: bool) -> list[str]:
        platform, directory, logs = self.platform, self.directory, self.site.logs
        command = [
            *("setpriv", "--pdeathsig", "KILL", *platform.qemu),
            *("-name", self.name, "-nodefaults", "-no-user-config", "-display", "none"),
            *("-accel", "tcg,thread=multi,tb-size=512"),
            *("-m", str(platform.memory_mib), "-smp", str(self._cpus)),
            *("-kernel", str(self.site.image.kernel), "-initrd", str(self._pack_initrd())),
            *("-append", self._kernel_line(append)),
            *("-chardev", f"file,id=console,path={logs / self.name}.console,append=on"),
            *("-serial", "chardev:console"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"file,id=journal,path={logs / self.name}.journal,append=on"),
            *("-device", "virtconsole,chardev=journal"),
            *("-chardev", f"socket,id=agent,path={directory}/agent.sock,server=on,wait=off"),
            *("-device", "virtserialport,chardev=agent,name=sparktune-vm"),
            *("-chardev", f"socket,id=monitor,path={directory}/monitor.sock,server=on,wait=off"),
            *("-mon", "chardev=monitor,mode=control"),
            *("-drive", f"if=none,id=root,format=qcow2,file={self._disk},cache=unsafe"),
            *("-device", "virtio-blk-pci,drive=root"),
            *self._network(),
            *_root_ports(),
            *("-drive", f"if=none,id=nvme0,format=qcow2,file={directory}/nvme0.qcow2,cache=unsafe"),
            *("-device", "nvme,id=disk0,drive=nvme0,serial=SPARK0001,bus=port0"),
        ]
        for strings in SPARK if gb10 else OTHER:
            command += ["-smbios", strings]
        if not platform.table_in_initrd:
            command += ["-acpitable", f"file={self.site.table}"]
        return command

    def _network(self) -> tuple[str, ...]:
        wire = self._wire
        network = "user,restrict=on,ipv6=off" if wire is None else wire.arguments
        mac = MAC.format(1 if wire is None else wire.end)
        device = f"{self.platform.network},netdev={CABLE},mac={mac}"
        return "-netdev", f"{network},id={CABLE}", "-device", device

    def _kernel_line(self, append: str) -> str:
        """The kernel's command line.

        norandmaps: the emulator translates code anew for each address that it is found at, so a program that
        is loaded elsewhere each time costs several times what it costs at the same place.
        """
        return (
            f"root=/dev/vda rw console={self.platform.console} quiet systemd.show_status=0 "
            f"random.trust_cpu=on mitigations=off norandmaps {append}"
        ).strip()

    def _pack_initrd(self) -> Path:
        """The ACPI table where the kernel wants it there, the image's part, and the harness's files."""
        packed = self.directory / "initrd"
        parts = [self.site.image.initrd, self.site.overlay]
        if self.platform.table_in_initrd:
            early = self.directory / "early"
            (early / "kernel/firmware/acpi").mkdir(parents=True, exist_ok=True)
            shutil.copy(self.site.table, early / "kernel/firmware/acpi/ssdt1.aml")
            initrd.pack(early, self.directory / "early.cpio")
            parts.insert(0, self.directory / "early.cpio")
        with packed.open("wb") as file:
            for part in parts:
                file.write(part.read_bytes())
        return packed

    # -- hardware that comes and goes ------------------------------------------------------------------------

    def plug_nvme(self, number: int = 1, size: str = "128M") -> None:
        """Hot-add NVMe disk `number` (1 to 3), serial SPARK000<number + 1>; the guest finds it by itself."""
        path = self.directory / f"nvme{number}.qcow2"
        if not path.exists():
            _create_disk(path, size=size)
        file = {"driver": "file", "filename": str(path)}
        self.monitor.execute("blockdev-add", driver="qcow2", node_name=f"nvme{number}", file=file)
        self.monitor.execute(
            "device_add", driver="nvme", id=f"disk{number}", drive=f"nvme{number}",
            serial=f"SPARK{number + 1:04}", bus=f"port{number}",
        )  # fmt: skip

    def unplug_nvme(self, number: int = 1) -> None:
        """Ask the guest to let go of a hot-added disk (or of disk 0); it is gone a moment later."""
        self.monitor.execute("device_del", id=f"disk{number}")

    def is_plugged(self, number: int = 1) -> bool:
        """Whether QEMU still has the disk in its slot."""
        devices = self.monitor.execute("qom-list", path="/machine/peripheral")
        return any(device["name"] == f"disk{number}" for device in devices)

    def forget_nvme(self, number: int = 1) -> None:
        """Close the image of a disk that was unplugged, so that it can be plugged in again.

        QEMU lets go of it a moment after the device has left its tree. Raises RefusedError.
        """
        end_s = time.monotonic() + LETS_GO_WITHIN_S * self.site.patience
        while True:
            try:
                self.monitor.execute("blockdev-del", node_name=f"nvme{number}")
            except qmp.RefusedError:
                if time.monotonic() > end_s:
                    raise
                time.sleep(0.1)
            else:
                return

    def freeze_disk(self) -> Path:
        """The root disk as it is, to be the base of other guests; this one goes on in an overlay over it."""
        frozen = self._disk
        self._snapshots += 1
        self._disk = self.directory / f"root-{self._snapshots}.qcow2"
        self.monitor.execute(
            "blockdev-snapshot-sync", device="root", snapshot_file=str(self._disk), format="qcow2"
        )
        kept = self.site.directory / f"{self.name}-{self._snapshots}.qcow2"
        kept.hardlink_to(frozen)  # stays when this machine is discarded
        return kept

    # -- logs ------------------------------------------------------------------------------------------------

    def read_log_tails(self) -> str:
        """The last lines of everything that was logged, for a message."""
        tails = []
        for kind in ("qemu", "console", "journal"):
            path = self.site.logs / f"{self.name}.{kind}"
            if path.exists():
                tails += [f"-- {path}", *path.read_text(errors="replace").splitlines()[-12:]]
        return "\n".join(tails)


def _root_ports() -> list[str]:
    """PCIe slots: one for the first NVMe disk, the rest for hot-plug."""
    ports: list[str] = []
    for number in range(HOT_PLUG_PORTS + 1):
        ports += ["-device", f"pcie-root-port,id=port{number},chassis={number + 1},slot={number + 1}"]
    return ports


def _create_disk(path: Path, *options: str, size: str = "") -> None:
    command = ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path)]
    subprocess.run([*command, size] if size else command, check=True)
