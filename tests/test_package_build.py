"""The packages themselves: built from this checkout or a copy of it, and taken apart."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import build
import wheels
from freshness import fingerprint, is_fresh
from sparktune import __version__
from sparktune.simulate import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[1]
TREE = "usr/lib/sparktune"
MACHINES = {"amd64": "Advanced Micro Devices X86-64", "arm64": "AArch64"}
PROVIDED = {"libc.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libm.so.6", "libgcc_s.so.1"}
"""What libc6 and libgcc-s1 bring, beside the loader."""

_missing = [tool for tool in (*build.TOOLS, "readelf") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.skipif(bool(_missing), reason=f"not installed: {' '.join(_missing)}"),
    pytest.mark.timeout(900),  # packages are built, and compressed
]


def starts(python: str) -> bool:
    """Whether a Python is here, and is one."""
    if shutil.which(python) is None:
        return False
    return subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0


THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [f"python{version}" for version in wheels.PYTHONS if version != THIS]


class Package(NamedTuple):
    """A package that was built: the file, what dpkg-deb lists, and its files in a folder."""

    architecture: str
    deb: Path
    listing: list[list[str]]
    files: Path

    @classmethod
    def open(cls, deb: Path, architecture: str, folder: Path) -> Package:
        listed = run("dpkg-deb", "--contents", deb).splitlines()
        run("dpkg-deb", "--raw-extract", deb, folder)
        return cls(architecture, deb, [line.split(maxsplit=5) for line in listed], folder)

    def names(self) -> set[str]:
        """Every file, without folders."""
        return {entry[5].removeprefix("./") for entry in self.listing if not entry[0].startswith("d")}

    def control(self, name: str) -> str:
        return (self.files / "DEBIAN" / name).read_text(encoding="utf-8")

    def native(self) -> list[Path]:
        return sorted((self.files / TREE).rglob("*.so"))


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, timeout=600, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def build_copy(folder: Path, *arguments: str, umask: int = 0o022, **environment: str) -> Path:
    """Build in a copy of this checkout, with the libraries that were fetched for it; gives its dist/."""
    ignored = shutil.ignore_patterns(".*", "build", "dist", "tests", "benchmarks", "__pycache__")
    shutil.copytree(PROJECT, folder, ignore=ignored)
    cache = build.name_cache(PROJECT)
    cache.mkdir(parents=True, exist_ok=True)
    (folder / "build/deb").mkdir(parents=True)
    build.name_cache(folder).symlink_to(cache)
    command = (sys.executable, "packaging/build.py", *arguments)
    run(*command, cwd=folder, env=os.environ | environment, umask=umask)
    return folder / "dist"


def find_built() -> Path | None:
    """The dist/ of this checkout, if `make deb` has built both packages of what is in it now."""
    of = build.Build(
        work=PROJECT / build.WORK, dist=PROJECT / "dist", version=__version__, maintainer="", epoch=""
    )
    inputs = fingerprint(PROJECT, of.version)
    are_fresh = [is_fresh(of.package(name), of.record(name), inputs) for name in build.ARCHITECTURES]
    return of.dist if all(are_fresh) else None


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Package]]:
    """Both packages, taken apart: those of `make deb`, or a copy's."""
    folder = tmp_path_factory.mktemp("packages")
    dist = find_built() or build_copy(folder / "checkout")
    yield {
        name: Package.open(dist / f"sparktune_{__version__}_{name}.deb", name, folder / name)
        for name in build.ARCHITECTURES
    }
    shutil.rmtree(folder)


@pytest.fixture(params=build.ARCHITECTURES)
def package(request: pytest.FixtureRequest, packages: dict[str, Package]) -> Package:
    return packages[request.param]


# -- files ---------------------------------------------------------------------------------------------------


def test_a_second_build_elsewhere_by_somebody_else_is_the_same_to_the_bit(
    packages: dict[str, Package], tmp_path: Path
) -> None:
    other = {"TZ": "Pacific/Auckland", "LANG": "C", "LC_ALL": "C", "USER": "somebody", "HOME": str(tmp_path)}
    elsewhere = tmp_path / "a longer way to another checkout"
    dist = build_copy(elsewhere, umask=0o077, **other)
    for first in packages.values():
        assert (dist / first.deb.name).read_bytes() == first.deb.read_bytes()


def test_everything_belongs_to_root_and_can_be_read_by_all(package: Package) -> None:
    assert {entry[1] for entry in package.listing} == {"root/root"}
    assert {entry[0] for entry in package.listing} == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}
    programs = {entry[5] for entry in package.listing if entry[0] == "-rwxr-xr-x"}
    assert programs == {"./usr/bin/sparktune", "./usr/share/python3/runtime.d/sparktune.rtupdate"}


def test_it_puts_files_only_where_they_belong(package: Package) -> None:
    outside = {name for name in package.names() if not name.startswith((f"{TREE}/", "usr/share/doc/"))}
    assert outside == {
        "etc/sparktune.toml",
        "usr/bin/sparktune",
        "usr/lib/systemd/system/sparktune-api.service",
        "usr/lib/systemd/system/sparktune-api.socket",
        "usr/lib/systemd/system/sparktune.service",
        "usr/lib/sysusers.d/sparktune.conf",
        "usr/share/bash-completion/completions/sparktune",
        "usr/share/fish/vendor_completions.d/sparktune.fish",
        "usr/share/lintian/overrides/sparktune",
        "usr/share/man/man5/sparktune.toml.5.gz",
        "usr/share/man/man8/sparktune.8.gz",
        "usr/share/python3/runtime.d/sparktune.rtupdate",
        "usr/share/sparktune/peers.conf",
        "usr/share/zsh/vendor-completions/_sparktune",
    }


def test_the_units_are_those_of_the_project(package: Package) -> None:
    for unit in ("sparktune.service", "sparktune-api.service", "sparktune-api.socket"):
        packaged = package.files / "usr/lib/systemd/system" / unit
        assert packaged.read_bytes() == (PROJECT / "systemd" / unit).read_bytes()


def test_only_the_configuration_is_a_conffile_and_it_sets_nothing(package: Package) -> None:
    assert package.control("conffiles").split() == ["/etc/sparktune.toml"]
    values = tomllib.loads((package.files / "etc/sparktune.toml").read_text(encoding="utf-8"))
    assert "nvme" in values
    assert all(section == {} for section in values.values())


def test_bytecode_is_made_where_it_is_installed(package: Package) -> None:
    assert not [name for name in package.names() if name.endswith(".pyc")]


def test_no_hidden_file_is_in_it(package: Package) -> None:
    assert not [name for name in package.names() if "/." in name]


# -- libraries -----------------------------------------------------------------------------------------------


def test_every_library_that_is_used_is_in_it_with_its_metadata_and_licence(package: Package) -> None:
    lock = wheels.read_used(PROJECT / "requirements.lock")
    for name in (*lock, "sparktune"):
        [info] = (package.files / TREE).glob(f"{name.replace('-', '_')}-*.dist-info")
        assert (info / "METADATA").is_file()
        assert list(info.rglob("LICEN[CS]E*")) + list(info.rglob("COPYING*")), name
    assert len(list((package.files / TREE).glob("*.dist-info"))) == len(lock) + 1


def test_native_modules_are_there_for_every_python(package: Package) -> None:
    names = [path.name for path in package.native()]
    for python in wheels.PYTHONS:
        tag = f"cpython-{python.replace('.', '')}-{wheels.MACHINES[package.architecture]}-linux-gnu"
        assert f"_pydantic_core.{tag}.so" in names
    assert "_psutil_linux.abi3.so" in names
    assert len(names) == len(wheels.PYTHONS) + 1


def test_native_modules_are_for_the_architecture_and_need_nothing_that_is_not_depended_on(
    package: Package,
) -> None:
    for path in package.native():
        assert MACHINES[package.architecture] in run("readelf", "--file-header", "--wide", path)
        needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "--dynamic", "--wide", path)))
        assert needed
        assert {name for name in needed if not name.startswith("ld-linux")} <= PROVIDED
        versions = re.findall(r"GLIBC_(\d+)\.(\d+)", run("readelf", "--version-info", "--wide", path))
        newest = max((int(major), int(minor)) for major, minor in versions)
        assert newest <= tuple(int(part) for part in wheels.GLIBC.split("."))


@pytest.mark.parametrize("python", [sys.executable, *filter(starts, OTHERS)])
def test_the_program_runs_with_nothing_but_what_is_in_the_package(
    packages: dict[str, Package], fast_path: Path, python: str
) -> None:
    here = run("dpkg", "--print-architecture").strip()
    libraries = packages[here].files / TREE
    launcher = (packages[here].files / "usr/bin/sparktune").read_text(encoding="utf-8")
    program = fast_path / "sparktune"
    program.write_text(launcher.replace(f"/{TREE}", str(libraries)))
    tree.build(fast_path / "host")
    isolated = (python, "-ISB", program)
    assert run(*isolated, "--version") == f"sparktune {__version__}\n"
    assert "read_ahead_kb" in run(*isolated, "--root", fast_path / "host", "plan", "nvme")
    api = f"import sys; sys.path.insert(0, {str(libraries)!r}); import sparktune.api.server, uvicorn, pyudev"
    run(python, "-ISB", "-c", api)


# -- scripts -------------------------------------------------------------------------------------------------


def test_the_daemon_is_restarted_by_an_upgrade_and_never_stopped_before(package: Package) -> None:
    assert "_dh_action=restart" in package.control("postinst")
    assert "deb-systemd-invoke $_dh_action 'sparktune.service'" in package.control("postinst")
    stops = re.findall(r"^if (.*) ; then\n\s+deb-systemd-invoke stop", package.control("prerm"), re.MULTILINE)
    assert stops
    assert all('[ "$1" = remove ]' in condition for condition in stops)
    assert "deb-systemd-invoke stop" not in package.control("preinst")


def test_daemon_and_socket_are_enabled_and_started_and_the_api_is_not(package: Package) -> None:
    script = package.control("postinst")
    for unit in ("sparktune.service", "sparktune-api.socket"):
        assert f"deb-systemd-helper enable '{unit}'" in script
    assert "deb-systemd-invoke start 'sparktune-api.socket'" in script
    started = re.findall(r"deb-systemd-invoke (?:start|\$_dh_action) (.*) >", script)
    assert sorted(started) == ["'sparktune-api.socket'", "'sparktune.service'"]


def test_the_user_is_there_before_anything_starts(package: Package) -> None:
    script = package.control("postinst")
    assert script.index("systemd-sysusers") < script.index("deb-systemd-invoke $_dh_action")


def test_stopped_first_then_restored_and_cleaned_last(package: Package) -> None:
    script = package.control("prerm")
    restore = script.index("sparktune restore --all")
    assert script.rindex("deb-systemd-invoke stop") < restore < script.index("\npy3clean")
