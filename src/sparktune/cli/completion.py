"""`sparktune completion SHELL`: prints the script that lets a shell complete commands, options and ids."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(*, shell: str) -> int:
    """Print the completion script of a shell.

    For bash: sparktune completion bash > /etc/bash_completion.d/sparktune
    """
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    root = click.get_current_context().find_root().command
    # The base class' source: bash's own one starts bash to ask for its version.
    click.echo(ShellComplete.source(kind(root, {}, "sparktune", "_SPARKTUNE_COMPLETE")))
    return 0
