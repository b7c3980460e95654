"""The package under test, and others derived from it: an older one to upgrade from, a newer one to go to."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CONFFILE = "etc/sparktune.toml"
SOCKET_UNIT = "usr/lib/systemd/system/sparktune-api.socket"


def find(architecture: str) -> Path:
    """The newest package in dist/. Raises FileNotFoundError."""
    found = sorted(
        (REPOSITORY / "dist").glob(f"sparktune_*_{architecture}.deb"), key=lambda path: path.stat().st_mtime
    )
    if not found:
        raise FileNotFoundError(f"no dist/sparktune_*_{architecture}.deb; build it with: make deb")
    return found[-1]


def read_version(deb: Path) -> str:
    """The version a package has."""
    return subprocess.run(
        ["dpkg-deb", "--field", str(deb), "Version"], capture_output=True, text=True, check=True
    ).stdout.strip()


def derive(deb: Path, directory: Path, version: str, *, changed: tuple[str, ...] = (CONFFILE,)) -> Path:
    """The package as another version, in a directory; some files, its conffile for one, have a line more."""
    derived = directory / f"sparktune_{version}_{deb.stem.rsplit('_', 1)[-1]}.deb"
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        tree = Path(scratch) / "tree"
        subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(tree)], check=True)
        for name in changed:
            with (tree / name).open("a") as file:
                file.write(f"\n# of version {version}\n")
        control = tree / "DEBIAN/control"
        lines = control.read_text().splitlines()
        control.write_text(
            "\n".join(f"Version: {version}" if line.startswith("Version:") else line for line in lines) + "\n"
        )
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(derived)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return derived
