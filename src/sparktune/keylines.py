"""On which line of a TOML text a key stands; tomllib does not say.

For texts that tomllib has accepted, and only when there is an error to report. It must never fail: what it
cannot follow has no line.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from contextlib import suppress

KeyPath = tuple[str | int, ...]
"""Keys from the top; elements of arrays and of arrays of tables are counted from 1: ("host", 2, "match")."""

_BLANK = re.compile(r"(?:[ \t]+|\n|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})' + r"|'''.*?'''(?:'{0,2})" + r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


class _LostError(Exception):
    """The text is not what the scanner expects."""


class KeyLines:
    """The lines of all keys of one text."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._offsets: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}
        self._line_ends = [match.start() for match in re.finditer("\n", self._text)]
        # Keys found so far keep their lines, others have none.
        with suppress(_LostError, RecursionError, tomllib.TOMLDecodeError):
            self._scan_document()

    def line(self, path: KeyPath) -> int:
        """The 1-based line of a key, or of the nearest table around it; 0 if there is none."""
        while path and path not in self._offsets:
            path = path[:-1]
        return bisect_left(self._line_ends, self._offsets[path]) + 1 if path else 0

    def _scan_document(self) -> None:
        table: KeyPath = ()
        while True:
            self._take(_BLANK)
            if self._at >= len(self._text):
                return
            if self._text.startswith("[", self._at):
                table = self._scan_header()
            else:
                self._scan_pair(table)

    def _scan_header(self) -> KeyPath:
        offset = self._at
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        self._take(_BLANK)
        parts = self._scan_key()
        self._take(_BLANK)
        self._at += 2 if is_array else 1
        parent = self._resolve(parts[:-1])
        path = (*parent, parts[-1])
        if is_array:
            self._counts[path] = self._counts.get(path, 0) + 1
        self._note(parent, offset)
        self._note(path, offset)
        path = self._element(path)
        self._note(path, offset)
        return path

    def _resolve(self, parts: list[str]) -> KeyPath:
        path: KeyPath = ()
        for part in parts:
            path = self._element((*path, part))
        return path

    def _element(self, path: KeyPath) -> KeyPath:
        return (*path, self._counts[path]) if path in self._counts else path

    def _scan_pair(self, table: KeyPath) -> None:
        offset = self._at
        path = table
        for part in self._scan_key():
            path = (*path, part)
            self._note(path, offset)
        self._take(_EQUALS)
        self._scan_value(path)

    def _scan_key(self) -> list[str]:
        parts: list[str] = []
        while True:
            part = self._take(_KEY)
            if part[0] in "\"'":
                part = next(iter(tomllib.loads(f"{part} = 0")))
            parts.append(part)
            if _DOT.match(self._text, self._at) is None:
                return parts
            self._take(_DOT)

    def _scan_value(self, path: KeyPath) -> None:
        opening = self._text[self._at : self._at + 1]
        if opening == "[":
            self._scan_array(path)
        elif opening == "{":
            self._scan_inline_table(path)
        else:
            self._take(_STRING if opening in ("'", '"') else _SCALAR)

    def _scan_array(self, path: KeyPath) -> None:
        self._at += 1
        count = 0
        while not self._closes("]"):
            count += 1
            self._note((*path, count), self._at)
            self._scan_value((*path, count))

    def _scan_inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while not self._closes("}"):
            self._scan_pair(path)

    def _closes(self, bracket: str) -> bool:
        """Skip blanks and one comma; whether the bracket follows, which is skipped as well."""
        self._take(_BLANK)
        if self._text.startswith(",", self._at):
            self._at += 1
            self._take(_BLANK)
        if not self._text.startswith(bracket, self._at):
            return False
        self._at += 1
        return True

    def _note(self, path: KeyPath, offset: int) -> None:
        if path:
            self._offsets.setdefault(path, offset)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _LostError
        self._at = match.end()
        return match[0]
