"""The command `simulate`: a simulated GB10 on any machine, with daemon and API, and what to try on it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import click

from sparktune.cli.options import places
from sparktune.cli.screen import Screen
from sparktune.durations import parse_duration
from sparktune.errors import UsageError
from sparktune.simulate import run, tree

_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_READ_AHEAD = "sys/block/nvme0n1/queue/read_ahead_kb"
"""Every variant has this disk."""
_MACHINES_OWN = {"--run-dir": Path("/run/sparktune"), "--state-dir": Path("/var/lib/sparktune")}


@click.command
@click.option(
    "--variant", type=click.Choice(list(tree.VARIANTS)), default="gb10", show_default=True, metavar="NAME",
    help="Which machine; see --list-variants.",
)  # fmt: skip
@click.option("--list-variants", is_flag=True, help="Say which machines there are, and do nothing else.")
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
    list_variants: bool,
    port: int,
    disturb: bool,
    every: str,
    directory: Path | None,
    tree_only: Path | None,
) -> int:
    """Build a simulated machine and run daemon and API on it, as any user. Ctrl-C ends it all."""
    if list_variants:
        Screen().table(("VARIANT", "MACHINE"), tree.VARIANTS.items())
        return 0
    if tree_only is not None:
        if disturb or directory is not None:
            raise UsageError("--tree-only starts nothing", hint="leave out --disturb and --directory")
        return _build_only(tree_only.absolute(), variant)
    options = _options()
    simulation = run.Simulation(
        variant=variant,
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


def _build_only(directory: Path, variant: str) -> int:
    run.refuse_if_tuned(directory)
    tree.build(directory, variant)
    command = f"{_command()} --root {shlex.quote(str(directory))}"
    click.echo(f"{directory}: {tree.VARIANTS[variant]}\nTry:")
    for name in ("detect", "plan", "apply", "verify", "restore --all"):
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
