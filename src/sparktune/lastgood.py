"""The last good effective configuration on disk, for starts with an invalid file (rule 12 of the design).

A damaged or foreign file is set aside and counts as none; nothing in here judges values.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparktune import __version__
from sparktune.configfile import FileStamp
from sparktune.frozen import frozen
from sparktune.storage import replace_durably, set_aside

if TYPE_CHECKING:
    from sparktune.settings import Effective

_FORMAT = 1
_MOST_BYTES = 4 * 1024 * 1024
_MODE = 0o640


@frozen
class LastGood:
    """What was remembered.

    Attributes:
        values: the effective settings, by section, not yet validated by this version.
        files: the files they came from, as they were then.
    """

    values: dict[str, Any]
    files: tuple[FileStamp, ...]


def canonical(values: object) -> str:
    """The one JSON text of some values: sorted keys, no blanks."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def remember(last_good: Path, effective: Effective) -> None:
    """Keep a configuration, durably, if it is good (`error` is None) and not the one that is kept already.

    Raises:
        StoreError: it cannot be written; the one before it is still there then.
    """
    if effective.error is not None:
        return
    body = {
        "format": _FORMAT,
        "version": __version__,
        "settings": effective.settings.model_dump(mode="json"),
        "files": [[os.fsencode(stamp.path).hex(), stamp.sha256] for stamp in effective.files],
    }
    data = (json.dumps({**body, "checksum": _checksum(body)}, indent=2, sort_keys=True) + "\n").encode()
    if _read(last_good) != data:
        replace_durably(last_good, data, mode=_MODE)


def recall(last_good: Path) -> LastGood | None:
    """What was remembered; None if there is nothing or it cannot be read. What is damaged is set aside."""
    data = _read(last_good)
    if data is None:
        return None
    try:
        return _parse(data)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # damaged, or not ours
        set_aside(last_good)
        return None


def _parse(data: bytes) -> LastGood:
    """What was remembered. What is no such file raises one of the errors that `recall` catches."""
    body = json.loads(data)
    checksum = body.pop("checksum")
    if body["format"] != _FORMAT or checksum != _checksum(body) or not isinstance(body["settings"], dict):
        raise ValueError
    files = tuple(
        FileStamp(path=Path(os.fsdecode(bytes.fromhex(name))), sha256=digest)
        for name, digest in body["files"]
    )
    return LastGood(values=body["settings"], files=files)


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def _read(path: Path) -> bytes | None:
    """The content; empty (which is damaged) for what is no file or too large; None if nothing is readable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # not there yet, or not for this user's eyes: no last good configuration
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            return b""
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(_MOST_BYTES)
    except OSError:  # a failing disk: no last good configuration, and nothing to set aside
        return None
    finally:
        os.close(descriptor)
