"""How text from outside (keys, values, names) is shown to people: cut, and without control characters."""

from __future__ import annotations

MOST_SHOWN = 60
"""Characters shown of a foreign text; the rest becomes an ellipsis."""


def plain(text: str, *, most: int = MOST_SHOWN) -> str:
    """The text on one line, safe for terminals and for UTF-8 (no control characters, no lone surrogates)."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in cut
    )


def quoted(text: str) -> str:
    """The text in double quotes, cut and safe as `plain` makes it."""
    return f'"{plain(text)}"'
