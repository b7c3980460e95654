"""The libraries of the private tree: fetched by pip against the hash lock, unpacked side by side.

One package serves every supported Python: pure wheels are the same for all of them, and the file names of
native modules carry the ABI, so that the builds for all Pythons lie beside each other.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""What Python calls the architectures of Debian."""

GLIBC = "2.17"
"""The C library that the native wheels are built against (manylinux2014); debian/control depends on it."""

FROM_SOURCE = ("sdnotify",)
"""Locked libraries that have no wheel. They are built here, from their hash-checked source, with the locked
setuptools; all are pure Python."""

UNUSED_LIBRARIES = ("idna", "markdown-it-py", "mdurl", "pygments")
"""What others depend on for things that nothing here asks of them, as coloured code and host names beyond
ASCII: a quarter of all files, which root would have in its path for nothing."""

UNUSED = re.compile(
    r"pydantic/(v1/|mypy\.py)|psutil/_ps(aix|bsd|osx|sunos|windows)\.py|anyio/_backends/_trio\.py"
    r"|click/_winconsole\.py"
)
"""Modules that nothing here loads: other systems' parts, pydantic's past."""

_DROPPED = re.compile(r"\.dist-info/RECORD$|/\.agents/")
_MERGED = "WHEEL"
_KEPT = "sboms"


class BuildError(Exception):
    """The package cannot be built; the message says what to do."""


def fetch(lock: Path, cache: Path, architecture: str, say: Callable[[str], None]) -> list[Path]:
    """The wheels of one architecture, for all Pythons: from the cache, which is complete or not there.

    Raises:
        BuildError: pip could not fetch something, or it has another hash.
    """
    folder = cache / architecture
    if not folder.is_dir():
        say(f"{architecture}: fetching the libraries that {lock.name} names")
        partial = cache / f"{architecture}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _fetch_into(partial, read_used(lock), MACHINES[architecture])
        partial.rename(folder)
    patterns = [f"{name.replace('-', '_')}-*.whl" for name in read_used(lock)]
    return sorted(wheel for pattern in patterns for wheel in folder.glob(pattern))


def read_used(path: Path) -> dict[str, str]:
    """As `read_lock`, without the libraries that nothing here uses."""
    return {name: block for name, block in read_lock(path).items() if name not in UNUSED_LIBRARIES}


def read_lock(path: Path) -> dict[str, str]:
    """Each requirement of a lock file by its name: the text with all its hashes.

    Raises:
        BuildError: one is only for some Pythons. One tree for all has no place for that.
    """
    found = {}
    for block in re.split(r"^(?=[a-z0-9])", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        requirement = re.match(r"(?P<name>[a-z0-9][a-z0-9.-]*)==[^\s;]+ *(?P<marker>;[^\\\n]*)?", block)
        if requirement is None:  # the comment at the beginning
            continue
        if requirement["marker"]:
            name, marker = requirement["name"], requirement["marker"]
            raise BuildError(f"{path.name}: {name} is not for every Python ({marker.strip('; ')})")
        found[requirement["name"]] = block
    return found


def _fetch_into(folder: Path, lock: dict[str, str], machine: str) -> None:
    wheels = {name: text for name, text in lock.items() if name not in FROM_SOURCE}
    first, *others = PYTHONS
    _download(folder, wheels.values(), machine, first)
    native = [text for name, text in wheels.items() if _is_for_one_python(folder, name, first)]
    for python in others:
        _download(folder, native, machine, python)
    build = ("--no-build-isolation", f"--no-binary={','.join(FROM_SOURCE)}", f"--wheel-dir={folder}")
    _pip("wheel", folder, (lock[name] for name in FROM_SOURCE), *build)


def _download(folder: Path, requirements: Iterable[str], machine: str, python: str) -> None:
    glibc = GLIBC.replace(".", "_")
    platforms = [f"--platform={name}_{machine}" for name in (f"manylinux_{glibc}", "manylinux2014")]
    abis = [f"--abi={abi}" for abi in (_abi(python), "abi3", "none")]
    interpreter = ("--implementation=cp", f"--python-version={python}", *abis)
    into = ("--only-binary=:all:", f"--dest={folder}")
    _pip("download", folder, requirements, *into, *platforms, *interpreter)


def _abi(python: str) -> str:
    return f"cp{python.replace('.', '')}"


def _is_for_one_python(folder: Path, name: str, python: str) -> bool:
    return any(folder.glob(f"{name.replace('-', '_')}-*-{_abi(python)}-*.whl"))


def _pip(verb: str, folder: Path, requirements: Iterable[str], *options: str) -> None:
    """Hashes decide what is taken, whatever index or folder this machine's pip is configured to look into."""
    listed = folder / "wanted.txt"
    listed.write_text("".join(requirements), encoding="utf-8")
    checked = ("--no-deps", "--require-hashes", f"--requirement={listed}")
    command = [sys.executable, "-m", "pip", verb, "--disable-pip-version-check", *checked, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    listed.unlink()
    if done.returncode:
        raise BuildError(f"pip {verb} failed; is there a network?\n{done.stdout}{done.stderr}".rstrip())


def unpack(wheels: Sequence[Path], tree: Path) -> None:
    """Unpack wheels over each other, as they would be installed.

    RECORD is left out: dpkg keeps that list. So is what nothing here loads, and what some bring for programs
    that write code (.agents).
    The builds of one library for several Pythons share all other files but two: WHEEL gets the tags of all;
    of the bills of materials, which differ in date and serial number, the first is kept.

    Raises:
        BuildError: two wheels bring different files of one name, or one wants files outside the tree.
    """
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                if not name.endswith("/") and not _DROPPED.search(name) and not UNUSED.match(name):
                    _place(tree, name, archive.read(name), wheel)
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _place(tree: Path, name: str, content: bytes, wheel: Path) -> None:
    path = tree / name
    if ".data/" in name or not path.resolve().is_relative_to(tree.resolve()):
        raise BuildError(f"{wheel.name} wants {name}, which is not in the private tree")
    if path.is_file() and path.read_bytes() != content:
        if path.parent.name == _KEPT:
            return
        if path.name != _MERGED:
            raise BuildError(f"{wheel.name} brings another {name} than the wheel before it")
        lines = dict.fromkeys([*path.read_bytes().splitlines(), *content.splitlines()])
        content = b"\n".join(lines) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
