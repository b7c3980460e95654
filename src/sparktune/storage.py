"""Files that must survive a crash: replaced atomically, and set aside instead of trusted when damaged."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparktune.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

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


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file to `NAME.corrupt-TIME` for a person to look at; None if that was impossible."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    try:
        path.rename(target)
        kept = sorted(path.parent.glob(f"{path.name}.corrupt-*"))
        for oldest in kept[:-MOST_SET_ASIDE]:
            oldest.unlink()
    except OSError:  # a read-only or full disk: the next store reports it, reading goes on without
        return None
    return target
