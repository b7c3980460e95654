"""Link messages of the kernel, whole and damaged, and an interface that really changes."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import children
from sparktune.kernel.rtnetlink import LinkEvent, LinkWatch, link_events

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _DONE = 16, 17, 20, 21, 3
_IFNAME, _MTU = 3, 4
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def attribute(kind: int, data: bytes) -> bytes:
    padding = b"\0" * (-len(data) % 4)
    return struct.pack("=HH", 4 + len(data), kind) + data + padding


def message(name: bytes | None, kind: int = _NEWLINK, *, before: bytes = b"") -> bytes:
    """One link message as the kernel sends it: attributes in any order."""
    body = struct.pack("=BxHiII", 0, 1, 3, 0x1003, 0) + before
    if name is not None:
        body += attribute(_IFNAME, name + b"\0")
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def interface_names(data: bytes) -> set[str]:
    return {event.name for event in link_events(data)}


@pytest.mark.parametrize("kind", [_NEWLINK, _DELLINK])
def test_an_interface_that_came_changed_or_went_is_named(kind: int) -> None:
    assert interface_names(message(b"enp1s0f0np0", kind)) == {"enp1s0f0np0"}


def test_the_name_is_found_behind_other_attributes() -> None:
    before = attribute(_MTU, struct.pack("=I", 9000)) + attribute(99, b"xyz")
    assert interface_names(message(b"eth0", before=before)) == {"eth0"}


def test_several_messages_in_one_datagram_are_all_read() -> None:
    data = message(b"eth0") + message(b"lo", _DELLINK) + message(b"eth0")
    assert interface_names(data) == {"eth0", "lo"}


@pytest.mark.parametrize(("flags", "carrier"), [(0x11043, True), (0x1003, False)])
def test_a_link_is_told_with_its_carrier(flags: int, *, carrier: bool) -> None:
    data = bytearray(message(b"eth0"))
    struct.pack_into("=I", data, 16 + 8, flags)
    assert link_events(bytes(data)) == [LinkEvent("eth0", carrier)]


def test_an_interface_that_is_gone_has_no_carrier_to_tell() -> None:
    assert link_events(message(b"eth0", _DELLINK)) == [LinkEvent("eth0", None)]


@pytest.mark.parametrize("kind", [_NEWADDR, _DELADDR])
def test_an_address_names_its_interface_by_number(kind: int) -> None:
    body = struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, socket.if_nametoindex("lo"))
    body += attribute(_IFNAME, b"lo:alias\0")
    data = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    assert link_events(data) == [LinkEvent("lo", None)]


def test_an_address_of_an_interface_that_left_names_nobody() -> None:
    body = struct.pack("=BBBBI", socket.AF_INET6, 64, 0, 0, 0x7FFFFFF0)
    assert link_events(struct.pack("=IHHII", 16 + len(body), _NEWADDR, 0, 0, 0) + body) == []


@pytest.mark.parametrize("kind", [_DONE, 2, 0])
def test_messages_about_something_else_name_nobody(kind: int) -> None:
    assert interface_names(message(b"eth0", kind)) == set()


def test_a_message_without_a_name_names_nobody() -> None:
    assert interface_names(message(None) + message(b"lo")) == {"lo"}


def test_every_truncation_names_only_whole_interfaces() -> None:
    data = message(b"eth0") + message(b"lo")
    first = len(message(b"eth0"))
    for length in range(len(data)):
        expected = set() if length < first else {"eth0"}
        assert interface_names(data[:length]) == expected


@pytest.mark.parametrize("length", [0, 1, 15, 0xFFFFFFFF])
def test_a_length_that_cannot_be_ends_the_list(length: int) -> None:
    damaged = struct.pack("=I", length) + message(b"lo")[4:]
    assert interface_names(message(b"eth0") + damaged) == {"eth0"}


@pytest.mark.parametrize("length", [0, 3])
def test_an_attribute_without_a_length_does_not_loop_for_ever(length: int) -> None:
    assert interface_names(message(b"lo", before=struct.pack("=HH", length, 9))) == set()


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_it_raise_or_hang(data: bytes) -> None:
    assert isinstance(interface_names(data), set)


@given(st.binary(max_size=100))
def test_damaged_attributes_of_a_whole_message_do_no_harm(before: bytes) -> None:
    assert isinstance(interface_names(message(b"lo", before=before)), set)


# -- the kernel ----------------------------------------------------------------------------------------------


@pytest.fixture
def watch() -> Iterator[LinkWatch]:
    try:
        watch = LinkWatch()
    except OSError as error:
        pytest.skip(f"no netlink here: {error}")
    yield watch
    watch.close()


def test_without_a_message_nothing_changed_and_nobody_waits(watch: LinkWatch) -> None:
    watch.read()
    assert watch.read() == ()


def heard(watch: LinkWatch) -> set[str] | None:
    events = watch.read()
    return None if events is None else {event.name for event in events}


def _switch(name: bytes, *, up: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("=16sH22x", name, 0))
        flags = struct.unpack_from("=H", request, 16)[0]
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("=16sH22x", name, flags))


def _enter_own_network() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.unshare(_CLONE_NEWNET)) == 0


SKIPPED = 77


@pytest.mark.root
def test_an_interface_that_goes_up_is_heard() -> None:
    def listen() -> int:
        if not _enter_own_network():
            return SKIPPED
        watch = LinkWatch()
        _switch(b"lo", up=True)
        return 0 if heard(watch) == {"lo"} and heard(watch) == set() else 1

    code = children.run(listen)
    if code == SKIPPED:
        pytest.skip("no network namespaces here")
    assert code == 0


@pytest.mark.root
def test_a_queue_that_ran_over_says_that_anything_may_have_changed() -> None:
    def listen() -> int:
        if not _enter_own_network():
            return SKIPPED
        watch = LinkWatch()
        with socket.socket(fileno=os.dup(watch.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        for number in range(200):
            _switch(b"lo", up=number % 2 == 0)
        overflow = heard(watch)
        rest = heard(watch)
        return 0 if overflow is None and rest == {"lo"} and heard(watch) == set() else 1

    code = children.run(listen)
    if code == SKIPPED:
        pytest.skip("no network namespaces here")
    assert code == 0


def test_a_socket_that_fails_otherwise_raises_what_the_kernel_said(watch: LinkWatch) -> None:
    watch.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        watch.read()
