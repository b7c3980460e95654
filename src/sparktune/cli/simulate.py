"""The command `simulate`: a simulated GB10 on any machine, with daemon and API, and what to try on it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparktune.cli.options import places
from sparktune.cli.screen import Screen
from sparktune.durations import parse_duration
from sparktune.errors import UsageError
from sparktune.simulate import run, tree
from sparktune.simulate.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from click.shell_completion import CompletionItem

_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_READ_AHEAD = "sys/block/nvme0n1/queue/read_ahead_kb"
"""Every variant has this disk."""
_MACHINES_OWN = {"--run-dir": Path("/run/sparktune"), "--state-dir": Path("/var/lib/sparktune")}


_ABOUTS = {name: scenario.about for name, scenario in SCENARIOS.items()}


class _Name(click.ParamType[str]):
    """One of the variants or scenarios: completed, and compared with the nearest ones if it is none."""

    def __init__(self, kind: str, known: Mapping[str, str]) -> None:
        self.name = kind
        self._known = known

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        tree.check_name(self.name, value, self._known)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [
            CompletionItem(name, help=about)
            for name, about in self._known.items()
            if name.startswith(incomplete)
        ]


@click.command
@click.option(
    "--variant", type=_Name("variant", tree.VARIANTS), default="gb10", show_default=True, metavar="NAME",
    help="Which machine; see --list-variants.",
)  # fmt: skip
@click.option(
    "--scenario", type=_Name("scenario", _ABOUTS), metavar="NAME",
    help="Instead: a Spark whose fabric is in this state; see --list-scenarios.",
)  # fmt: skip
@click.option("--list-variants", is_flag=True, help="Say which machines there are, and do nothing else.")
@click.option("--list-scenarios", is_flag=True, help="Say which scenarios there are, and do nothing else.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text, for both lists.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9300, show_default=True, metavar="PORT",
    help="The API's; 0: any free one.",
)  # fmt: skip
@click.option("--disturb", is_flag=True, help="Let a second process change something every few seconds.")
@click.option("--every", default="4s", show_default=True, metavar="TIME", help="How often, with --disturb.")
@click.option(
    "--directory", type=_DIRECTORY, metavar="DIR",
    help="Build the tree here and leave it there, instead of in a temporary folder.",
)  # fmt: skip
@click.option("--tree-only", type=_DIRECTORY, metavar="DIR", help="Build the tree here and start nothing.")
def simulate(
    *,
    variant: str,
    scenario: str | None,
    list_variants: bool,
    list_scenarios: bool,
    as_json: bool,
    port: int,
    disturb: bool,
    every: str,
    directory: Path | None,
    tree_only: Path | None,
) -> int:
    """Build a simulated machine and run daemon and API on it, as any user. Ctrl-C ends it all."""
    if list_variants or list_scenarios:
        _list(variants=list_variants, scenarios=list_scenarios, as_json=as_json)
        return 0
    if as_json:
        raise UsageError(
            "--json is for the lists", hint="sparktune simulate --list-scenarios --json, or --list-variants"
        )
    if scenario and _was_given("variant"):
        raise UsageError("a scenario brings its own machine", hint="leave out --variant, or --scenario")
    if tree_only is not None:
        if disturb or directory is not None:
            raise UsageError("--tree-only starts nothing", hint="leave out --disturb and --directory")
        return _build_only(tree_only.absolute(), variant, scenario or "")
    options = _options()
    simulation = run.Simulation(
        variant=variant,
        scenario=scenario or "",
        directory=directory.absolute() if directory else None,
        port=port,
        disturb_every_s=_parse_interval(every) if disturb else None,
        options=tuple(text for option in options.items() for text in option),
        run_dir=Path(options["--run-dir"]) if "--run-dir" in options else None,
    )
    kept = {name: value for name, value in options.items() if name in _MACHINES_OWN}
    return run.run(
        simulation, say=click.echo, tell=lambda running: tell_what_to_try(running, kept, simulation)
    )


def _list(*, variants: bool, scenarios: bool, as_json: bool) -> None:
    screen = Screen()
    lists = (("variant", "machine", tree.VARIANTS, variants), ("scenario", "fabric", _ABOUTS, scenarios))
    asked = [(kind, what, known) for kind, what, known, is_asked in lists if is_asked]
    if as_json:
        screen.json(
            {
                f"{kind}s": [{"name": name, "about": about} for name, about in known.items()]
                for kind, _, known in asked
            }
        )
        return
    for kind, what, known in asked:
        screen.table((kind.upper(), what.upper()), known.items())


def _was_given(name: str) -> bool:
    from click.core import ParameterSource

    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _options() -> dict[str, str]:
    """What was given to this call and counts for the children as well, as absolute paths."""
    root = click.get_current_context().find_root().params
    if root.get("root") not in {None, Path("/")}:
        raise UsageError("simulate builds a tree of its own", hint="to say where: simulate --directory DIR")
    found = places()
    options = {"--run-dir": found.run_dir, "--state-dir": found.state_dir}
    given = {name: str(path) for name, path in options.items() if path != _MACHINES_OWN[name]}
    if root.get("config") is not None:
        given["--config"] = str(found.config)
    return given


def _parse_interval(text: str) -> float:
    every_s = parse_duration(text)
    if every_s <= 0:
        raise UsageError("--every 0 would never rest", hint="the default is 4s")
    return every_s


def _build_only(directory: Path, variant: str, scenario: str) -> int:
    run.refuse_if_tuned(directory)
    tree.build(directory, variant, scenario=scenario)
    command = f"{_command()} --root {shlex.quote(str(directory))}"
    click.echo(f"{directory}: {_ABOUTS[scenario] if scenario else tree.VARIANTS[variant]}\nTry:")
    for name in ("detect", "fabric", "plan", "apply", "verify", "nccl", "restore --all"):
        click.echo(f"  {command} {name}")
    return 0


def tell_what_to_try(running: run.Running, kept: dict[str, str], simulation: run.Simulation) -> None:
    """Print commands that can be copied as they are; `kept`: options every one of them needs."""
    options = {"--root": str(running.directory), **kept}
    command = " ".join([_command(), *(shlex.quote(text) for option in options.items() for text in option)])
    address = f"localhost:{running.port}"
    lines = ["", "In another terminal, see the state:", f"  curl {address}/status", f"  {command} status"]
    if running.supported:
        lines += [
            "Make something drift, see it healed, and by whom it was done:",
            f"  echo 128 > {shlex.quote(str(running.directory / _READ_AHEAD))}",
            f"  curl {address}/drift",
            f"  {command} history",
        ]
    ends = "" if simulation.directory else " and removes the folder"
    lines += [f"Ctrl-C here ends it{ends}."]
    if running.supported and running.events != "fanotify+pid":
        lines.append(
            f"Changes are seen by {running.events} here: that something was written, not by whom. "
            "For the writer's pid run it as root (CAP_SYS_ADMIN)."
        )
    click.echo("\n".join([*lines, ""]))


def _command() -> str:
    """How the user has to type `sparktune`: by its name if that finds this one, else as it was typed now."""
    typed = Path(sys.argv[0])
    if typed.suffix == ".py":  # python -m
        return f"{shlex.quote(sys.executable)} -m sparktune.cli.main"
    found = shutil.which(typed.name)
    is_found = found is not None and Path(found).resolve() == typed.resolve()
    return typed.name if is_found else shlex.quote(sys.argv[0])
