"""Claims of udev rules. Each device of ours is taken through the rules as far as files alone tell.

A condition that only udev can judge (a property, a program's answer) counts as possible: it may apply.
Source: udev(7) of systemd 252 and 257.
"""

from __future__ import annotations

import posixpath
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sparktune.conflicts.commands import Commands, Write
from sparktune.conflicts.jobs import claim_of, read_script
from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sparktune.conflicts.claim import Claim, Line
    from sparktune.conflicts.files import Files
    from sparktune.conflicts.ours import Device, Ours
    from sparktune.kernel.root import Root

DIRECTORIES = (
    "/etc/udev/rules.d",
    "/run/udev/rules.d",
    "/usr/local/lib/udev/rules.d",
    "/usr/lib/udev/rules.d",
    "/lib/udev/rules.d",
)
_VENDOR = ("/usr/lib/", "/lib/")
_PAIR = re.compile(r"""([A-Z_]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|-=|:=|=)\s*[ei]?"((?:\\.|[^"\\])*)\"""")
_KERNEL = re.compile(r"%k|\$kernel|\$name|\$\{kernel\}")
_NODE = re.compile(r"%N|\$devnode|\$tempnode|\$env\{DEVNAME\}|%E\{DEVNAME\}")
_DEVPATH = re.compile(r"/sys(?:%p|\$devpath|\$env\{DEVPATH\}|%E\{DEVPATH\})|%S(?:%p|\$devpath)")
_SCRIPT = re.compile(r"(?:^|[\s'])(/(?!sys/|proc/|dev/)[\w.@+/-]+)")
_PROGRAM = re.compile(r"[a-z][\w.+-]*")
_ACTIONS = ("add", "change", "bind", "online", "move")
"""Events after which a rule that sets something leaves it set."""
_TELLING = frozenset({"ATTR", "SYSCTL", "RUN", "GOTO", "LABEL"})
_MOST_DEVICES = 256


@frozen(kw_only=False)
class Pair:
    """One `KEY{argument}=="value"` of a rule."""

    key: str
    argument: str
    operator: str
    value: str


@frozen(kw_only=False)
class Rule:
    """One line of a rules file."""

    line: Line
    pairs: tuple[Pair, ...]

    @property
    def matters(self) -> bool:
        """Whether it sets or runs anything, or decides which other rules do."""
        return any(pair.key in _TELLING and pair.operator not in {"==", "!="} for pair in self.pairs)

    def first(self, key: str) -> str:
        """The first value given for a key; empty if there is none."""
        return next((pair.value for pair in self.pairs if pair.key == key), "")


def read_rules(ours: Ours, files: Files) -> Iterator[Claim | None]:
    """What rules files set of ours; of files with the same name only the one that udev reads."""
    for name in files.stack(DIRECTORIES, ".rules"):
        # An owner's rule may run a script that alone says what it sets; a distribution's rules are many.
        lines = files.lines(name, ours.hint if name.startswith(_VENDOR) else None)
        rules = [_parse(line) for line in lines]
        if rules:
            yield from _read_file(ours, files, name, [rule for rule in rules if rule.matters])
        yield None


def _parse(line: Line) -> Rule:
    pairs = (Pair(match[1], match[2] or "", match[3], match[4]) for match in _PAIR.finditer(line.text))
    return Rule(line, tuple(pairs))


def _read_file(ours: Ours, files: Files, name: str, rules: Sequence[Rule]) -> Iterator[Claim | None]:
    found: dict[tuple[int, str, str], tuple[Write, str]] = {}
    for device in ours.devices[:_MOST_DEVICES]:
        for rule in _applied(rules, device, ours.root):
            for write, fragment in _writes(ours, rule, device):
                number, text = rule.line.locate(fragment)
                known, _ = found.get((number, write.value, text), (Write((), ""), ""))
                tunables = tuple(dict.fromkeys((*known.tunables, *write.tunables)))
                found[number, write.value, text] = (Write(tunables, write.value, write.sense), text)
        yield None
    remove = _remove(name)
    for (number, _, _), (write, text) in found.items():
        yield claim_of(write, who="udev rule", file=name, number=number, text=text, remove=remove)
    for script in _scripts(rules):
        yield from read_script(ours, files, script, who=f"udev, by {name}", remove=remove)


def _remove(name: str) -> str:
    own = f"/etc/udev/rules.d/{posixpath.basename(name)}"
    if name.startswith(_VENDOR):
        return f"override it with a {own} without the line, then: udevadm control --reload"
    return "take it out of there, then: udevadm control --reload"


def _applied(rules: Sequence[Rule], device: Device, root: Root) -> Iterator[Rule]:
    """The rules that may apply to a device, with the jumps that are certain."""
    label = ""
    for rule in rules:
        if label:
            if rule.first("LABEL") != label:
                continue
            label = ""
        applies = _judge(rule, device, root)
        if applies is not False:
            yield rule
        if applies:
            label = rule.first("GOTO")


def _judge(rule: Rule, device: Device, root: Root) -> bool | None:
    """Whether a rule applies; None where udev alone can tell."""
    is_partition = any(pair.key == "ATTR" and pair.argument.startswith("../") for pair in rule.pairs)
    answers = [
        _compare(pair, device, root, is_partition=is_partition)
        for pair in rule.pairs
        if pair.operator in {"==", "!="} or pair.key in {"PROGRAM", "IMPORT"}
    ]
    if False in answers:
        return False
    return None if None in answers else True


def _compare(pair: Pair, device: Device, root: Root, *, is_partition: bool) -> bool | None:
    if pair.key == "ACTION":
        answers = {_same(action, pair) for action in _ACTIONS}
        return answers.pop() if len(answers) == 1 else None  # at some events, not at others
    if pair.key == "PROGRAM" and "nfsrahead" in pair.value:  # of nfs-utils: answers for NFS mounts alone
        return None if device.kernel.startswith("0:") else False
    if is_partition and pair.key in {"KERNEL", "ENV"}:
        return None
    found = _look(pair, device, root)
    return None if found is None else _same(found, pair)


def _look(pair: Pair, device: Device, root: Root) -> str | None:
    """What a condition is compared with; None where that is not to be seen in files."""
    if pair.key == "KERNEL":
        return device.kernel
    if pair.key == "SUBSYSTEM":
        return device.subsystem
    if pair.key == "ENV" and pair.argument == "DEVTYPE" and device.subsystem == "block":
        return "disk"
    if pair.key == "ATTR":
        return root.read(f"{device.directory}/{pair.argument}")
    return None


def _same(found: str, pair: Pair) -> bool:
    matches = any(fnmatchcase(found, pattern) for pattern in pair.value.split("|"))
    return matches is (pair.operator == "==")


def _writes(ours: Ours, rule: Rule, device: Device) -> Iterator[tuple[Write, str]]:
    """What a rule sets of one device, each with the fragment that says so."""
    for pair in rule.pairs:
        if pair.operator in {"==", "!="}:
            continue
        if pair.key == "ATTR":
            tunable = device.attributes.get(pair.argument.removeprefix("../"))
            if tunable is not None:
                known = not re.search(r"[%$]", pair.value)
                value = pair.value if known else ""
                yield Write((tunable,), value, "equal" if known else "unknown"), f"{{{pair.argument}}}"
        elif pair.key == "SYSCTL":
            yield from _sysctl(ours, pair)
        elif pair.key == "RUN":
            for write in Commands(ours).read(_fill_in(pair.value, device)):
                yield write, pair.value


def _sysctl(ours: Ours, pair: Pair) -> Iterator[tuple[Write, str]]:
    tunables = ours.find(f"/proc/sys/{pair.argument.replace('.', '/')}")
    if tunables:
        yield Write(tunables, pair.value), f"{{{pair.argument}}}"


def _fill_in(text: str, device: Device) -> str:
    """A command with udev's substitutions for a device."""
    text = _DEVPATH.sub(device.directory, text.replace('\\"', '"'))
    text = _NODE.sub(f"/dev/{device.kernel}", text)
    return _KERNEL.sub(device.kernel, text).replace("%%", "%").replace("$$", "$")


def _scripts(rules: Sequence[Rule]) -> list[str]:
    """Scripts that rules run; a name without a directory lies in udev's own."""
    found: dict[str, None] = {}
    for pair in (pair for rule in rules for pair in rule.pairs):
        if pair.key == "RUN" and pair.operator not in {"==", "!="}:
            program = pair.value.split(" ", maxsplit=1)[0]
            if _PROGRAM.fullmatch(program):
                found[f"/usr/lib/udev/{program}"] = None
            found |= dict.fromkeys(_SCRIPT.findall(pair.value))
    return list(found)
