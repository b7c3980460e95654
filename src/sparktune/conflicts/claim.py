"""A claim: a line of some file that sets attributes which sparktune holds. Data only, judged elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sparktune.frozen import frozen

if TYPE_CHECKING:
    from sparktune.model import Tunable

Sense = Literal["equal", "at least", "by latency", "latency limit", "unknown"]
"""How a claim's value is meant.

equal: it is written as it is. at least: written only where less is found. by latency: each idle state whose
exit latency is at least this many µs is disabled, every other one enabled. latency limit: idle states above
this many µs are kept out by PM QoS. unknown: only running it would tell the value.
"""


@frozen
class Line:
    """A line of a configuration file or script, continuation lines included.

    Attributes:
        number: of its first physical line, from 1.
        text: as the program that reads it takes it.
        parts: the physical lines it is made of.
    """

    number: int
    text: str
    parts: tuple[str, ...]

    def locate(self, fragment: str) -> tuple[int, str]:
        """Number and text of the physical line with a fragment; of the first one if none has it."""
        for offset, part in enumerate(self.parts):
            if fragment in part:
                return self.number + offset, part.strip()
        return self.number, self.parts[0].strip()

    @property
    def assignment(self) -> tuple[str, str] | None:
        """Key and value of `key = value`, without blanks around them; None if it is something else."""
        key, equals, value = self.text.partition("=")
        return (key.strip(), value.strip()) if equals and key.strip() else None


@frozen
class Claim:
    """One line that sets attributes of ours.

    Attributes:
        who: the program, as people know it: `udev rule`, `TuneD, profile hpc-compute`, `tune.service`.
        unit: the systemd unit by which it acts; empty if there is none.
        file: the host's name of the file.
        line: number of the line.
        text: the line, as found.
        tunables: what it sets of ours; may be empty for a claim about a whole area.
        area: the area it is about.
        value: what it sets them to, as written there; empty if only running it would tell.
        sense: how that is meant.
        attribute: what it really sets, where that only acts on our tunables.
        says: what it does, in words, where value and sense do not tell.
        remove: how a person can make it stop.
    """

    who: str
    unit: str = ""
    file: str
    line: int
    text: str
    tunables: tuple[Tunable, ...]
    area: str
    value: str
    sense: Sense = "equal"
    attribute: str = ""
    says: str = ""
    remove: str


@frozen
class Tuner:
    """A tuner that is enabled.

    Attributes:
        unit: its systemd unit.
        file: the file that says so, or its configuration.
        says: what it sets.
    """

    unit: str
    file: str
    says: str
