"""Gathers drifts of one area by one writer within 100 ms into episodes; does no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparktune.model import Action, Cause, Drift, Episode, Noticed

if TYPE_CHECKING:
    from collections.abc import Iterable

QUIET_S = 0.1
LONGEST_S = 2.0
MOST_LISTED = 256

_WEIGHT = (Action.APPLIED, Action.HEALED, Action.REPORTED, Action.LEFT, Action.REFUSED)


@dataclass(slots=True, kw_only=True)
class _Open:
    at: datetime
    began_s: float
    last_s: float
    area: str
    noticed: Noticed
    cause: Cause
    drifts: list[Drift] = field(default_factory=list)
    count: int = 0
    took_us: int = 0
    weight: int = 0


class Episodes:
    """The episodes that are still open. Times are CLOCK_MONOTONIC seconds."""

    def __init__(self) -> None:
        """Start without any."""
        self._open: dict[tuple[str, Noticed, object], _Open] = {}

    def add(
        self, area: str, noticed: Noticed, cause: Cause, drifts: Iterable[Drift], *, now_s: float
    ) -> None:
        """Add drifts of one area by one writer, noticed now."""
        key = (area, noticed, _writer_of(cause))
        episode = self._open.get(key)
        if episode is None:
            episode = self._open[key] = _Open(
                at=datetime.now(UTC), began_s=now_s, last_s=now_s, area=area, noticed=noticed, cause=cause
            )
        episode.last_s = now_s
        for drift in drifts:
            episode.count += 1
            episode.weight = max(episode.weight, _WEIGHT.index(drift.action))
            if len(episode.drifts) < MOST_LISTED:
                episode.drifts.append(drift)
            if drift.action is Action.HEALED:
                episode.took_us = max(episode.took_us, drift.took_us or 0)

    def due_s(self) -> float | None:
        """When the next episode is to be closed; None if none is open."""
        return min((_end_s(episode) for episode in self._open.values()), default=None)

    def close(self, *, now_s: float) -> list[Episode]:
        """The episodes that are over; all of them for an infinite time."""
        over = [(key, episode) for key, episode in self._open.items() if _end_s(episode) <= now_s]
        for key, _ in over:
            del self._open[key]
        return [_closed(episode) for _, episode in over]


def _writer_of(cause: Cause) -> object:
    process = cause.process
    return (cause.kind, cause.detail) if process is None else (process.pid, process.comm)


def _end_s(episode: _Open) -> float:
    return min(episode.last_s + QUIET_S, episode.began_s + LONGEST_S)


def _closed(episode: _Open) -> Episode:
    return Episode(
        at=episode.at,
        area=episode.area,
        noticed=episode.noticed,
        cause=episode.cause,
        action=_WEIGHT[episode.weight],
        drifts=tuple(episode.drifts),
        count=episode.count,
        took_us=episode.took_us or None,
    )
