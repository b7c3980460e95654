"""`sparktune completion SHELL`: prints the script that lets a shell complete commands, options and ids."""

from __future__ import annotations

import click

from sparktune.cli.options import COMPLETE_VARIABLE
from sparktune.cli.shells import SHELLS


@click.command()
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
def completion(*, shell: str) -> int:
    """Print the completion script of a shell. The package installs those of all three.

    For this bash only: source <(sparktune completion bash)
    """
    root = click.get_current_context().find_root().command
    click.echo(SHELLS[shell](root, {}, "sparktune", COMPLETE_VARIABLE).source(), nl=False)
    return 0
