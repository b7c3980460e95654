"""`sparktune verify`: read everything now and judge, without the daemon and without writing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from sparktune.cli.grouping import group, shorten
from sparktune.cli.local import choose, is_hidden, is_supported, open_tuner, summarise
from sparktune.cli.options import json_option, names_argument, places
from sparktune.cli.screen import Screen, progress
from sparktune.model import Noticed, Verdict
from sparktune.published import exit_code
from sparktune.publishing import build_drift, holds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.held import Held
    from sparktune.tuner import Tuner

BETWEEN_READINGS_S = 1.0
MOST_FOR_PEERS_S = 15.0
_EXIT_UNSUPPORTED = 5


@click.command()
@names_argument
@json_option
def verify(*, names: tuple[str, ...], as_json: bool) -> int:
    """Read everything now and judge it. Writes nothing; needs no daemon and no root.

    Checks of an effect (does a CPU still enter disabled idle states?) take two readings, a second apart.
    """
    where = places()
    with open_tuner(where) as tuner:
        chosen = choose(tuner, names)
        with progress("reading everything twice, a second apart", after_s=0.5):
            _ask_peers(tuner, chosen)
            _read(tuner, chosen)
        state, says, checked = summarise(tuner, chosen)
        supported = is_supported(tuner)
        screen = Screen()
        if as_json:
            ids = {held.tunable.id for held in chosen}
            bad = [item for item in build_drift(tuner, ()).not_holding if item.id in ids]
            document = {"state": state, "summary": says, "checked": checked, "not_holding": bad}
            screen.json({**document, "machine": tuner.host.verdict, "supported": supported})
        else:
            _show(screen, chosen)
            _show_unchecked(screen, chosen)
            _show_absent(screen, tuner, names)
            if is_hidden(where, "marks.json"):
                screen.say("pauses and restored marks are not visible to you: with sudo they are respected")
            screen.head(state, says)
            if not supported:
                screen.say("this machine is no GB10 and require_gb10 is on: the daemon writes nothing here")
    holds_all = checked.hold == checked.of and checked.read > 0
    return exit_code(state, holds=holds_all) if supported else _EXIT_UNSUPPORTED


def _read(tuner: Tuner, chosen: Sequence[Held]) -> None:
    for held in chosen:
        tuner.engine.look(held, Noticed.REQUEST, heal=False)
    again = [held for held in chosen if held.tunable.is_check and held.verdict is Verdict.ABSENT]
    if again:
        time.sleep(BETWEEN_READINGS_S)
        for held in again:
            tuner.engine.look(held, Noticed.REQUEST, heal=False)


def _ask_peers(tuner: Tuner, chosen: Sequence[Held]) -> None:
    """Ping those whose answer is to be judged; a command may wait for that."""
    if not tuner.settings.roce.peers or not tuner.host.root.is_real:
        return
    from sparktune.kernel.path import PathAttribute
    from sparktune.pinging import Pinging

    ways = [one for held in chosen if isinstance(one := held.tunable.attribute, PathAttribute)]
    pinging = Pinging(lambda: ways, lambda: None)
    pinging.begin(at_once=True)
    ends_s = time.monotonic() + MOST_FOR_PEERS_S
    while (due_s := pinging.due_s()) is not None and due_s < ends_s:
        time.sleep(max(0.0, due_s - time.monotonic()))
        pinging.turn()
    pinging.close()


def _show(screen: Screen, chosen: Sequence[Held]) -> None:
    entries = [
        (held.tunable.id, (held.verdict.value, held.actual, held.tunable.wanted, held.reason))
        for held in chosen
        if not holds(held)
    ]
    if entries:
        rows = [
            (name, count, verdict, actual, wanted, reason)
            for name, count, (verdict, actual, wanted, reason) in group(entries)
        ]
        screen.table(("DOES NOT HOLD", "HOW MANY", "VERDICT", "ACTUAL", "WANTED", "REASON"), rows)
        screen.say()


def _show_unchecked(screen: Screen, chosen: Sequence[Held]) -> None:
    """What "checked N of M" leaves out, by its reason: it may hold or not."""
    reasons: dict[str, list[str]] = {}
    for held in chosen:
        if held.verdict is Verdict.ABSENT:
            reasons.setdefault(held.reason, []).append(held.tunable.id)
    if reasons:
        rows = [(shorten(ids, most=1), len(ids), reason) for reason, ids in reasons.items()]
        screen.table(("NOT CHECKED", "HOW MANY", "WHY"), rows)
        screen.say()


def _show_absent(screen: Screen, tuner: Tuner, names: Sequence[str]) -> None:
    for area, facts in tuner.areas.items():
        if facts.absent and (not names or area in names):
            screen.say(f"{area}: absent: {facts.absent}")
