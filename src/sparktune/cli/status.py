"""`sparktune status`: what the daemon published, in the order of `/status`. Has 200 ms: imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sparktune.cli.options import json_option, places
from sparktune.cli.phrases import describe_took, describe_writer, local_time
from sparktune.cli.screen import Screen
from sparktune.errors import DaemonNotRunningError
from sparktune.published import HINT_NO_DAEMON, as_down, describe_age, exit_code, fetch

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.published import Published

_LABEL = 9
_WHEN = 21


@click.command()
@click.option("--short", is_flag=True, help="One line.")
@click.option(
    "--all", "everything", is_flag=True, help="Every tunable and check besides; with --json only them."
)
@json_option
def status(*, short: bool, everything: bool, as_json: bool) -> int:
    """Show the state of this host as the daemon published it. Reads nothing of the host itself."""
    run_dir = places().run_dir
    published = fetch(run_dir, "status")
    document = published.data if published.trusted else as_down(published)
    screen = Screen()
    try:
        if as_json:
            _print_json(screen, run_dir, published, document, everything=everything)
        elif short:
            screen.head(document["state"], document["summary"])
        else:
            _show(screen, document, published)
            if everything:
                _show_tunables(screen, run_dir)
        return exit_code(
            document["state"], holds=not document["not_holding"] and document["checked"]["read"] > 0
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # damaged, or of another version
        raise DaemonNotRunningError(f"{run_dir}/status.json is damaged", hint=HINT_NO_DAEMON) from error


def _print_json(
    screen: Screen, run_dir: Path, published: Published, document: dict[str, Any], *, everything: bool
) -> None:
    if everything:
        click.echo(fetch(run_dir, "tunables").raw, nl=False)
    elif published.trusted:
        click.echo(published.raw, nl=False)
    else:
        screen.json(document)


def _show(screen: Screen, document: dict[str, Any], published: Published) -> None:
    screen.head(document["state"], document["summary"])
    screen.say()
    _show_host(screen, document)
    _show_daemon(screen, document, published)
    _show_advice(screen, document)
    screen.say()
    screen.table(
        ("AREA", "STATE", "SAYS"),
        [(name, area["state"], area["says"]) for name, area in document["areas"].items()],
    )
    if document["not_holding"]:
        _show_not_holding(screen, document)
    if document["drifts"]:
        _show_drifts(screen, document["drifts"])
    if document["warnings"]:
        screen.say()
        for warning in document["warnings"]:
            area = f"{warning['area']}: " if warning["area"] else ""
            do = f". {warning['do']}" if warning["do"] else ""
            screen.tell(warning["level"], f"{area}{warning['says']}{do}", column=_LABEL)


def _show_host(screen: Screen, document: dict[str, Any]) -> None:
    host, config = document["host"], document["config"]
    model = f"{host['model'] or 'unknown model'}, kernel {host['kernel']}"
    screen.tell("host", f"{host['name']}, {model}", column=_LABEL)
    paused = document["paused_until"]
    until = f", paused until {local_time(paused)}" if paused else ""
    screen.tell("mode", f"{document['mode']}{until}", column=_LABEL)
    on_disk = "as on disk" if config["on_disk"] == "same" else "the files changed since: sparktune reload"
    if config["error"]:
        on_disk = "not what is on disk"
    screen.tell("config", f"{config['sha256'][:12]}, {on_disk}", column=_LABEL)
    if config["error"]:
        screen.tell("", f"INVALID: {config['error']}", indent=_LABEL)


def _show_daemon(screen: Screen, document: dict[str, Any], published: Published) -> None:
    daemon = document["daemon"]
    if published.fresh:
        looked = f"looked {describe_age(published.age_s)}"
    elif published.trusted:
        looked = "ended on purpose"
    else:
        looked = f"SILENT, last looked {describe_age(published.age_s)}"
    says = f"{looked}; version {daemon['version']}, pid {daemon['pid']}, events by {daemon['events']}"
    screen.tell("daemon", says, column=_LABEL)


def _show_advice(screen: Screen, document: dict[str, Any]) -> None:
    advice = document.get("advice")  # an older daemon publishes none
    if advice:
        screen.tell("advice", advice["says"], column=_LABEL)


def _show_not_holding(screen: Screen, document: dict[str, Any]) -> None:
    screen.say()
    screen.say("does not hold:", style="bold")
    for item in document["not_holding"]:
        screen.say(f"  {item['id']}: {item['verdict']}, is {item['actual']}, wanted {item['wanted']}")
        since = f" (since {local_time(item['since'])})" if item["since"] else ""
        owner = f"; {item['owner']} manages it" if item["owner"] else ""
        if item["reason"] or since or owner:
            screen.tell("why", f"{item['reason'] or 'it differs'}{since}{owner}", indent=4, column=5)
        if item["do"]:
            screen.tell("do", item["do"], indent=4, column=5)
    counts = document["checked"]
    more = sum(counts[name] for name in ("drift", "blocked", "contested", "failed")) - len(
        document["not_holding"]
    )
    if more > 0:
        screen.say(f"  and {more} more: sparktune status --all")


def _show_drifts(screen: Screen, drifts: list[dict[str, Any]]) -> None:
    screen.say()
    screen.say("latest drifts:", style="bold")
    for drift in drifts:
        what = drift["ids"][0] if drift["tunables"] == 1 else f"{drift['area']}: {drift['tunables']} tunables"
        took = f" in {describe_took(drift['took_us'])}" if drift["took_us"] is not None else ""
        reason = f" ({drift['reason']})" if drift["reason"] else ""
        done = f"{drift['action']}{took}{reason}"
        says = f"{what}: {drift['found']} → {drift['wanted']}, {done}; {_say_who(drift)}"
        screen.tell(local_time(drift["at"]), says, indent=2, column=_WHEN)


def _say_who(drift: dict[str, Any]) -> str:
    """Who did it; of a first write only the occasion, for nobody drifted anything."""
    occasion = drift["by"].get("detail")
    return (
        str(occasion) if drift["action"] == "applied" and occasion else f"by {describe_writer(drift['by'])}"
    )


def _show_tunables(screen: Screen, run_dir: Path) -> None:
    entries = fetch(run_dir, "tunables").data["tunables"]
    screen.say()
    screen.table(
        ("ID", "VERDICT", "ACTUAL", "WANTED", "UNIT", "REASON"),
        [
            (item["id"], item["verdict"], item["actual"], item["wanted"], item["unit"], item["reason"])
            for item in entries
        ],
    )
