"""The published documents as text and as files: written by the daemon, read by API and command line.

Knows none of their types (`snapshot.py`), so that a command that only shows what is published starts quickly.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import field, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparktune.errors import DaemonNotRunningError, StoreError
from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

HINT_NO_DAEMON = "is the daemon running? systemctl status sparktune"

FRESH_SWEEPS = 3
"""A snapshot is fresh while it is at most this many sweeps old by CLOCK_MONOTONIC."""


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 UTC with microseconds: `2026-11-23T16:31:00.000001Z`."""
    moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: getattr(value, entry.name) for entry in fields(value)}
    raise TypeError(f"{type(value).__name__} is not JSON")


def encode(document: object, *, indent: int | None = 2) -> str:
    """The JSON text of a document, indented because people curl it. Raises TypeError for foreign types."""
    return json.dumps(document, default=_plain, indent=indent, ensure_ascii=False)


def publish(run_dir: Path, name: str, text: str) -> None:
    """Replace `NAME.json` atomically, readable for everybody.

    Raises:
        StoreError: the run directory cannot be written.
    """
    target, temporary = f"{run_dir}/{name}.json", f"{run_dir}/.{name}.json.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(descriptor, 0o644)
            data = memoryview(text.encode() + b"\n")
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        os.replace(temporary, target)  # noqa: PTH105 - text, and with every sweep
    except OSError as error:
        raise StoreError(
            f"cannot publish {target}: {error.strerror}", hint=f"is {run_dir} writable, is there room?"
        ) from error


@frozen
class Published:
    """A published document as it lies on disk.

    Attributes:
        data: the parsed JSON.
        raw: the bytes as published.
        age_s: seconds since everything was last verified, by CLOCK_MONOTONIC; only known for `status`.
        fresh: at most three sweeps old; only known for `status`.
    """

    data: dict[str, Any]
    raw: bytes
    age_s: float = field(default=0.0)
    fresh: bool = field(default=True)

    @property
    def trusted(self) -> bool:
        """Fresh, or final: on an unsupported machine the daemon said so and left, which does not age."""
        return self.fresh or self.data.get("state") == "unsupported"


def fetch(run_dir: Path, name: str) -> Published:
    """Read a published document.

    Raises:
        DaemonNotRunningError: it is not there, cannot be read, or is damaged.
    """
    path = run_dir / f"{name}.json"
    hint = HINT_NO_DAEMON
    try:
        raw = path.read_bytes()
        data = json.loads(raw)
    except OSError as error:
        raise DaemonNotRunningError(f"no published state in {path}: {error.strerror}", hint=hint) from error
    except (ValueError, RecursionError) as error:  # truncated or foreign: as good as none
        raise DaemonNotRunningError(f"{path} is damaged", hint=hint) from error
    if not isinstance(data, dict):
        raise DaemonNotRunningError(f"{path} is damaged", hint=hint)
    if name != "status":
        return Published(data=data, raw=raw)
    age_s, fresh = freshness(data)
    return Published(data=data, raw=raw, age_s=age_s, fresh=fresh)


def freshness(status: Mapping[str, Any]) -> tuple[float, bool]:
    """Seconds since the last verification, and whether that is fresh: young, and of a daemon that runs.

    A status from before a reboot lies in CLOCK_MONOTONIC's future: stale, not fresh for ever.
    """
    daemon = status.get("daemon")
    if not isinstance(daemon, dict):
        return 0.0, False
    verified, sweep_s = daemon.get("verified_monotonic"), daemon.get("sweep_s")
    if not isinstance(verified, int | float) or not isinstance(sweep_s, int | float):
        return 0.0, False
    age_s = time.monotonic() - verified
    return max(age_s, 0.0), 0 <= age_s <= FRESH_SWEEPS * sweep_s and _is_running(daemon.get("pid"))


def _is_running(pid: object) -> bool:
    """Whether there is such a process. One that may not be asked is there; staleness tells the rest."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return not stat.rpartition(b")")[2].startswith(b" Z")  # killed, and not yet buried


def as_down(published: Published) -> dict[str, Any]:
    """A status that is not trusted any more, said to be down; everything else stays what was published."""
    daemon = published.data.get("daemon")
    since = daemon.get("verified_at") if isinstance(daemon, dict) else None
    age = f", {describe_age(published.age_s)}" if published.age_s else ""  # unknown after a reboot
    summary = (
        f"the daemon has been silent since {since}{age}; "
        f"look with: systemctl status sparktune. Its last snapshot said: {published.data.get('summary')}"
    )
    return {**published.data, "state": "down", "summary": summary}


def describe_age(age_s: float) -> str:
    """`12 s ago`, `3 min ago`, `5 h ago`, `2 d ago`: no finer than a person needs."""
    for size_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if age_s >= size_s:
            return f"{int(age_s // size_s)} {unit} ago"
    return f"{int(age_s)} s ago"


def exit_code(state: str, *, holds: bool = True) -> int:
    """The command line's exit code for a state of the host; `holds`: something was checked and all holds."""
    code = {"ok": 0, "paused": 0, "down": 3, "unsupported": 5}.get(state, 4)
    return code if holds or code else 4
