"""Where the host's files are: `/`, or the tree given with `--root`. The one place that joins paths to it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_BYTES = 65536
"""More than any attribute sparktune reads whole; what is longer is cut."""

_PAGE_BYTES = 4096
"""sysfs makes an attribute's text at once and gives no more than a page of it, which is 4 KiB or more.

Source: kernel, Documentation/filesystems/sysfs.rst.
"""


def _read_most(descriptor: int, most: int, *, whole: bool) -> bytes:
    """Read to the end or to `most` bytes: /proc/cpuinfo and mountinfo give about a page for each read().

    `whole`: less than a page is all there is, and needs no second read() to be sure of it.
    """
    piece = os.read(descriptor, most)
    if whole and len(piece) < _PAGE_BYTES:
        return piece
    data = bytearray(piece)
    while piece and len(data) < most and (piece := os.read(descriptor, most - len(data))):
        data += piece
    return bytes(data)


def _read_page(directory: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    try:
        return os.read(descriptor, _PAGE_BYTES)
    finally:
        os.close(descriptor)


@frozen(kw_only=False)
class Root:
    """The root below which the host's /sys, /proc, /etc and /run are found.

    Attributes:
        directory: `/` for the machine itself.
    """

    directory: Path = Path("/")
    _base: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Note the directory as text: names are joined to it thousands of times."""
        base = str(self.directory)
        object.__setattr__(self, "_base", "" if base == "/" else base)

    @property
    def is_real(self) -> bool:
        """Whether this is the running machine and not a recorded or simulated tree."""
        return self.directory == Path("/")

    def path(self, name: str) -> Path:
        """The path on this machine of the host's `name` (`/sys/block`)."""
        return self.directory / name.lstrip("/")

    def _joined(self, name: str) -> str:
        """`path` as text. A fabric is read with hundreds of opens, and making a Path costs more than one."""
        return f"{self._base}/{name.lstrip('/')}"

    def name(self, path: Path) -> str:
        """The host's name of a path on this machine; the reverse of `path`."""
        return str(path) if self.is_real else f"/{path.relative_to(self.directory)}"

    def read(self, name: str) -> str | None:
        """The stripped text of a file, at most 64 KiB; None when it is absent, unreadable or has no text.

        For facts about the machine, where "not there" and "not readable" mean the same: unknown.
        """
        data = self.read_bytes(name)
        return None if data is None else data.decode(errors="replace").strip("\0 \n\t")

    def read_name(self, name: str) -> str:
        """The name of an interface that a file holds, byte for byte as `names` gives it; empty if none.

        A name may hold any bytes but white space, `/`, `:` and NUL. Source: kernel, net/core/dev.c,
        dev_valid_name.
        """
        return os.fsdecode((self.read_bytes(name) or b"").strip(b"\0\n"))

    def read_bytes(self, name: str, *, most: int = MOST_BYTES) -> bytes | None:
        """The first `most` bytes of a file; None when it is absent or unreadable."""
        try:
            descriptor = os.open(self._joined(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError):  # unknown is an answer here; an Attribute tells refusals apart
            return None
        try:
            return _read_most(descriptor, most, whole=name.startswith("/sys/"))
        except OSError:  # EIO, EINVAL and ENODEV of a dying device: unknown as well
            return None
        finally:
            os.close(descriptor)

    def fetch(self, name: str) -> bytes:
        """The content of a sysfs attribute, at most a page of 4 KiB. Raises OSError as the kernel gave it."""
        descriptor = os.open(self._joined(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return os.read(descriptor, _PAGE_BYTES)
        finally:
            os.close(descriptor)

    def texts(self, name: str, entries: Iterable[str]) -> dict[str, str]:
        """The stripped text of some sysfs attributes in a directory, as `read` gives it, by their names.

        What `read` knows nothing of is left out. For several of one device: its directory is looked up once.
        """
        pages = self.attributes(name, entries).items()
        return {entry: data.decode(errors="replace").strip("\0 \n\t") for entry, data in pages}

    def attributes(self, name: str, entries: Iterable[str] | None = None) -> dict[str, bytes]:
        """The content of sysfs attributes in a directory, all unless some are named, at most 4 KiB each.

        What is absent, unreadable or no file is left out. For directories of many: looking up the way to each
        of 256 GIDs costs more than reading them.
        """
        found: dict[str, bytes] = {}
        try:
            directory = os.open(self._joined(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError):  # no such directory, or one that may not be read
            return found
        try:
            for entry in os.listdir(directory) if entries is None else entries:  # noqa: PTH208 - of a descriptor
                with suppress(OSError):  # it left, is a directory, or answers with an error
                    found[entry] = _read_page(directory, entry)
        except OSError:  # the directory itself left: what was read until then
            pass
        finally:
            os.close(directory)
        return found

    def names(self, name: str) -> tuple[str, ...]:
        """The sorted names in a directory; empty when it is absent or unreadable."""
        try:
            return tuple(sorted(os.listdir(self._joined(name))))  # noqa: PTH208 - names, not paths, and often
        except (OSError, ValueError):  # no such class of device here: nothing is listed
            return ()

    def inodes(self, name: str) -> tuple[tuple[str, int], ...]:
        """The names in a directory with the inodes behind them: another inode is another device."""
        found = []
        directory = self._joined(name)
        for entry in self.names(name):
            with suppress(OSError):  # it left in between
                found.append((entry, os.stat(f"{directory}/{entry}").st_ino))  # noqa: PTH116 - often
        return tuple(found)

    def inode(self, name: str) -> int | None:
        """The inode number behind a name, links followed; None when nothing is there."""
        try:
            return os.stat(self._joined(name)).st_ino  # noqa: PTH116 - often
        except (OSError, ValueError):
            return None

    def exists(self, name: str) -> bool:
        """Whether a file or directory is there; links are followed."""
        try:
            os.stat(self._joined(name))  # noqa: PTH116 - often
        except (OSError, ValueError):  # also ESTALE of a dead NFS server, EACCES, a name too long
            return False
        return True

    def link(self, name: str) -> str | None:
        """Where a link points to, as it says itself; None if it is no link."""
        try:
            return os.readlink(self._joined(name))  # noqa: PTH115 - text as it is, not a path
        except (OSError, ValueError):  # a file, or nothing at all
            return None

    def resolve(self, name: str) -> str:
        """The host's name of what `name` points to after all links: `/sys/devices/pci0004:00/…`."""
        # realpath: Path.resolve raises RuntimeError for a loop of links before Python 3.13
        resolved = Path(os.path.realpath(self._joined(name)))
        return str(resolved) if self.is_real else self._resolve_in_tree(name, resolved)

    def _resolve_in_tree(self, name: str, resolved: Path) -> str:
        base = self.directory.resolve()
        return f"/{resolved.relative_to(base)}" if resolved.is_relative_to(base) else name
