"""Builds the disk image of a guest once and keeps it in a cache, by the hash of what it was built from."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vm import foreign, initrd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.narrator import Narrator
    from vm.platforms import Platform

DISK_MIB = 2048
KEPT_S = 14 * 86400
_CONFINED = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)

_NOT_INSTALLED = ("man", "doc", "locale", "info")
_NOT_UNPACKED = (
    "sound",
    "drivers/gpu",
    "drivers/media",
    "drivers/net/wireless",
    "drivers/net/wwan",
    "drivers/net/ethernet/[!i]*",
    "drivers/staging",
    "drivers/iio",
    "drivers/isdn",
    "drivers/usb",
    "drivers/hid",
    "drivers/input",
    "drivers/hwmon",
    "drivers/infiniband/hw",
    "drivers/scsi",
    "drivers/ata",
    "drivers/mtd",
    "drivers/video",
    "drivers/platform",
)
"""Kernel modules of hardware that no guest has: they would make image and boot longer."""


@dataclass(frozen=True, slots=True)
class Image:
    """A built guest: three files.

    Attributes:
        disk: ext4, raw, to be used through an overlay only.
        kernel: what QEMU loads.
        initrd: the base part of the initrd, a cpio archive.
    """

    disk: Path
    kernel: Path
    initrd: Path


def cache_directory() -> Path:
    """Where images are kept: $SPARKTUNE_VM_CACHE, else ~/.cache/sparktune/vm."""
    return Path(os.environ.get("SPARKTUNE_VM_CACHE") or Path.home() / ".cache/sparktune/vm")


def building_directory(platform: Platform) -> Path:
    """Where this process would build: in the cache, for what is done is renamed."""
    return cache_directory() / f"{platform.name}.building-{os.getpid()}"


def provide(platform: Platform, building: Path, narrator: Narrator, log: Path) -> Image:
    """The image of a platform, built if the cache does not have it; two builders wait for each other."""
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    final = cache / f"{platform.name}-{_hash(platform)}"
    with _locked(cache / f"{platform.name}.lock"):
        if not final.is_dir():
            if os.geteuid() != 0:
                raise PermissionError(f"only root can build the {platform.name} image; it would be {final}")
            _sweep(cache, platform)
            building.mkdir()
            with narrator.phase(f"building the {platform.name} image (Debian {platform.suite}); log: {log}"):
                _build(platform, building, log)
            building.rename(final)
        os.utime(final)
    return Image(final / "disk.ext4", final / "vmlinuz", final / "initrd.cpio")


def _hash(platform: Platform) -> str:
    recipe = (
        platform.suite,
        platform.kernel_package,
        platform.packages,
        platform.first_modules,
        DISK_MIB,
        *(Path(file).read_bytes() for file in (__file__, initrd.__file__)),
    )
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sweep(cache: Path, platform: Platform) -> None:
    """Remove what killed builders have left, and images that nothing has booted from for a while."""
    for stale in cache.glob(f"{platform.name}.building-*"):
        remove(stale)
    for image in cache.glob(f"{platform.name}-*"):
        if time.time() - image.stat().st_mtime > KEPT_S:
            remove(image)


def remove(directory: Path) -> None:
    """Remove a directory, but nothing that is mounted below it: mmdebstrap binds the host's /dev there."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(directory)], check=True)


def _build(platform: Platform, building: Path, log: Path) -> None:
    root, kernel = building / "root", building / "kernel"
    kernel.mkdir()
    _run(log, *foreign.wrap(_bootstrap_command(platform, root), platform.name))
    (root / "srv/kernel").rename(building / "debs")
    packages = {path.name.split("_")[0]: path for path in (building / "debs").glob("*.deb")}
    image = next(path for name, path in packages.items() if name.startswith("linux-image"))
    excludes = ["--exclude=./usr/share", *(f"--exclude=*/kernel/{name}" for name in _NOT_UNPACKED)]
    unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink "${@:3}"'
    _run(log, "bash", "-o", "pipefail", "-c", unpack, "bash", str(image), str(root), *excludes)
    _run(log, "dpkg-deb", "-x", str(packages["busybox-static"]), str(kernel))
    vmlinuz = next((root / "boot").glob("vmlinuz-*"))
    version = vmlinuz.name.removeprefix("vmlinuz-")
    _run(log, "depmod", "--basedir", str(root), version)
    busybox = next(path for path in kernel.glob("**/bin/busybox") if path.is_file())
    initrd.build_base(building / "early", busybox, root / "lib/modules" / version, platform.first_modules)
    initrd.pack(building / "early", building / "initrd.cpio")
    shutil.move(vmlinuz, building / "vmlinuz")
    disk = building / "disk.ext4"
    _run(log, "mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1,root_owner=0:0", "-L", "root",
         "-d", str(root), str(disk), f"{DISK_MIB}M")  # fmt: skip
    for scaffold in ("root", "kernel", "debs", "early"):
        remove(building / scaffold)


def _bootstrap_command(platform: Platform, root: Path) -> list[str]:
    fetch = (
        'mkdir -p "$1/srv/kernel"; cd "$1/srv/kernel"; export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"; '
        f"kernel=$(apt-cache depends {platform.kernel_package} | "
        "sed -n 's/.*Depends: \\(linux-image-[^ ]*\\).*/\\1/p' | head -n 1); "
        'apt-get -q download "$kernel" busybox-static'
    )
    return [
        "mmdebstrap",
        f"--architectures={platform.name}",
        "--variant=apt",
        f"--include={','.join(platform.packages)}",
        '--aptopt=Apt::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _NOT_INSTALLED),
        f"--customize-hook={fetch}",
        '--customize-hook=systemctl --root "$1" disable tuned.service',
        "--verbose",
        platform.suite,
        str(root),
    ]


def _run(log: Path, *command: str) -> None:
    """Run one step with its output in the log; a failure shows the log's end.

    In mount and process namespaces of its own: mmdebstrap mounts /proc, /sys and the host's /dev/shm below
    the root it makes, and none of that, nor any process of it, may outlive the step, however it ends.
    """
    with log.open("ab") as output:
        output.write(f"\n$ {' '.join(command)}\n".encode())
        output.flush()
        code = subprocess.run(
            [*_CONFINED, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        ).returncode
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"{command[0]} exited {code} while building the image; the end of {log}:\n{tail}")
