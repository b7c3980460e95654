"""The published files as the API sees them: read and checked again only when they change, never changed.

Every document is validated before it is served, so that /openapi.json is true of whatever lies in the run
directory: a damaged or foreign file is an error with a hint, not an answer.
"""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from sparktune.api.answers import render
from sparktune.errors import DaemonNotRunningError
from sparktune.fabric.report import FabricReport
from sparktune.frozen import frozen
from sparktune.published import FRESH_SWEEPS, HINT_NO_DAEMON, Published, as_down, describe_age, freshness
from sparktune.snapshot import AdviceReport, ConfigReport, Counters, DriftReport, Hardware, Status, Tunables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Model = TypeVar("Model")
Stamp = tuple[int, int, int]

_UNSAFE_IN_TAG = re.compile(r"[^A-Za-z0-9.-]")


@frozen(kw_only=False)
class Document(Generic[Model]):
    """One published document.

    Attributes:
        raw: the bytes as published.
        model: the same, parsed and checked.
        stamp: inode, modification time in ns and size in bytes: another for every publication.
    """

    raw: bytes
    model: Model
    stamp: Stamp


class Publication(Generic[Model]):
    """One file of the run directory, parsed again only when it was replaced."""

    def __init__(self, run_dir: Path, name: str, model: type[Model]) -> None:
        self.name = name
        self._path = os.fspath(run_dir / f"{name}.json")
        self._model = model
        self._document: Document[Model] | None = None

    @cached_property
    def _adapter(self) -> TypeAdapter[Model]:
        return TypeAdapter(self._model)

    def current(self) -> Document[Model]:
        """The document as it is on disk now; one `stat` when it is unchanged.

        Raises:
            DaemonNotRunningError: it is not there, cannot be read, or is no such document.
        """
        try:
            found = os.stat(self._path)  # noqa: PTH116 - one call, no object in between, at every request
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            document = self._document
            if document is None or document.stamp != stamp:
                document = self._document = self._load()
        except OSError as error:
            self._document = None
            raise DaemonNotRunningError(
                f"no published state in {self._path}: {error.strerror}", hint=HINT_NO_DAEMON
            ) from error
        return document

    def _load(self) -> Document[Model]:
        with open(self._path, "rb") as file:  # noqa: PTH123 - an opener is needed to open without blocking
            found = os.fstat(file.fileno())
            raw = file.read()
        try:
            model = self._adapter.validate_json(raw, strict=True)
        except ValidationError as error:  # truncated, foreign, or of another version
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the document"
            raise DaemonNotRunningError(
                f"{self._path} is damaged: {place}: {first['msg']}",
                hint="did another version write it? systemctl restart sparktune sparktune-api",
            ) from error
        return Document(raw=raw, model=model, stamp=(found.st_ino, found.st_mtime_ns, found.st_size))


@frozen(kw_only=False)
class Standing:
    """Whether the published status can still be believed.

    Attributes:
        status: the last status, as published.
        age_s: seconds since everything was last verified.
        trusted: fresh, or final: what was published may be repeated as it is.
        reason: why /healthz says no; empty while it says yes.
        freshness: one word for the ETag that changes whenever the answer would.
    """

    status: Document[Status]
    age_s: float
    trusted: bool
    reason: str
    freshness: str

    @property
    def do(self) -> str:
        """What a person can do where there is a reason."""
        if self.status.model.state == "unsupported":
            return "sparktune detect shows the evidence; require_gb10 = false tunes this machine all the same"
        return HINT_NO_DAEMON

    @property
    def tag(self) -> str:
        """The ETag, unquoted: instance, number and freshness."""
        daemon = self.status.model.daemon
        return f"{_UNSAFE_IN_TAG.sub('', daemon.instance)}-{daemon.number}-{self.freshness}"


class Snapshot:
    """The whole published state: one publication for each file."""

    def __init__(self, run_dir: Path) -> None:
        self.status = Publication(run_dir, "status", Status)
        self.tunables = Publication(run_dir, "tunables", Tunables)
        self.drift = Publication(run_dir, "drift", DriftReport)
        self.hardware = Publication(run_dir, "hardware", Hardware)
        self.fabric = Publication(run_dir, "fabric", FabricReport)
        self.config = Publication(run_dir, "config", ConfigReport)
        self.advice = Publication(run_dir, "advice", AdviceReport)
        self.counters = Publication(run_dir, "counters", Counters)
        self._clock: tuple[Stamp, Mapping[str, object]] | None = None

    def standing(self) -> Standing:
        """The status and whether it is fresh, now.

        Raises:
            DaemonNotRunningError: there is no status to speak of.
        """
        document = self.status.current()
        status = document.model
        age_s, fresh = freshness(self._published_clock(document))
        if status.state == "unsupported":  # the daemon said so and left on purpose: it does not age
            return Standing(document, age_s, trusted=True, reason=status.summary, freshness="final")
        if fresh:
            reason = status.summary if status.state == "down" else ""
            return Standing(document, age_s, trusted=True, reason=reason, freshness="fresh")
        if status.daemon.verified_monotonic > time.monotonic():  # from before a reboot: other clocks must do
            age_s = _age_by_wall_clock(status.daemon.verified_at)
        age = describe_age(age_s)
        since = status.daemon.verified_at or status.daemon.started_at
        reason = (
            f"the daemon has been silent since {since}, {age} "
            f"(fresh is at most {FRESH_SWEEPS * status.daemon.sweep_s:g} s)"
        )
        word = "down-" + age.replace(" ", "")
        return Standing(document, age_s, trusted=False, reason=reason, freshness=word)

    def tag(self, document: Document[Any]) -> str:
        """The ETag of a published document but the status: the status' own, and the file's stamp besides.

        The files of one snapshot are replaced one after the other, so the number alone would not do.
        """
        try:
            parts = self.standing().tag
        except DaemonNotRunningError:  # the others may still be there without a status
            parts = "none"
        inode, modified_ns, _size = document.stamp
        return f"{parts}-{inode:x}-{modified_ns:x}"

    def _published_clock(self, document: Document[Status]) -> Mapping[str, object]:
        if self._clock is None or self._clock[0] != document.stamp:
            daemon = document.model.daemon
            clock = {
                "verified_monotonic": daemon.verified_monotonic,
                "sweep_s": daemon.sweep_s,
                "pid": daemon.pid,
            }
            self._clock = (document.stamp, {"daemon": clock})
        return self._clock[1]


def tell_down(standing: Standing) -> bytes:
    """The last status, said to be down in the words the command line has for it too."""
    raw = standing.status.raw
    return render(as_down(Published(data=json.loads(raw), raw=raw, age_s=standing.age_s, fresh=False)))


def _age_by_wall_clock(verified_at: str | None) -> float:
    try:
        verified = datetime.fromisoformat(verified_at or "")
        return max((datetime.now(UTC) - verified).total_seconds(), 0.0)
    except (ValueError, TypeError):  # never verified, or no time with a zone
        return 0.0
