"""`sparktune restore`: put originals back by compare-and-swap, through the daemon when it runs, else here."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from sparktune.cli.grouping import group
from sparktune.cli.options import json_option, names_argument, places
from sparktune.cli.screen import Screen, progress
from sparktune.control import request
from sparktune.errors import DaemonNotRunningError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.places import Places

_EXIT_FAILED, _EXIT_LEFT = 1, 4


@click.command()
@click.option("--all", "everything", is_flag=True, help="Everything that sparktune wrote in this boot.")
@names_argument
@json_option
def restore(*, everything: bool, names: tuple[str, ...], as_json: bool) -> int:
    """Put back what was there before sparktune, and leave it alone until `apply` or reboot.

    Only a value that is still sparktune's own is put back; what somebody else wrote since is left alone.
    """
    if everything == bool(names):
        hint = "sparktune restore --all, or the ids or areas to put back"
        raise UsageError("say what to restore: --all or names, one of them", hint=hint)
    where = places()
    with progress("restoring"):
        try:
            outcomes = request(where.run_dir, {"request": "restore", "ids": list(names) or None})["outcomes"]
        except DaemonNotRunningError:
            outcomes = _restore_here(where, names)
    screen = Screen()
    if as_json:
        screen.json({"outcomes": outcomes})
    else:
        _show(screen, outcomes)
    kinds = {item["outcome"] for item in outcomes}
    return _EXIT_FAILED if "failed" in kinds else _EXIT_LEFT if "left" in kinds else 0


def _restore_here(where: Places, names: Sequence[str]) -> list[dict[str, Any]]:
    """Without a daemon. A broken configuration is no reason to keep what it once asked for."""
    from sparktune.cli.local import AREA_NAMES, take_host
    from sparktune.requests import check_names

    with take_host(where, fall_back=True) as tuner:
        recorded = tuple(entry.id for entry in tuner.engine.originals.all())
        ids = check_names(tuner.engine, list(names) or None, also=(*AREA_NAMES, *recorded))
        by = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
        return [asdict(outcome) for outcome in tuner.engine.restore(ids, by=by)]


def _show(screen: Screen, outcomes: Sequence[dict[str, Any]]) -> None:
    if not outcomes:
        screen.say("sparktune wrote nothing in this boot: there is nothing to put back")
        return
    entries = [(item["id"], (item["outcome"], item["value"], item["reason"])) for item in outcomes]
    rows = [(name, count, outcome, value, reason) for name, count, (outcome, value, reason) in group(entries)]
    screen.table(("WHAT", "HOW MANY", "OUTCOME", "IS NOW", "REASON"), rows)
    counts = Counter(item["outcome"] for item in outcomes)
    screen.say(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
