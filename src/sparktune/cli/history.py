"""`sparktune history`: who changed what, from the database where it may be read, else from the API."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from sparktune.cli.grouping import shorten
from sparktune.cli.moments import parse_moment
from sparktune.cli.options import complete_ids, json_option, places
from sparktune.cli.pages import Query, find_source
from sparktune.cli.phrases import describe_took, describe_writer, local_time
from sparktune.cli.screen import Screen, progress
from sparktune.errors import UsageError
from sparktune.published import encode

if TYPE_CHECKING:
    from sparktune.cli.pages import Fetch

POLL_S = 1.0
_OVERLAP = timedelta(seconds=10)
_MOST_AT_ONCE = 10_000
DEFAULT_API = "http://localhost:9300"
_INDENT = 2
_LABEL = 10


@click.command()
@click.option("--follow", is_flag=True, help="Go on with new episodes as they come, until Ctrl-C.")
@click.option("--since", metavar="WHEN", help='Not older: RFC 3339 with a zone, or an age such as "1h".')
@click.option("--until", metavar="WHEN", help="Older than this.")
@click.option(
    "--tunable", metavar="ID", shell_complete=complete_ids,
    help='Only with this tunable; "nvme.*" for all that begin so.',
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most this many.")
@click.option("--commands", is_flag=True, help="With the command lines of the writers; root only.")
@click.option("--api", metavar="URL", help=f"Ask this API instead of the database. [default: {DEFAULT_API}]")
@json_option
def history(
    *,
    follow: bool,
    since: str | None,
    until: str | None,
    tunable: str | None,
    limit: int,
    commands: bool,
    api: str | None,
    as_json: bool,
) -> int:
    """Show the episodes of drift, newest first: what changed, who did it, and what was done about it.

    Reads the database where this user may, else asks the API. --json with --follow: an object a line.
    """
    if commands and os.geteuid() != 0:
        raise UsageError("command lines are shown to root only", hint="try again with sudo")
    query = Query(
        since=None if since is None else parse_moment(since, name="--since"),
        until=None if until is None else parse_moment(until, name="--until"),
        tunable=tunable,
        commands=commands,
    )
    fetch = find_source(places().history, api, DEFAULT_API)
    with progress("reading the history"):
        episodes = fetch(query, limit)
    screen = Screen()
    if follow:
        return _follow(screen, fetch, query, episodes, as_json=as_json)
    if as_json:
        screen.json({"episodes": episodes})
    elif not episodes:
        screen.say("no episodes" + (" match" if since or until or tunable else ": nothing has drifted yet"))
    else:
        for episode in episodes:
            _show(screen, episode)
    return 0


def _follow(
    screen: Screen, fetch: Fetch, query: Query, episodes: list[dict[str, Any]], *, as_json: bool
) -> int:
    """The oldest first, as a log; ends with 0 on Ctrl-C, which is how it is meant to end."""
    last = 0
    try:
        while True:
            new = [episode for episode in episodes if episode["id"] > last]
            for episode in sorted(new, key=lambda entry: int(entry["id"])):
                if as_json:
                    sys.stdout.write(f"{encode(episode, indent=None)}\n")
                else:
                    _show(screen, episode)
                last = max(last, episode["id"])
            sys.stdout.flush()
            time.sleep(POLL_S)
            if episodes:  # an episode may be stored a little after a later one
                latest = max(datetime.fromisoformat(episode["at"]) for episode in episodes)
                query = replace(query, since=latest - _OVERLAP)
            episodes = fetch(query, _MOST_AT_ONCE) or episodes
    except KeyboardInterrupt:
        return 0


def _show(screen: Screen, episode: dict[str, Any]) -> None:
    took = describe_took(episode["took_us"])
    done = f"{episode['action']}{f' in {took}' if took else ''}"
    count = episode["count"]
    values = "1 value" if count == 1 else f"{count} values"
    screen.head(local_time(episode["at"]), f"{episode['area']}: {values} {done} ({episode['noticed']})")
    for (found, wanted, action, reason), names in _group(episode["drifts"]).items():
        said = f"{shorten(names)}: {found} → {wanted}"
        if action != episode["action"]:
            said += f", {action}"
        screen.tell("what", said + (f" ({reason})" if reason else ""), indent=_INDENT, column=_LABEL)
    screen.tell("who", describe_writer(episode["by"]), indent=_INDENT, column=_LABEL)
    for label, command in (("command", episode["command"]), ("parent's", episode["parent_command"])):
        if command:
            screen.say(f"  {label:<{_LABEL}}{command}")


def _group(drifts: list[dict[str, Any]]) -> dict[tuple[object, ...], list[str]]:
    groups: dict[tuple[object, ...], list[str]] = {}
    for drift in drifts:
        key = (drift["found"], drift["wanted"], drift["action"], drift["reason"])
        groups.setdefault(key, []).append(drift["tunable"])
    return groups
