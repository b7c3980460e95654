"""One configuration file: found, read without trusting it, parsed, and recognised again later.

It knows TOML and files, not layers or keys. Free of pydantic.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tomllib
from dataclasses import field
from typing import TYPE_CHECKING, Any

from sparktune.errors import ConfigurationError, Problem
from sparktune.frozen import frozen
from sparktune.keylines import KeyLines, KeyPath
from sparktune.wording import plain

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 1024 * 1024
"""The largest configuration file that is read."""

_MOST_KEY_PARTS = 32
# tomllib needs time with the square of the parts of one dotted key: 50,000 parts (100 KB) are a minute.
_ENDLESS_KEY = re.compile(
    r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){%d}""" % _MOST_KEY_PARTS  # noqa: UP031 - bytes have no other formatting
)
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")
_AT_END = " (at end of document)"


@frozen
class FileStamp:
    """What a configuration file was when it was read.

    Attributes:
        path: the file.
        sha256: of its content; None when it does not exist.
        signature: device, inode, size, mtime and ctime in ns; None when unknown, then the content decides.
    """

    path: Path
    sha256: str | None
    signature: tuple[int, ...] | None = None


@frozen
class Document:
    """One parsed file.

    Attributes:
        name: its path, fit to be shown.
        text: its content.
        tables: what tomllib made of it.
    """

    name: str
    text: str = field(repr=False)
    tables: dict[str, Any] = field(repr=False)
    _lines: list[KeyLines] = field(default_factory=list, repr=False, compare=False)

    def line(self, path: KeyPath) -> int:
        """The 1-based line of a key; 0 if unknown."""
        if not self._lines:  # made for the first error only, then kept for the others
            self._lines.append(KeyLines(self.text))
        return self._lines[0].line(path)


def list_drop_ins(path: Path) -> tuple[Path, ...]:
    """The `*.toml` files in `PATH.d`, in name order; hidden files (an editor's) are left out.

    Raises:
        ConfigurationError: the directory is there but cannot be listed.
    """
    try:
        names = os.listdir(f"{path}.d")  # noqa: PTH208 - names, not paths, and with every sweep
    except FileNotFoundError:  # no drop-ins
        return ()
    except NotADirectoryError as error:
        directory = path.with_name(f"{path.name}.d")
        raise _refusal(directory, "is no directory", "drop-ins lie in a directory of this name") from error
    except OSError as error:
        raise _unreadable(path.with_name(f"{path.name}.d"), error) from error
    directory = path.with_name(f"{path.name}.d")
    return tuple(directory / name for name in sorted(names) if name.endswith(".toml") and name[0] != ".")


def read_file(path: Path) -> tuple[bytes | None, FileStamp]:
    """The content (None when there is no such file) and the stamp of a configuration file.

    Raises:
        ConfigurationError: it is no regular file, above 1 MiB, or the kernel refuses.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise _refusal(path, "is a link to a file that does not exist", "remove the link") from error
        return None, FileStamp(path=path, sha256=None)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        status = os.fstat(descriptor)
        _require_plain(path, status)
        chunks = [b""]
        size = 0
        while size <= MOST_BYTES and (chunk := os.read(descriptor, MOST_BYTES + 1 - size)):
            chunks.append(chunk)
            size += len(chunk)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    if size > MOST_BYTES:  # it grew while it was read
        raise _too_large(path)
    content = b"".join(chunks)
    digest = hashlib.sha256(content).hexdigest()
    return content, FileStamp(path=path, sha256=digest, signature=_signature(status))


def differs(stamp: FileStamp) -> bool:
    """Whether the file is another one now than when it was stamped. Reads it only if its stat changed."""
    try:
        status = os.stat(stamp.path)  # noqa: PTH116 - with every sweep
    except FileNotFoundError:  # gone, or still not there
        return stamp.sha256 is not None or stamp.path.is_symlink()
    except OSError:  # not readable any more: not the same, whatever it is
        return True
    if stamp.sha256 is None:
        return True
    if stamp.signature == _signature(status):
        return False
    try:
        return read_file(stamp.path)[1].sha256 != stamp.sha256
    except ConfigurationError:  # it became a directory, too large, unreadable
        return True


def parse(path: Path, content: bytes) -> Document:
    """Parse TOML.

    Raises:
        ConfigurationError: it is no UTF-8 or no TOML, with the line.
    """
    text = _decode(path, content)
    endless = _ENDLESS_KEY.search(text)
    if endless:
        line = text.count("\n", 0, endless.start()) + 1
        raise _refusal(path, f"a key of more than {_MOST_KEY_PARTS} dotted parts", line=line)
    try:
        return Document(name=show_path(path), text=text, tables=tomllib.loads(text))
    except RecursionError as error:
        raise _refusal(path, "brackets are nested too deeply", "no key takes nested lists") from error
    except ValueError as error:  # TOMLDecodeError, and the plain one of a number of 4300 digits
        raise _syntax_error(path, text, str(error)) from error


def show_path(path: Path) -> str:
    """A path fit for messages and JSON: bytes that are no UTF-8 are replaced, control characters escaped."""
    return plain(os.fsencode(path).decode(errors="replace"), most=4096)


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _require_plain(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise _refusal(path, f"is {kind}; expected a regular file")
    if status.st_size > MOST_BYTES:
        raise _too_large(path)


def _decode(path: Path, content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(path, "is not UTF-8 text", "save it as UTF-8", line=line) from error
    if text.startswith("\ufeff"):
        raise _refusal(path, "begins with a byte order mark", "save it as UTF-8 without one", line=1)
    return text


def _syntax_error(path: Path, text: str, said: str) -> ConfigurationError:
    match = _AT_LINE.search(said)
    line = 0
    if match:
        line, said = int(match[1]), said[: match.start()]
    elif said.endswith(_AT_END):
        line, said = text.rstrip("\n").count("\n") + 1, said.removesuffix(_AT_END)
    if "integer string conversion" in said:
        said = "a number of more than 4300 digits"
    hint = "text needs quotes, and numbers have no unit" if "value" in said or "newline" in said else ""
    return _refusal(path, f"is no valid TOML: {plain(said, most=200)}", hint, line=line)


def _too_large(path: Path) -> ConfigurationError:
    return _refusal(path, f"is larger than {MOST_BYTES // 1024} KiB", "is this the right file?")


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    hint = "run this as root, or make it readable" if isinstance(error, PermissionError) else ""
    return _refusal(path, f"cannot be read: {error.strerror}", hint)


def _refusal(path: Path, message: str, hint: str = "", *, line: int = 0) -> ConfigurationError:
    problem = Problem(file=show_path(path), line=line, key="", message=message, hint=hint)
    return ConfigurationError((problem,))
