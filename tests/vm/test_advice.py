"""RDMA use, as the advisor sees it in the virtual Spark: perftest holds uverbs over Soft-RoCE, Python none.

perftest is started under the name of an engine and with a port: name and deed, as of an engine.
"""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vm.perftest import RDMA, traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.guest import Guest

PORT = 18599
MODEL = "/var/tmp/weights.gguf"  # noqa: S108 - in the guest
LISTENS = f"ss --tcp --listening --numeric | grep :{PORT} || true"
WITHOUT = (
    "import socket, time; one = socket.socket(); one.setsockopt(1, 2, 1); "
    f"one.bind(('0.0.0.0', {PORT})); one.listen(); time.sleep(600)"
)


@contextmanager
def rpc_server(guest: Guest, command: str) -> Iterator[int]:
    """A program that calls itself rpc-server and listens; its pid."""
    job = guest.start_job(["bash", "-c", f"exec -a rpc-server {command}"])
    guest.wait_until(lambda: guest.out(LISTENS), "the port")
    try:
        yield int(
            guest.out(
                ["sh", "-c", f"ss -tlnpH 'sport = :{PORT}' | grep -o 'pid=[0-9]*' | head -1 | cut -d= -f2"]
            )
        )
    finally:
        job.end(signal.SIGKILL)


def engine_of(guest: Guest, pid: int) -> dict[str, Any]:
    """The advisor's view of a process; a reload makes it look at once."""
    guest.run(["sparktune", "reload"])

    def find() -> dict[str, Any] | None:
        engines = json.loads(guest.out(["sparktune", "advise", "--json"]))["engines"]
        return next((engine for engine in engines if engine["pid"] == pid), None)

    guest.wait_until(lambda: "found" if find() else "", "the engine")
    found = find()
    assert found is not None
    return found


def test_a_process_that_holds_uverbs_uses_rdma(spark: Guest) -> None:
    command = f"ib_write_bw -F -d {RDMA} -p {PORT}"
    with rpc_server(spark, command) as pid:
        engine = engine_of(spark, pid)
        assert (engine["kind"], engine["role"]) == ("llama.cpp", "rpc")
        assert engine["rdma"] is True
        assert engine["queue_pairs"] == 0  # it makes them when its client comes


def test_the_kernel_counts_the_queue_pairs_of_an_engine(spark: Guest) -> None:
    spark.put(MODEL, b"GGUF")
    with traffic(spark, f"exec -a llama-cli 9<{MODEL}"):
        engine = engine_of(spark, int(spark.out("pgrep --full '^llama-cli '")))
        counted = spark.out(f"rdma resource show qp | grep -c 'pid {engine['pid']} '")
        assert engine["queue_pairs"] == int(counted) > 0
    spark.run(["rm", MODEL])


def test_a_process_without_uverbs_does_not(spark: Guest) -> None:
    with rpc_server(spark, f'python3 -c "{WITHOUT}" -p {PORT}') as pid:
        assert engine_of(spark, pid)["rdma"] is False


def test_advice_changes_neither_state_nor_exit_code(spark: Guest) -> None:
    state = spark.status()["state"]
    with rpc_server(spark, f'python3 -c "{WITHOUT}" -p {PORT}') as pid:
        engine_of(spark, pid)
        assert spark.status()["state"] == state
        assert spark.run(["sparktune", "advise"]).code == 0
