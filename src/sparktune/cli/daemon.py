"""`sparktune daemon`: the tuning daemon in the foreground, as systemd starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sparktune.cli.options import places

if TYPE_CHECKING:
    from sparktune.logs import LogFormat


@click.command()
@click.option(
    "--log-format",
    type=click.Choice(("auto", "console", "journal", "json")),
    default="auto",
    show_default=True,
    help="auto: for journald where it listens, else for people.",
)
def daemon(*, log_format: LogFormat) -> int:
    """Apply, verify, publish, and hold everything until SIGTERM. The tuned values stay then."""
    from sparktune import logs
    from sparktune.daemon import Daemon

    where = places()
    logs.configure(log_format)
    return Daemon(where).run()
