"""Runs a function in a forked process of its own: another user's, one without room, one that is killed."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BROKEN = 99
"""Exit code of a child whose function raised; its traceback is in the test's output."""


def fork(function: Callable[[], int]) -> int:
    """Start a child that ends with the function's result as its exit code. Returns its pid."""
    with warnings.catch_warnings():
        # Python 3.12 warns when any thread runs; the children take no lock that a thread could hold
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = BROKEN
    try:
        code = function()
    except BaseException:  # noqa: BLE001 - a child must never go on as a second pytest
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """The exit code of a child; the negative signal number if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(function: Callable[[], int]) -> int:
    """Run a function in a child and wait for it."""
    return wait(fork(function))


def kill(child: int) -> None:
    """Kill a child that was forked, and reap it."""
    os.kill(child, signal.SIGKILL)
    wait(child)


def hold_open(path: Path, data: bytes, ready: int) -> int:
    """In a child: write to a file, say so through a pipe, and keep the file open until killed."""
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, data)
    os.write(ready, b"!")
    signal.pause()
    return 0


def await_word(descriptor: int) -> bytes:
    """Wait for one byte of a child that reports through a pipe."""
    return os.read(descriptor, 1)
