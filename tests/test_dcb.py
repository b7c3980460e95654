"""DCB over netlink: PFC and trust, from a scripted driver that keeps them as mlx5 does."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers_of_netlink import Kernel, Request, attribute, error, message, u8
from sparktune.kernel import dcb
from sparktune.kernel.dcb import Dcb
from sparktune.kernel.netlink import ROUTE, Netlink, attributes

PFC = struct.Struct("=BBBxHxx8Q8Q")
GET, SET = 78, 79
IEEE_SET, IEEE_GET, IEEE_DEL = 20, 21, 27


@dataclass
class Driver:
    """What an mlx5 keeps, and the commands that reached it."""

    enabled: int = 0
    apps: dict[tuple[int, int], int] = field(default_factory=dict)
    fails: int = 0
    told: list[int] = field(default_factory=list)

    def answer(self, request: Request) -> list[bytes]:
        _, command, _ = struct.unpack_from("=BBH", request.body)
        found = dict(attributes(request.body[4:]))
        assert found[1] == b"enp1s0f0np0\0"
        if command == IEEE_GET:
            return [message(GET, self._tell(), request.sequence), error(0, request.sequence)]
        self.told.append(command)
        if not self.fails:
            self._change(command, dict(attributes(found[13])))
        body = struct.pack("=BBH", 0, command, 0) + attribute(13, u8(-self.fails & 0xFF))
        return [message(SET, body, request.sequence), error(0, request.sequence)]

    def _tell(self) -> bytes:
        flow = PFC.pack(8, self.enabled, 0, 7, *range(8), *range(8))
        apps = b"".join(
            attribute(1, struct.pack("=BBH", by, priority, number))
            for (by, number), priority in self.apps.items()
        )
        ieee = attribute(1, bytes(59)) + attribute(2, flow) + attribute(3 | 0x8000, apps)
        return struct.pack("=BBH", 0, IEEE_GET, 0) + attribute(1, b"enp1s0f0np0\0") + attribute(13, ieee)

    def _change(self, command: int, inner: dict[int, bytes]) -> None:
        if 2 in inner:
            flow = PFC.unpack(inner[2])
            assert flow[3] == 7, "the cable's length stays"
            self.enabled = flow[1]
        for _, entry in attributes(inner.get(3, b"")):
            by, priority, number = struct.unpack("=BBH", entry)
            if command == IEEE_SET:
                self.apps[by, number] = priority
            else:
                assert self.apps.pop((by, number)) == priority


def asking(driver: Driver) -> Dcb:
    return Dcb(Netlink(ROUTE, Kernel(driver.answer).open))


NAME = "enp1s0f0np0"


# -- priority flow control -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "text"), [(0, "none"), (8, "3"), (0b11000, "3,4"), (255, "0,1,2,3,4,5,6,7")]
)
def test_priorities_are_read_and_written_as_a_list(mask: int, text: str) -> None:
    driver = Driver(enabled=mask)
    assert asking(driver).priorities(NAME) == text
    driver.enabled = 99
    asking(driver).set_priorities(NAME, text)
    assert driver.enabled == mask


@pytest.mark.parametrize("text", ["", "8", "3,", "3 4", "-1", "all", "3,4,x"])
def test_what_is_no_list_of_priorities_is_not_written(text: str) -> None:
    driver = Driver(enabled=1)
    with pytest.raises(OSError, match="no list of priorities"):
        asking(driver).set_priorities(NAME, text)
    assert driver.told == []


@given(st.integers(min_value=0, max_value=255))
def test_every_set_of_priorities_survives_its_text(mask: int) -> None:
    assert dcb.parse_priorities(dcb.format_priorities(mask)) == mask


# -- trust ---------------------------------------------------------------------------------------------------


def test_without_an_entry_for_a_dscp_it_is_pcp_that_is_trusted() -> None:
    assert asking(Driver(apps={(1, 0x8915): 3})).trust(NAME) == "pcp"


def test_trusting_dscp_sets_the_usual_map() -> None:
    driver = Driver(apps={(1, 0x8915): 3})
    asking(driver).set_trust(NAME, "dscp")
    assert asking(driver).trust(NAME) == "dscp"
    assert driver.apps[5, 26] == 3
    assert driver.apps[1, 0x8915] == 3, "entries for other things stay"


def test_another_map_is_told_whole_and_can_be_put_back() -> None:
    driver = Driver(apps={(5, 48): 6, (5, 26): 3})
    was = asking(driver).trust(NAME)
    assert was == "dscp 26:3 48:6"
    asking(driver).set_trust(NAME, "pcp")
    assert driver.apps == {}
    asking(driver).set_trust(NAME, was)
    assert driver.apps == {(5, 26): 3, (5, 48): 6}


def test_a_map_is_completed_before_anything_is_taken_from_it() -> None:
    driver = Driver(apps={(5, 26): 3})
    asking(driver).set_trust(NAME, "dscp 48:6")
    assert driver.told == [IEEE_SET, IEEE_DEL]
    assert driver.apps == {(5, 48): 6}


def test_what_holds_already_is_not_written() -> None:
    driver = Driver(apps={(5, 26): 3})
    asking(driver).set_trust(NAME, "dscp 26:3")
    assert driver.told == []


@pytest.mark.parametrize("text", ["", "dscp26", "dscp 26", "dscp 26:9", "vlan", "dscp 26:3,48:6"])
def test_what_is_no_trust_mode_is_not_written(text: str) -> None:
    with pytest.raises(OSError, match="no trust mode"):
        asking(Driver()).set_trust(NAME, text)


@given(st.dictionaries(st.integers(0, 63), st.integers(0, 7), min_size=1))
def test_every_map_survives_its_text(codepoints: dict[int, int]) -> None:
    assert dcb.parse_trust(dcb.format_trust(codepoints)) == codepoints


# -- what goes wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBUSY])
def test_an_error_in_the_answers_one_byte_is_that_error(code: int) -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is looked at
        asking(Driver(fails=code)).set_priorities(NAME, "3")
    assert raised.value.errno == code


def answering(*inner: bytes) -> Dcb:
    body = struct.pack("=BBH", 0, IEEE_GET, 0) + b"".join(inner)
    return Dcb(
        Netlink(ROUTE, Kernel(lambda one: [message(GET, body, one.sequence), error(0, one.sequence)]).open)
    )


@pytest.mark.parametrize(
    "inner", [b"", attribute(1, b"x\0"), attribute(13, b""), attribute(13, attribute(9, b""))]
)
def test_a_driver_that_leaves_it_out_has_none(inner: bytes) -> None:
    for ask in (Dcb.priorities, Dcb.trust):
        with pytest.raises(OSError, match="the driver has no") as raised:
            ask(answering(inner), NAME)
        assert raised.value.errno == errno.EOPNOTSUPP


def test_a_pfc_table_that_is_cut_is_told() -> None:
    with pytest.raises(OSError, match="PFC table of 12 bytes"):
        answering(attribute(13, attribute(2, bytes(12)))).priorities(NAME)


def test_an_entry_of_another_size_is_left_out() -> None:
    table = attribute(3, attribute(1, b"\5\3") + attribute(1, struct.pack("=BBH", 5, 3, 26)))
    assert answering(attribute(13, table)).trust(NAME) == "dscp 26:3"


@given(st.binary(max_size=120))
def test_no_answer_whatever_it_is_raises_anything_but_an_os_error(data: bytes) -> None:
    for ask in (Dcb.priorities, Dcb.trust):
        try:
            said = ask(answering(attribute(13, data)), NAME)
        except OSError:
            continue
        assert isinstance(said, str)


def test_on_this_kernel_the_loopback_has_no_dcb() -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is looked at
        Dcb().priorities("lo")
    assert raised.value.errno == errno.EOPNOTSUPP
