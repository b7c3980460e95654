"""The text of `/tunables`, of which only the parts that changed are made anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from documents import make_status
from sparktune.held import Held
from sparktune.model import Noticed
from sparktune.publishing import TunablesText

if TYPE_CHECKING:
    from machines import Machine

ID = "nvme.nvme0n1.read_ahead_kb"


def test_one_that_was_let_go_and_taken_again_is_told_of_as_it_is_now(machine: Machine) -> None:
    """The new one usually lies where the old one was in memory, and has seen as many changes."""
    tuner = machine.start()
    tuner.engine.apply(None, Noticed.START)
    text, daemon = TunablesText(), make_status().daemon
    before = _verdicts(text.compose(tuner, daemon))
    old = tuner.engine.held.pop(ID)
    tunable, policy, version = old.tunable, old.policy, old.version
    del old
    new = tuner.engine.held[ID] = Held(tunable=tunable, policy=policy, layer="default")
    new.version = version
    assert (before[ID], _verdicts(text.compose(tuner, daemon))[ID]) == ("ok", "absent")


def _verdicts(text: str) -> dict[str, str]:
    return {one["id"]: one["verdict"] for one in json.loads(text)["tunables"]}
