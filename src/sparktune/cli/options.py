"""Options and arguments that commands share, and the places they add up to. Cheap to import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparktune.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from sparktune.places import Places

COMPLETE_VARIABLE = "_SPARKTUNE_COMPLETE"
"""Set while a shell asks for completions: which one it is. click makes the name from that of the program."""
DIRECTORY = click.Path(path_type=Path, file_okay=False, readable=False)  # who may not look in may name it
_ROOT = Path("/")
_META = "sparktune."
_DEFAULTS = {"run_dir": "run/sparktune", "state_dir": "var/lib/sparktune", "config": "etc/sparktune.toml"}
_HELP = {"run_dir": "Instead of /run/sparktune.", "state_dir": "Instead of /var/lib/sparktune."}

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


def _published(context: click.Context, *keys: str) -> dict[str, None]:
    """These values of every published tunable, each once; nothing where no daemon has published."""
    from sparktune.errors import SparktuneError
    from sparktune.published import fetch

    try:
        tunables = fetch(places(context).run_dir, "tunables").data["tunables"]
        return dict.fromkeys(entry[key] for entry in tunables for key in keys)
    except (SparktuneError, KeyError, TypeError):  # no daemon, or another version's: no names
        return {}


def _complete_names(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Areas and ids of the published state."""
    from click.shell_completion import CompletionItem

    names = _published(context, "area", "id")
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_ids(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the published state."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in _published(context, "id") if name.startswith(incomplete)]


names_argument = click.argument("names", nargs=-1, metavar="[AREA or ID]...", shell_complete=_complete_names)
id_argument = click.argument("name", metavar="ID", shell_complete=complete_ids)


def add_places_options(command: click.Command) -> None:
    """Let a command take `--run-dir` and `--state-dir` after its name too."""
    known = {option for parameter in command.params for option in parameter.opts}
    for name, says in _HELP.items():
        flag = "--" + name.replace("_", "-")
        if flag not in known:
            option = click.Option([flag], type=DIRECTORY, expose_value=False, callback=_remember, help=says)
            command.params.append(option)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            add_places_options(inner)


def _remember(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None and parameter.name is not None:
        context.meta[_META + parameter.name] = value


def places(context: click.Context | None = None) -> Places:
    """Where everything is for this call: after the command's name, before it, environment, default.

    Args:
        context: of the command; the current one unless given.

    Raises:
        UsageError: the directory of `--root` is not there.
    """
    from sparktune.kernel.root import Root
    from sparktune.places import Places

    context = context or click.get_current_context()
    given: dict[str, Any] = context.find_root().params
    root = (given.get("root") or _ROOT).absolute()
    if not root.is_dir():
        raise UsageError(
            f"--root {root}: no such directory", hint="sparktune simulate builds a tree to try things on"
        )
    config = given.get("config")
    if config is not None and not config.is_file():
        raise UsageError(
            f"--config {config}: no such file", hint="without --config a missing file means defaults"
        )
    found = {
        name: context.meta.get(_META + name) or given.get(name) or root / default
        for name, default in _DEFAULTS.items()
    }
    return Places(root=Root(root), **{name: path.absolute() for name, path in found.items()})
