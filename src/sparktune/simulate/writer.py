"""Writes files, links and hard links below the directory of a simulated machine, and nowhere else.

Thousands of small files are made for each tree, so this speaks to the kernel directly and without pathlib.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Content = str | int | bytes
"""Text and numbers get the newline that kernel attributes end with; bytes are written as they are."""


class TreeWriter:
    """Makes and changes files by the host's names for them (`/sys/block/…`). Methods raise OSError."""

    __slots__ = ("_base", "_made")

    def __init__(self, directory: Path) -> None:
        self._base = str(directory)
        self._made: set[str] = set()

    def path(self, name: str) -> str:
        """Where the host's `name` is on this machine."""
        return self._base + name

    def make_directory(self, name: str) -> None:
        """Make a directory and those above it."""
        if name not in self._made:
            os.makedirs(self._base + name, exist_ok=True)
            self._made.add(name)

    def write(self, directory: str, contents: Mapping[str, Content]) -> None:
        """Make or change files of a directory; existing ones in place, so that watches on them stay."""
        self.make_directory(directory)
        base = f"{self._base}{directory}/"
        for name, content in contents.items():
            data = content if isinstance(content, bytes) else f"{content}\n".encode()
            descriptor = os.open(base + name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(descriptor, data)
                os.ftruncate(descriptor, len(data))
            finally:
                os.close(descriptor)

    def append(self, name: str, line: str) -> None:
        """Add a line to a file."""
        with open(self._base + name, "a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")

    def read(self, name: str) -> str:
        """The text of a file, stripped."""
        with open(self._base + name, encoding="utf-8") as stream:
            return stream.read().strip()

    def names(self, name: str) -> list[str]:
        """The names in a directory; none if it is not there."""
        try:
            return sorted(os.listdir(self._base + name))
        except FileNotFoundError:  # asked about a device that this variant lacks
            return []

    def exists(self, name: str) -> bool:
        """Whether something is there, be it a dangling link."""
        return os.path.lexists(self._base + name)

    def resolve(self, name: str) -> str:
        """The host's name of what a link leads to."""
        return os.path.realpath(self._base + name).removeprefix(os.path.realpath(self._base))

    def link(self, name: str, target: str) -> None:
        """Make a symbolic link, relative, so that the tree can be moved."""
        parent = os.path.dirname(name)
        self.make_directory(parent)
        os.symlink(os.path.relpath(target, parent), self._base + name)

    def alias(self, name: str, existing: str) -> None:
        """Give an existing file a second name with the same inode: the same value, whichever is written."""
        parent = os.path.dirname(name)
        self.make_directory(parent)
        os.link(self._base + existing, self._base + name)

    def make_socket(self, name: str) -> None:
        """Make a file that answers ENXIO when it is opened, to any user: a socket; open(2)."""
        self.make_directory(os.path.dirname(name))
        os.mknod(self._base + name, stat.S_IFSOCK | 0o644)

    def remove(self, name: str) -> None:
        """Remove a file, a link or a directory with all that is in it."""
        path = self._base + name
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
            self._made = {made for made in self._made if not f"{made}/".startswith(f"{name}/")}
        else:
            os.unlink(path)

    def replace_directory(self, name: str) -> None:
        """Make every file of a directory anew with the same text: as when the kernel adds an object again."""
        path = self._base + name
        shutil.copytree(path, f"{path}.new", symlinks=True)
        shutil.rmtree(path)
        os.rename(f"{path}.new", path)
