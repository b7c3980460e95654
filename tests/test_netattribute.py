"""Values that netlink sets: on a real kernel in a network of its own, and from a scripted one."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from peers_of_netlink import Kernel, Request, error, generic, u8, u32
from sparktune.kernel.dcb import Dcb
from sparktune.kernel.ethtool import Ethtool
from sparktune.kernel.identity import find_interface, identify_interface, is_still_there
from sparktune.kernel.netattribute import NetlinkAttribute, Sockets
from sparktune.kernel.netlink import GENERIC, ROUTE, Netlink
from sparktune.kernel.root import Root
from sparktune.model import ReadingKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from machines import Machine

NETDEV = "enp1s0f0np0"
NO_VETH = 77


# -- a kernel's own interfaces -------------------------------------------------------------------------------


def in_own_network(script: str) -> None:
    """Run Python in a network of its own with a pair of interfaces, and with a /sys that shows them."""
    prelude = """
        import errno
        from sparktune.kernel.attribute import reopen
        from sparktune.kernel.netattribute import open_parameter
        from sparktune.kernel.root import Root
        from sparktune.model import ReadingKind
        import subprocess
        ip = lambda *words: subprocess.run(["ip", "link", *words], check=True)
        root = Root()
        """
    program = textwrap.dedent(prelude) + textwrap.dedent(script)
    make = "mount -t sysfs sysfs /sys && ip link add cx0 type veth peer name cx1"
    shell = f'{make} || exit {NO_VETH}; exec "$@"'
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", shell, "sh", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == NO_VETH:
        pytest.skip(f"no veth, or no network of our own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


@pytest.mark.root
def test_an_mtu_is_set_read_back_and_put_back() -> None:
    in_own_network("""
        mtu = open_parameter(root, "cx0", "mtu")
        assert mtu.read().value == 1500
        mtu.write(9000)
        assert mtu.holds(9000)
        again = reopen(root, mtu.kind, mtu.location, mtu.identity, "")
        assert again.read().value == 9000
        again.write(1500)
        assert mtu.read().value == 1500
    """)


@pytest.mark.root
def test_an_mtu_that_cannot_be_is_refused_in_the_kernels_words() -> None:
    in_own_network("""
        mtu = open_parameter(root, "cx0", "mtu")
        for value, words in ((70000, "mtu greater than device maximum"), (1, "mtu less than device minimum")):
            try:
                mtu.write(value)
            except OSError as error:
                assert error.errno == errno.EINVAL and words in str(error), error
            else:
                raise AssertionError(value)
        assert mtu.read().value == 1500
    """)


@pytest.mark.root
def test_an_interface_that_is_renamed_is_still_the_same_one() -> None:
    in_own_network("""
        mtu = open_parameter(root, "cx0", "mtu")
        mtu.write(9000)
        ip("set", "cx0", "name", "cx7")
        again = reopen(root, mtu.kind, mtu.location, mtu.identity, "")
        assert again.read().value == 9000
        again.write(1500)
        assert root.read("/sys/class/net/cx7/mtu") == "1500"
    """)


@pytest.mark.root
def test_another_interface_of_the_same_name_is_never_written() -> None:
    in_own_network("""
        mtu = open_parameter(root, "cx0", "mtu")
        assert mtu.read().value == 1500
        ip("del", "cx0")
        ip("add", "cx0", "type", "veth", "peer", "name", "cx1")
        try:
            mtu.write(9000)
        except OSError as error:
            assert error.errno == errno.ENODEV, error
        else:
            raise AssertionError("written")
        assert mtu.read().kind is ReadingKind.ABSENT
        assert root.read("/sys/class/net/cx0/mtu") == "1500"
    """)


@pytest.mark.root
def test_what_a_driver_does_not_have_is_absent() -> None:
    in_own_network("""
        for name in ("ethtool/rx_ring", "ethtool/pause_rx", "dcb/pfc", "dcb/trust"):
            reading = open_parameter(root, "cx0", name).read()
            assert reading.kind is ReadingKind.ABSENT, (name, reading)
            assert reading.reason.startswith("the driver") and " has no " in reading.reason, reading
            assert reading.reason.endswith(" to set (EOPNOTSUPP)"), reading
    """)


@pytest.mark.root
def test_an_interface_that_is_gone_is_absent_and_not_without_a_setting() -> None:
    in_own_network("""
        ring = open_parameter(root, "cx0", "ethtool/rx_ring")
        ip("del", "cx0")
        reading = ring.read()
        assert reading.kind is ReadingKind.ABSENT
        assert "the interface left" in reading.reason, reading
    """)


# -- a scripted driver ---------------------------------------------------------------------------------------


class RealRoot(Root):
    """A tree that is asked over netlink as the machine itself is."""

    @property
    def is_real(self) -> bool:
        return True


def asking(
    machine: Machine, answer: Callable[[Request], list[bytes] | None], clock: list[float], parameter: str
) -> tuple[NetlinkAttribute, Kernel]:
    root, kernel = RealRoot(machine.root.directory), Kernel(answer)
    sockets = Sockets(
        Netlink(ROUTE, kernel.open), Ethtool(Netlink(GENERIC, kernel.open)), Dcb(Netlink(ROUTE, kernel.open))
    )
    identity = identify_interface(machine.root, NETDEV)
    return (
        NetlinkAttribute(root, NETDEV, parameter, identity, sockets=sockets, clock=lambda: clock[0]),
        kernel,
    )


def test_a_sweep_asks_the_driver_once_a_minute(machine: Machine) -> None:
    clock = [0.0]
    ring, kernel = asking(machine, generic({6: u32(1024)}), clock, "ethtool/rx_ring")
    for clock[0] in (0.0, 10.0, 59.0):
        assert ring.holds(1024)
    assert len(kernel.asked) == 2, "the family, and the ring once"
    clock[0] = 61.0
    assert ring.holds(1024)
    assert len(kernel.asked) == 3


def test_whoever_reads_asks_the_driver_now(machine: Machine) -> None:
    ring, kernel = asking(machine, generic({6: u32(1024)}), [0.0], "ethtool/rx_ring")
    for _ in range(3):
        assert ring.read().value == 1024
    assert len(kernel.asked) == 4


def test_after_a_write_what_was_seen_before_counts_no_more(machine: Machine) -> None:
    pause, kernel = asking(machine, generic({3: u8(1), 4: u8(1)}), [0.0], "ethtool/pause_rx")
    assert pause.holds(1)
    pause.write(0)
    assert not pause.holds(0), "the driver kept its own"
    assert len(kernel.asked) == 4


def test_after_an_event_the_driver_is_asked_again(machine: Machine) -> None:
    ring, kernel = asking(machine, generic({6: u32(1024)}), [0.0], "ethtool/rx_ring")
    ring.holds(1024)
    ring.expire()
    ring.holds(1024)
    assert len(kernel.asked) == 3


def test_what_was_seen_counts_no_more_when_the_interface_left(machine: Machine) -> None:
    ring, _ = asking(machine, generic({6: u32(1024)}), [0.0], "ethtool/rx_ring")
    assert ring.holds(1024)
    machine.write(f"{machine.root.resolve(f'/sys/class/net/{NETDEV}')}/ifindex", "999")
    assert not ring.holds(1024)
    assert ring.read().kind is ReadingKind.ABSENT


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EPERM, ReadingKind.BLOCKED),
        (errno.ENODEV, ReadingKind.ABSENT),
        (errno.EOPNOTSUPP, ReadingKind.ABSENT),
        (errno.EBUSY, ReadingKind.FAILED),
    ],
)
def test_an_error_is_a_reading(code: int, kind: ReadingKind, machine: Machine) -> None:
    pfc, _ = asking(machine, lambda one: [error(code, one.sequence)], [0.0], "dcb/pfc")
    assert pfc.read().kind is kind


def test_a_kernel_under_lockdown_is_named(machine: Machine) -> None:
    machine.root.path("/sys/kernel/security").mkdir(parents=True, exist_ok=True)
    machine.write("/sys/kernel/security/lockdown", "none integrity [confidentiality]")
    pfc, _ = asking(machine, lambda one: [error(1, one.sequence)], [0.0], "dcb/pfc")
    assert "the kernel is in lockdown (confidentiality)" in pfc.read().reason


# -- which interface it is -----------------------------------------------------------------------------------


def test_an_interface_is_known_by_index_and_found_under_any_name(machine: Machine) -> None:
    path, instance = identify_interface(machine.root, NETDEV)
    assert path == machine.root.resolve(f"/sys/class/net/{NETDEV}").rpartition("/")[0]
    assert find_interface(machine.root, instance) == (NETDEV, 3)
    assert is_still_there(machine.root, instance)


@pytest.mark.parametrize("text", ["", "three", "9" * 70_000])
def test_an_index_that_is_none_makes_it_unknown(text: str, machine: Machine) -> None:
    machine.write(f"/sys/class/net/{NETDEV}/ifindex", text)
    _, instance = identify_interface(machine.root, NETDEV)
    assert not is_still_there(machine.root, instance)


def test_an_interface_that_never_was_is_not_there(machine: Machine) -> None:
    _, instance = identify_interface(machine.root, "eth7")
    assert instance.endswith("=None")
    assert not is_still_there(machine.root, instance)


@pytest.mark.parametrize("instance", ["", "ifindex:", "ifindex:/sys=", "ifindex:/sys=3", "ifindex:/sys=x.y"])
def test_what_is_no_instance_finds_nothing(instance: str, machine: Machine) -> None:
    assert find_interface(machine.root, instance) is None
