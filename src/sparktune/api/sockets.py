"""The listening sockets: those systemd passes, or ones we bind ourselves. Nothing here accepts."""

from __future__ import annotations

import errno
import os
import socket

from sparktune.errors import SparktuneError, UsageError

BACKLOG = 128
_FIRST_PASSED = 3
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_HIGHEST_PORT = 65535

Address = tuple[socket.AddressFamily, str]


def take_passed_sockets() -> list[socket.socket]:
    """The sockets systemd passed (sd_listen_fds(3)); the variables go, so that no child takes them too.

    Raises:
        SparktuneError: none were passed to this process, or one is no listening stream socket.
    """
    for_pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if for_pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        raise SparktuneError(
            "there is nothing to listen on: systemd passed no sockets",
            hint="systemctl start sparktune-api.socket, or by hand: sparktune api --listen localhost:9300",
        )
    sockets: list[socket.socket] = []
    try:
        for descriptor in range(_FIRST_PASSED, _FIRST_PASSED + int(count)):
            sockets.append(_adopt(descriptor))
    except OSError as error:
        _close(sockets)
        raise SparktuneError(
            f"descriptor {descriptor}, passed by systemd, cannot be used: {error.strerror}",
            hint="sparktune-api.socket must have ListenStream= and Accept=no",
        ) from error
    return sockets


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for a host and port; `localhost` is both loopback addresses where both exist.

    With port 0 the kernel chooses one, the same for both.

    Raises:
        UsageError: the port is none, or the host is not known.
        SparktuneError: the address is in use, not permitted or not ours.
    """
    if not 0 <= port <= _HIGHEST_PORT:
        raise UsageError(f"cannot listen on port {port}", hint=f"a port is 1 to {_HIGHEST_PORT}")
    addresses = _resolve(host)
    sockets: list[socket.socket] = []
    for position, (family, address) in enumerate(addresses):
        try:
            sockets.append(_listen(family, address, port))
        except OSError as error:
            another = sockets or position + 1 < len(addresses)
            if error.errno in _NO_SUCH_FAMILY and another:
                continue  # a machine without IPv6 (or without IPv4) still has the other one
            _close(sockets)
            raise _explain(error, address, port) from error
        port = port or sockets[-1].getsockname()[1]
    return sockets


def _adopt(descriptor: int) -> socket.socket:
    adopted = socket.socket(fileno=descriptor)
    adopted.set_inheritable(False)
    if not adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        adopted.close()
        raise OSError(errno.EINVAL, "it does not listen")
    return adopted


def _resolve(host: str) -> list[Address]:
    if host == "localhost":
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    name = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: no host name at all
        raise UsageError(
            f"cannot listen on {host!r}: it is no address of this machine",
            hint="--listen localhost:9300 is the usual one",
        ) from error
    return list(
        dict.fromkeys((family, str(address[0])) for family, _kind, _protocol, _name, address in found)
    )


def _listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer waits 40 ms for an ACK
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a restart must not wait for TIME_WAIT
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _explain(error: OSError, address: str, port: int) -> SparktuneError:
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    hints = {
        errno.EADDRINUSE: f"who has it: ss -ltnp 'sport = :{port}'; or take another: --listen localhost:PORT",
        errno.EACCES: "ports below 1024 are for root; take a higher one: --listen localhost:9300",
        errno.EADDRNOTAVAIL: "that is no address of this machine; the usual one: --listen localhost:9300",
    }
    return SparktuneError(
        f"cannot listen on {shown}: {error.strerror}",
        hint=hints.get(error.errno or 0, "the usual address: --listen localhost:9300"),
    )


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()
