"""Clocks: how long the machine was suspended, and a descriptor that fires when it resumes."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress

_LIBC = ctypes.CDLL(None, use_errno=True)

# include/linux/timerfd.h
_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2
_FAR_S = 1 << 40
_RESUME_S = 0.05


class _Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Moment), ("value", _Moment))


def since_boot_s() -> float:
    """Seconds since boot, suspend included: the clock that the start times of processes are in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def suspended_s() -> float:
    """Seconds spent suspended since boot: CLOCK_BOOTTIME counts them, CLOCK_MONOTONIC does not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class ResumeWatch:
    """Notices a resume from suspend.

    A timer on CLOCK_REALTIME that never ends is cancelled when that clock jumps, which every resume
    makes it do (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). A jump that is only somebody setting the
    clock is told apart by the suspended time.
    """

    def __init__(self) -> None:
        """Open and arm the timer. Raises OSError."""
        self._descriptor = _LIBC.timerfd_create(time.CLOCK_REALTIME, os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), "timerfd_create")
        self._suspended_s = suspended_s()
        self._arm()

    def fileno(self) -> int:
        """The timer's descriptor: readable after the clock jumped."""
        return int(self._descriptor)

    def has_resumed(self) -> bool:
        """Whether the machine was suspended since the last call; also clears and re-arms the timer."""
        with suppress(OSError):  # ECANCELED is the jump, EAGAIN is none
            os.read(self._descriptor, 8)
        self._arm()
        before, self._suspended_s = self._suspended_s, suspended_s()
        return self._suspended_s - before > _RESUME_S

    def close(self) -> None:
        """Release the timer."""
        os.close(self._descriptor)

    def _arm(self) -> None:
        timer = _Timer(_Moment(0, 0), _Moment(_FAR_S, 0))
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        _LIBC.timerfd_settime(self._descriptor, flags, ctypes.byref(timer), None)
