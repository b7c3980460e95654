"""Runs one command where programs of another architecture run too, by qemu-user, without a trace on the host.

Where the host does not run them already, the command gets a user namespace of its own with all ids mapped to
themselves: since Linux 6.7 such a namespace can have a binfmt_misc of its own. Mounts and processes vanish
with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""The kernel's and QEMU's name of an architecture, by Debian's."""

_BINFMT = "/proc/sys/fs/binfmt_misc"
_INSIDE = (
    f'mount -t binfmt_misc binfmt_misc {_BINFMT}; cat "$1" > {_BINFMT}/register; shift; '
    'exec setpriv --pdeathsig KILL "$@"'  # what unshare's --kill-child sets is lost when the ids are mapped
)
_IDS = "0 0 65536\n"
_UNSHARED_WITHIN_S = 10.0


class ForeignError(RuntimeError):
    """The architecture's programs cannot run here; the message says what is missing."""


def wrap(command: list[str], architecture: str) -> list[str]:
    """A command, made to run with programs of an architecture. Raises ForeignError."""
    machine = MACHINES[architecture]
    if os.uname().machine == machine or Path(_BINFMT, f"qemu-{machine}").exists():
        return command
    registration = Path(f"/usr/lib/binfmt.d/qemu-{machine}.conf")
    if not registration.exists():
        raise ForeignError(
            f"programs for {architecture} do not run here, and there is no {registration}; "
            "on Debian and Ubuntu: apt install qemu-user-static"
        )
    return [sys.executable, "-I", __file__, str(registration), *command]


def main(registration: str, *command: str) -> int:
    """Run the command in the namespace; its exit code."""
    child = subprocess.Popen(
        [
            # Whatever ends us ends the namespace, and with it everything in it.
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--user", "--mount", "--pid", "--mount-proc"),
            *("--fork", "sh", "-c", 'read -r _ && exec sh -ec "$@"'),
            *("sh", _INSIDE, "sh", registration, *command),
        ],
        stdin=subprocess.PIPE,
    )
    try:
        _map_ids(child)
    except (OSError, TimeoutError) as error:
        child.kill()
        print(f"no user namespace for programs of another architecture: {error}", file=sys.stderr)  # noqa: T201
        return 1
    child.communicate(b"mapped\n")
    return child.returncode


def _map_ids(child: subprocess.Popen[bytes]) -> None:
    """Map each id to itself, from outside, once the child is in a namespace. Raises OSError, TimeoutError."""
    process = Path("/proc", str(child.pid))
    own = Path("/proc/self/ns/user").readlink()
    end_s = time.monotonic() + _UNSHARED_WITHIN_S
    while (process / "ns/user").readlink() == own:
        if time.monotonic() > end_s:
            raise TimeoutError("unshare did not come to it")
        time.sleep(0.01)
    for name in ("uid_map", "gid_map"):
        (process / name).write_text(_IDS)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
