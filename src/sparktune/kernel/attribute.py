"""Attributes of sysfs, procfs and configfs, read and written through descriptors that stay open.

Knows what the kernel's errors mean for a reading; does not know what anybody wants.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from sparktune.kernel.identity import was_replaced
from sparktune.kernel.lockdown import add_lockdown
from sparktune.model import Reading, ReadingKind, Value, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sparktune.kernel.root import Root
    from sparktune.model import Attribute

Codec = Literal["integer", "text"]

LONGEST = 4096
"""A sysfs attribute is at most one 4 KiB page (Documentation/filesystems/sysfs.rst) of what we read."""

GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR})
FORBIDDEN = frozenset({errno.EPERM, errno.EACCES, errno.EROFS})
UNWANTED = frozenset({errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP, errno.E2BIG, errno.EOVERFLOW})

_CONFIGFS = "/sys/kernel/config/"
"""configfs fills a descriptor's buffer at its first read only (fs/configfs/file.c): later ones repeat it."""

_INTEGER = re.compile(rb"-?[0-9]{1,20}")
_SHORT = 64
"""Enough for every value of ours; what is longer is compared the careful way."""

_RDMA_CM_DEFAULTS = {"default_roce_mode": "RoCE v2\n", "default_roce_tos": "0\n"}
"""What rdma_cm fills a port's directory with (drivers/infiniband/core/cma_configfs.c)."""

_VANISHED = frozenset({errno.ENODEV, errno.ENOENT, errno.EBADF})


def describe_error(error: OSError, what: str) -> str:
    """`write /sys/…: Invalid argument (EINVAL)`."""
    code = "EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else errno.errorcode.get(error.errno or 0, "?")
    return f"{what}: {error.strerror or error} ({code})"


def reading_of(error: OSError, name: str) -> Reading:
    """What an error while reading means: gone is absent, forbidden is blocked, the rest failed."""
    if error.errno in GONE:
        return Reading(ReadingKind.ABSENT, reason=describe_error(error, f"read {name}"))
    kind = ReadingKind.BLOCKED if error.errno in FORBIDDEN else ReadingKind.FAILED
    return Reading(kind, reason=describe_error(error, f"read {name}"))


def verdict_of(error: OSError) -> Verdict:
    """What an error while writing means: gone is absent, refused is blocked, the rest failed."""
    if error.errno in GONE:
        return Verdict.ABSENT
    return Verdict.BLOCKED if error.errno in FORBIDDEN | UNWANTED else Verdict.FAILED


def decode(data: bytes, codec: Codec) -> Reading:
    """The value in the bytes of an attribute, or why there is none."""
    if len(data) > LONGEST:
        return Reading(ReadingKind.FAILED, reason=f"longer than {LONGEST} bytes: no attribute of ours")
    text = data.strip(b" \t\n")
    if not text:
        return Reading(ReadingKind.FAILED, reason="empty")
    if codec == "integer":
        if _INTEGER.fullmatch(text) is None:
            return Reading(ReadingKind.FAILED, reason=f"no number: {text[:40]!r}")
        return Reading(ReadingKind.VALUE, int(text))
    if not text.isascii() or any(byte < ord(" ") for byte in text):
        return Reading(ReadingKind.FAILED, reason=f"no text: {text[:40]!r}")
    return Reading(ReadingKind.VALUE, text.decode())


def encode(value: Value) -> bytes:
    """The bytes that are written for a value."""
    return b"%s\n" % str(value).encode()


class FileAttribute:
    """One attribute file.

    Attributes:
        writes: how often we wrote it; a check on the effect of a setting starts anew when it changes.
        last: the value last seen, None if none could be seen.
    """

    __slots__ = (
        "_aliases", "_expected", "_path", "_reader", "_reopens", "_root", "_tree", "_writer",
        "codec", "identity", "last", "location", "makes", "writable", "writes",
    )  # fmt: skip

    def __init__(
        self,
        root: Root,
        name: str,
        *,
        identity: tuple[str, str],
        codec: Codec = "integer",
        aliases: Sequence[str] = (),
        writable: bool = True,
        makes: str = "",
    ) -> None:
        """Describe an attribute; nothing is opened yet.

        Args:
            root: where the host's files are.
            name: the host's name of the file.
            identity: hardware path and instance, see `identity.py`.
            codec: whether it holds an integer or a text.
            aliases: other files with the same value behind another inode.
            writable: False for a check.
            makes: a configfs directory that must be made before the file exists.
        """
        self._root = root
        self._tree = not root.is_real
        self._reopens = name.startswith(_CONFIGFS)
        self._path = root.path(name)
        self._aliases = tuple(root.path(alias) for alias in aliases)
        self.makes = makes
        self._reader = -1
        self._writer = -1
        self._expected: tuple[Value, bytes] | None = None
        self.location = name
        self.identity = identity
        self.codec: Codec = codec
        self.writable = writable
        self.writes = 0
        self.last: Value | None = None

    @property
    def kind(self) -> str:
        """How `reopen` makes it again from the originals: `file:integer`."""
        return f"file:{self.codec}"

    @property
    def watched(self) -> tuple[Path, ...]:
        """The file and its aliases."""
        return (self._path, *self._aliases)

    def read(self) -> Reading:
        """Read it now; a device that came back behind the same name is opened again."""
        self.last = None
        try:
            reading = decode(self._pread(), self.codec)
        except OSError as error:
            if self.makes and error.errno == errno.ENOENT and self._can_be_made():
                return Reading(ReadingKind.VALUE, "(not set)")
            return reading_of(add_lockdown(self._root, error), self.location)
        self.last = reading.value
        return reading

    def holds(self, wanted: Value) -> bool:
        """Compare the raw bytes with those of the last reading that gave `wanted`: one pread, no parsing."""
        expected = self._expected
        if expected is not None and expected[0] == wanted:
            try:
                data = self._fetch(_SHORT) if self._reopens else os.pread(self._reader, _SHORT, 0)
            except OSError:  # gone: the careful way decides
                data = b""
            if data == expected[1] and not (self._tree and self._unlinked()):
                self.last = wanted
                return True
        return self._holds_carefully(wanted)

    def preparation(self) -> tuple[str, ...]:
        """`mkdir …` if its configfs directory is not there yet."""
        if self.makes and not self._root.exists(self.makes):
            return (f"mkdir {self.makes}",)
        return ()

    def prepare(self) -> None:
        """Make its configfs directory. A real kernel fills it; in a tree we do. Raises OSError."""
        self._root.path(self.makes).mkdir(exist_ok=True)
        if self._tree:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            for name, text in _RDMA_CM_DEFAULTS.items():
                if not (path := self._path.parent / name).exists():
                    path.write_text(text)

    def unprepare(self) -> None:
        """Remove the configfs directory again. Raises OSError."""
        directory = self._root.path(self.makes)
        self.close()
        if self._tree:
            for path in sorted(directory.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        directory.rmdir()

    def write(self, value: Value) -> None:
        """Write the value. Raises OSError as the kernel gave it."""
        data = encode(value)
        try:
            self._pwrite(data)
        except OSError as error:
            self._drop_writer()
            if error.errno not in _VANISHED:
                raise
            self._pwrite(data)
        self.writes += 1

    def exchange(self, wanted: bytes) -> bytes | None:
        """The heal of the hot path: read, compare, write, and nothing else.

        Returns:
            What was there instead of `wanted`, after `wanted` was written; None if nothing was written: it
            holds, or takes a closer look.
        """
        try:
            found = self._fetch(_SHORT)
            if not found or found == wanted:
                return None
            if self._tree:
                self._pwrite(wanted)
            else:
                os.pwrite(self._writer, wanted, 0)
        except OSError:  # not open, gone, refused: the closer look tells them apart
            return None
        self.writes += 1
        return found

    def close(self) -> None:
        """Release both descriptors."""
        self._drop_reader()
        self._drop_writer()
        self._expected = None

    def _can_be_made(self) -> bool:
        if self._root.exists(self.makes) or was_replaced(self._root, self.identity[1]):
            return False
        return self._root.exists(self.makes.rpartition("/")[0])

    def _pwrite(self, data: bytes) -> None:
        writer = self._open_writer()
        if not self._tree:
            os.pwrite(writer, data, 0)
            return
        # A plain file keeps the rest of a longer value; sysfs does not. Blanked in the same write: whoever
        # reads before it is cut, or after a kill, finds the value all the same.
        size = os.fstat(writer).st_size
        os.pwrite(writer, data.ljust(size, b"\n"), 0)
        if size > len(data):
            os.ftruncate(writer, len(data))

    def _holds_carefully(self, wanted: Value) -> bool:
        try:
            data = self._pread()
        except OSError:  # read() says what it means
            return False
        self.last = decode(data, self.codec).value
        if self.last != wanted:
            return False
        self._expected = (wanted, data)
        return True

    def _fetch(self, size: int) -> bytes:
        """What the kernel has now: by the descriptor that is open, or by a new one if that cannot tell."""
        if not self._reopens:
            return os.pread(self._reader, size, 0)
        descriptor = self._open(os.O_RDONLY)
        try:
            return os.pread(descriptor, size, 0)
        finally:
            os.close(descriptor)

    def _pread(self) -> bytes:
        if self._reopens:
            return self._fetch(LONGEST + 1)
        if self._reader >= 0 and self._unlinked():
            self._drop_reader()
        try:
            return os.pread(self._open_reader(), LONGEST + 1, 0)
        except OSError as error:
            self._drop_reader()
            if error.errno not in _VANISHED:
                raise
            return os.pread(self._open_reader(), LONGEST + 1, 0)

    def _unlinked(self) -> bool:
        """In a tree a deleted file stays readable through our descriptor; sysfs answers ENODEV by itself."""
        return self._tree and self._reader >= 0 and os.fstat(self._reader).st_nlink == 0

    def _open_reader(self) -> int:
        if self._reader < 0:
            self._reader = self._open(os.O_RDONLY)
        return self._reader

    def _open_writer(self) -> int:
        if self._writer < 0:
            self._writer = self._open(os.O_WRONLY)
        elif self._tree and os.fstat(self._writer).st_nlink == 0:
            self._drop_writer()
            return self._open_writer()
        return self._writer

    def _open(self, mode: int) -> int:
        """Open the file, and make sure that it is still that of our device and not of one added since.

        Asked after opening: a descriptor of the right device never becomes one of another.
        """
        descriptor = os.open(self._path, mode | os.O_CLOEXEC | os.O_NONBLOCK)
        if was_replaced(self._root, self.identity[1]):
            os.close(descriptor)
            raise OSError(errno.ENODEV, "the device left, and another one has its name", self.location)
        return descriptor

    def _drop_reader(self) -> None:
        if self._reader >= 0:
            with suppress(OSError):  # nothing is lost when closing a read descriptor fails
                os.close(self._reader)
        self._reader = -1

    def _drop_writer(self) -> None:
        if self._writer >= 0:
            with suppress(OSError):  # the write itself already reported its error
                os.close(self._writer)
        self._writer = -1


class FixedAttribute:
    """An attribute that cannot be there now, with the reason: an offline CPU, an unknown latency."""

    writable = True
    watched: tuple[Path, ...] = ()
    kind = "fixed"
    makes = ""

    def __init__(self, location: str, reading: Reading) -> None:
        """Describe what is missing and why."""
        self.location = location
        self.identity = ("", "")
        self._reading = reading

    def read(self) -> Reading:
        """Always the same reading."""
        return self._reading

    def holds(self, wanted: Value) -> bool:
        """Whether the fixed reading happens to be `wanted`."""
        return self._reading.value == wanted

    def exchange(self, wanted: bytes) -> bytes | None:
        """Nothing is written."""

    def preparation(self) -> tuple[str, ...]:
        """Nothing can be prepared."""
        return ()

    def prepare(self) -> None:
        """Nothing to prepare."""

    def unprepare(self) -> None:
        """Nothing was prepared."""

    def write(self, value: Value) -> None:
        """Refuse. Raises OSError (ENODEV)."""
        raise OSError(errno.ENODEV, f"cannot be set to {value}", self.location)

    def close(self) -> None:
        """Nothing is open."""


def reopen(root: Root, kind: str, location: str, identity: tuple[str, str], makes: str) -> Attribute:
    """The attribute an original was recorded of, without any configuration: for `restore` after a crash."""
    if kind.startswith("netlink:"):
        from sparktune.kernel.netattribute import reopen_parameter

        return reopen_parameter(root, kind, location, identity)
    if kind == "file:traffic_class":
        from sparktune.kernel.trafficclass import TrafficClass

        return TrafficClass(root, location, identity=identity)
    codec: Codec = "text" if kind == "file:text" else "integer"
    return FileAttribute(root, location, identity=identity, codec=codec, makes=makes)
