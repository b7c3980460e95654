"""What the configuration asks of the ConnectX-7's interfaces: declared, written, waited with, put back."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from machines import held
from scripted import ScriptedAttribute, hold, make_engine, tunable_of
from sparktune.errors import ConfigurationError
from sparktune.fabric.model import Owner, OwnerKind
from sparktune.kernel.fabric import read_fabric
from sparktune.model import Action, Noticed, Verdict
from sparktune.remedy import remedy_for
from sparktune.tunables import interfaces

if TYPE_CHECKING:
    from pathlib import Path

    from machines import Machine
    from sparktune.engine import Engine
    from sparktune.held import Held
    from sparktune.model import Tunable
    from sparktune.tuner import Tuner

NETDEV, DEVICE = "enp1s0f0np0", "rocep1s0f0"
NET = f"/sys/class/net/{NETDEV}"
ALL = """
[roce]
mtu = 9000
pause = "none"
rx_ring = 8192
tx_ring = 2048
adaptive_coalescing = "rx"
trust = "dscp"
pfc_priorities = [4, 3]
default_roce_tos = 106
"""
MTU = f"roce.{NETDEV}.mtu"
RING = f"roce.{NETDEV}.rx_ring"
FILES = {
    "mtu": ("mtu", "1500", "9000"),
    "pause_rx": ("netlink/ethtool/pause_rx", "1", "0"),
    "pause_tx": ("netlink/ethtool/pause_tx", "1", "0"),
    "rx_ring": ("netlink/ethtool/rx_ring", "1024", "8192"),
    "tx_ring": ("netlink/ethtool/tx_ring", "1024", "2048"),
    "adaptive_rx": ("netlink/ethtool/adaptive_rx", "1", "1"),
    "adaptive_tx": ("netlink/ethtool/adaptive_tx", "1", "0"),
    "pfc_priorities": ("netlink/dcb/pfc", "none", "3,4"),
    "trust": ("netlink/dcb/trust", "pcp", "dscp"),
}
"""Of each tunable: its file in a tree, what is there at first, and what `ALL` makes of it."""
RUNNING = "812 ib_write_bw 90\n"


def run_queue_pairs(machine: Machine, text: str = RUNNING, device: str = DEVICE) -> None:
    machine.root.path(f"/sys/class/infiniband/{device}/netlink/qps").write_text(text)


def mine(tuner: Tuner, netdev: str = NETDEV) -> dict[str, Tunable]:
    found = (one.tunable for one in tuner.engine.held.values() if one.tunable.device == netdev)
    return {tunable.id.rpartition(".")[2]: tunable for tunable in found if not tunable.is_check}


def only_mtu(machine: Machine, owner: Owner) -> Tunable:
    """The MTU of an interface that somebody owns."""
    tuner = machine.start("roce.mtu = 9000")
    fabric = read_fabric(machine.root)
    functions = tuple(replace(one, owner=owner) for one in fabric.functions if one.netdev == NETDEV)
    (tunable,) = interfaces.declare(tuner.host, tuner.settings, replace(fabric, functions=functions)).tunables
    return tunable


def scripted(state_dir: Path, attribute: ScriptedAttribute, yields: str = "") -> tuple[Engine, Held]:
    """An MTU of 9000 on an attribute that answers as a test says."""
    engine = make_engine(state_dir)
    (one,) = hold(engine, replace(tunable_of(attribute, wanted=9000), disruptive=True, yields=yields))
    return engine, one


# -- what is declared ----------------------------------------------------------------------------------------


def test_nothing_is_asked_of_an_interface_by_default(machine: Machine) -> None:
    assert mine(machine.start("")) == {}


def test_every_key_has_its_tunable_on_each_function(machine: Machine) -> None:
    tuner = machine.start(ALL)
    for netdev in ("enp1s0f0np0", "enp1s0f1np1", "enP2p1s0f0np0", "enP2p1s0f1np1"):
        assert set(mine(tuner, netdev)) == set(FILES)


def test_what_disturbs_traffic_is_known(machine: Machine) -> None:
    disruptive = {name for name, tunable in mine(machine.start(ALL)).items() if tunable.disruptive}
    assert disruptive == {
        "mtu", "pause_rx", "pause_tx", "rx_ring", "tx_ring", "pfc_priorities", "trust",
    }  # fmt: skip


def test_globs_select_the_functions_of_these_devices(machine: Machine) -> None:
    tuner = machine.start(ALL + 'devices = ["roceP2*"]\n')
    assert mine(tuner) == {}
    assert mine(tuner, "enP2p1s0f0np0")


def test_events_of_the_interface_its_rdma_device_and_its_function_touch_it_and_no_others(
    machine: Machine,
) -> None:
    tuner = machine.start(ALL + "traffic_class = 106\n")
    for tunable in (*mine(tuner).values(), held(tuner, CLASS).tunable):
        assert tunable.interfaces == (NETDEV, DEVICE, "0000:01:00.0")


def test_one_sided_changes_of_the_mtu_are_warned_of(machine: Machine) -> None:
    assert "One-sided, it breaks traffic" in mine(machine.start(ALL))["mtu"].risk


@pytest.mark.parametrize(("word", "rx", "tx"), [("none", 0, 0), ("rx", 1, 0), ("tx", 0, 1), ("both", 1, 1)])
def test_a_word_says_what_each_direction_gets(word: str, rx: int, tx: int, machine: Machine) -> None:
    found = mine(machine.start(f'roce.pause = "{word}"\nroce.adaptive_coalescing = "{word}"'))
    wanted = {name: tunable.wanted for name, tunable in found.items()}
    assert wanted == {"pause_rx": rx, "pause_tx": tx, "adaptive_rx": rx, "adaptive_tx": tx}


# -- written and put back ------------------------------------------------------------------------------------


def test_what_is_asked_for_is_written_on_every_function(machine: Machine) -> None:
    tuner = machine.tune(ALL)
    for name, (file, _, wanted) in FILES.items():
        assert machine.read(f"{NET}/{file}") == wanted
        assert held(tuner, f"roce.{NETDEV}.{name}").verdict is Verdict.OK


def test_everything_can_be_put_back_without_a_configuration(machine: Machine) -> None:
    machine.tune(ALL)
    machine.config.write_text("")
    outcomes = machine.start("").engine.restore(None, by="root")
    assert {one.outcome for one in outcomes if one.outcome != "nothing"} == {"restored", "already"}
    assert {name: machine.read(f"{NET}/{file}") for name, (file, _, _) in FILES.items()} == {
        name: was for name, (_, was, _) in FILES.items()
    }
    assert machine.kept_originals() == []


def test_a_key_that_is_switched_off_again_puts_its_value_back(machine: Machine) -> None:
    tuner = machine.tune("roce.rx_ring = 8192")
    tuner.reconfigure(machine.effective(""))
    tuner.discover()
    assert {one.outcome for one in tuner.release()} == {"restored"}
    assert machine.read(f"{NET}/netlink/ethtool/rx_ring") == "1024"


def test_an_interface_that_was_renamed_still_gets_its_value_back(machine: Machine) -> None:
    tuner = machine.tune("roce.rx_ring = 8192")
    directory = machine.root.resolve(NET)
    machine.root.path(directory).rename(machine.root.path(directory).with_name("cx7a"))
    machine.root.path(NET).unlink()
    machine.root.path("/sys/class/net/cx7a").symlink_to(machine.root.path(directory).with_name("cx7a"))
    outcomes = tuner.engine.restore([RING], by="root")
    assert [one.outcome for one in outcomes if one.id == RING] == ["restored"]
    assert machine.read("/sys/class/net/cx7a/netlink/ethtool/rx_ring") == "1024"


def test_a_map_of_ones_own_stays_where_dscp_is_trusted(machine: Machine) -> None:
    machine.write(f"{NET}/netlink/dcb/trust", "dscp 26:3 48:6")
    tuner = machine.tune('roce.trust = "dscp"')
    assert held(tuner, f"roce.{NETDEV}.trust").verdict is Verdict.OK
    assert machine.read(f"{NET}/netlink/dcb/trust") == "dscp 26:3 48:6"


def test_a_map_that_was_given_up_for_pcp_is_put_back_whole(machine: Machine) -> None:
    machine.write(f"{NET}/netlink/dcb/trust", "dscp 26:3 48:6")
    tuner = machine.tune('roce.trust = "pcp"')
    assert machine.read(f"{NET}/netlink/dcb/trust") == "pcp"
    tuner.engine.restore(None, by="root")
    assert machine.read(f"{NET}/netlink/dcb/trust") == "dscp 26:3 48:6"


def test_both_values_of_rdma_cm_are_in_one_directory_and_go_with_it(machine: Machine) -> None:
    base = f"/sys/kernel/config/rdma_cm/{DEVICE}"
    tuner = machine.tune('roce.default_roce_tos = 106\nroce.default_roce_mode = "IB/RoCE v1"')
    assert machine.read(f"{base}/ports/1/default_roce_tos") == "106"
    assert machine.read(f"{base}/ports/1/default_roce_mode") == "IB/RoCE v1"
    tuner.engine.restore(None, by="root")
    assert not machine.root.exists(base)


def test_the_tos_is_written_again_when_its_device_came_back(machine: Machine) -> None:
    tuner = machine.tune("roce.default_roce_tos = 106")
    link = machine.root.path(f"/sys/class/infiniband/{DEVICE}")
    directory = link.resolve()
    shutil.move(directory, machine.directory / "away")
    link.unlink()
    shutil.rmtree(machine.root.path(f"/sys/kernel/config/rdma_cm/{DEVICE}"))  # the value dies with the device
    tuner.discover(["roce"])
    assert held(tuner, f"roce.{DEVICE}.default_roce_tos").left
    shutil.copytree(machine.directory / "away", directory, symlinks=True)
    link.symlink_to(directory)
    (adoption,) = tuner.discover(["roce"])
    tuner.engine.apply([one.tunable.id for one in adoption.added], Noticed.UDEV)
    assert machine.read(f"/sys/kernel/config/rdma_cm/{DEVICE}/ports/1/default_roce_tos") == "106"


# -- the traffic class of MLNX_OFED --------------------------------------------------------------------------

CLASS = f"roce.{DEVICE}.traffic_class"
CLASS_FILE = f"/sys/class/infiniband/{DEVICE}/tc/1/traffic_class"


def with_class(machine: Machine, text: str) -> None:
    machine.root.path(CLASS_FILE).parent.mkdir(parents=True)
    machine.root.path(CLASS_FILE).write_text(text)


def test_a_driver_without_a_traffic_class_makes_it_absent_with_what_to_do(machine: Machine) -> None:
    one = held(machine.tune("roce.traffic_class = 106"), CLASS)
    assert one.verdict is Verdict.ABSENT
    assert one.reason == (
        "the driver has no traffic_class to set: only MLNX_OFED's has one; NCCL_IB_TC does it for NCCL"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("", -1), ("Global tclass=106\n", 106), ("Global tclass=96\nsrc_ip=10.0.0.1,tclass=4\n", 96), ("3\n", 3),
     ("dst_ip=10.0.0.1/24,tclass=4\n", -1)],
)  # fmt: skip
def test_a_traffic_class_is_read_as_the_driver_spells_it(text: str, value: int, machine: Machine) -> None:
    with_class(machine, text)
    one = held(machine.start("roce.traffic_class = 106"), CLASS)
    assert one.tunable.attribute.read().value == value


@pytest.mark.parametrize("text", ["Global tclass=high\n", "what\n", "\0\xff", "9" * 5000])
def test_what_is_no_traffic_class_is_failed_and_not_written(text: str, machine: Machine) -> None:
    with_class(machine, text)
    assert held(machine.tune("roce.traffic_class = 106"), CLASS).verdict is Verdict.FAILED
    assert machine.root.path(CLASS_FILE).read_text() == text


def test_a_traffic_class_that_was_unset_is_unset_again(machine: Machine) -> None:
    with_class(machine, "")
    tuner = machine.tune("roce.traffic_class = 106")
    assert (held(tuner, CLASS).verdict, machine.read(CLASS_FILE)) == (Verdict.OK, "106")
    machine.start("").engine.restore(None, by="root")
    assert machine.read(CLASS_FILE) == "-1"


# -- the rule for what disturbs traffic ----------------------------------------------------------------------


def test_at_a_start_with_queue_pairs_nothing_disruptive_is_written_and_said_why(
    machine: Machine,
) -> None:
    run_queue_pairs(machine)
    tuner = machine.tune(ALL)
    one = held(tuner, RING)
    assert (one.verdict, machine.read(f"{NET}/netlink/ethtool/rx_ring")) == (Verdict.DRIFT, "1024")
    assert one.reason == (
        f"not written while it would disturb traffic: queue pairs of ib_write_bw[812] on {DEVICE}; "
        f"`sparktune apply {RING}` writes it all the same"
    )
    assert machine.read(f"{NET}/netlink/ethtool/adaptive_tx") == "0", "what does not disturb is written"
    assert held(tuner, "roce.enP2p1s0f0np0.rx_ring").verdict is Verdict.OK, "the twin has no queue pairs"


def test_what_belongs_to_the_port_waits_for_the_queue_pairs_of_its_twin_too(machine: Machine) -> None:
    run_queue_pairs(machine)
    tuner = machine.tune(ALL)
    for name in ("pause_rx", "pause_tx", "pfc_priorities", "trust"):
        one = held(tuner, f"roce.enP2p1s0f0np0.{name}")
        assert one.verdict is Verdict.DRIFT
        assert f"queue pairs of ib_write_bw[812] on {DEVICE}" in one.reason
    assert held(tuner, "roce.enp1s0f1np1.trust").verdict is Verdict.OK, "the other port has none"


def test_a_request_writes_it_all_the_same(machine: Machine) -> None:
    run_queue_pairs(machine)
    tuner = machine.tune(ALL)
    tuner.engine.apply([RING], Noticed.REQUEST)
    assert held(tuner, RING).verdict is Verdict.OK
    assert held(tuner, MTU).verdict is Verdict.DRIFT, "only what was asked for"


@pytest.mark.parametrize("noticed", [Noticed.SWEEP, Noticed.RTNETLINK, Noticed.FANOTIFY, Noticed.RELOAD])
def test_a_later_drift_is_reported_while_queue_pairs_exist(noticed: Noticed, machine: Machine) -> None:
    tuner = machine.tune(ALL)
    run_queue_pairs(machine)
    machine.write(f"{NET}/mtu", "1500")
    drift = tuner.engine.look(held(tuner, MTU), noticed)
    assert drift is not None
    assert (drift.action, machine.read(f"{NET}/mtu")) == (Action.LEFT, "1500")
    assert "ib_write_bw[812]" in drift.reason


@pytest.mark.parametrize("noticed", [Noticed.SWEEP, Noticed.RTNETLINK, Noticed.FANOTIFY])
def test_without_queue_pairs_a_later_drift_is_healed(noticed: Noticed, machine: Machine) -> None:
    tuner = machine.tune(ALL)
    machine.write(f"{NET}/mtu", "1500")
    drift = tuner.engine.look(held(tuner, MTU), noticed)
    assert drift is not None
    assert (drift.action, machine.read(f"{NET}/mtu")) == (Action.HEALED, "9000")


def test_queue_pairs_that_cannot_be_told_count_as_existing(machine: Machine) -> None:
    run_queue_pairs(machine, "nonsense\n")
    one = held(machine.tune(ALL), RING)
    assert one.verdict is Verdict.DRIFT
    assert "cannot be told" in one.reason


def test_a_write_that_disturbs_is_never_made_in_haste(machine: Machine) -> None:
    tuner = machine.tune(ALL)
    for name, tunable in mine(tuner).items():
        if tunable.disruptive:
            assert held(tuner, tunable.id).armed is None, name
            assert tunable.attribute.exchange(b"1\n") is None


def test_who_writes_the_mtu_in_sysfs_is_seen(machine: Machine) -> None:
    tunable = mine(machine.start(ALL))["mtu"]
    assert tunable.attribute.watched == (machine.root.path(f"{NET}/mtu"),)


# -- who owns the MTU ----------------------------------------------------------------------------------------

NETPLAN = Owner(
    kind=OwnerKind.NETPLAN,
    file="/etc/netplan/40-cx7.yaml",
    key=f"network.ethernets.{NETDEV}",
    change="set mtu: MTU there",
)


def test_an_owner_that_asks_for_no_mtu_is_named_with_the_change_that_keeps_it(machine: Machine) -> None:
    tunable = only_mtu(machine, NETPLAN)
    assert (tunable.owner, tunable.yields) == ("/etc/netplan/40-cx7.yaml", "")
    assert tunable.do == f"set mtu: 9000 there; until then: sparktune apply {MTU}"


def test_another_mtu_of_the_owners_is_reported_and_not_fought(machine: Machine) -> None:
    tunable = only_mtu(machine, replace(NETPLAN, mtu=1500))
    assert tunable.yields == "/etc/netplan/40-cx7.yaml sets 1500: reported and not fought"
    assert tunable.do == "set mtu: 9000 there"


def test_what_an_owner_sets_otherwise_is_never_written_not_even_on_request(tmp_path: Path) -> None:
    attribute = ScriptedAttribute(1500)
    engine, one = scripted(tmp_path, attribute, "somebody sets 1500")
    for noticed in (Noticed.START, Noticed.SWEEP, Noticed.REQUEST):
        engine.look(one, noticed)
    assert (attribute.written, one.verdict, one.reason) == ([], Verdict.DRIFT, "somebody sets 1500")
    assert engine.plan() == []


def test_the_same_mtu_at_the_owners_is_no_reason_to_yield(machine: Machine) -> None:
    assert only_mtu(machine, replace(NETPLAN, mtu=9000)).yields == ""


def test_nobodys_interface_has_neither_owner_nor_change(machine: Machine) -> None:
    tunable = only_mtu(machine, Owner(kind=OwnerKind.NOBODY))
    assert (tunable.owner, tunable.do, tunable.yields) == ("", "", "")


def test_the_placeholder_is_a_word_of_its_own() -> None:
    owner = Owner(kind=OwnerKind.NETWORKD, file="/x.network", change="MTUBytes=MTU in [Link]")
    assert interfaces.change_for(owner, 9000) == "MTUBytes=9000 in [Link]"


# -- what a driver does not have, and what it refuses --------------------------------------------------------


def test_a_driver_without_dcb_makes_pfc_and_trust_absent(machine: Machine) -> None:
    shutil.rmtree(machine.root.path(f"{NET}/netlink/dcb"))
    tuner = machine.tune(ALL)
    reasons = {name: held(tuner, f"roce.{NETDEV}.{name}").reason for name in ("pfc_priorities", "trust")}
    assert reasons == {
        "pfc_priorities": "the driver, or a kernel without CONFIG_DCB, has no priority flow control to set "
        "(EOPNOTSUPP)",
        "trust": "the driver, or a kernel without CONFIG_DCB, has no trust mode to set (EOPNOTSUPP)",
    }
    assert held(tuner, f"roce.{NETDEV}.trust").verdict is Verdict.ABSENT
    assert held(tuner, RING).verdict is Verdict.OK, "the others are not lost with it"


def test_an_interface_that_left_is_absent_and_not_without_a_setting(machine: Machine) -> None:
    tuner = machine.start(ALL)
    shutil.rmtree(machine.root.path(machine.root.resolve(NET)))
    machine.root.path(NET).unlink()
    tuner.engine.apply(None, Noticed.START)
    assert {held(tuner, tunable.id).verdict for tunable in mine(tuner).values()} == {Verdict.ABSENT}
    assert tuner.engine.failures == []


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(errno.EPERM, Verdict.BLOCKED), (errno.EINVAL, Verdict.BLOCKED), (errno.EOPNOTSUPP, Verdict.BLOCKED),
     (errno.EBUSY, Verdict.FAILED), (errno.ENODEV, Verdict.ABSENT)],
)  # fmt: skip
def test_an_error_of_a_write_is_a_verdict_and_a_reason(code: int, verdict: Verdict, tmp_path: Path) -> None:
    attribute = ScriptedAttribute(1500)
    attribute.write_error = code
    engine, one = scripted(tmp_path, attribute)
    engine.look(one, Noticed.START)
    assert one.verdict is verdict
    assert os.strerror(code) in one.reason


def test_under_lockdown_a_refusal_is_blocked_with_that_word_and_what_to_do(
    machine: Machine, tmp_path: Path
) -> None:
    machine.root.path("/sys/kernel/security").mkdir(parents=True, exist_ok=True)
    machine.write("/sys/kernel/security/lockdown", "none [integrity] confidentiality")
    attribute = ScriptedAttribute(1500)
    attribute.write_error = errno.EPERM
    engine, one = scripted(tmp_path, attribute)
    engine.root = machine.root
    engine.look(one, Noticed.START)
    assert one.verdict is Verdict.BLOCKED
    assert one.reason.endswith("the kernel is in lockdown (integrity) (EPERM)")
    assert "Secure Boot" in remedy_for(one)


def test_a_value_the_driver_rounds_is_blocked_with_what_it_keeps(tmp_path: Path) -> None:
    attribute = ScriptedAttribute(1500)
    attribute.keeps = lambda _: 9978
    engine, one = scripted(tmp_path, attribute)
    engine.look(one, Noticed.START)
    assert (one.verdict, one.reason) == (Verdict.BLOCKED, "wrote 9000, kernel keeps 9978")


# -- the keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mtu = 1000", "expected a whole number from 1280 to 9978, in bytes, or"),
        ("mtu = 9979", "found 9979"),
        ("mtu = true", "found true"),
        ('mtu = "9000"', 'found "9000"'),
        ('pause = "on"', 'expected "off" (left alone), "none", "rx", "tx" or "both", found "on"'),
        ("pause = true", "found true"),
        ("rx_ring = 1000", "expected a power of two from 64 to 8192"),
        ("rx_ring = 1000", "the nearest are 512 and 1024"),
        ("tx_ring = 16384", "found 16384"),
        ("pfc_priorities = [8]", "expected a list of different numbers from 0 to 7"),
        ("pfc_priorities = [3, 3]", "each priority is named once"),
        ("pfc_priorities = 3", "found 3"),
        ('pause = "both"\npfc_priorities = [3]', "a port has either pause frames or PFC"),
        ('trust = "vlan"', 'expected "off", "pcp" or "dscp", found "vlan"'),
        ("default_roce_tos = 256", "expected a whole number from 0 to 255"),
        ("traffic_class = -1", "found -1"),
        ('adaptive_coalescing = "Both"', 'did you mean "both"?'),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_was_expected(
    line: str, said: str, machine: Machine
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        machine.effective(f"[roce]\n{line}\n")
    assert said in str([*raised.value.problems, raised.value])


@pytest.mark.parametrize(
    "line", ["pfc_priorities = []", 'pause = "none"\npfc_priorities = [3]', "mtu = 1280"]
)
def test_what_can_be_is_taken(line: str, machine: Machine) -> None:
    machine.effective(f"[roce]\n{line}\n")
