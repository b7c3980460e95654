"""The initrd of a guest: busybox, the modules for its root, and the files the harness lays over the root.

Those files travel here rather than in the image, so that a change to one does not build a new image.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

INIT = """#!/bin/sh
# Mounts the root, lays the harness's files over it and hands over to systemd.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in $(cat /modules); do insmod "/lib/$module" || echo "init: no $module"; done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
mount -t ext4 -o rw,noatime /dev/vda /root || { echo "init: no root"; poweroff -f; }
cp -af /overlay/. /root/
umount /sys /proc
mount -o move /dev /root/dev
exec switch_root /root /sbin/init
"""
APPLETS = ("sh", "mount", "umount", "insmod", "cat", "sleep", "cp", "echo", "poweroff", "switch_root")


def pack(directory: Path, archive: Path) -> None:
    """Pack a directory into a cpio archive, everything owned by root, names without a leading `./`."""
    names = sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
    with archive.open("wb") as output:
        subprocess.run(
            ["cpio", "--quiet", "--create", "--format=newc", "--owner=+0:+0"],
            cwd=directory,
            input="\n".join(names).encode(),
            stdout=output,
            check=True,
        )


def build_base(directory: Path, busybox: Path, modules_root: Path, names: Iterable[str]) -> None:
    """Lay out the part that belongs to the image: init, busybox and the kernel modules in loading order."""
    for name in ("bin", "lib", "proc", "sys", "dev", "root", "overlay"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox, directory / "bin/busybox")
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    init = directory / "init"
    init.write_text(INIT)
    init.chmod(0o755)
    loaded = []
    for path in _in_loading_order(modules_root, names):
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        name = path.name.removesuffix(".xz")
        (directory / "lib" / name).write_bytes(data)
        loaded.append(name)
    (directory / "modules").write_text("\n".join(loaded) + "\n")


def _in_loading_order(root: Path, names: Iterable[str]) -> Sequence[Path]:
    """The files of modules and of what they need, each after what it needs. Modules built in are left out."""
    needs: dict[str, list[str]] = {}
    by_name: dict[str, str] = {}
    for line in (root / "modules.dep").read_text().splitlines():
        path, _, needed = line.partition(":")
        needs[path] = needed.split()
        by_name[path.rsplit("/", 1)[-1].split(".")[0].replace("-", "_")] = path
    built_in = {
        line.rsplit("/", 1)[-1].split(".")[0].replace("-", "_")
        for line in (root / "modules.builtin").read_text().splitlines()
    }
    ordered: list[str] = []

    def add(path: str) -> None:
        for needed in needs[path]:
            add(needed)
        if path not in ordered:
            ordered.append(path)

    for name in names:
        if name not in built_in:
            add(by_name[name])
    return [root / path for path in ordered]
