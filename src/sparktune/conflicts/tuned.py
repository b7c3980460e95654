"""Claims of TuneD: what its active profiles set of ours, with what they include.

Source: the manual pages and the profile loader of TuneD 2.20 (Debian 12) and 2.28; tuned.conf(5).
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sparktune.conflicts.claim import Claim, Tuner
from sparktune.conflicts.commands import Write, sysctl_path
from sparktune.conflicts.jobs import claim_of, read_script
from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sparktune.conflicts.claim import Line, Sense
    from sparktune.conflicts.files import Files
    from sparktune.conflicts.ours import Ours
    from sparktune.conflicts.units import Units

UNIT = "tuned.service"
PID_FILE = "/run/tuned/tuned.pid"
ACTIVE = "/etc/tuned/active_profile"

_POST_LOADED = "/etc/tuned/post_loaded_profile"
_MAIN = "/etc/tuned/tuned-main.conf"
_DIRECTORIES = ("/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned")
"""Since 2.23 in `profiles`; the owner's go before the package's."""
_MOST_PROFILES = 32
_SECTION = re.compile(r"\s*\[([^\]]+)\].*")
_COMMENT = re.compile(r"\s#.*")
_VARIABLE = re.compile(r"\$\{([^}:]+)\}")
_READ_AHEAD = re.compile(r"(>?)\s*(\d{1,9})(\s+s.*)?")
_CSTATE = re.compile(r"cstate\.(id|name)(_no_zero)?:(.*)")
_SEPARATOR = re.compile(r"\s*[,;]\s*")
_PM_QOS = "/dev/cpu_dma_latency"
_CPU = "/sys/devices/system/cpu/cpu0/cpuidle"
_REMOVE = (
    "choose another profile (tuned-adm profile NAME), or take the option out of a copy of it in /etc/tuned"
)


@frozen(kw_only=False)
class Option:
    """One option of a profile, and where it stands."""

    value: str
    profile: str
    file: str
    line: Line


@dataclass(slots=True)
class Section:
    """A section after merging: `[disk]`, `[my_disks]` with `type=disk`."""

    type: str
    options: dict[str, Option] = field(default_factory=dict)
    scripts: list[Option] = field(default_factory=list)

    def text(self, name: str) -> str:
        """An option's value; empty if it is not set."""
        return self.options[name].value if name in self.options else ""


def read_tuned(ours: Ours, files: Files, units: Units) -> Iterator[Claim | Tuner | None]:
    """What TuneD sets of ours, if it is enabled or runs; that it is there, if that is nothing."""
    if not units.is_enabled(UNIT) and not is_running(files):
        return
    active = [
        word for file in (ACTIVE, _POST_LOADED) for line in files.lines(file) for word in line.text.split()
    ]
    loader = _Loader(files)
    loader.look_up_directories()
    yield from loader.load(active)
    found = False
    for claim in _read_sections(ours, files, loader, active):
        found |= claim is not None
        yield claim
    if not found:
        profiles = f"profile {' '.join(active)}" if active else "its profile is chosen when it starts"
        yield Tuner(unit=UNIT, file=ACTIVE, says=f"TuneD, {profiles}")


def is_running(files: Files) -> bool:
    """Whether TuneD's pid file names a process that is there."""
    pid = (files.root.read(PID_FILE) or "").strip()
    return pid.isdecimal() and files.root.exists(f"/proc/{pid}")


class _Loader:
    """Merges profiles as TuneD does: what is included first, later options over earlier ones."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._done: set[str] = set()
        self._directories: tuple[str, ...] = _DIRECTORIES
        self.sections: dict[str, Section] = {}
        self.variables: dict[str, str] = {}

    def look_up_directories(self) -> None:
        """Heed the option that names other folders of profiles, the last one first."""
        for line in self._files.lines(_MAIN):
            if line.assignment is not None and line.assignment[0] == "profile_dirs":
                self._directories = tuple(reversed(_SEPARATOR.split(line.assignment[1])))

    def load(self, names: Sequence[str]) -> Iterator[None]:
        for name in names:
            file = self._find(name.removeprefix("-"))
            if file is None or file in self._done or len(self._done) >= _MOST_PROFILES:
                continue
            self._done.add(file)
            sections = self._parse(file, name.removeprefix("-"))
            yield None
            included = sections.pop("main", {}).get("include")
            if included is not None:
                yield from self.load(_SEPARATOR.split(self.expand(included.value)))
            for title, options in sections.items():
                self._merge(title, options)

    def expand(self, text: str) -> str:
        """With the variables that are known; built-in functions stay as they are."""
        for _ in range(4):  # variables of variables
            text = _VARIABLE.sub(lambda match: self.variables.get(match[1], match[0]), text)
        return text.replace("${i:PROFILE_DIR}", "")

    def _find(self, name: str) -> str | None:
        for directory in self._directories:
            file = f"{directory}/{posixpath.basename(name)}/tuned.conf"
            if name and not self._files.is_empty(file):
                return file
        return None

    def _parse(self, file: str, profile: str) -> dict[str, dict[str, Option]]:
        sections: dict[str, dict[str, Option]] = {}
        options: dict[str, Option] = {}
        for line in self._files.lines(file):
            if section := _SECTION.fullmatch(line.text):
                options = sections.setdefault(section[1], {})
            elif line.assignment is not None:
                name, value = line.assignment
                options[name] = Option(_COMMENT.sub("", value).strip(), profile, file, line)
        return sections

    def _merge(self, title: str, options: dict[str, Option]) -> None:
        kind = options.pop("type").value if "type" in options else title
        replaces = options.pop("replace").value if "replace" in options else ""
        if kind == "variables":
            self._remember(options)
            return
        if title not in self.sections or replaces in {"1", "true", "True"}:
            self.sections[title] = Section(kind)
        section = self.sections[title]
        section.type = kind
        for name in _SEPARATOR.split(options.pop("drop").value) if "drop" in options else ():
            section.options.pop(name, None)
        for name in ("devices", "enabled"):  # these are those of the later profile, set there or not
            section.options.pop(name, None)
        section.options |= options
        if "script" in options:
            section.scripts.append(options["script"])

    def _remember(self, options: dict[str, Option]) -> None:
        for name, option in options.items():
            if name == "include":
                for line in self._files.lines(self.expand(option.value)):
                    if line.assignment is not None:
                        key, value = line.assignment
                        self.variables[key] = self.expand(_COMMENT.sub("", value).strip())
            else:
                self.variables[name] = self.expand(option.value)


def _read_sections(
    ours: Ours, files: Files, loader: _Loader, active: Sequence[str]
) -> Iterator[Claim | None]:
    for section in loader.sections.values():
        if section.text("enabled") in {"0", "false", "False"}:
            continue
        for name, option in section.options.items():
            for write in _WRITES.get(section.type, _nothing)(
                ours, name, loader.expand(option.value), section
            ):
                yield _claim(write, option, active)
            if section.type == "cpu" and name == "force_latency":
                yield from _force_latency(ours, option, loader.expand(option.value), active)
        for option in section.scripts if section.type == "script" else ():
            yield from _read_script(ours, files, loader, option, active)
        yield None


def _read_script(
    ours: Ours, files: Files, loader: _Loader, option: Option, active: Sequence[str]
) -> Iterator[Claim | None]:
    value = loader.expand(option.value).lstrip("/") if "PROFILE_DIR" in option.value else option.value
    file = posixpath.normpath(posixpath.join(posixpath.dirname(option.file), value))
    yield from read_script(ours, files, file, who=_who(option, active), unit=UNIT, remove=_REMOVE)


def _claim(write: Write, option: Option, active: Sequence[str]) -> Claim:
    return claim_of(
        write,
        who=_who(option, active),
        unit=UNIT,
        file=option.file,
        number=option.line.number,
        text=option.line.parts[0].strip(),
        remove=_REMOVE,
    )


def _who(option: Option, active: Sequence[str]) -> str:
    said = f"TuneD, profile {option.profile}"
    return said if option.profile in active else f"{said} (included by {' '.join(active)})"


def _nothing(ours: Ours, name: str, value: str, section: Section) -> Iterator[Write]:
    yield from ()


def _disk(ours: Ours, name: str, value: str, section: Section) -> Iterator[Write]:
    """`readahead` in KiB, or in sectors with ` s`; with `>` in front only where less is found."""
    if name not in {"readahead", "readahead_multiply"}:
        return
    tunables = tuple(
        one for one in ours.find_disks("/dev/*") if _is_chosen(one.device, section.text("devices"))
    )
    match = _READ_AHEAD.fullmatch(value) if name == "readahead" else None
    if not tunables:
        return
    if match is None:
        yield Write(tunables, "", "unknown")
        return
    kib = int(match[2]) // 2 if match[3] else int(match[2])
    sense: Sense = "at least" if match[1] else "equal"
    yield Write(tunables, str(kib), sense)


def _is_chosen(device: str, patterns: str) -> bool:
    """The option `devices`: globs, with `!` those that are left out."""
    chosen = _SEPARATOR.split(patterns) if patterns else ["*"]
    wanted = [pattern for pattern in chosen if not pattern.startswith("!")] or ["*"]
    left_out = [pattern[1:] for pattern in chosen if pattern.startswith("!")]
    return any(fnmatchcase(device, one) for one in wanted) and not any(
        fnmatchcase(device, one) for one in left_out
    )


def _sysfs(ours: Ours, name: str, value: str, section: Section) -> Iterator[Write]:
    yield from _written(ours, name, value)


def _sysctl(ours: Ours, name: str, value: str, section: Section) -> Iterator[Write]:
    yield from _written(ours, sysctl_path(name), value)


def _written(ours: Ours, path: str, value: str) -> Iterator[Write]:
    tunables = ours.find(path)
    if tunables:
        yield Write(tunables, "" if "$" in value else value, "unknown" if "$" in value else "equal")


def _cpu(ours: Ours, name: str, value: str, section: Section) -> Iterator[Write]:
    """A limit for single CPUs; 0 is none, `n/a` that no latency at all is tolerated."""
    limit_us = "0" if value == "n/a" else value
    if name == "pm_qos_resume_latency_us" and value != "0" and (tunables := ours.find_states(None)):
        tunables = tuple(one for one in tunables if _is_chosen(one.device, section.text("devices")))
        known = limit_us.isdecimal()
        yield Write(tunables, limit_us if known else "", "latency limit" if known else "unknown")


_WRITES = {"disk": _disk, "sysfs": _sysfs, "sysctl": _sysctl, "cpu": _cpu}
"""How the options of a plug-in set something of ours."""


def _force_latency(ours: Ours, option: Option, value: str, active: Sequence[str]) -> Iterator[Claim]:
    """TuneD's request on /dev/cpu_dma_latency: which idle states it keeps out, by all CPUs."""
    tunables = ours.find_states(None)
    if not tunables or value.lower() == "none":
        return
    limit_us = _resolve(ours, value)
    if limit_us == "none":
        return
    claim = _claim(Write(tunables, limit_us, "latency limit" if limit_us else "unknown"), option, active)
    yield replace(claim, attribute=_PM_QOS)


def _resolve(ours: Ours, value: str) -> str:
    """The first of several alternatives that this machine has, in µs; empty if none can be told."""
    for alternative in value.split("|"):
        if alternative.isdecimal() or alternative.lower() == "none":
            return alternative.lower()
        match = _CSTATE.fullmatch(alternative)
        latency_us = None if match is None else _state_latency(ours, match[1], match[3])
        if latency_us is not None and match is not None and (latency_us or not match[2]):
            return str(latency_us)
    return ""


def _state_latency(ours: Ours, by: str, wanted: str) -> int | None:
    for state in ours.root.names(_CPU):
        name = state.removeprefix("state") if by == "id" else ours.root.read(f"{_CPU}/{state}/name")
        if name == wanted:
            return ours.state_latency_us(f"{_CPU}/{state}")
    return None
