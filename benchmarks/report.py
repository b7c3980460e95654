"""Rows of measurements: how they are judged, shown as one table, and kept as JSON. Measures nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEADER = ("measure", "unit", "n", "p50", "p99", "max or value", "beside it", "ratio", "budget", "outcome")
_NUMBERS = frozenset({"n", "p50", "p99", "max or value", "ratio"})
_HUNDRED, _TEN, _ONE = 100, 10, 1


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured.

    Attributes:
        n: how many samples.
        most: the largest sample, or the one value.
        p50: the median; None for a single value.
        p99: the 99th percentile, by the nearest rank; None for a single value.
    """

    n: int
    most: float
    p50: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget.

    Attributes:
        says: the budget in words: `p50 <= 150`.
        measured: what is compared.
        most: the largest value that meets the budget.
    """

    says: str
    measured: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        measure: what was measured, and on what.
        unit: of all its figures.
        figures: ours; None if the row could not be measured.
        beside: what stands in the next column: others' figures, or a word such as `not installed`.
        ratio: ours to the first of those.
        limits: the budgets.
        note: why there are no figures, or what to know about them.
    """

    measure: str
    unit: str = ""
    figures: Figures | None = None
    beside: dict[str, Figures | str] = field(default_factory=dict)
    ratio: float | None = None
    limits: tuple[Limit, ...] = ()
    note: str = ""

    @property
    def is_missed(self) -> bool:
        """Whether a budget was missed."""
        return any(limit.measured > limit.most for limit in self.limits)

    @property
    def outcome(self) -> str:
        """`met`, `missed by 12 %`, or the note where there is no budget."""
        if not self.limits:
            return self.note
        worst = max(limit.measured / limit.most for limit in self.limits)
        verdict = f"missed by {format_number(100 * (worst - 1))} %" if self.is_missed else "met"
        return f"{verdict}; {self.note}" if self.note else verdict


def summarise(samples: Iterable[float]) -> Figures:
    """Median, 99th percentile and maximum of at least one sample."""
    ordered = sorted(samples)
    return Figures(
        n=len(ordered), most=ordered[-1], p50=ordered[_rank(ordered, 50)], p99=ordered[_rank(ordered, 99)]
    )


def _rank(ordered: Sequence[float], percent: int) -> int:
    return max(0, -(-len(ordered) * percent // 100) - 1)


def median(samples: Iterable[float]) -> float:
    """The middle sample of at least one."""
    ordered = sorted(samples)
    return ordered[_rank(ordered, 50)]


def format_table(rows: Sequence[Row]) -> str:
    """All rows as one table of plain text."""
    lines = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    text = [_format_line(line, widths) for line in lines]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])


def format_summary(rows: Sequence[Row]) -> str:
    """How many budgets are met, and which are not."""
    judged = [row for row in rows if row.limits]
    missed = [row for row in judged if row.is_missed]
    lines = [f"{len(judged) - len(missed)} of {len(judged)} budgets met"]
    lines += [f"missed: {row.measure}: {row.outcome} ({_budget(row)})" for row in missed]
    return "\n".join(lines)


def to_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows as a JSON file keeps them, outcome included."""
    return [{**asdict(row), "outcome": row.outcome} for row in rows]


def from_json(entries: Iterable[dict[str, Any]]) -> list[Row]:
    """The reverse of `to_json`. Raises TypeError or KeyError if they are none of ours."""
    return [_row({name: value for name, value in entry.items() if name != "outcome"}) for entry in entries]


def _row(entry: dict[str, Any]) -> Row:
    figures, beside = entry.pop("figures"), entry.pop("beside")
    return Row(
        figures=None if figures is None else Figures(**figures),
        beside={name: said if isinstance(said, str) else Figures(**said) for name, said in beside.items()},
        limits=tuple(Limit(**limit) for limit in entry.pop("limits")),
        **entry,
    )


def _cells(row: Row) -> tuple[str, ...]:
    figures = row.figures
    numbers = (
        ("", "", "", "")
        if figures is None
        else (
            str(figures.n),
            format_number(figures.p50),
            format_number(figures.p99),
            format_number(figures.most),
        )
    )
    beside = "; ".join(f"{name} {_brief(said)}" for name, said in row.beside.items())
    return (
        row.measure, row.unit, *numbers, beside, format_number(row.ratio), _budget(row), row.outcome
    )  # fmt: skip


def _brief(said: Figures | str) -> str:
    if isinstance(said, str):
        return said
    found = (said.p50, said.p99, said.most)
    return " / ".join(format_number(number) for number in found if number is not None)


def _budget(row: Row) -> str:
    return ", ".join(limit.says for limit in row.limits)


def format_number(number: float | None) -> str:
    """Three digits, or more for large whole ones; nothing for None."""
    if number is None:
        return ""
    if abs(number) >= _HUNDRED or number == int(number):
        return f"{number:,.0f}"
    if abs(number) >= _TEN:
        return f"{number:.1f}"
    return f"{number:.2f}" if abs(number) >= _ONE else f"{number:.3g}"


def _format_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
        for name, cell, width in zip(HEADER, cells, widths, strict=True)
    ]
    return "  ".join(parts).rstrip()
