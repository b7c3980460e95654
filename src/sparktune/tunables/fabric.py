"""The checks of the `roce` area: what must hold for both links of a ConnectX-7 port to carry traffic.

Declares them only; `fabric/checks.py` and `fabric/twins.py` judge.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache, partial
from typing import TYPE_CHECKING

from sparktune.fabric.naming import listed
from sparktune.kernel.fabric_view import FabricCheck, FabricView
from sparktune.kernel.identity import identify_directory
from sparktune.model import Tunable
from sparktune.tunables.area import Discovery, View
from sparktune.tunables.fabric_checks import PCI, Check, firmware, of_function, of_port
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sparktune.fabric.model import Fabric, Function
    from sparktune.hardware import Host
    from sparktune.settings import Settings

AREA = "roce"


def declare(host: Host, settings: Settings, fabric: Fabric) -> Discovery:
    """The checks of every selected function, of the ports they lead to, and of all together."""
    chosen = [one for one in fabric.functions if is_selected(one, settings.roce.devices)]
    if not chosen:
        found = listed(one.name for one in fabric.functions)
        absent = f"none of {found} is selected by roce.devices" if found else "no ConnectX-7 function here"
        return Discovery(tunables=(), absent=absent)
    view = FabricView(host.root, fabric)
    is_spark = host.verdict == "gb10"
    identify = cache(partial(identify_directory, host.root))  # a dozen checks of one function
    made: list[Tunable] = []
    for port in fabric.ports:
        mine = tuple(one for one in port.functions if one in chosen)
        for function in mine:
            made += [
                _tunable(view, check, (function,), identify)
                for check in of_function(function, settings, is_spark=is_spark)
            ]
        if mine and (len(port.functions) > 1 or is_spark):
            made += [_tunable(view, check, port.functions, identify) for check in of_port(port)]
    if len(fabric.functions) > 1:
        made.append(_tunable(view, firmware(), fabric.functions, identify))
    return Discovery(tunables=tuple(made), fabric=view.now)


def is_selected(function: Function, globs: Sequence[str]) -> bool:
    """Whether `roce.devices` means a function: by its RDMA device, or its interface or address."""
    names = (function.rdma.device if function.rdma else "", function.netdev, function.bdf)
    return any(fnmatchcase(name, glob) for name in names if name for glob in globs)


def touching(functions: Sequence[Function]) -> tuple[str, ...]:
    """Every name that an event of these functions can have."""
    names = [(one.netdev, one.rdma.device if one.rdma is not None else "", one.bdf) for one in functions]
    return tuple(name for three in names for name in three if name)


def _tunable(
    view: FabricView,
    check: Check,
    functions: Sequence[Function],
    identify: Callable[[str], tuple[str, str]],
) -> Tunable:
    identity = identify(f"{PCI}/{functions[0].bdf}")
    return Tunable(
        id=f"{AREA}.{plain(check.device)}.{check.name}",
        area=AREA,
        device=plain(check.device),
        attribute=FabricCheck(view, check.judge, check.location, identity),
        wanted=check.wanted,
        unit=check.unit,
        why=check.why,
        source=check.source,
        key=check.key,
        do=check.do,
        interfaces=touching(functions),
    )


def say(views: Sequence[View]) -> str:
    """`p0: both up, 200 Gb/s, RDMA MTU 1024, GID index 3 and 3; p1: no cable`; empty without functions."""
    ports = [view for view in views if view.tunable.id.endswith(".twins_up")]
    return "; ".join(f"{view.tunable.device}: {_say_port(view, views)}" for view in ports)


def _say_port(port: View, views: Sequence[View]) -> str:
    if port.reading.value is None:
        return "no cable" if port.reading.reason.startswith("no carrier") else "not known"
    mine = [view for view in views if set(view.tunable.interfaces) <= set(port.tunable.interfaces)]
    rates = {f"{view.reading.value} Gb/s" for view in _named("link_rate", mine)}
    sizes = {view.reading.reason.partition(",")[0] for view in _named("active_mtu", mine)}
    indices = [view.reading.reason.partition(":")[0].removeprefix("index ") for view in _named("gid", mine)]
    known = [index for index in indices if index.isdigit()]
    parts = [
        str(port.reading.value),
        " and ".join(sorted(rates)),
        f"RDMA MTU {' and '.join(sorted(sizes))}" if sizes else "",
        f"GID index {' and '.join(known)}" if known else "",
    ]
    return ", ".join(part for part in parts if part)


def _named(name: str, views: Sequence[View]) -> list[View]:
    return [view for view in views if view.tunable.id.endswith(f".{name}") and view.reading.value is not None]
