"""Figures that scenarios measure: a table at the end of the run, and the same as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value."""

    name: str
    value: float
    unit: str
    scenario: str


class Figures:
    """What has been measured in this run."""

    def __init__(self) -> None:
        self._figures: list[Figure] = []
        self.scenario = ""

    def record(self, name: str, value: float, unit: str) -> None:
        """Record a measured value."""
        self._figures.append(Figure(name, value, unit, self.scenario))

    def export(self) -> list[dict[str, Any]]:
        """As plain data, for another process."""
        return [asdict(figure) for figure in self._figures]

    def add(self, exported: list[dict[str, Any]]) -> None:
        """Take over what another process measured."""
        self._figures += [Figure(**figure) for figure in exported]

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(json.dumps(self.export(), indent=2) + "\n")

    def tabulate(self) -> list[str]:
        """The lines of a table."""
        width = max((len(figure.name) for figure in self._figures), default=0)
        return [f"{one.name:<{width}}  {one.value:>12,.10g} {one.unit}" for one in self._figures]
