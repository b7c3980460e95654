"""`sparktune config`: judges a configuration, or prints the effective one with the layer of each value."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sparktune.cli.options import json_option, places
from sparktune.cli.screen import Screen
from sparktune.errors import UsageError

_EXIT_INVALID = 2


@click.group()
def config() -> None:
    """Check or show the configuration."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
def check(*, file: Path | None, as_json: bool) -> int:
    """Validate a file, its drop-ins and all its host blocks. Needs no root and no GB10."""
    from sparktune import settings

    path = places().config if file is None else file
    if file is not None and not file.is_file():
        raise UsageError(f"{file}: no such file", hint="without a name the configured file is checked")
    problems = settings.check(path)
    screen = Screen()
    if as_json:
        screen.json({"file": str(path), "valid": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            screen.say(str(problem))
    elif path.exists():
        screen.say(f"{path}: valid, with its drop-ins and host blocks")
    elif Path(f"{path}.d").is_dir():
        screen.say(f"{path}: not there, which is valid; its drop-ins in {path}.d are valid as well")
    else:
        screen.say(f"{path}: not there, which is valid: the defaults apply")
    return _EXIT_INVALID if problems else 0


@config.command()
@click.option("--host", "name", metavar="NAME", help="As another host of the fleet would have it.")
@json_option
def show(*, name: str | None, as_json: bool) -> int:
    """Print the effective configuration with the layer that set each value.

    For this host the SPARKTUNE_* variables of this shell count; the daemon has its own. With --host none do.
    """
    from sparktune import hardware, settings
    from sparktune.publishing import build_config

    where = places()
    if name is not None:
        names: tuple[str, ...] = tuple(dict.fromkeys((name.partition(".")[0], name)))
    elif where.root.is_real:
        names = settings.host_names()
    else:
        names = (hardware.detect(where.root).name,)
    environ = os.environ if name is None else {}
    effective = settings.load(where.config, host_names=names, environ=environ)
    report = build_config(effective, on_disk=True)
    screen = Screen()
    if as_json:
        screen.json(report)
        return 0
    screen.say(f"effective configuration of {names[-1]}, sha256 {report.sha256[:12]}", style="bold")
    rows = [(key, _spell(entry.value), entry.layer) for key, entry in report.values.items()]
    screen.table(("KEY", "VALUE", "SET BY"), rows)
    return 0


def _spell(value: object) -> str:
    """A value as TOML spells it; the only fractions are durations."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f'"{value:g}s"'
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_spell, value))}]"
    return str(value)
