"""Which systemd units are enabled, and the command lines of their services. Reads files; never asks systemd.

Source: systemd.unit(5) of systemd 252 and 257, "unit file load path"; systemd.syntax(7).
"""

from __future__ import annotations

import posixpath
import re
import shlex
from functools import cached_property
from typing import TYPE_CHECKING

from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparktune.conflicts.claim import Line
    from sparktune.conflicts.files import Files

DIRECTORIES = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
)
"""Earlier ones override later ones."""

_DEPENDENCIES = (".wants", ".requires", ".upholds")
_ACTIVATORS = (".timer", ".path", ".socket")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_QUOTES = "\"'"
_NOWHERE = "/dev/null"


@frozen(kw_only=False)
class Command:
    """A command line of a service.

    Attributes:
        file: the unit file or drop-in.
        line: where in it.
        text: without systemd's prefixes and escapes.
        completed: the same with its variables, where they are known.
        given: file and line by which the last of those variables is set; None if there is none.
    """

    file: str
    line: Line
    text: str
    completed: str
    given: tuple[str, Line] | None


class Units:
    """The host's system units.

    Attributes:
        enabled: those that something pulls in, by name, with the directory of links that says so.
    """

    def __init__(self, files: Files) -> None:
        """Look at nothing yet; `collect` does."""
        self._files = files
        self._masked: set[tuple[str, str]] = set()
        self.enabled: dict[str, str] = {}

    def collect(self) -> Iterator[None]:
        """Fill `enabled`, a directory at each step.

        What other units pull in by lines in their own files (`Wants=`) is not followed: nobody enabled it.
        """
        found: dict[str, str] = {}
        for directory in DIRECTORIES:
            for name in self._files.names(directory):
                if name.endswith(_DEPENDENCIES):
                    found = self._pulled_in(directory, name) | found
            yield None
        for name in sorted(found):
            if self.find(name) is not None:
                self.enabled[name] = found[name]

    def _pulled_in(self, directory: str, name: str) -> dict[str, str]:
        """The links of a directory such as multi-user.target.wants; one to /dev/null hides later ones."""
        found = {}
        for unit in self._files.names(f"{directory}/{name}"):
            if self._files.root.link(f"{directory}/{name}/{unit}") == _NOWHERE:
                self._masked.add((name, unit))
            elif (name, unit) not in self._masked:
                found[unit] = f"{directory}/{name}"
        return found

    @cached_property
    def services(self) -> tuple[str, ...]:
        """Enabled services, and those that an enabled timer, path or socket starts."""
        found = dict.fromkeys(name for name in self.enabled if name.endswith(".service"))
        for name in self.enabled:
            if name.endswith(_ACTIVATORS):
                found |= dict.fromkeys([self._started_by(name)])
        return tuple(found)

    def is_enabled(self, name: str) -> bool:
        """Whether a unit is pulled in, also by an alias or by its timer, and not masked."""
        return name in self.services or name in self.enabled

    def find(self, name: str) -> str | None:
        """The file of a unit; None if there is none, or it is masked."""
        prefix, at, rest = name.partition("@")
        names = [name, f"{prefix}@.{rest.rpartition('.')[2]}"] if at else [name]
        for wanted in names:
            for directory in DIRECTORIES:
                if wanted in self._files.names(directory):
                    file = f"{directory}/{wanted}"
                    return None if self._is_masked(file) else file
        return None

    def commands(self, service: str) -> Iterator[Command]:
        """What systemd runs for a service: the lines that count after its drop-ins."""
        kept: dict[str, list[tuple[str, Line, str]]] = {}
        for file in self._fragments(service):
            for key, line, value in self._assignments(file):
                if not value:
                    kept.pop(key, None)  # an empty assignment resets the list
                else:
                    kept.setdefault(key, []).append((file, line, value))
        environment = self._environment(kept)
        for key, entries in kept.items():
            if key.startswith("Exec"):
                for file, line, value in entries:
                    yield _complete(file, line, _plain(value), environment)

    def _fragments(self, service: str) -> list[str]:
        main = self.find(service)
        if main is None:
            return []
        target = self._files.root.link(main) or main
        names = dict.fromkeys([service, posixpath.basename(main), posixpath.basename(target)])
        directories = [f"{directory}/{name}.d" for name in names for directory in DIRECTORIES]
        present = [name for name in directories if self._has(name)]
        return [main, *self._files.stack(present, ".conf")]

    def _has(self, directory: str) -> bool:
        parent, _, name = directory.rpartition("/")
        return name in self._files.names(parent)

    def _is_masked(self, file: str) -> bool:
        return self._files.root.link(file) == _NOWHERE or self._files.is_empty(file)

    def _started_by(self, activator: str) -> str:
        for file in self._fragments(activator):
            for key, _, value in self._assignments(file):
                if key in {"Unit", "Service"} and value:
                    return value
        return f"{activator.rpartition('.')[0]}.service"

    def _assignments(self, file: str) -> Iterator[tuple[str, Line, str]]:
        for line in self._files.lines(file):
            if line.assignment is not None:
                key, value = line.assignment
                yield key, line, value

    def _environment(self, kept: dict[str, list[tuple[str, Line, str]]]) -> dict[str, tuple[str, str, Line]]:
        found = {}
        for file, line, value in kept.get("Environment", []):
            for word in _split(value):
                name, _, text = word.partition("=")
                found[name] = (text, file, line)
        for _, _, value in kept.get("EnvironmentFile", []):
            file = value.lstrip("-")
            for line in self._files.lines(file) if file.startswith("/") else ():
                if line.assignment is not None:
                    name, text = line.assignment
                    found[name] = (text.strip(_QUOTES), file, line)
        return found


def _split(value: str) -> list[str]:
    """The words of a value, some of them quoted; nothing if a quote is left open, as systemd has it."""
    try:
        return shlex.split(value)
    except ValueError:
        return []


def _plain(value: str) -> str:
    """Without prefixes and escapes: systemd.service(5), "command lines"."""
    return value.lstrip("-@:+!|").replace("$$", "$").replace("%%", "%")


def _complete(file: str, line: Line, text: str, environment: dict[str, tuple[str, str, Line]]) -> Command:
    completed, given = text, None
    for match in _VARIABLE.finditer(text):
        if match[1] in environment:
            value, source, where = environment[match[1]]
            completed, given = completed.replace(match[0], value), (source, where)
    return Command(file, line, text, completed, given)
