"""`sparktune pause`, `resume` and `reload`: short requests that only a running daemon can answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sparktune.cli.options import names_argument, places
from sparktune.cli.screen import Screen, progress
from sparktune.control import request
from sparktune.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

_EVERYTHING = "*"


@click.command()
@click.option(
    "--for", "duration", default="1h", show_default=True, metavar="DURATION", help='"30s", "10m", "1h".'
)
@names_argument
def pause(*, duration: str, names: tuple[str, ...]) -> int:
    """Stop healing for a while: everything, or some areas or tunables. Every status shows it."""
    message = {"request": "pause", "for_s": parse_duration(duration), "ids": list(names) or None}
    answer = request(places().run_dir, message)
    Screen().say(f"paused for {duration}: {_say_targets(answer['paused'])}. sparktune resume ends it")
    _show_status(answer)
    return 0


@click.command()
@names_argument
def resume(*, names: tuple[str, ...]) -> int:
    """End a pause, and heal what drifted meanwhile."""
    answer = request(places().run_dir, {"request": "resume", "ids": list(names) or None})
    ended = answer["resumed"]
    Screen().say(f"resumed: {_say_targets(ended)}" if ended else "nothing of that was paused")
    _show_status(answer)
    return 0


@click.command()
def reload() -> int:
    """Make the daemon read its configuration again. A bad one changes nothing: exit code 2."""
    with progress("the daemon reads its configuration"):
        answer = request(places().run_dir, {"request": "reload"})
    written = answer["written"]
    Screen().say(f"reloaded, {'1 write' if written == 1 else f'{written} writes'}")
    _show_status(answer)
    return 0


def _say_targets(targets: Sequence[str]) -> str:
    return "everything" if _EVERYTHING in targets else ", ".join(targets)


def _show_status(answer: dict[str, Any]) -> None:
    Screen().head(answer["status"]["state"], answer["status"]["summary"])
