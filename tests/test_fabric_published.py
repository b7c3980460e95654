"""The fabric as the daemon publishes it: the one its checks were judged by, read again after events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sparktune.fabrics import build_fabric
from sparktune.model import Noticed
from sparktune.published import encode

if TYPE_CHECKING:
    from machines import Machine

MTU = "/sys/class/net/enp1s0f0np0/mtu"


def test_what_is_published_is_what_the_checks_saw_until_something_happens(machine: Machine) -> None:
    tuner = machine.start()
    before = tuner.fabric()
    machine.write(MTU, "4200")
    assert tuner.fabric() is before
    for held in tuner.engine.choose(["roce"]):
        expire = getattr(held.tunable.attribute, "expire", None)
        if expire is not None:
            expire()
    after = tuner.fabric()
    assert (before.functions[0].mtu, after.functions[0].mtu) == (1500, 4200)


def test_verdicts_are_joined_with_the_functions_they_are_about(machine: Machine) -> None:
    tuner = machine.start()
    tuner.engine.apply(None, Noticed.START)
    told = json.loads(encode(build_fabric(tuner)))
    port = told["ports"][0]
    assert (port["name"], port["cabled"]) == ("p0", True)
    assert {twin["verdict"] for twin in port["twins"]} == {"ok"}
    assert told["presence"] == "present"
