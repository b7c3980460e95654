"""`sparktune explain ID`: all that is known about one tunable, from the daemon if it runs, else read here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sparktune.cli.options import id_argument, json_option, places
from sparktune.cli.phrases import describe_writer, local_time
from sparktune.cli.screen import Screen
from sparktune.errors import DaemonNotRunningError
from sparktune.published import fetch

if TYPE_CHECKING:
    from sparktune.places import Places

_LABEL = 12

Facts = tuple[dict[str, Any], list[dict[str, Any]], bool]
"""The tunable as in `/tunables/{id}`, the notes of its area, and whether the daemon said so."""


@click.command()
@id_argument
@json_option
def explain(*, name: str, as_json: bool) -> int:
    """Explain one tunable: why, source, risk, original, wanted, actual, and which layer set it."""
    where = places()
    tunable, notes, published = _ask_daemon(where, name) or _look(where, name)
    screen = Screen()
    if as_json:
        screen.json({**tunable, "notes": notes})
    else:
        _show(screen, tunable, notes, published=published)
    return 0


def _ask_daemon(where: Places, name: str) -> Facts | None:
    """None where no daemon runs, or where it does not know the id: then this process looks itself."""
    try:
        status = fetch(where.run_dir, "status")
        if not status.fresh:
            return None
        entries = fetch(where.run_dir, "tunables").data["tunables"]
        tunable = next((entry for entry in entries if entry["id"] == name), None)
        if tunable is None:
            return None
        notes = [note for note in status.data["warnings"] if note["area"] == tunable["area"]]
    except (DaemonNotRunningError, KeyError, TypeError):  # none, or another version's
        return None
    return tunable, notes, True


def _look(where: Places, name: str) -> Facts:
    from dataclasses import asdict

    from sparktune.cli.local import area_notes, find_nearest, open_tuner
    from sparktune.model import Noticed
    from sparktune.published import timestamp
    from sparktune.publishing import tunable_state

    with open_tuner(where) as tuner:
        held = tuner.engine.held.get(name)
        if held is None:
            raise find_nearest(name, list(tuner.engine.held))
        tuner.engine.look(held, Noticed.REQUEST, heal=False)
        notes = [asdict(note) for note in area_notes(tuner, held.tunable.area)]
        return asdict(tunable_state(tuner, held, verified_at=timestamp())), notes, False


def _show(screen: Screen, tunable: dict[str, Any], notes: list[dict[str, Any]], *, published: bool) -> None:
    screen.say(tunable["id"], style="bold")
    what = "a check: verified, never written" if tunable["check"] else f"policy {tunable['policy']}"
    unit = tunable["unit"]
    verdict = f"{tunable['verdict']}{': ' if tunable['reason'] else ''}{tunable['reason']}"
    since = f" (since {local_time(tunable['since'])})" if tunable["since"] and published else ""
    for label, text in (
        ("kind", what),
        ("at", tunable["attribute"]),
        ("verdict", f"{verdict}{since}"),
        ("actual", _with_unit(tunable["actual"], unit)),
        ("wanted", _with_unit(tunable["wanted"], unit)),
        ("original", _original(tunable)),
        ("set by", f"{tunable['key']} ({tunable['layer']})"),
        ("why", tunable["why"]),
        ("source", tunable["source"]),
        ("risk", tunable["risk"]),
        ("disturbs", "running traffic, for a moment" if tunable["disruptive"] else ""),
        ("owner", tunable["owner"] or ""),
        ("do", tunable["do"]),
        ("last drift", _last_drift(tunable)),
    ):
        if text:
            screen.tell(label, text, column=_LABEL)
    for note in notes:
        screen.tell(note["level"], note["says"] + (f". {note['do']}" if note["do"] else ""), column=_LABEL)
    if not published:
        screen.tell("note", "read just now by this command: no daemon says how it went before", column=_LABEL)


def _with_unit(value: object, unit: str) -> str:
    return "nothing could be read" if value is None else f"{value} {unit}".rstrip()


def _original(tunable: dict[str, Any]) -> str:
    if tunable["check"]:
        return ""
    if tunable["original"] is None:
        return "none recorded: sparktune has not written it in this boot (or only root may see it)"
    return (
        f"{_with_unit(tunable['original'], tunable['unit'])}; sparktune restore {tunable['id']} puts it back"
    )


def _last_drift(tunable: dict[str, Any]) -> str:
    last = tunable["last_drift"]
    if last is None:
        return ""
    healed = f"; healed {tunable['heals']} times since the daemon started" if tunable["heals"] else ""
    who = describe_writer(last["by"])
    return f"{local_time(last['at'])}: found {last['found']}, {last['action']}; by {who}{healed}"
