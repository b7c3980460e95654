"""Writes docs/advice.md from the rules of the advisor.

Run it after a rule has changed: `.venv/bin/python docs/generate_advice.py`. A test compares.
"""  # noqa: INP001 - a script

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty
from sparktune.advice.rules import RULES, VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sparktune.advice.model import Rule

PAGE = Path(__file__).with_name("advice.md")

_HEAD = """\
# Advice

Generated from the rules by `docs/generate_advice.py`; do not edit. `sparktune advise` lists what they find on
the machine at hand, `sparktune advise --explain RULE` says the same as this page of one rule. Advice changes
nothing and never makes a host unhealthy. `ignore = ["llama-mmap"]` in `[advice]` silences a rule by its id.

What a process really does outranks its command line. A version that a rule does not know gets both spellings,
"measure both", or silence; where each fact was read, and when, is in [engines.md](engines.md).
"""

_CERTAINTIES = {
    Certainty.SOURCE: "read in the source of the engine, NCCL or the kernel",
    Certainty.DOCUMENTED: "the documentation says so",
    Certainty.MEASURED: "measured by this project on this kind of machine",
    Certainty.REPORTED: "published by users or vendors, not tried by this project",
    Certainty.DISPUTED: "results went both ways: measure both",
}


def compose() -> str:
    """The text of the page."""
    overview = [
        ("rule", "at most", "looks for"),
        *((f"[{one.id}](#{one.id})", one.severity, one.looks_for) for one in RULES),
    ]
    sure = [("word", "meaning"), *((word, _CERTAINTIES[word]) for word in Certainty)]
    parts = [_HEAD, "## The rules", _table(overview), "How sure a rule is:", _table(sure)]
    parts += [f"### {one.id}\n\n{_describe(one)}" for one in RULES]
    parts += ["## Environment variables", _variables()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _describe(rule: Rule) -> str:
    rows = {
        "looks for": rule.looks_for,
        "severity": f"{rule.severity} at most",
        "judged by": rule.evidence,
        "recommends": rule.recommendation,
        "expect": rule.expect,
        "versions": rule.versions,
        "source": rule.source,
        "how sure": f"{rule.certainty}: {_CERTAINTIES[rule.certainty]}",
    }
    return _table([("", ""), *rows.items()])


def _variables() -> str:
    return (
        "The rules ask for these, by their exact names: "
        + ", ".join(f"`{name}`" for name in sorted(VARIABLES))
        + "."
    )


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    head, *body = [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(compose(), encoding="utf-8")
    sys.stdout.write(f"{PAGE} written\n")
