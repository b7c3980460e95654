"""Claims of what is run: services, their scripts, rc.local, hooks for suspend, cron. Nothing is run here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sparktune.conflicts.claim import Claim
from sparktune.conflicts.commands import Commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparktune.conflicts.claim import Line
    from sparktune.conflicts.commands import Write
    from sparktune.conflicts.files import Files
    from sparktune.conflicts.ours import Ours
    from sparktune.conflicts.units import Command, Units

_SCRIPT = re.compile(r"""(?<![\w/.$}=-])(/(?!sys/|proc/|dev/)[\w.@+/-]+)""")
_MOST_SCRIPTS = 4
_PAUSE_EVERY = 50
"""Lines of a script: some 2 ms of reading."""
_SLEEP = ("/etc/systemd/system-sleep", "/usr/lib/systemd/system-sleep")
"""systemd-suspend.service(8); the first is that of older versions and of habit."""
_CRONTABS = ("/etc/cron.d", "/var/spool/cron/crontabs", "/var/spool/cron")
_CRON = re.compile(r"\s*(?:@\w+|(?:\S+\s+){4}\S+)\s+(.*)")
_RC_LOCAL = ("/etc/rc.local", "/etc/rc.d/rc.local")
_OWN = re.compile(r"sparktune[\w@.-]*\.service")


def read_services(ours: Ours, files: Files, units: Units) -> Iterator[Claim | None]:
    """What enabled services set of ours, by their command lines or in the scripts that these name."""
    seen: set[str] = set()
    for service in units.services:
        if _OWN.fullmatch(service):
            continue
        remove = f"take it out of there, or: systemctl disable --now {service}"
        for command in units.commands(service):
            yield from _claim(ours, command, service, remove)
            for name in _SCRIPT.findall(command.completed)[:_MOST_SCRIPTS]:
                if name not in seen:
                    seen.add(name)
                    yield from read_script(ours, files, name, who=service, unit=service, remove=remove)
        yield None


def _claim(ours: Ours, command: Command, service: str, remove: str) -> Iterator[Claim]:
    plain = Commands(ours).read(command.text)
    for write in Commands(ours).read(command.completed):
        file, line = command.file, command.line
        if not plain and command.given is not None:  # the environment file alone says it
            file, line = command.given
        number, text = line.number, line.parts[0].strip()
        yield claim_of(write, who=service, unit=service, file=file, number=number, text=text, remove=remove)


def read_script(
    ours: Ours, files: Files, name: str, *, who: str, unit: str = "", remove: str
) -> Iterator[Claim | None]:
    """What a script sets; other programs than scripts are not looked into."""
    if not files.is_script(name):
        return
    commands = Commands(ours)
    for count, line in enumerate(files.lines(name, ours.hint), start=1):
        if count % _PAUSE_EVERY == 0:
            yield None
        for write in commands.read(line.text):
            yield claim_of(
                write, who=who, unit=unit, file=name, number=line.number, text=line.text, remove=remove
            )


def read_other_jobs(ours: Ours, files: Files) -> Iterator[Claim | None]:
    """What rc.local, hooks for suspend and cron set of ours."""
    for name in _RC_LOCAL:
        if files.is_executable(name):  # systemd-rc-local-generator(8): only then
            who, remove = "rc.local", "take the line out of it"
            yield from read_script(ours, files, name, who=who, unit="rc-local.service", remove=remove)
        yield None
    for name in files.stack(_SLEEP, ""):
        if files.is_executable(name):
            who, remove = "hook for suspend and resume", "take the line out of it"
            yield from read_script(ours, files, name, who=who, remove=remove)
        yield None
    crontabs = [f"{directory}/{name}" for directory in _CRONTABS for name in files.names(directory)]
    for name in ("/etc/crontab", *crontabs):
        yield from _read_crontab(ours, files, name)
        yield None


def _read_crontab(ours: Ours, files: Files, name: str) -> Iterator[Claim | None]:
    for line in files.lines(name):
        match = _CRON.fullmatch(line.text)
        if match is not None:
            yield from _read_job(ours, files, name, line, match[1])


def _read_job(ours: Ours, files: Files, name: str, line: Line, text: str) -> Iterator[Claim | None]:
    remove = "take the line out of it"
    for write in Commands(ours).read(text):
        yield claim_of(write, who="cron", file=name, number=line.number, text=line.text, remove=remove)
    for script in _SCRIPT.findall(text)[:_MOST_SCRIPTS]:
        yield from read_script(ours, files, script, who=f"cron, by {name}", remove=f"take it out of {name}")


def claim_of(
    write: Write, *, who: str, unit: str = "", file: str, number: int, text: str, remove: str
) -> Claim:
    """The claim of a line that writes."""
    return Claim(
        who=who,
        unit=unit,
        file=file,
        line=number,
        text=text,
        tunables=write.tunables,
        area=write.tunables[0].area,
        value=write.value,
        sense=write.sense,
        remove=remove,
    )
