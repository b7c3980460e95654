"""Claims of the kernel command line: idle states that the kernel does not offer, parameters set at boot.

Source: Documentation/admin-guide/kernel-parameters.txt and pm/cpuidle.rst of Linux 6.17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.conflicts.claim import Claim
from sparktune.conflicts.commands import Write, sysctl_path
from sparktune.conflicts.jobs import claim_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparktune.conflicts.files import Files
    from sparktune.conflicts.ours import Ours

FILE = "/proc/cmdline"
AREA = "cpuidle"
_WHO = "kernel command line"
_REMOVE = "take it out of the boot loader's configuration (/etc/default/grub, then update-grub) and reboot"
_SAYS = {
    "cpuidle.off": "switches cpuidle off: there are no idle states to hold",
    "nohlt": "lets idle CPUs spin instead of entering an idle state: what is held has no effect",
    "idle": "chooses how CPUs idle, past cpuidle: what is held has little or no effect",
    "processor.max_cstate": "limits the idle states that acpi_idle offers: there may be fewer to hold",
    "intel_idle.max_cstate": "limits the idle states that intel_idle offers: there may be fewer to hold",
}
"""By parameter: what it does to the area cpuidle."""


def read_command_line(ours: Ours, files: Files) -> Iterator[Claim | None]:
    """What the kernel was started with that decides what we hold."""
    words = files.data(FILE).decode(errors="replace").split()
    for word in words[: words.index("--")] if "--" in words else words:  # the rest is for init
        name, _, value = word.partition("=")
        if name.startswith("sysctl."):
            tunables = ours.find(sysctl_path(name.removeprefix("sysctl.")))
            if tunables:
                write = Write(tunables, value)
                yield claim_of(write, who=_WHO, file=FILE, number=1, text=word, remove=_REMOVE)
        elif name in _SAYS and AREA in ours.areas and not (name == "cpuidle.off" and value == "0"):
            yield Claim(
                who=_WHO,
                file=FILE,
                line=1,
                text=word,
                tunables=ours.find_states(None),
                area=AREA,
                value=value,
                sense="unknown",
                says=_SAYS[name],
                remove=_REMOVE,
            )
    yield None
