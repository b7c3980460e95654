"""Files that must survive a crash: replaced atomically, and set aside instead of trusted when damaged."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparktune.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 64 * 1024 * 1024
"""No store of ours is larger; what is longer is damaged and cut."""
MOST_SET_ASIDE = 5
"""How many damaged files of one name are kept; the oldest goes first."""


def replace_durably(path: Path, data: bytes, *, mode: int) -> None:
    """Replace a file so that after a crash or a power cut either the old or the new content is there.

    Raises:
        StoreError: with what the kernel said; the old content is still there then.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            os.fchmod(descriptor, mode)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):  # the reason that counts is the first one
            temporary.unlink()
        raise StoreError(
            f"cannot write {path}: {error.strerror}", hint=f"is there room on the disk of {path.parent}?"
        ) from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_stored(path: Path) -> bytes | None:
    """The content of a store; None if there is none, or none that this user may read. Never waits.

    Raises:
        OSError: it is there and cannot be read: a failing disk, or something that is no file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, PermissionError):  # the first start, or an ordinary user who only looks
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        return file.read(MOST_BYTES)


def set_aside(path: Path, *, keep: bool = False) -> Path | None:
    """Name a damaged file `NAME.corrupt-TIME` for a person to look at; None if that was impossible.

    Args:
        path: the file.
        keep: leave it under its own name too, for as long as nothing better has replaced it.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    try:
        if keep:
            target.hardlink_to(path)
        else:
            path.rename(target)
        kept = sorted(path.parent.glob(f"{path.name}.corrupt-*"))
        for oldest in kept[:-MOST_SET_ASIDE]:
            oldest.unlink()
    except OSError:  # a read-only or full disk: the next store reports it, reading goes on without
        return None
    return target
