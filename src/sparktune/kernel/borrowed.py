"""Reads files of another user's process with that user's rights, for the length of a `with`.

The daemon has no CAP_DAC_READ_SEARCH: /proc/PID/fd and environ open only for the process's own user. Only
the file system uid of this one thread changes (setfsuid(2)), and nothing but procfs is opened meanwhile.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBC = ctypes.CDLL(None)


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Open files as `uid` does. Without CAP_SETUID nothing changes, and the opens fail as they would."""
    own = os.geteuid()
    if uid == own:
        yield
        return
    _LIBC.setfsuid(ctypes.c_uint(uid))
    try:
        yield
    finally:
        _LIBC.setfsuid(ctypes.c_uint(own))
