"""What netplan's files say of interfaces: which MTU they get. Reads the few keys needed, edits none."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparktune.kernel.root import Root

_FOLDERS = ("/run/netplan", "/etc/netplan", "/lib/netplan")
"""The first that has a file of some name hides the others' of that name. Source: netplan(5)."""
_LINE = re.compile(
    r"""(?P<indent>\ *)(?P<key>"[^"]*"|'[^']*'|[^\s'"\#:{\[-][^:]*?)\s*:(?:\s+(?P<value>.*))?$""", re.VERBOSE
)
_COMMENT = re.compile(r"(^|\s)#.*$")
MOST_DIGITS = 19
"""Of a number; what is longer is none, and int() refuses very long ones."""
_PLACE = 3  # network, ethernets, the definition


@dataclass
class Definition:
    """One definition below `network.ethernets`, as all files together make it.

    Attributes:
        name: its id: the interface's name, if it has no `match`.
        file: the file that sets the MTU; else the last that speaks of it.
        keys: what it says: `mtu`, `set-name`, `match.name`, `match.macaddress`, `match.driver`.
    """

    name: str
    file: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def mtu(self) -> int | None:
        """The MTU it asks for."""
        text = self.keys.get("mtu", "")
        return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None

    def fits(self, netdev: str, mac: str, driver: str) -> bool:
        """Whether it is about this interface. A renamed one may have been matched by its former name."""
        if self.keys.get("set-name") == netdev:
            return True
        wanted = {key: value for key, value in self.keys.items() if key.startswith("match.")}
        if not wanted:
            return self.name == netdev
        actual = {"match.name": netdev, "match.macaddress": mac.lower(), "match.driver": driver}
        return all(
            key in actual and any(fnmatchcase(actual[key], glob) for glob in _globs(key, value))
            for key, value in wanted.items()
        )


def read_netplan(root: Root) -> tuple[Definition, ...]:
    """All definitions of ethernets. A file that is unreadable, or no YAML of the usual form, adds nothing."""
    found: dict[str, Definition] = {}
    for name in sorted(
        {name for folder in _FOLDERS for name in root.names(folder) if name.endswith(".yaml")}
    ):
        path = next(f"{folder}/{name}" for folder in _FOLDERS if root.exists(f"{folder}/{name}"))
        for place, value in parse(root.read(path) or ""):
            if len(place) < _PLACE or place[:2] != ("network", "ethernets"):
                continue
            definition = found.setdefault(place[2], Definition(place[2]))
            key = ".".join(place[_PLACE:])
            if key:
                definition.keys[key] = value
            if key == "mtu" or "mtu" not in definition.keys:
                definition.file = path
    return tuple(found.values())


def unreadable(root: Root) -> tuple[str, ...]:
    """Files of netplan that are there and cannot be read: they are root's (0600)."""
    paths = [
        f"{folder}/{name}" for folder in _FOLDERS for name in root.names(folder) if name.endswith(".yaml")
    ]
    return tuple(path for path in paths if root.read_bytes(path, most=1) is None)


def parse(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The place and the value of each key of block mappings: (("network", "version"), "2").

    Lists, flow mappings, anchors and texts of several lines give no places of their own: none of the keys
    that are asked for has one in files that netplan or its tutorials write.
    """
    place: list[tuple[int, str]] = []
    for raw in text.splitlines():
        found = _LINE.match(_COMMENT.sub("", raw).rstrip())
        if found is None:
            continue
        indent = len(found["indent"])
        while place and place[-1][0] >= indent:
            place.pop()
        place.append((indent, _unquote(found["key"])))
        yield tuple(key for _, key in place), _unquote((found["value"] or "").strip())


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _globs(key: str, value: str) -> list[str]:
    """What one key of `match` takes: a glob, or for the driver a list of them in brackets."""
    listed = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else [value]
    globs = [_unquote(one.strip()) for one in listed]
    return [one.lower() for one in globs] if key == "match.macaddress" else globs
