"""Writes docs/tunables.md from the code: what the areas declare on a simulated GB10, and the keys they obey.

Run it after an area or a key has changed: `.venv/bin/python docs/generate_tunables.py`. A test compares.
"""  # noqa: INP001 - a script

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparktune import hardware
from sparktune.kernel.root import Root
from sparktune.sections import Keys, RoceSettings
from sparktune.settings import Settings
from sparktune.simulate import tree
from sparktune.tunables import AREAS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo

    from sparktune.model import Tunable
    from sparktune.tunables.area import Area

_ASKED_FOR = RoceSettings(
    default_roce_tos=106, traffic_class=106, mtu=9000, pause="none", rx_ring=8192, tx_ring=8192,
    adaptive_coalescing="both", pfc_priorities=(3,), trust="dscp",
)  # fmt: skip
"""So that what is off by default is described too."""
_DISTURBS = "yes: written while no RDMA queue pair exists on the device, otherwise on request only"

PAGE = Path(__file__).with_name("tunables.md")

_HEAD = """\
# Tunables and checks

Generated from the code by `docs/generate_tunables.py`; do not edit. What is shown is what the areas declare
on a simulated DGX Spark (`sparktune simulate`); with the default configuration, but
for what says that it is off by default. On a machine at hand,
`sparktune plan` and `sparktune explain ID` say the same of that machine.

A *tunable* is read and written, a *check* is only read. An area that finds nothing is `absent`, and says why.
"""


def compose() -> str:
    """The text of the page."""
    parts = [_HEAD]
    for area in AREAS:
        parts += [f"## {area.name}", *_describe_area(area), f"Keys of `[{area.name}]`:", _section(area.name)]
    parts += ["## Keys for all areas", _table(_keys("", Keys))]
    for name in ("expect", "contest", "history"):
        parts += [f"`[{name}]`:", _section(name)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _describe_area(area: Area) -> Iterator[str]:
    kinds: dict[str, list[Tunable]] = {}
    with tempfile.TemporaryDirectory() as directory:
        root = Root(Path(directory))
        tree.build(root.directory, "gb10")
        host = hardware.detect(root)
        default = {tunable.id for tunable in area.discover(host, Settings()).tunables}
        for tunable in area.discover(host, Settings(roce=_ASKED_FOR)).tunables:
            kinds.setdefault(_pattern(tunable), []).append(tunable)
        for pattern, same in kinds.items():
            yield f"### {pattern}"
            yield _describe(root, same, by_default=same[0].id in default)


def _pattern(tunable: Tunable) -> str:
    """`cpuidle.CPU.STATE.disable` of `cpuidle.cpu3.state2.disable`: names of devices become words."""
    area, device, *rest = tunable.id.split(".")
    kind = device.rstrip("0123456789").upper() if device.startswith("cpu") else "DEVICE"
    return ".".join([area, kind, *("STATE" if part.startswith("state") else part for part in rest)])


def _describe(root: Root, same: list[Tunable], *, by_default: bool) -> str:
    """A table about tunables of one kind; the first one stands for all where they differ in names only."""
    tunable = same[0]
    rows = {
        "what": "check, never written" if tunable.is_check else "tunable",
        "such as": f"`{tunable.id}`" + (f", one of {len(same)} there" if len(same) > 1 else ""),
        "by default": "" if by_default else "off: left alone",
        "where": f"`{tunable.attribute.location}`",
        "also watched": ", ".join(f"`{root.name(path)}`" for path in tunable.attribute.watched[1:]),
        "wanted": ", ".join(dict.fromkeys(f"`{each.wanted}` {each.unit}".strip() for each in same)),
        "decided by": f"`{tunable.key}`" if tunable.key else "",
        "why": tunable.why,
        "source": tunable.source,
        "risk": tunable.risk,
        "disturbs traffic": _DISTURBS if tunable.disruptive else "",
        "if it does not hold": tunable.do,
    }
    return _table([("", ""), *((name, text) for name, text in rows.items() if text)])


def _section(name: str) -> str:
    model = Keys.model_fields[name].annotation
    return _table(_keys(f"{name}.", model))


def _keys(prefix: str, model: Any) -> list[tuple[str, str, str]]:
    rows = [("key", "default", "expected")]
    for name, info in model.model_fields.items():
        if info.description:
            rows.append((f"`{prefix}{name}`", f"`{_default(info)}`", info.description))
    return rows


def _default(info: FieldInfo) -> str:
    """As it is written in TOML."""
    default = info.default
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return "[" + ", ".join(f'"{item}"' for item in default) + "]"
    if isinstance(default, float):  # a duration
        minutes, rest_s = divmod(default, 60)
        return f'"{default:g}s"' if rest_s or minutes <= 1 else f'"{minutes:g}m"'
    return f'"{default}"' if isinstance(default, str) else str(default)


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    head, *body = [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(compose(), encoding="utf-8")
    sys.stdout.write(f"{PAGE} written\n")
