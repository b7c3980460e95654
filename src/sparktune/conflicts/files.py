"""Reads the files of other programs: as the host, bounded, counted, and saying what could not be read."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

from sparktune.conflicts.claim import Line

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterable, Iterator

    from sparktune.kernel.root import Root

MOST_FILES = 4000
MOST_BYTES = 65536
"""Longer than any file of the kinds that are looked at; what is longer is read in part, and said to be."""
MOST_CHARACTERS = 4096
"""Of a line; the rest is not looked at."""

_MOST_LINKS = 8
_MOST_GAPS = 20


class Files:
    """The host's files, for one look.

    Attributes:
        gaps: what could not be looked at, and why.
    """

    def __init__(self, root: Root) -> None:
        """Nothing is read yet."""
        self.root = root
        self._read: set[str] = set()
        self.gaps: list[str] = []
        self._names: dict[str, dict[str, None]] = {}

    @property
    def count(self) -> int:
        """How many files were read."""
        return len(self._read)

    def names(self, directory: str) -> Collection[str]:
        """The sorted names in a directory; asked of the kernel once."""
        if directory not in self._names:
            real = self.real(directory)
            names = self._names[directory] = dict.fromkeys(self.root.names(real))
            if (
                not names
                and self.root.exists(real)
                and not os.access(self.root.path(real), os.R_OK | os.X_OK)
            ):
                self.miss(f"{directory}: not readable")
        return self._names[directory]

    def stack(self, directories: Iterable[str], suffix: str) -> list[str]:
        """Files of several directories in the order of their names; of equal names the first one's counts.

        Source: systemd's "configuration directories and precedence", as in sysctl.d(5) and udev(7).
        """
        found: dict[str, str] = {}
        for directory in directories:
            for name in self.names(directory):
                if name.endswith(suffix):
                    found.setdefault(name, f"{directory}/{name}")
        return [found[name] for name in sorted(found)]

    def lines(self, name: str, hint: re.Pattern[bytes] | None = None) -> list[Line]:
        """The logical lines of a file; none if it is not there, masked, or without the hint."""
        data = self.data(name)
        if hint is not None and not hint.search(data):
            return []
        return list(_logical(data.decode(errors="replace")))

    def data(self, name: str) -> bytes:
        """The first 64 KiB of a file; nothing if it is not there. What cannot be read is remembered."""
        if self.count >= MOST_FILES:
            self.miss(f"more than {MOST_FILES} files: the rest was not looked at")
            return b""
        real = self.real(name)
        data = self.root.read_bytes(real, most=MOST_BYTES + 1)
        if data is None:
            if self.root.path(real).is_file():
                self.miss(f"{name}: not readable")
            return b""
        self._read.add(name)
        if len(data) > MOST_BYTES:
            self.miss(f"{name}: longer than {MOST_BYTES // 1024} KiB, read in part")
        return data[:MOST_BYTES]

    def is_script(self, name: str) -> bool:
        """Whether a file says of itself that it is a script."""
        return self.root.read_bytes(self.real(name), most=2) == b"#!"

    def real(self, name: str) -> str:
        """The host's name after its links, which in a tree must not lead out of it."""
        if self.root.is_real:
            return name  # the kernel follows them
        for _ in range(_MOST_LINKS):
            target = self.root.link(name)
            if target is None:
                break
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        return name

    def resolve(self, name: str) -> str:
        """The host's name after all links, for comparing; dearer than `real` on the machine itself."""
        return self.root.resolve(name) if self.root.is_real else self.real(name)

    def is_empty(self, name: str) -> bool:
        """Whether a file has no bytes; what is not there has none either."""
        try:
            return self.root.path(self.real(name)).stat().st_size == 0
        except (OSError, ValueError):  # a dangling link
            return True

    def is_executable(self, name: str) -> bool:
        """Whether a file has an x bit."""
        try:
            return bool(self.root.path(self.real(name)).stat().st_mode & 0o111)
        except (OSError, ValueError):  # not there
            return False

    def is_public(self, name: str) -> bool:
        """Whether every user of the host may read a file: only then may its text be shown to everybody."""
        try:
            path = self.root.path(self.real(name))
            if not path.stat().st_mode & 0o004:
                return False
            base = self.root.directory
            return all(parent.stat().st_mode & 0o001 for parent in path.parents if base in parent.parents)
        except (OSError, ValueError):  # gone meanwhile: rather hide it
            return False

    def miss(self, what: str) -> None:
        """Remember something that could not be looked at."""
        if what not in self.gaps and len(self.gaps) < _MOST_GAPS:
            self.gaps.append(what)


def _logical(text: str) -> Iterator[Line]:
    r"""Lines joined where they end in a backslash; without comments (`#`, `;`) and empty lines."""
    parts: list[str] = []
    start = 0
    for number, part in enumerate(text.splitlines(), start=1):
        is_comment = part.lstrip()[:1] in {"#", ";"}
        if parts and is_comment:  # within a continued line it is skipped: systemd.syntax(7), udev(7)
            parts.append("")
            continue
        if not parts:
            start = number
            if is_comment or not part.strip():
                continue
        parts.append(part[:MOST_CHARACTERS])
        if not part.endswith("\\"):
            yield _join(start, parts)
            parts = []
    if parts:
        yield _join(start, parts)


def _join(start: int, parts: list[str]) -> Line:
    text = " ".join(part.removesuffix("\\").strip() for part in parts if part)
    return Line(number=start, text=text[:MOST_CHARACTERS], parts=tuple(parts))
