"""What persons asked for: pauses and restored tunables, on disk with the boot id. Both end with the boot."""

from __future__ import annotations

import json
import math
import time
import zlib
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sparktune.frozen import frozen
from sparktune.storage import read_stored, replace_durably, set_aside

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_MODE = 0o600

EVERYTHING = "*"
"""The target of a pause of the whole host."""


@frozen
class Pause:
    """Peace for a while.

    Attributes:
        target: `*`, an area, or a tunable's id.
        until_s: its end on CLOCK_BOOTTIME, which goes on while the machine is suspended.
        by: who asked: `root`, `uid 1000`.
    """

    target: str
    until_s: float
    by: str

    def until(self) -> datetime:
        """Its end as people read it, to the second: two clocks are compared anew each time."""
        return (datetime.now(UTC) + timedelta(seconds=self.until_s - _now_s() + 0.5)).replace(microsecond=0)


@frozen
class Restored:
    """A tunable that a person had restored: unmanaged until `apply` or reboot.

    Attributes:
        id: the tunable's id.
        by: who asked.
        at: when, RFC 3339 UTC.
    """

    id: str
    by: str
    at: str


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Marks:
    """All pauses and restored marks of this boot."""

    def __init__(self, path: Path, boot_id: str, *, repair: bool) -> None:
        """Read what is there; a damaged file counts as none, and is set aside if `repair`."""
        self._path = path
        self._boot_id = boot_id
        self._repair = repair
        self._pauses: dict[str, Pause] = {}
        self._restored: dict[str, Restored] = {}
        self.set_aside: Path | None = None
        self._load()

    def pause(self, targets: Iterable[str], *, for_s: float, by: str) -> None:
        """Pause targets for a while, from now. Raises StoreError."""
        until_s = _now_s() + for_s
        more = {target: Pause(target=target, until_s=until_s, by=by) for target in targets}
        self._change(self._pauses | more, self._restored)

    def resume(self, targets: Iterable[str]) -> tuple[str, ...]:
        """End pauses; `*` ends all. Returns the targets that were paused. Raises StoreError."""
        wanted = set(targets)
        ended = tuple(target for target in self._pauses if EVERYTHING in wanted or target in wanted)
        if ended:
            kept = {target: pause for target, pause in self._pauses.items() if target not in ended}
            self._change(kept, self._restored)
        return ended

    def find_pause(self, area: str, id_: str) -> Pause | None:
        """The pause that covers a tunable now, the longest if there are several."""
        if not self._pauses:
            return None
        now_s = _now_s()
        covering = [self._pauses.get(target) for target in (EVERYTHING, area, id_)]
        running = [pause for pause in covering if pause is not None and pause.until_s > now_s]
        return max(running, key=lambda pause: pause.until_s, default=None)

    def drop_ended(self) -> bool:
        """Forget pauses that have ended; True if there were any. They need no store: their end is in them."""
        now_s = _now_s()
        ended = [target for target, pause in self._pauses.items() if pause.until_s <= now_s]
        for target in ended:
            del self._pauses[target]
        return bool(ended)

    def next_end_s(self) -> float | None:
        """Seconds until the next pause ends; None without pauses."""
        if not self._pauses:
            return None
        return max(0.0, min(pause.until_s for pause in self._pauses.values()) - _now_s())

    def pauses(self) -> tuple[Pause, ...]:
        """Every pause."""
        return tuple(self._pauses.values())

    def mark_restored(self, ids: Iterable[str], *, by: str, at: str) -> None:
        """Take tunables out of management. Raises StoreError."""
        more = {id_: Restored(id=id_, by=by, at=at) for id_ in ids}
        self._change(self._pauses, self._restored | more)

    def clear_restored(self, ids: Iterable[str]) -> None:
        """Take them back into management. Raises StoreError."""
        cleared = {id_ for id_ in ids if id_ in self._restored}
        if cleared:
            kept = {id_: mark for id_, mark in self._restored.items() if id_ not in cleared}
            self._change(self._pauses, kept)

    def find_restored(self, id_: str) -> Restored | None:
        """The restored mark of a tunable."""
        return self._restored.get(id_)

    def _change(self, pauses: dict[str, Pause], restored: dict[str, Restored]) -> None:
        """Take over what is stored; what cannot be stored has not been done either. Raises StoreError."""
        document = {
            "boot_id": self._boot_id,
            "pauses": [asdict(pause) for pause in pauses.values()],
            "restored": [asdict(mark) for mark in restored.values()],
        }
        text = json.dumps({**document, "checksum": _checksum(document)}, indent=1)
        replace_durably(self._path, text.encode(), mode=_MODE)
        self._pauses, self._restored = pauses, restored

    def _load(self) -> None:
        try:
            data = read_stored(self._path)
            if data is not None:
                self._pauses, self._restored = _parse(data, self._boot_id)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # whatever a damaged file may give
            self.set_aside = set_aside(self._path) if self._repair else None


def _parse(data: bytes, boot_id: str) -> tuple[dict[str, Pause], dict[str, Restored]]:
    """Pauses and restored marks of a stored document. A damaged one raises what `_load` catches."""
    document = json.loads(data)
    if document.pop("checksum") != _checksum(document):
        raise ValueError
    if document["boot_id"] != boot_id:
        return {}, {}
    pauses = {entry["target"]: Pause(**entry) for entry in document["pauses"]}
    if not all(math.isfinite(pause.until_s) for pause in pauses.values()):
        raise ValueError
    return pauses, {entry["id"]: Restored(**entry) for entry in document["restored"]}


def _checksum(document: Mapping[str, object]) -> int:
    return zlib.crc32(json.dumps(document, sort_keys=True).encode())
