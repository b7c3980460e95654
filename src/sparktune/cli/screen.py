"""What people see: lines, sentences, tables. With rich on a terminal; plain and never cut elsewhere."""

from __future__ import annotations

import sys
import textwrap
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from sparktune.published import encode
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

WIDEST = 100
"""Sentences are broken here at the latest: longer lines are hard to read."""

STYLES = {
    "ok": "green",
    "applied": "green",
    "healed": "green",
    "restored": "green",
    "drift": "yellow",
    "unsupported": "yellow",
    "starting": "yellow",
    "reported": "yellow",
    "left": "yellow",
    "warning": "yellow",
    "paused": "cyan",
    "contested": "red",
    "blocked": "red",
    "failed": "red",
    "refused": "red",
    "degraded": "red",
    "down": "red",
    "absent": "dim",
    "unmanaged": "dim",
}
"""The colour of a word where it stands alone in a cell or at the start of a line."""


class Screen:
    """Standard output for people."""

    def say(self, text: str = "", *, style: str = "") -> None:
        """One line, never broken."""
        if self._console is None or not text:
            sys.stdout.write(f"{_safe(text)}\n")
        else:
            self._console.print(
                _safe(text), style=style or None, markup=False, highlight=False, soft_wrap=True
            )

    def head(self, word: str, text: str) -> None:
        """A word such as a state, in its colour, and a sentence."""
        if self._console is None:
            self.say(f"{word}: {text}")
            return
        from rich.text import Text

        line = Text.assemble((f"{word}: ", f"bold {STYLES.get(word, '')}".strip()), _safe(text))
        self._console.print(line, soft_wrap=True)

    def tell(self, label: str, text: str, *, indent: int = 0, column: int = 0) -> None:
        """A label and a sentence, broken between words and indented under itself.

        Args:
            label: stands before the sentence; may be empty.
            text: the sentence.
            indent: blanks before the label.
            column: where the sentence begins, counted from the label.
        """
        first = " " * indent + (f"{label:<{max(column - 1, 0)}} " if label else "")
        lines = textwrap.wrap(
            _safe(text),
            width=self.width,
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines or [first.rstrip()]:
            self.say(line)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 0) -> None:
        """Columns under their headers. The first never breaks: it holds what people copy."""
        cells = [[_safe("" if cell is None else str(cell)) for cell in row] for row in rows]
        if self._console is None:
            self._write_columns([list(headers), *cells], indent)
        else:
            self._print_table(self._console, headers, cells, indent)

    def json(self, document: object) -> None:
        """A document as JSON, indented."""
        sys.stdout.write(f"{encode(document)}\n")

    @cached_property
    def width(self) -> int:
        """How wide sentences may be."""
        return WIDEST if self._console is None else min(self._console.width, WIDEST)

    @cached_property
    def _console(self) -> Console | None:
        if not sys.stdout.isatty():
            return None
        from rich.console import Console

        return Console()  # it knows NO_COLOR and TERM=dumb

    def _write_columns(self, rows: list[list[str]], indent: int) -> None:
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        for row in rows:
            line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            sys.stdout.write(f"{' ' * indent}{line}".rstrip() + "\n")

    def _print_table(
        self, console: Console, headers: Sequence[str], rows: list[list[str]], indent: int
    ) -> None:
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for number, header in enumerate(headers):
            table.add_column(header, no_wrap=number == 0, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        console.print(Padding(table, (0, 0, 0, indent)))


@contextmanager
def progress(text: str, *, after_s: float = 2.0) -> Iterator[None]:
    """Say on stderr what is being done once it takes long, if somebody is there to wonder."""
    if not sys.stderr.isatty():
        yield
        return
    from threading import Timer

    timer = Timer(after_s, sys.stderr.write, [f"{text} …\n"])  # a terminal's stderr writes each line at once
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _safe(text: str) -> str:
    """The text without control characters: names of processes and devices come from anywhere."""
    return text if text.isprintable() else plain(text, most=len(text))
