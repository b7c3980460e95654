"""`sparktune apply`: apply and verify now, through the daemon when it runs, else here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from sparktune.cli.grouping import group
from sparktune.cli.options import json_option, names_argument, places
from sparktune.cli.screen import Screen, progress
from sparktune.control import request
from sparktune.errors import DaemonNotRunningError, UnsupportedMachineError, UsageError
from sparktune.published import exit_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.places import Places


@click.command()
@names_argument
@json_option
def apply(*, names: tuple[str, ...], as_json: bool) -> int:
    """Write what differs and verify it now. Ends holds, pauses and restored marks of what is named.

    Goes through the daemon when it runs. Without one it is done here, as root, and not held afterwards.
    """
    where = places()
    with progress("applying"):
        try:
            answer = request(where.run_dir, {"request": "apply", "ids": list(names) or None})
            held = True
        except DaemonNotRunningError:
            answer = _apply_here(where, names)
            held = False
    written, status = answer["written"], answer["status"]
    screen = Screen()
    if as_json:
        screen.json({"daemon": held, "written": written, "status": status})
    else:
        _show(screen, written, status, held=held)
    return exit_code(status["state"])


def _apply_here(where: Places, names: Sequence[str]) -> dict[str, Any]:
    from sparktune.cli.local import choose, is_supported, summarise, take_host
    from sparktune.model import Noticed

    with take_host(where) as tuner:
        if not is_supported(tuner):
            raise UnsupportedMachineError(
                "this is no GB10 machine: nothing was written",
                hint="`sparktune detect` shows why; require_gb10 = false tunes it all the same",
            )
        if tuner.switched_off:
            raise UsageError("sparktune=off is on the kernel command line", hint="remove it and reboot")
        chosen = choose(tuner, names)
        ids = [held.tunable.id for held in chosen] if names else None
        drifts = tuner.engine.apply(ids, Noticed.REQUEST)
        state, says, _ = summarise(tuner, chosen)
    return {"written": [asdict(drift) for drift in drifts], "status": {"state": state, "summary": says}}


def _show(screen: Screen, written: Sequence[dict[str, Any]], status: dict[str, str], *, held: bool) -> None:
    entries = [
        (item["tunable"], (item["found"], item["wanted"], item["action"], item["reason"])) for item in written
    ]
    if entries:
        rows = [
            (name, count, f"{found} → {wanted}", action, reason)
            for name, count, (found, wanted, action, reason) in group(entries)
        ]
        screen.table(("WHAT", "HOW MANY", "FOUND → WANTED", "DONE", "REASON"), rows)
    else:
        screen.say("nothing differed: nothing was written")
    screen.head(status["state"], status["summary"])
    if not held:
        screen.say("no daemon runs: nothing holds these values from now on. systemctl start sparktune")
