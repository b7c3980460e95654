"""What command lines set of ours: echo into a file, tee, blockdev, hdparm, cpupower, sysctl, cma_roce_mode.

Read, not run: variables and loops over words are followed as far as the text itself tells, everything else
stands for anything. So what is found is what the text says, not what it does under all conditions.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from sparktune.cpulist import parse_cpu_list
from sparktune.errors import UsageError
from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sparktune.conflicts.claim import Sense
    from sparktune.conflicts.ours import Ours
    from sparktune.model import Tunable

_MOST_WORDS = 32
"""Expansions of one word that are followed; more than that tell nothing new."""
_FOR = re.compile(r"\bfor\s+(\w+)\s+in\s+([^;\n]+)")
_ASSIGNMENT = re.compile(r"""(?:^|[\s;&|({"'])([A-Za-z_]\w*)=("[^"]*"|'[^']*'|[^\s;&|"']*)""")
_MOST_VARIABLES = 16
_VARIABLE = re.compile(r"\$\{(\w+)[^}]{0,99}\}|\$(\w+)|\$\([^)]{0,999}\)|\$[@*#?!]|`[^`]{0,999}`|%[a-zA-Z]")
_REDIRECT = re.compile(r""">{1,2}\|?\s*((?:"[^"]*"|'[^']*')?[^\s;&|)"'<>]*)""")
_TEE = re.compile(r"\btee\s+([^;&|>]+)")
_SAYS = re.compile(
    r"""\b(?:echo|printf)\s+(?:-[neE]+\s+)*(?:["']%[sdi](?:\\n)?["']\s+)?("[^"]*"|'[^']*'|[^\s;&|>"']+)"""
)
_COMMAND = re.compile(r"\b(blockdev|hdparm|cpupower|sysctl|cma_roce_mode)\s([^;&|>\n]*)")
_UNKNOWN = frozenset("*$`(")
_ROCE_MODES = {"1": "IB/RoCE v1", "2": "RoCE v2"}


@frozen(kw_only=False)
class Write:
    """What a command line sets of ours.

    Attributes:
        tunables: which.
        value: to what, as `Claim` has it.
        sense: how that is meant.
    """

    tunables: tuple[Tunable, ...]
    value: str
    sense: Sense = "equal"


class Commands:
    """Reads the lines of one script, in their order, or one command line.

    Attributes:
        bindings: what variables may stand for, by their names.
    """

    def __init__(self, ours: Ours) -> None:
        """No variable is known yet."""
        self.bindings: dict[str, list[str]] = {}
        self._ours = ours
        self._readers = {
            "blockdev": self._blockdev,
            "hdparm": self._hdparm,
            "cpupower": self._cpupower,
            "sysctl": self._sysctl,
            "cma_roce_mode": self._cma_roce_mode,
        }

    def read(self, text: str) -> list[Write]:
        """What a line sets."""
        text = _without_comment(text).replace('\\"', '"')
        self._bind(text)
        return [write for write in self._find(text) if write.tunables]

    def expand(self, word: str, depth: int = 0) -> list[str]:
        """What a word may stand for; `*` for what is not known."""
        match = _VARIABLE.search(word)
        if match is None:
            return [_bare(word)]
        if depth == _MOST_VARIABLES:
            return ["*"]
        known = self.bindings.get(match[1] or match[2] or "", ["*"])
        start, ends = _bare(word[: match.start()]), self.expand(word[match.end() :], depth + 1)
        return [start + value + end for value in known for end in ends][:_MOST_WORDS]

    def _bind(self, text: str) -> None:
        for match in _FOR.finditer(text):
            self.bindings[match[1]] = self._expand_all(match[2].split())[:_MOST_WORDS]
        for match in _ASSIGNMENT.finditer(text):
            self.bindings[match[1]] = self.expand(match[2])

    def _find(self, text: str) -> Iterator[Write]:
        for match in _REDIRECT.finditer(text):
            if text[match.start() - 1 : match.start()] not in {"-", "="}:  # an arrow in somebody's words
                yield from self._files([match[1]], text[: match.start()])
        for match in _TEE.finditer(text):
            yield from self._files(match[1].split(), text[: match.start()])
        for match in _COMMAND.finditer(text):
            yield from self._readers[match[1]](match[2].split())

    def _files(self, words: Iterable[str], before: str) -> Iterator[Write]:
        value = self._said(before)
        for name in self._expand_all(words):
            if name.startswith(("/sys/", "/proc/sys/")):
                yield Write(self._ours.find(name), value, "equal" if value else "unknown")

    def _said(self, before: str) -> str:
        """What the last echo or printf before a `>` or `| tee` says; empty if that is not plain to see."""
        said = ""
        for match in _SAYS.finditer(before):
            said = match[1]
        values = self.expand(said)
        return values[0] if len(values) == 1 and _UNKNOWN.isdisjoint(values[0]) else ""

    def _expand_all(self, words: Iterable[str]) -> list[str]:
        return [one for word in words for one in self.expand(word)]

    def _blockdev(self, words: Sequence[str]) -> Iterator[Write]:
        """blockdev(8): --setra and --setfra in sectors of 512 bytes."""
        for option, value in pairwise(words):
            if option in {"--setra", "--setfra"}:
                yield from self._read_ahead(self._expand_all([value])[0], words)

    def _hdparm(self, words: Sequence[str]) -> Iterator[Write]:
        """hdparm(8): -a in sectors of 512 bytes."""
        for number, word in enumerate(words):
            if word == "-a" and words[number + 1 :]:
                yield from self._read_ahead(self.expand(words[number + 1])[0], words)
            elif re.fullmatch(r"-a[0-9]+", word):
                yield from self._read_ahead(word[2:], words)

    def _read_ahead(self, sectors: str, words: Iterable[str]) -> Iterator[Write]:
        known = sectors.isdecimal() and len(sectors) < 16  # noqa: PLR2004 - no disk reads that far ahead
        value = str(int(sectors) // 2) if known else ""
        for node in self._expand_all(words):
            node = "/dev/*" if node == "*" else node  # noqa: PLW2901 - `blockdev … $disk`
            if node.startswith("/dev/"):
                yield Write(self._ours.find_disks(node), value, "equal" if value else "unknown")

    def _cpupower(self, words: Sequence[str]) -> Iterator[Write]:
        """cpupower-idle-set(1): -d and -e by number, -D by latency, -E all; of the CPUs of cpupower -c."""
        if "idle-set" not in words:
            return
        options = " ".join(words).replace("=", " ").split()
        cpus = self._cpus(options)
        for option, value in zip(options, [*options[1:], ""], strict=True):
            argument = self.expand(value)[0]
            if option in {"-D", "--disable-by-latency"}:
                known = argument.isdecimal()
                yield Write(
                    self._ours.find_states(cpus),
                    argument if known else "",
                    "by latency" if known else "unknown",
                )
            elif option in {"-E", "--enable-all"}:
                yield Write(self._ours.find_states(cpus), "0")
            elif option in {"-d", "--disable"}:
                yield Write(self._ours.find_states(cpus, argument), "1")
            elif option in {"-e", "--enable"}:
                yield Write(self._ours.find_states(cpus, argument), "0")

    def _cpus(self, options: Sequence[str]) -> frozenset[int] | None:
        before = options[: options.index("idle-set")]
        for option, value in pairwise(before):
            if option in {"-c", "--cpu"}:
                try:
                    return frozenset(parse_cpu_list(value))
                except UsageError:  # `all`, `odd`, a variable: any
                    return None
        return None

    def _sysctl(self, words: Sequence[str]) -> Iterator[Write]:
        """sysctl(8): `key=value`, with or without -w."""
        for word in self._expand_all(words):
            key, equals, value = word.partition("=")
            if equals and not key.startswith("-"):
                known = _UNKNOWN.isdisjoint(value)
                tunables = self._ours.find(sysctl_path(key))
                yield Write(tunables, value if known else "", "equal" if known else "unknown")

    def _cma_roce_mode(self, words: Sequence[str]) -> Iterator[Write]:
        """MLNX_OFED's cma_roce_mode -d DEVICE -p PORT -m 1|2: the default_roce_mode of configfs."""
        given = {
            option: self.expand(value)[0] for option, value in pairwise(words) if option in {"-d", "-p", "-m"}
        }
        if "-m" in given:
            directory = f"/sys/kernel/config/rdma_cm/{given.get('-d', '*')}/ports/{given.get('-p', '*')}"
            mode = _ROCE_MODES.get(given["-m"], "")
            tunables = self._ours.find(f"{directory}/default_roce_mode")
            yield Write(tunables, mode, "equal" if mode else "unknown")


def sysctl_path(key: str) -> str:
    """The file of a kernel parameter; sysctl.d(5): the first separator decides what dots and slashes mean."""
    key = key.strip().lstrip("/")
    first = min((key.find(mark) for mark in "./" if mark in key), default=-1)
    if first >= 0 and key[first] == ".":
        key = key.translate(str.maketrans("./", "/."))
    return f"/proc/sys/{key}"


def _bare(word: str) -> str:
    return word.replace('"', "").replace("'", "")


def _without_comment(text: str) -> str:
    if text.lstrip().startswith("#"):
        return ""
    start = text.find(" #")
    while start >= 0:
        if text.count('"', 0, start) % 2 == 0 and text.count("'", 0, start) % 2 == 0:
            return text[:start]
        start = text.find(" #", start + 2)
    return text
