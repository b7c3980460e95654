"""Many ids in few words: `cpuidle.cpu{0-19}.state1.disable`. For people only; JSON lists every one."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import TYPE_CHECKING, TypeVar

from sparktune.cpus import format_cpu_list

if TYPE_CHECKING:
    from collections.abc import Iterable

Rest = TypeVar("Rest", bound=Hashable)

_CPU = re.compile(r"(.*[./]cpu)(\d+)([./].*)")


def group(entries: Iterable[tuple[str, Rest]], *, most: int = 2) -> list[tuple[str, int, Rest]]:
    """Put entries together that differ in nothing but the CPU in their name.

    Args:
        entries: a name (an id or a path) and whatever else must be equal.
        most: as many CPUs are still listed one by one.

    Returns:
        For each group: its name, how many entries it has, and what they have in common; in order of
        appearance.
    """
    groups: dict[tuple[str, str, Rest], list[int]] = {}
    for name, rest in entries:
        match = _CPU.fullmatch(name)
        if match is None:
            groups[name, "", rest] = []
        else:
            groups.setdefault((match[1], match[3], rest), []).append(int(match[2]))
    found: list[tuple[str, int, Rest]] = []
    for (before, after, rest), cpus in groups.items():
        if not cpus:
            found.append((before, 1, rest))
        elif len(cpus) <= most:
            found += [(f"{before}{cpu}{after}", 1, rest) for cpu in cpus]
        else:
            found.append((f"{before}{{{format_cpu_list(cpus)}}}{after}", len(cpus), rest))
    return found


def shorten(names: Iterable[str], *, most: int = 4) -> str:
    """Names in one line, the rest counted."""
    texts = [text for text, _, _ in group((name, ()) for name in names)]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
