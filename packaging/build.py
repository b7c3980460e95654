"""Builds the Debian packages: fetches the locked wheels, lays everything out, and has debhelper do the rest.

Run by `make deb`, with the Python of .venv. The network is needed once for each state of requirements.lock.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from freshness import fingerprint, is_fresh, remember
from wheels import BuildError, fetch, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = "sparktune"
LOCK = "requirements.lock"
WORK = "build/deb"
ARCHITECTURES = ("amd64", "arm64")
TOOLS = {
    "dh": "debhelper",
    "dpkg-buildpackage": "dpkg-dev",
    "x86_64-linux-gnu-strip": "binutils-x86-64-linux-gnu",
    "aarch64-linux-gnu-strip": "binutils-aarch64-linux-gnu",
}
"""What is called, and the package that brings it."""

UNITS = {
    "sparktune.service": "sparktune.service",
    "sparktune.sysusers": "sparktune.sysusers",
    "sparktune-api.service": "sparktune.sparktune-api.service",
    "sparktune-api.socket": "sparktune.sparktune-api.socket",
}
"""The files of systemd/, and the names under which debhelper looks for them in debian/."""

COMPLETIONS = {"bash": "sparktune", "zsh": "_sparktune", "fish": "sparktune.fish"}
"""The shells, and the file name under which each looks for a completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One run of this program.

    Attributes:
        work: where packages are put together; only the cache in it outlives a run.
        dist: where finished packages go.
        version: of the packages.
        maintainer: as in the changelog.
        epoch: the moment that files get, in seconds since 1970.
    """

    work: Path
    dist: Path
    version: str
    maintainer: str
    epoch: str

    def package(self, architecture: str) -> Path:
        """The finished package of an architecture."""
        return self.dist / f"{PACKAGE}_{self.version}_{architecture}.deb"

    def record(self, architecture: str) -> Path:
        """Where is noted from what it was built."""
        return self.work / f"{architecture}-{self.version}.built"

    def run(self, command: Sequence[str], folder: Path) -> str:
        """Run a tool and return what it prints; what it complains of is shown when it fails.

        Raises:
            BuildError: it failed.
        """
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": self.epoch, "CC": "true"}
        environment.pop("PYTHONPATH", None)
        return _run(command, folder, environment)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Build the Debian packages of this checkout.")
    parser.add_argument("architectures", nargs="*", metavar="ARCH", help="amd64 arm64; both unless given")
    parser.add_argument("--dist", type=Path, default=PROJECT / "dist", metavar="DIR", help="instead of dist/")
    parser.add_argument("--version", help="instead of the changelog's, to try upgrades: 0.1.0~before")
    options = parser.parse_args(arguments)
    os.umask(0o022)
    started_s = time.monotonic()
    try:
        architectures = options.architectures or list(ARCHITECTURES)
        check_tools(architectures)
        with alone(PROJECT / WORK):
            build_all(architectures, options.dist.resolve(), options.version)
    except BuildError as error:
        sys.stderr.write(f"make deb: {error}\n")
        return 1
    say(f"done in {time.monotonic() - started_s:.0f} s")
    return 0


@contextmanager
def alone(work: Path) -> Iterator[None]:
    """Wait until no other build of this checkout runs: they share the folder."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is running here: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_tools(architectures: Sequence[str]) -> None:
    """Tell what to install before anything is begun.

    Raises:
        BuildError: a tool is missing.
    """
    unknown = [name for name in architectures if name not in ARCHITECTURES]
    if unknown:
        raise BuildError(f"unknown architecture: {' '.join(unknown)}; known are {' '.join(ARCHITECTURES)}")
    missing = sorted(package for tool, package in TOOLS.items() if shutil.which(tool) is None)
    if missing:
        raise BuildError(f"tools are missing. On Debian and Ubuntu: apt install {' '.join(missing)}")


def build_all(architectures: Sequence[str], dist: Path, version: str | None) -> None:
    """Build the packages of these architectures, at the same time. Raises BuildError."""
    newest = read_changelog(PROJECT / "packaging/debian/changelog")
    build = Build(
        work=PROJECT / WORK,
        dist=dist,
        version=version or newest["Version"],
        maintainer=newest["Maintainer"],
        epoch=newest["Timestamp"],
    )
    build.dist.mkdir(parents=True, exist_ok=True)
    inputs = fingerprint(PROJECT, build.version)
    stale = [name for name in architectures if not is_fresh(build.package(name), build.record(name), inputs)]
    for name in (name for name in architectures if name not in stale):
        say(f"{name}: {build.package(name)} is that of this checkout already")
    if not stale:
        return
    own = build_own_wheel(build)

    def build_for(architecture: str) -> None:
        libraries = fetch(PROJECT / LOCK, name_cache(PROJECT), architecture, say)
        build_package(build, architecture, [*libraries, own])
        remember(build.package(architecture), build.record(architecture), inputs)

    with ThreadPoolExecutor() as pool:  # a core each: most of the time goes into compressing
        list(pool.map(build_for, stale))


def name_cache(project: Path) -> Path:
    """Where the wheels of a checkout's lock file are kept: another lock, another folder."""
    digest = hashlib.sha256((project / LOCK).read_bytes()).hexdigest()
    return project / WORK / f"wheels-{digest[:12]}"


def read_changelog(path: Path) -> dict[str, str]:
    """The fields of the newest entry of a debian/changelog. Raises BuildError."""
    text = _run(["dpkg-parsechangelog", f"--file={path}"], path.parent, dict(os.environ))
    return dict(re.findall(r"^([A-Z]\w+): (.+)$", text, re.MULTILINE))


def build_own_wheel(build: Build) -> Path:
    """Make the project a wheel, to be installed as any other library is. Raises BuildError."""
    folder = build.work / "own"
    shutil.rmtree(folder, ignore_errors=True)
    say("building the project's own wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", "--no-index"]
    build.run([*pip, "--no-build-isolation", f"--wheel-dir={folder}", str(PROJECT)], PROJECT)
    [wheel] = folder.glob("*.whl")
    return wheel


def build_package(build: Build, architecture: str, wheels: Sequence[Path]) -> None:
    """Build one architecture's package. Raises BuildError."""
    place = build.work / architecture
    source = place / f"{PACKAGE}-{build.version}"
    shutil.rmtree(place, ignore_errors=True)
    say(f"{architecture}: laying out {len(wheels)} wheels")
    unpack(wheels, source / "tree")
    lay_out(build, source)
    say(f"{architecture}: packing")
    # Its own check asks for a cross compiler, and nothing is compiled here.
    kind = [f"--host-arch={architecture}", "--build=binary", "--no-sign", "--no-check-builddeps"]
    build.run(["dpkg-buildpackage", *kind], source)
    for old in build.dist.glob(f"{PACKAGE}_*_{architecture}.*"):
        old.unlink()
    for made in place.glob(f"{PACKAGE}_{build.version}_{architecture}.*"):
        shutil.copyfile(made, build.dist / made.name)
    made = build.package(architecture)
    say(f"{architecture}: {made}, {made.stat().st_size / 1e6:.1f} MB")


def lay_out(build: Build, source: Path) -> None:
    """Put beside the private tree what debhelper works on. Raises BuildError."""
    shutil.copytree(PROJECT / "packaging/debian", source / "debian")
    for name, for_debhelper in UNITS.items():
        shutil.copyfile(PROJECT / "systemd" / name, source / "debian" / for_debhelper)
    for name in ("etc", "docs"):
        shutil.copytree(PROJECT / name, source / name)
    files = ("README.md", "CHANGELOG.md", "packaging/launcher", "packaging/rtupdate", "systemd/peers.conf")
    for name in files:
        shutil.copyfile(PROJECT / name, source / Path(name).name)
    (source / "debian/rules").chmod(0o755)
    name_version(build, source / "debian/changelog")
    make_completions(build, source)


def name_version(build: Build, changelog: Path) -> None:
    """Put an entry on top if the version is not the changelog's. Raises BuildError."""
    if read_changelog(changelog)["Version"] == build.version:
        return
    date = build.run(["date", "--utc", "--rfc-email", f"--date=@{build.epoch}"], changelog.parent).strip()
    entry = f"{PACKAGE} ({build.version}) unstable; urgency=medium\n\n  * To try upgrades with.\n\n"
    text = changelog.read_text(encoding="utf-8")
    changelog.write_text(f"{entry} -- {build.maintainer}  {date}\n\n{text}", encoding="utf-8")


def make_completions(build: Build, source: Path) -> None:
    """Write the completion of each shell as the packaged program prints it. Raises BuildError."""
    program = "import sys; sys.path.insert(0, 'tree'); from sparktune.cli.main import main; sys.exit(main())"
    for shell, name in COMPLETIONS.items():
        text = build.run([sys.executable, "-IB", "-c", program, "completion", shell], source)
        path = source / "completions" / shell / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stdout.write(f"make deb: {text}\n")
    sys.stdout.flush()


def _run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"this failed: {' '.join(command)}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
