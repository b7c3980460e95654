"""The entry point `sparktune`: finds the command, imports only that, and turns every failure into a sentence.

Must stay free of everything the commands need: `sparktune status` has 200 ms in all.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparktune import __version__, garbage
from sparktune.cli.options import COMPLETE_VARIABLE, DIRECTORY, add_places_options
from sparktune.errors import SparktuneError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from click.shell_completion import CompletionItem

COMMANDS = {
    "status": "The published state of this host.",
    "detect": "What machine this is, the evidence, and who else tunes it.",
    "fabric": "The ConnectX-7: ports, twins, links, GIDs, and what is wrong.",
    "plan": "The exact writes `apply` would do. Writes nothing.",
    "apply": "Apply and verify now. Ends holds, pauses and restored marks.",
    "verify": "Read everything now and judge. Writes nothing.",
    "restore": "Put original values back where they are still ours to put back.",
    "pause": "Stop healing for a while.",
    "resume": "End a pause.",
    "history": "Who changed what, newest first.",
    "explain": "One tunable: why, source, risk, values, and who decided.",
    "nccl": "The environment NCCL and UCX need here, or what to mend first.",
    "advise": "What the engines that serve models here do to themselves.",
    "config": "Check or show the configuration.",
    "reload": "Make the daemon read its configuration again.",
    "daemon": "The tuning daemon, in the foreground.",
    "api": "The REST API, read-only.",
    "simulate": "A simulated GB10 on any machine: tree, daemon, API.",
    "completion": "Print the completion script of a shell.",
}
"""Every command, in the order of the help, with its line there. Its code is `cli/NAME.py`, function NAME."""

_MODULES = {"pause": "peace", "resume": "peace", "reload": "peace"}
"""Commands whose module is not named as they are."""

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and none for its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"sparktune.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, cmd_name)
        command.short_help = COMMANDS[cmd_name]
        add_places_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            ctx.fail(f"No such command {name[:40]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands from the table; options as click completes them."""
        from click.shell_completion import CompletionItem

        items = [
            CompletionItem(name, help=says) for name, says in COMMANDS.items() if name.startswith(incomplete)
        ]
        return items + click.Command.shell_complete(self, ctx, incomplete)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 all holds; 1 failure; 2 usage or invalid configuration; 3 daemon not running; "
    "4 something does not hold, or nothing could be checked; 5 not a supported machine.",
)
@click.option("--root", type=DIRECTORY, default=Path("/"), help="A recorded or simulated machine's tree.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Instead of /etc/sparktune.toml (below --root)."
)
@click.option("--run-dir", type=DIRECTORY, envvar="SPARKTUNE_RUN_DIR", help="Instead of /run/sparktune.")
@click.option(
    "--state-dir", type=DIRECTORY, envvar="SPARKTUNE_STATE_DIR", help="Instead of /var/lib/sparktune."
)
@click.option("--debug", is_flag=True, hidden=True, help="Show the traceback of an internal error.")
@click.version_option(__version__, prog_name="sparktune", message="%(prog)s %(version)s")
def cli(*, debug: bool, **_: Path | None) -> None:
    """Host tuning for NVIDIA DGX Spark and other GB10 machines: applies, holds and explains settings."""
    if debug:
        sys.excepthook = sys.__excepthook__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of this process. Returns the exit code."""
    garbage.expect_start()
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # nothing that is merely installed runs in here
    sys.excepthook = _tell_defect
    _prepare_streams()
    if COMPLETE_VARIABLE in os.environ:
        from sparktune.cli.shells import register

        register()
    try:
        outcome = cli.main(args=arguments, prog_name="sparktune", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SparktuneError as error:
        tell(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        tell(SparktuneError("cannot write the output: no space left", hint="is the disk full?"))
        return EXIT_FAILURE
    return outcome if isinstance(outcome, int) else 0


def tell(error: SparktuneError) -> None:
    """An expected failure, on stderr: what is, and what to do."""
    click.echo(f"sparktune: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


def _tell_defect(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    """What nobody expected, as one line; Python then exits with 1."""
    said = f"{kind.__name__}: {' '.join(str(error).split())}"
    click.echo(f"sparktune: internal error, please report it: {said}", err=True)
    click.echo(
        "hint: the same command with --debug right after `sparktune` shows where it happened", err=True
    )


def _prepare_streams() -> None:
    """No character of ours or of the kernel's may fail in a terminal of another encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - a descriptor, not a path
        else:
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
