"""`sparktune api`: the read-only REST API, on systemd's sockets or an address of one's own."""

from __future__ import annotations

import click

from sparktune.cli.options import places
from sparktune.errors import UsageError

_HINT = "write HOST:PORT, such as localhost:9300 or [::1]:9300"


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="Instead of the sockets that systemd passes.")
def api(*, listen: str | None) -> int:
    """Serve the published state over HTTP. Reads the run and state directories, never the host."""
    address = None if listen is None else parse_address(listen)
    where = places()
    from sparktune.api.server import serve

    return serve(run_dir=where.run_dir, state_dir=where.state_dir, listen=address)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        UsageError: it is no `HOST:PORT`.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or (":" in host and not bracketed):
        raise UsageError(f"{text[:80]!r} is no address to listen on", hint=_HINT)
    return host.removeprefix("[").removesuffix("]"), int(port[:6])
