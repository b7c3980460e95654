"""`sparktune nccl`: the environment that NCCL and UCX need on this node now, or what to mend first.

Needs no daemon, no root and no GB10: it reads the fabric itself, and changes nothing.
"""

from __future__ import annotations

import click

from sparktune.cli.options import places
from sparktune.errors import SparktuneError
from sparktune.fabric.nccl import suggest
from sparktune.fabric.nccl_text import FORMATS, refuse, render
from sparktune.fabric.nccl_version import parse_version
from sparktune.kernel.fabric import read_fabric

_EXIT_UNFIT = 4


@click.command()
@click.option(
    "--nccl-version", "version", metavar="X.Y[.Z]", help="For this version. Default: any from 2.21 on."
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="env", show_default=True, help="How to print it."
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def nccl(*, version: str | None, form: str, as_json: bool) -> int:
    """Print the environment that NCCL and UCX need on this node now, each line with its reason.

    Use it in sh, bash or zsh, on each node: eval "$(sparktune nccl)". In fish: sparktune nccl --format fish |
    source. If the fabric is not fit, stderr says what to mend, and the eval fails.
    """
    form = "json" if as_json else form
    try:
        wanted = None if version is None else parse_version(version)
        suggestion = suggest(read_fabric(places().root), wanted)
    except SparktuneError as error:
        _print(refuse([error.message, error.hint], form))
        raise
    _print(render(suggestion, form))
    for problem in suggestion.problems:
        click.echo(f"sparktune: not fit for NCCL: {problem.what}", err=True)
        click.echo(f"hint: {problem.do}", err=True)
    return 0 if suggestion.fit else _EXIT_UNFIT


def _print(text: str) -> None:
    """As UTF-8 whatever the locale says: names of devices are bytes to the kernel and to NCCL."""
    click.echo(text.encode(), nl=False)
