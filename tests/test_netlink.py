"""The netlink client: against a scripted kernel, damaged answers, and this machine's kernel."""

from __future__ import annotations

import errno
import struct
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers_of_netlink import DONE, MULTI, Kernel, Request, attribute, error, message
from sparktune.kernel.netlink import GENERIC, ROUTE, Netlink, attributes, messages, nest, number

GETLINK = 18


def answered(*datagrams: bytes) -> Netlink:
    """A client of a kernel that answers everything with these; sequence 1 is that of the first request."""
    return Netlink(ROUTE, Kernel(lambda _: list(datagrams)).open)


# -- asking --------------------------------------------------------------------------------------------------


def test_an_answer_is_what_is_behind_its_header() -> None:
    assert answered(message(16, b"body", 1), error(0, 1)).ask(GETLINK, b"") == b"body"


def test_a_request_carries_its_length_its_type_and_asks_for_an_acknowledgement() -> None:
    kernel = Kernel(lambda request: [error(0, request.sequence)])
    assert Netlink(ROUTE, kernel.open).ask(19, b"abcd") == b""
    assert [(request.kind, request.flags, request.body) for request in kernel.asked] == [(19, 0x5, b"abcd")]


def test_each_request_has_a_number_of_its_own() -> None:
    kernel = Kernel(lambda request: [error(0, request.sequence)])
    client = Netlink(ROUTE, kernel.open)
    client.ask(19, b"")
    client.ask(19, b"")
    assert [request.sequence for request in kernel.asked] == [1, 2]


def test_an_answer_to_an_earlier_request_is_none_to_this_one() -> None:
    assert (
        answered(message(16, b"late", 0), message(16, b"mine", 1), error(0, 1)).ask(GETLINK, b"") == b"mine"
    )


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EBUSY, errno.EINVAL, errno.ENODEV])
def test_an_error_of_the_kernel_is_that_error(code: int) -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is looked at
        answered(error(code, 1)).ask(GETLINK, b"")
    assert raised.value.errno == code


def test_the_kernels_explanation_is_told_without_control_characters() -> None:
    with pytest.raises(OSError, match=r"Invalid argument: requested ring size exceeds\?\[31m maximum$"):
        answered(error(errno.EINVAL, 1, "requested ring size exceeds\x1b[31m maximum")).ask(GETLINK, b"")


def test_an_unknown_error_is_an_error_all_the_same() -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is looked at
        answered(error(3000, 1)).ask(GETLINK, b"")
    assert raised.value.errno == errno.EIO


def test_a_kernel_that_does_not_answer_is_waited_for_a_moment_only() -> None:
    began_s = time.monotonic()
    with pytest.raises(OSError, match="did not answer"):
        Netlink(ROUTE, Kernel(lambda _: None).open).ask(GETLINK, b"")
    assert time.monotonic() - began_s < 2


def test_a_dump_gives_each_of_many_answers() -> None:
    parts = [message(16, b"one1", 1, MULTI) + message(16, b"two2", 1, MULTI), message(16, b"thre", 1, MULTI)]
    end = message(DONE, struct.pack("=i", 0), 1, MULTI)
    assert list(answered(*parts, end).dump(GETLINK, b"")) == [b"one1", b"two2", b"thre"]


def test_a_dump_that_changed_meanwhile_is_no_list() -> None:
    with pytest.raises(OSError, match="changed meanwhile"):
        list(answered(message(16, b"one1", 1, MULTI | 0x10)).dump(GETLINK, b""))


def test_a_dump_that_never_ends_is_given_up() -> None:
    endless = answered(*[message(16, b"more", 1, MULTI)] * 20)
    with pytest.raises(OSError, match="did not answer"):
        list(endless.dump(GETLINK, b""))


def test_a_dump_can_be_left_early() -> None:
    assert next(answered(message(16, b"one1", 1, MULTI)).dump(GETLINK, b"")) == b"one1"


def test_a_family_is_looked_up_once() -> None:
    def answer(request: Request) -> list[bytes]:
        body = b"\1\1\0\0" + (attribute(1, b"\x15\0") if request.kind == 16 else b"")
        return [message(16, body, request.sequence), error(0, request.sequence)]

    kernel = Kernel(answer)
    client = Netlink(GENERIC, kernel.open)
    client.ask_family("ethtool", 15, b"")
    client.ask_family("ethtool", 15, b"")
    assert [request.kind for request in kernel.asked] == [16, 21, 21]


def test_a_family_that_is_not_there_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        Netlink(GENERIC, Kernel(lambda request: [error(errno.ENOENT, request.sequence)]).open).ask_family(
            "x", 1, b""
        )


# -- damaged answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 15, 100, 0xFFFFFFFF])
def test_a_message_whose_length_cannot_be_is_told(length: int) -> None:
    with pytest.raises(OSError, match="damaged"):
        answered(struct.pack("=I", length) + message(16, b"body", 1)[4:]).ask(GETLINK, b"")


def test_an_empty_answer_is_told() -> None:
    with pytest.raises(OSError, match=r"is empty"):
        answered(b"").ask(GETLINK, b"")


@given(st.binary(max_size=200))
def test_whatever_is_answered_ends_in_messages_or_an_error(data: bytes) -> None:
    raised = 0
    try:
        read = list(messages(data, 1))
    except OSError as damaged:
        raised, read = damaged.errno or 0, []
    assert raised in (0, errno.EBADMSG)
    assert sum(16 + len(payload) for _, _, payload in read) <= len(data)


@given(st.binary(max_size=200))
def test_whatever_is_in_an_answer_ends_in_attributes(data: bytes) -> None:
    assert sum(4 + len(value) for _, value in attributes(data)) <= len(data)


@given(st.lists(st.binary(max_size=64), min_size=1, max_size=4))
def test_no_answer_whatever_it_is_raises_anything_but_an_os_error(datagrams: list[bytes]) -> None:
    sent = [data for data in datagrams if data] or [b"\0"]
    client = Netlink(ROUTE, Kernel(lambda _: [*sent, message(DONE, b"", 1)]).open)
    with suppress(OSError):
        client.ask(GETLINK, b"")


def test_a_nest_is_attributes_in_an_attribute() -> None:
    ((kind, value),) = attributes(nest(3, attribute(1, b"ab"), attribute(2, b"c")))
    assert (kind, list(attributes(value))) == (3, [(1, b"ab"), (2, b"c")])


@pytest.mark.parametrize("data", [None, b"", b"\1", b"\1\0\0\0\0"])
def test_a_number_of_another_size_is_no_number(data: bytes | None) -> None:
    with pytest.raises(OSError, match="4 bytes expected"):
        number(data, size=4)


# -- this machine's kernel -----------------------------------------------------------------------------------


def test_this_kernel_tells_the_loopbacks_name() -> None:
    answer = Netlink(ROUTE).ask(GETLINK, struct.pack("=BxHiII", 0, 0, 1, 0, 0))
    assert dict(attributes(answer[16:]))[3] == b"lo\0"


def test_this_kernel_explains_an_interface_that_is_not_there() -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is looked at
        Netlink(ROUTE).ask(GETLINK, struct.pack("=BxHiII", 0, 0, 99_999, 0, 0))
    assert raised.value.errno == errno.ENODEV


def test_this_kernel_lists_its_interfaces() -> None:
    names = [dict(attributes(one[16:]))[3] for one in Netlink(ROUTE).dump(GETLINK, bytes(16))]
    assert b"lo\0" in names
