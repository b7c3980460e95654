"""The Debian packaging as it stands in the sources: versions, dependencies, licences."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
from importlib.metadata import metadata, packages_distributions
from pathlib import Path

import build
import wheels
from sparktune import __version__

PROJECT = Path(__file__).parents[1]
DEBIAN = PROJECT / "packaging/debian"
TREE = "usr/lib/sparktune"


def read(name: str) -> str:
    return (DEBIAN / name).read_text(encoding="utf-8")


def field(name: str) -> list[str]:
    """The comma-separated values of a field of the binary package."""
    binary = re.sub(r"^#.*\n", "", read("control").split("\n\n")[1], flags=re.MULTILINE)
    [value] = re.findall(rf"^{name}:((?:.*\n )*.*)$", binary, re.MULTILINE)
    return [part.strip() for part in value.split(",")]


# -- what it says --------------------------------------------------------------------------------------------


def test_the_package_has_the_version_of_the_program() -> None:
    newest = read("changelog").split("\n", maxsplit=1)[0]
    assert newest.startswith(f"sparktune ({__version__})")


def test_it_depends_on_the_pythons_whose_native_modules_are_in_it() -> None:
    minor = [int(python.removeprefix("3.")) for python in wheels.PYTHONS]
    assert minor == list(range(minor[0], minor[-1] + 1))
    wanted = {f"python3 (>= 3.{minor[0]}~)", f"python3 (<< 3.{minor[-1] + 1})"}
    assert {value for value in field("Depends") if value.startswith("python3")} == wanted


def test_it_depends_on_the_c_library_of_its_native_modules() -> None:
    assert f"libc6 (>= {wheels.GLIBC})" in field("Depends")


def test_every_unit_is_packaged() -> None:
    there = {path.name for path in (PROJECT / "systemd").iterdir()}
    assert set(build.UNITS) == there - {"peers.conf"}


def test_the_drop_in_for_peers_is_packaged_as_an_example() -> None:
    installed = (PROJECT / "packaging/debian/install").read_text(encoding="utf-8").splitlines()
    assert "peers.conf usr/share/sparktune" in installed


def test_nothing_of_the_machine_gets_into_the_process() -> None:
    launcher = (PROJECT / "packaging/launcher").read_text(encoding="utf-8")
    assert launcher.startswith("#!/usr/bin/python3 -IS\n")
    assert f'sys.path.insert(0, "/{TREE}")' in launcher


def test_an_interrupt_while_it_imports_ends_it_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "sparktune/cli").mkdir(parents=True)
    (tmp_path / "sparktune/cli/main.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(30)\n"
    )
    launcher = (PROJECT / "packaging/launcher").read_text(encoding="utf-8")
    command = [sys.executable, "-IS", "-c", launcher.replace(f"/{TREE}", str(tmp_path))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (-signal.SIGINT, b"")


def test_nothing_is_loaded_that_is_not_in_the_package() -> None:
    load_all = """
        import asyncio, importlib, pkgutil, sys, anyio, sparktune
        for module in pkgutil.walk_packages(sparktune.__path__, "sparktune."):
            importlib.import_module(module.name)
        import psutil, pyudev, rich.console, rich.padding, rich.table, rich.text
        import uvicorn.protocols.http.h11_impl
        asyncio.run(anyio.to_thread.run_sync(list))
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        print(*filter(None, files), sep="\\n")
    """
    command = [sys.executable, "-c", textwrap.dedent(load_all)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    paths = [path.rpartition("site-packages/")[2] for path in printed.splitlines()]
    assert {"rich/table.py", "anyio/_backends/_asyncio.py", "psutil/_pslinux.py"} < set(paths)
    assert [path for path in paths if wheels.UNUSED.match(path)] == []
    of = {name: libraries for name, libraries in packages_distributions().items() if name != "sparktune"}
    loaded = {library for path in paths for library in of.get(path.partition("/")[0].removesuffix(".py"), ())}
    assert "pyudev" in loaded
    assert loaded & set(wheels.UNUSED_LIBRARIES) == set()


def test_the_manual_pages_name_the_version() -> None:
    for page in (PROJECT / "docs/man").iterdir():
        assert f"\n.Os sparktune {__version__}\n" in page.read_text(encoding="utf-8")


# -- licences ------------------------------------------------------------------------------------------------

DEBIAN_NAMES = {
    "MIT": "Expat",
    "MIT License": "Expat",
    "BSD-3-Clause": "BSD-3-Clause",
    "BSD-2-Clause": "BSD-2-Clause",
    "Apache-2.0": "Apache-2.0",
    "LGPL-2.1-or-later": "LGPL-2.1+",
    "PSF-2.0": "PSF-2.0",
}
"""What the metadata of the libraries calls a licence, and Debian does."""


def stanzas() -> list[dict[str, str]]:
    parts = read("copyright").split("\n\n")
    return [dict(re.findall(r"^([A-Z][\w-]+):[ \n]((?:.*\n[ ])*.*)$", part, re.MULTILINE)) for part in parts]


def licences_in_the_copyright_file() -> dict[str, set[str]]:
    """The licences of each library that is listed, by its name in the lock file."""
    found: dict[str, set[str]] = {}
    name = ""
    for stanza in stanzas():
        files = stanza.get("Files", "")
        listed = re.search(rf"{TREE}/([\w.]+)-\*\.dist-info/\*", files)
        if listed:
            name = listed[1].replace("_", "-")
        if files.startswith(TREE):  # a part of the library before it may have a stanza of its own
            found.setdefault(name, set()).update(re.split(" and | or ", stanza["License"]))
    return found


def licences_in_the_metadata(name: str) -> set[str]:
    document = metadata(name)
    given = next((document[key] for key in ("License-Expression", "License") if key in document), "")
    if not given:
        [classifier] = [text for text in document.get_all("Classifier", []) if text.startswith("License ::")]
        given = classifier.split(" :: ")[-1]
    return {DEBIAN_NAMES[part] for part in re.split(" AND | OR ", given)}


def test_the_copyright_file_names_each_library_with_its_licence_and_no_other() -> None:
    lock = wheels.read_used(PROJECT / "requirements.lock")
    assert licences_in_the_copyright_file() == {name: licences_in_the_metadata(name) for name in lock}


def test_each_licence_that_is_named_says_where_its_text_is() -> None:
    known = [stanza for stanza in stanzas() if "License" in stanza]
    named = {part for one in known if "Files" in one for part in re.split(" and | or ", one["License"])}
    assert {one["License"].split("\n")[0] for one in known if "Files" not in one} == named
