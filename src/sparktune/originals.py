"""The write-ahead store of original values: on disk, fsynced and renamed, before the first write to a device.

One line an original, each with its own checksum, so that a damaged file loses only what is damaged.
Keyed by boot id, stable hardware path and instance: a disk that was added again has a new original, a
daemon that was killed and started again does not.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from sparktune.errors import StoreError
from sparktune.frozen import frozen
from sparktune.storage import read_stored, replace_durably, set_aside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sparktune.model import Value

_MODE = 0o600
_MOST_OURS = 8
_HEAD = re.compile(r"([0-9a-f]{8}) (?=\{)")


@frozen
class Original:
    """What a tunable was before sparktune's first write to this device instance in this boot.

    Attributes:
        id: the tunable's id.
        boot_id: the boot it was recorded in.
        path: the device's stable hardware path.
        instance: this appearance of the device, see `kernel/identity.py`.
        kind: how to open the attribute again: `file:integer`.
        location: the attribute's path.
        makes: the configfs directory we made for it; empty if none.
        value: the original; None while only the directory has been planned.
        ours: every value that may be there because we wrote it, latest last.
        at: when it was recorded, RFC 3339 UTC.
    """

    id: str
    boot_id: str
    path: str
    instance: str
    kind: str
    location: str
    makes: str
    value: Value | None
    ours: tuple[Value, ...]
    at: str

    @property
    def key(self) -> str:
        """What identifies the attribute of this device instance."""
        return f"{self.instance} {self.location}"


_FIELDS = tuple(field.name for field in fields(Original))


class Originals:
    """All originals of this boot. One writer: whoever holds the host's lock."""

    def __init__(self, path: Path, boot_id: str, *, repair: bool) -> None:
        """Read what is there; damaged lines are set aside with the file, readable ones are kept.

        Args:
            path: `originals.jsonl` in the state directory.
            boot_id: originals of other boots are dropped: their values died with that boot.
            repair: set a damaged file aside; False for those who only look.
        """
        self._path = path
        self._boot_id = boot_id
        self._repair = repair
        self._entries: dict[str, Original] = {}
        self._unwritten: set[str] = set()
        self._lines: dict[Original, bytes] = {}
        self._dirty = False
        self.set_aside: Path | None = None
        self._load()

    @property
    def boot_id(self) -> str:
        """The boot these originals belong to."""
        return self._boot_id

    def find(self, key: str) -> Original | None:
        """The original of one attribute of one device instance."""
        return self._entries.get(key)

    def covers(self, key: str, wanted: Value | None, found: Value | None) -> bool:
        """Whether a write of `wanted` over `found` has its original on disk: asked on the heal path."""
        entry = self._entries.get(key)
        if entry is None or entry.value is None or wanted not in entry.ours:
            return False
        return entry.value == found or key not in self._unwritten

    def all(self) -> tuple[Original, ...]:
        """Every original of this boot, in the order recorded."""
        return tuple(self._entries.values())

    def record(self, planned: Iterable[Original]) -> None:
        """Make sure that each planned write has its original on disk; the first recorded one stays.

        Args:
            planned: what is about to be written: `value` as found, `ours` with the value to be written.

        Raises:
            StoreError: nothing may be written to the host then; the store is as it was before.
        """
        before = dict(self._entries)
        changed = False
        for new in planned:
            merged = self._merge(self._entries.get(new.key), new)
            if merged != self._entries.get(new.key):
                self._entries[new.key] = merged
                changed = True
        if not changed:
            return
        try:
            self._store()
        except BaseException:
            self._entries = before
            raise
        self._unwritten |= self._entries.keys() - before.keys()

    def _merge(self, old: Original | None, new: Original) -> Original:
        """The first recorded value stays, unless nothing was written after it."""
        if old is None:
            return new
        ours = (*[value for value in old.ours if value not in new.ours], *new.ours)[-_MOST_OURS:]
        is_open = old.value is None or old.key in self._unwritten
        return replace(old, value=new.value if is_open else old.value, ours=ours)

    def settle(self, key: str, read_back: Value) -> None:
        """Note what was read back after a write: from now on only that value is ours.

        Not stored at once: until `save` the disk knows the value we wrote, which is as good after a crash.
        """
        entry = self._entries.get(key)
        self._unwritten.discard(key)
        if entry is not None and entry.ours != (read_back,):
            self._entries[key] = replace(entry, ours=(read_back,))
            self._dirty = True

    def withdraw(self, key: str) -> None:
        """Drop an original whose very first write the kernel refused: there is nothing to be put back.

        What is there at the next try is the original then. Not stored at once, see `settle`.
        """
        if key in self._unwritten and not self._entries[key].makes:
            self._unwritten.discard(key)
            del self._entries[key]
            self._dirty = True

    def forget(self, keys: Iterable[str]) -> None:
        """Drop originals that were put back. Raises StoreError."""
        for key in keys:
            self._unwritten.discard(key)
            self._dirty = self._entries.pop(key, None) is not None or self._dirty
        self.save()

    def save(self) -> None:
        """Store what `settle` noted. Raises StoreError."""
        if self._dirty:
            self._store()

    def _store(self) -> None:
        self._lines = {entry: self._lines.get(entry) or _line(entry) for entry in self._entries.values()}
        replace_durably(self._path, b"".join(self._lines.values()), mode=_MODE)
        self._dirty = False

    def _load(self) -> None:
        try:
            data = read_stored(self._path)
        except OSError:  # EIO, a directory: what cannot be read now must not be overwritten either
            if self._repair:
                self.set_aside = set_aside(self._path)
            return
        found = tuple(_parse(data or b""))
        for entry, _ in found:
            if entry.boot_id == self._boot_id:
                self._entries[entry.key] = entry
        if data != b"".join(line for _, line in found) and data is not None and self._repair:
            self._set_aside()

    def _set_aside(self) -> None:
        """Keep the damaged file under another name; under its own until the readable entries replace it."""
        self.set_aside = set_aside(self._path, keep=True)
        if self.set_aside is None:
            return
        try:
            self._store()
        except StoreError:  # the damaged file is still in its place: the next start reads it again
            self._dirty = True


def _line(entry: Original) -> bytes:
    body = json.dumps({name: getattr(entry, name) for name in _FIELDS}, sort_keys=True)
    return f"{zlib.crc32(body.encode()):08x} {body}\n".encode()


def _parse(data: bytes) -> Iterator[tuple[Original, bytes]]:
    """Every readable entry with its whole line, wherever in the data it begins: also after a lost newline."""
    text, decoder, after = data.decode("latin-1"), json.JSONDecoder(), 0
    for head in _HEAD.finditer(text):
        if head.start() < after:  # inside the entry before
            continue
        try:
            fields, end = decoder.raw_decode(text, head.end())
            if int(head[1], 16) != zlib.crc32(data[head.end() : end]):
                continue
            entry = Original(**{**fields, "ours": tuple(fields["ours"])})
        except (ValueError, TypeError, KeyError, RecursionError):  # whatever a damaged line may give
            continue
        after = end
        yield entry, data[head.start() : end] + b"\n"
