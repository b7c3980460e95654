"""Programs of perftest over the guest's own device: real queue pairs on a real RDMA core."""

from __future__ import annotations

import json
import shlex
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.guest import Guest

RDMA = "rocep1s0f0"
PORT = 18515
LISTENS = f"ss --tcp --listening --numeric | grep {PORT} || true"


def device_of(guest: Guest) -> dict[str, Any]:
    """What `sparktune fabric --json` reports of the one device."""
    report = json.loads(guest.run(["sparktune", "fabric", "--json"], check=False).out)
    [found] = report["others"]
    device: dict[str, Any] = found
    return device


@contextmanager
def traffic(guest: Guest, prelude: str = "exec") -> Iterator[None]:
    """An `ib_write_bw` of the guest with itself that holds its queue pairs, but is stopped.

    Args:
        guest: where.
        prelude: how bash is to start the one that waits: `exec -a NAME`.
    """
    device = device_of(guest)
    command = ["ib_write_bw", "-F", "-D", "300", "-s", "64", "-d", RDMA, "-x", str(device["gid_index"])]
    server = guest.start_job(f"{prelude} {shlex.join(command)}")
    guest.wait_until(lambda: guest.out(LISTENS), "ib_write_bw")
    client = guest.start_job([*command, device["ipv4"]])

    def holds() -> bool:
        return "comm ib_write_bw" in guest.out(["rdma", "resource", "show", "qp"])

    guest.wait_until(holds, "queue pairs")
    client.kill(signal.SIGSTOP)
    server.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        client.end(signal.SIGKILL)
        server.end(signal.SIGKILL)
        guest.wait_until(lambda: not holds(), "no queue pairs")
