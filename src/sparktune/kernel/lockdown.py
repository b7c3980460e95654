"""Whether the kernel is locked down (Secure Boot): then it refuses root itself, with EPERM. Only reads."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparktune.kernel.root import Root

_FILE = "/sys/kernel/security/lockdown"
_CURRENT = re.compile(r"\[([a-z]{1,32})\]")


def lockdown_of(root: Root) -> str:
    """`integrity` or `confidentiality`; empty where the kernel is not locked down, or does not say.

    Source: kernel_lockdown(7); the file reads `none [integrity] confidentiality`.
    """
    found = _CURRENT.search(root.read(_FILE) or "")
    return "" if found is None or found[1] == "none" else found[1]


def add_lockdown(root: Root, error: OSError) -> OSError:
    """The error, with the word lockdown if it is an EPERM while the kernel is locked down."""
    if error.errno != errno.EPERM or not (mode := lockdown_of(root)):
        return error
    return OSError(error.errno, f"{error.strerror}; the kernel is in lockdown ({mode})", error.filename)
