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
from sparktune.errors import AlreadyRunningError, DaemonNotRunningError, RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.places import Places

_EXIT_FAILED, _EXIT_LEFT = 1, 4


@click.command()
@click.option("--all", "everything", is_flag=True, help="Everything that sparktune wrote in this boot.")
@click.option(
    "--until-start",
    is_flag=True,
    help="With --all and a stopped daemon: the next start applies again. Removing the package does this.",
)
@names_argument
@json_option
def restore(*, everything: bool, until_start: bool, names: tuple[str, ...], as_json: bool) -> int:
    """Put back what was there before sparktune, and leave it alone until `apply` or reboot.

    Only a value that is still sparktune's own is put back; what somebody else wrote since is left alone.
    """
    if everything == bool(names):
        hint = "sparktune restore --all, or the ids or areas to put back"
        raise UsageError("say what to restore: --all or names, one of them", hint=hint)
    if until_start and not everything:
        raise UsageError("--until-start is for everything", hint="sparktune restore --all --until-start")
    where = places()
    with progress("restoring"):
        outcomes = _restore_until_start(where) if until_start else _restore(where, names)
    screen = Screen()
    if as_json:
        screen.json({"outcomes": outcomes})
    else:
        _show(screen, outcomes)
    kinds = {item["outcome"] for item in outcomes}
    return _EXIT_FAILED if "failed" in kinds else _EXIT_LEFT if "left" in kinds else 0


def _restore(where: Places, names: Sequence[str]) -> list[dict[str, Any]]:
    try:
        answer = request(where.run_dir, {"request": "restore", "ids": list(names) or None})
    except DaemonNotRunningError:
        return _restore_here(where, names)
    outcomes: list[dict[str, Any]] = answer["outcomes"]
    return outcomes


def _restore_here(where: Places, names: Sequence[str]) -> list[dict[str, Any]]:
    """Without a daemon. A broken configuration is no reason to keep what it once asked for."""
    from sparktune.cli.local import AREA_NAMES, take_host
    from sparktune.requests import check_names

    with take_host(where, fall_back=True) as tuner:
        recorded = tuple(entry.id for entry in tuner.engine.originals.all())
        ids = check_names(tuner.engine, list(names) or None, also=(*AREA_NAMES, *recorded))
        by = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
        return [asdict(outcome) for outcome in tuner.engine.restore(ids, by=by)]


def _restore_until_start(where: Places) -> list[dict[str, Any]]:
    """Without marks, from the recorded originals alone: neither configuration nor discovery has a say.

    Marks that a person left by restoring by hand stay: those tunables are not sparktune's next time either.
    """
    from sparktune.hardware import detect
    from sparktune.kernel.lock import HostLock
    from sparktune.originals import Originals
    from sparktune.restoring import Outcome, put_back

    if where.root.is_real and os.geteuid() != 0:
        raise RefusedError("only root may change the host", hint="try again with sudo")
    store = where.state_dir / "originals.jsonl"
    if not store.exists():
        return []
    try:
        lock = HostLock(where.root)
    except AlreadyRunningError as error:
        hint = "a running daemon would apply again at once. Stop it first: systemctl stop sparktune"
        raise AlreadyRunningError(error.message, hint=hint) from error
    try:
        originals = Originals(store, detect(where.root).boot_id, repair=True)
        outcomes = put_back(where.root, originals, originals.all())
    finally:
        lock.close()
    if originals.set_aside is not None:
        reason = f"the record was damaged and is in {originals.set_aside} now: what it lost is not put back"
        outcomes.append(Outcome(id="originals", outcome="failed", reason=reason))
    return [asdict(outcome) for outcome in outcomes]


def _show(screen: Screen, outcomes: Sequence[dict[str, Any]]) -> None:
    if not outcomes:
        screen.say("no write of this boot is on record: there is nothing to put back")
        return
    entries = [(item["id"], (item["outcome"], item["value"], item["reason"])) for item in outcomes]
    rows = [(name, count, outcome, value, reason) for name, count, (outcome, value, reason) in group(entries)]
    screen.table(("WHAT", "HOW MANY", "OUTCOME", "IS NOW", "REASON"), rows)
    counts = Counter(item["outcome"] for item in outcomes)
    screen.say(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
