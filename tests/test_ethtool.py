"""ethtool's netlink family: pause frames, rings and coalescing, from a scripted driver."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

from peers_of_netlink import Kernel, Request, attribute, error, generic, message, u8, u32
from sparktune.kernel.ethtool import SETTINGS, Ethtool
from sparktune.kernel.netlink import GENERIC, Netlink, attributes

if TYPE_CHECKING:
    from collections.abc import Callable

RINGS = {2: u32(8192), 5: u32(8192), 6: u32(1024), 9: u32(512)}
HEADER_OF_7 = (1, attribute(1, u32(7)))


def asking(answer: Callable[[Request], list[bytes] | None]) -> tuple[Ethtool, Kernel]:
    kernel = Kernel(answer)
    return Ethtool(Netlink(GENERIC, kernel.open)), kernel


@pytest.mark.parametrize(
    ("name", "found", "value"),
    [
        ("rx_ring", RINGS, 1024),
        ("tx_ring", RINGS, 512),
        ("pause_rx", {2: u8(0), 3: u8(1), 4: u8(0)}, 1),
        ("pause_tx", {2: u8(0), 3: u8(1), 4: u8(0)}, 0),
        ("adaptive_rx", {11: u8(1), 12: u8(0)}, 1),
        ("adaptive_tx", {11: u8(1), 12: u8(0)}, 0),
    ],
)
def test_a_number_is_found_among_the_others(name: str, found: dict[int, bytes], value: int) -> None:
    assert asking(generic(found))[0].get(7, name) == value


def test_the_largest_ring_is_told() -> None:
    assert asking(generic(RINGS))[0].most(7, "rx_ring") == 8192


def test_what_has_no_largest_value_tells_none() -> None:
    assert asking(generic({3: u8(1)}))[0].most(7, "pause_rx") is None


@pytest.mark.parametrize("name", SETTINGS)
def test_a_request_names_the_interface_by_index(name: str) -> None:
    setting = SETTINGS[name]
    ethtool, kernel = asking(generic({setting.number: bytes(setting.size)}))
    ethtool.get(7, name)
    asked = kernel.asked[-1].body
    assert (asked[0], next(iter(attributes(asked[4:])))) == (setting.get, HEADER_OF_7)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_write_names_one_number_and_no_other(name: str) -> None:
    setting = SETTINGS[name]
    ethtool, kernel = asking(generic({}))
    ethtool.set(7, name, 1)
    asked = kernel.asked[-1].body
    value = u8(1) if setting.size == 1 else u32(1)
    assert (asked[0], list(attributes(asked[4:]))) == (setting.set, [HEADER_OF_7, (setting.number, value)])


def test_a_driver_that_tells_other_numbers_only_has_no_such_setting() -> None:
    with pytest.raises(OSError, match="tells no adaptive_rx") as raised:
        asking(generic({2: u32(8)}))[0].get(7, "adaptive_rx")
    assert raised.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("data", [b"", b"\1", b"\1\0\0", bytes(8)])
def test_a_number_of_another_size_is_told(data: bytes) -> None:
    with pytest.raises(OSError, match="4 bytes expected"):
        asking(generic({6: data}))[0].get(7, "rx_ring")


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENODEV, errno.EPERM, errno.EBUSY])
def test_an_error_of_the_driver_is_that_error(code: int) -> None:
    def answer(request: Request) -> list[bytes]:
        if request.kind == 16:
            found = b"\1\2\0\0" + attribute(1, struct.pack("=H", 21))
            return [message(16, found, request.sequence), error(0, request.sequence)]
        return [error(code, request.sequence)]

    ethtool = asking(answer)[0]
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is looked at
        ethtool.get(7, "rx_ring")
    assert raised.value.errno == code
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is looked at
        ethtool.set(7, "rx_ring", 512)
    assert raised.value.errno == code


@pytest.mark.parametrize("value", [-1, 256, 1 << 40])
def test_a_value_that_cannot_be_is_not_sent(value: int) -> None:
    ethtool, kernel = asking(generic({}))
    with pytest.raises(OSError, match="does not fit"):
        ethtool.set(7, "pause_rx", value)
    assert kernel.asked == []


def test_on_this_kernel_the_loopback_has_no_rings() -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is looked at
        Ethtool().get(1, "rx_ring")
    assert raised.value.errno == errno.EOPNOTSUPP
