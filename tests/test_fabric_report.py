"""The fabric's document: what it says, that it can be recalled, and how it is drawn."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from documents import make_fabric
from sparktune.cli.fabric import show
from sparktune.cli.screen import Screen
from sparktune.fabric.model import Fabric, Presence
from sparktune.fabric.report import FabricFinding, Judged, findings_of, recall, report, was_checked
from sparktune.published import encode


def test_the_summary_counts_twins_and_findings_of_each_port() -> None:
    assert make_fabric().summary == "port p0: cabled, 1 of 2 twins up, 1 finding"


def test_a_twin_has_the_weightiest_verdict_of_what_is_about_it() -> None:
    [port] = make_fabric().ports
    assert [(twin.name, twin.verdict) for twin in port.twins] == [
        ("enp1s0f0np0", "ok"),
        ("enP2p1s0f0np0", "drift"),
    ]


def test_what_is_about_a_port_as_a_whole_is_told_once() -> None:
    finding = FabricFinding(
        id="roce.p0.twins_mtu", verdict="drift", wanted=0, actual=1, reason="differ", do=""
    )
    document = report(recall(make_fabric()), [Judged(device="p0", finding=finding)])
    assert document.ports[0].findings == (finding,)
    assert [one.id for one in findings_of(document)] == ["roce.p0.twins_mtu"]


def test_nothing_that_was_judged_means_nothing_was_checked() -> None:
    assert not was_checked(report(recall(make_fabric()), []))
    assert was_checked(make_fabric())


@pytest.mark.parametrize(
    ("presence", "says"), [(Presence.POWERED_DOWN, "no cable is in"), (Presence.NONE, "was found")]
)
def test_an_absent_chip_says_why_and_what_to_do(presence: Presence, says: str) -> None:
    document = report(Fabric(presence=presence, evidence=("/etc/x",)), [])
    assert says in document.summary
    assert document.do
    assert document.evidence == ("/etc/x",)


def test_the_fabric_is_recalled_from_its_document() -> None:
    recalled = recall(make_fabric())
    assert report(recalled, []) == report(recall(report(recalled, [])), [])
    first = recalled.functions[0]
    assert first.rdma is not None
    assert first.rdma.v2_gid is not None
    assert (first.rdma.v2_gid.index, first.port, first.addresses) == (3, "p0", ("192.168.100.10/24",))
    assert recalled.functions[1].rdma is None
    assert recalled.others[0].netdev == "eth0"


def test_a_function_without_a_port_name_is_a_port_of_its_own_and_recalled_as_that() -> None:
    functions = tuple(replace(one, port="") for one in recall(make_fabric()).functions)
    document = report(Fabric(presence=Presence.PRESENT, functions=functions), [])
    assert [port.name for port in document.ports] == ["0000:01:00.0", "0002:01:00.0"]
    assert [one.port for one in recall(document).functions] == ["", ""]


def test_the_drawing_marks_the_wrong_twin_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    show(Screen(), make_fabric())
    drawn = capsys.readouterr().out
    assert drawn.splitlines()[0] == "drift: port p0: cabled, 1 of 2 twins up, 1 finding"
    [first] = [line for line in drawn.splitlines() if "┬─ enp1s0f0np0" in line]
    [second] = [line for line in drawn.splitlines() if "└─ enP2p1s0f0np0" in line]
    assert first.startswith("p0 cable")
    assert (" ok " in first, " drift " in second) == (True, True)
    assert "netplan: /etc/netplan/40-cx7.yaml" in first
    assert "drift: roce.enP2p1s0f0np0.link: no carrier\n  do: look at the cable\n" in drawn


def test_the_document_is_json_with_device_and_gid_index() -> None:
    told = json.loads(encode(make_fabric()))
    first = told["ports"][0]["twins"][0]
    assert (first["rdma"], first["rdma_port"], first["gid_index"]) == ("rocep1s0f0", 1, 3)
