"""Every error sparktune raises on purpose. Anything else that escapes is a defect.

SparktuneError                 a message and a hint; exit code 1
├── ConfigurationError         the configuration is invalid; exit code 2, carries a list of Problem
├── UsageError                 the request makes no sense (unknown id, bad duration); exit code 2
├── DaemonNotRunningError      nobody answers; exit code 3
├── AlreadyRunningError        another daemon holds this host; exit code 1
├── UnsupportedMachineError    not a GB10 and require_gb10 is on; exit code 5
├── RefusedError               the daemon refused a request (peer, size, state); exit code 1
└── StoreError                 originals, marks or history cannot be stored; exit code 1
"""

from __future__ import annotations

from sparktune.frozen import frozen


class SparktuneError(Exception):
    """An expected failure.

    Attributes:
        message: what was tried, on what, and what the kernel or the other side said.
        hint: what a person can do about it; empty if nothing.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@frozen
class Problem:
    """One thing wrong in a configuration.

    Attributes:
        file: the file, or the environment variable's name.
        line: 1-based line in the file; 0 where there is none.
        key: dotted path of the key, `host[1].nvme.read_ahead_kb`; empty for syntax errors.
        message: what is wrong and what was expected.
        hint: the nearest valid key or what to write instead; may be empty.
    """

    file: str
    line: int
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """`FILE:LINE: key: message (hint)`, the way compilers print it."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {key}{self.message}{hint}"


class ConfigurationError(SparktuneError):
    """The configuration is invalid.

    Attributes:
        problems: everything that was found wrong, in file order; never empty.
    """

    exit_code = 2

    def __init__(self, problems: tuple[Problem, ...], *, hint: str = "") -> None:
        super().__init__("\n".join(str(problem) for problem in problems), hint=hint)
        self.problems = problems


class UsageError(SparktuneError):
    """The request makes no sense: an unknown id, a duration nobody can parse."""

    exit_code = 2


class DaemonNotRunningError(SparktuneError):
    """No daemon answers on the control socket, or no snapshot has been published."""

    exit_code = 3


class AlreadyRunningError(SparktuneError):
    """Another sparktune daemon already holds this host."""


class UnsupportedMachineError(SparktuneError):
    """This machine is no GB10 and `require_gb10` is on."""

    exit_code = 5


class RefusedError(SparktuneError):
    """The daemon answered and said no."""


class StoreError(SparktuneError):
    """Something could not be stored on disk; nothing may be written to the host then."""
