"""Claims of files that assign values to paths: tmpfiles.d, sysctl.d with sysctl.conf, and sysfs.conf.

Sources: tmpfiles.d(5) and sysctl.d(5) of systemd 252 and 257; sysctl(8) of procps 4; sysfs.conf(5) of Debian.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import TYPE_CHECKING

from sparktune.conflicts.commands import Write, sysctl_path
from sparktune.conflicts.jobs import claim_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparktune.conflicts.claim import Claim, Line
    from sparktune.conflicts.files import Files
    from sparktune.conflicts.ours import Ours
    from sparktune.conflicts.units import Units

_PLACES = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
_VENDOR = ("/usr/lib/", "/lib/")
_WRITES = re.compile(r"w\+?[!\-=~^$+]*")
_FIELDS = 7
_TMPFILES = "tmpfiles.d"
_PARAMETERS = "/proc/sys/"


def read_tmpfiles(ours: Ours, files: Files) -> Iterator[Claim | None]:
    """What `w` lines of tmpfiles.d write into files of ours at each boot."""
    for name in files.stack([f"{place}/{_TMPFILES}" for place in _PLACES], ".conf"):
        for line in files.lines(name, ours.hint):
            fields = _split(line.text)
            if len(fields) == _FIELDS and _WRITES.fullmatch(fields[0]):
                write = Write(ours.find(re.sub(r"%[a-zA-Z]", "*", fields[1])), fields[-1])
                yield from _claim(write, name, line, who="tmpfiles.d")
        yield None


def _split(text: str) -> list[str]:
    """Type, path, mode, user, group, age, argument; the last one to the end of the line."""
    fields = text.split(maxsplit=_FIELDS - 1)
    if len(fields) == _FIELDS and '"' not in fields[1]:
        return [*fields[:-1], fields[-1].strip().strip("\"'")]
    try:
        fields = shlex.split(text)
    except ValueError:  # an open quote: systemd refuses the line as well
        return []
    return [*fields[: _FIELDS - 1], " ".join(fields[_FIELDS - 1 :])]


def read_sysctls(ours: Ours, files: Files) -> Iterator[Claim | None]:
    """What sysctl.d and /etc/sysctl.conf set of ours: of several lines for one parameter the last counts."""
    if not any(one.attribute.location.startswith(_PARAMETERS) for one in ours.tunables):
        return
    assigned: dict[str, tuple[str, Line, str]] = {}
    excluded: set[str] = set()
    names = files.stack([f"{place}/sysctl.d" for place in _PLACES], ".conf")
    if "/etc/sysctl.conf" not in [files.resolve(name) for name in names]:
        names.append("/etc/sysctl.conf")  # procps reads it last; elsewhere 99-sysctl.conf is a link to it
    for name in names:
        for line in files.lines(name):
            if line.assignment is not None:
                path = sysctl_path(line.assignment[0].removeprefix("-"))
                assigned[path] = (name, line, line.assignment[1])
            elif line.text.startswith("-"):
                excluded.add(sysctl_path(line.text[1:]))
        yield None
    for path, (name, line, value) in assigned.items():
        tunables = ours.find(path)
        if re.search(r"[*?\[]", path):  # a line for the parameter itself goes before one for many
            exact = excluded | assigned.keys()
            tunables = tuple(one for one in tunables if one.attribute.location not in exact)
        yield from _claim(Write(tunables, value), name, line, who="sysctl.d")


def read_sysfs_conf(ours: Ours, files: Files, units: Units) -> Iterator[Claim | None]:
    """What the package sysfsutils sets of ours at boot."""
    started = any(
        name.endswith("sysfsutils") for name in (*files.names("/etc/rcS.d"), *files.names("/etc/rc2.d"))
    )
    if not units.is_enabled("sysfsutils.service") and not (
        started and units.find("sysfsutils.service") is not None
    ):
        return
    own = [f"/etc/sysfs.d/{name}" for name in files.names("/etc/sysfs.d") if name.endswith(".conf")]
    for name in ("/etc/sysfs.conf", *own):
        for line in files.lines(name, ours.hint):
            if line.assignment is not None:
                path = posixpath.join("/sys", line.assignment[0].removeprefix("/sys/").lstrip("/"))
                value = line.assignment[1].partition("#")[0].strip()
                yield from _claim(Write(ours.find(path), value), name, line, who="sysfsutils")
        yield None


def _claim(write: Write, name: str, line: Line, *, who: str) -> Iterator[Claim]:
    if not write.tunables:
        return
    directory, _, file = name.rpartition("/")
    remove = "take the line out of it"
    if name.startswith(_VENDOR):
        remove = f"override it with a /etc/{posixpath.basename(directory)}/{file} without the line"
    yield claim_of(write, who=who, file=name, number=line.number, text=line.parts[0].strip(), remove=remove)
