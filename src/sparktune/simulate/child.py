"""How each process of a simulation begins: it ties its life to the one that started it, then runs its module.

Run as `python -m sparktune.simulate.child PARENT_PID MODULE ARGUMENT…`. Why not in `preexec_fn`: that runs
between fork and exec, where a lock held by another thread hangs the child. Here Python is up and alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from importlib import import_module

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # include/uapi/linux/prctl.h


def tie_to_parent(pid: int) -> bool:
    """Have the kernel send us SIGTERM when our parent is gone, even by `kill -9` (PR_SET_PDEATHSIG(2const)).

    Returns:
        False when it was gone before the kernel was asked: then nobody will ever send that signal.
    """
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
    return os.getppid() == pid


def name_process(name: str) -> None:
    """Set what /proc/PID/comm says of us, at most 15 bytes (PR_SET_NAME(2const))."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def _prctl(operation: int, value: ctypes.c_ulong | ctypes.c_char_p) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(operation, value, 0, 0, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "prctl")


def main() -> int:
    """Tie ourselves to the parent and run the module's `main` with the arguments that are left."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    if not tie_to_parent(parent):
        return 1
    sys.argv = [module, *sys.argv[3:]]
    code: int = import_module(module).main()
    return code


if __name__ == "__main__":
    sys.exit(main())
