"""CPU lists as the kernel and people write them: "5-9,15-19". It must not ask which CPUs this machine has.

Must stay free of pydantic: the command line imports it.
"""

from __future__ import annotations

import re

from sparktune.errors import UsageError
from sparktune.wording import quoted

HIGHEST_CPU = 8191
"""NR_CPUS is at most 8192 in the kernels that run on arm64 and x86."""

_LONGEST = 64 * 1024
_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The sorted CPU numbers of a list such as "5-9,15-19" (Documentation/admin-guide/cputopology.rst).

    Raises:
        UsageError: it is no list, a range runs backwards, or a number is above 8191.
    """
    if len(text) > _LONGEST:
        raise UsageError(f"a CPU list of {len(text)} characters is no list a person wrote", hint=_EXAMPLE)
    ranges = sorted(_parse_range(part.strip(), text) for part in text.split(","))
    cpus: list[int] = []
    for first, last in ranges:  # sorted, so what overlaps is known already: a hostile list stays cheap
        start = max(first, cpus[-1] + 1) if cpus else first
        cpus.extend(range(start, last + 1))
    return tuple(cpus)


_EXAMPLE = "write numbers and ranges: 5-9,15-19"


def _parse_range(part: str, text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(part)
    if match is None:
        found = f"{quoted(part)} in {quoted(text)}" if part != text.strip() else quoted(text)
        raise UsageError(f"{found} is no CPU number or range", hint=_EXAMPLE)
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    if last < first:
        raise UsageError(f"the CPU range {part} runs backwards", hint=f"write {last}-{first}")
    if last > HIGHEST_CPU:
        raise UsageError(f"CPU {last} is above {HIGHEST_CPU}, the highest a kernel can have", hint=_EXAMPLE)
    return first, last
