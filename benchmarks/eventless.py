"""How long a change lives that no event tells of: the sweep must find it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ground import ROOT, BenchError, kept, read_ahead_file, real_config
from processes import daemon
from report import Limit, Row, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ground import Bench

_BLKRASET = 0x1262  # include/uapi/linux/fs.h: what `blockdev --setra` calls, in sectors of 512 bytes
_SECTORS = 256
_WANTED = b"8192\n"
_CHANGES, _QUICK_CHANGES = 10, 5
_SWEEP_S, _MARGIN_S = 1.0, 0.1
_PATIENCE_S = 10.0


def measure(bench: Bench) -> Iterator[Row]:
    """Each change follows the last heal at once, so that nearly a whole sweep must pass: the worst case."""
    device = bench.find_device()
    attribute = read_ahead_file(device)
    setup = bench.set_up("eventless", ROOT, real_config(device, more='sweep = "1s"'))
    count = bench.pick(_CHANGES, _QUICK_CHANGES)
    bench.say(f"{count} changes, about a second each")
    with kept(attribute), daemon(setup):
        figures = summarise([_change(Path("/dev") / device, attribute) for _ in range(count)])
    yield Row(
        measure=f"BLKRASET (blockdev --setra) on {device} right after a heal → healed",
        unit="s", figures=figures, beside={"sweep": f"every {_SWEEP_S:g} s"},
        limits=(Limit(f"max ≤ sweep + {_MARGIN_S:g}", figures.most, _SWEEP_S + _MARGIN_S),),
    )  # fmt: skip


def _change(node: Path, attribute: Path) -> float:
    """Change without an event; gives the seconds until it is healed."""
    reader = os.open(attribute, os.O_RDONLY | os.O_CLOEXEC)
    disk = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        began_s = time.monotonic()
        fcntl.ioctl(disk, _BLKRASET, _SECTORS)
        while os.pread(reader, 64, 0) != _WANTED:
            if time.monotonic() - began_s > _PATIENCE_S:
                raise BenchError(f"failed: not healed within {_PATIENCE_S:g} s")
            time.sleep(0.0005)
        return time.monotonic() - began_s
    finally:
        os.close(disk)
        os.close(reader)
