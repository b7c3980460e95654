"""The bench explains itself, judges and prints what was measured, and refuses what is none of its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parents[1] / "benchmarks" / "bench.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def figures(n: int, p50: float | None, p99: float | None, most: float) -> dict[str, Any]:
    return {"n": n, "p50": p50, "p99": p99, "most": most}


def row(measure: str, **fields: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"unit": "", "figures": None, "beside": {}, "ratio": None, "note": ""}
    return {"measure": measure, "limits": [], **empty, **fields}


def store(directory: Path, *rows: dict[str, Any]) -> Path:
    facts = {
        "at": "2026-01-02T03:04:05+00:00", "quick": False, "took_s": 61.0, "sparktune": "1.2.3",
        "python": "3.11.0", "kernel": "6.17", "machine": "aarch64", "cpus": 20,
        "load_before": [0, 0, 0], "load_after": [0, 0, 0],
    }  # fmt: skip
    file = directory / "bench.json"
    file.write_text(json.dumps({**facts, "rows": rows}))
    return file


def lines_of(directory: Path, *rows: dict[str, Any]) -> list[str]:
    shown = run("--show", str(store(directory, *rows)))
    assert (shown.returncode, shown.stderr) == (0, "")
    return shown.stdout.splitlines()


def line_of(measure: str, lines: list[str]) -> str:
    return next(" ".join(line.split()) for line in lines if line.startswith(measure))


def test_help_lists_every_measure() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for name in (
        "heal",
        "burst",
        "eventless",
        "sweep",
        "fabric",
        "idle",
        "advice",
        "memory",
        "growth",
        "imports",
        "start",
        "api",
    ):
        assert f"\n  {name} " in shown.stdout


def test_an_unknown_measure_is_a_usage_error() -> None:
    assert run("--only", "nothing").returncode == 2


def test_a_row_shows_ours_the_reference_the_ratio_and_that_the_budget_is_met(tmp_path: Path) -> None:
    measured = row(
        "write → healed", unit="µs", figures=figures(2400, 51.26, 104.0, 2012.4), ratio=2.013,
        beside={"C loop": figures(2400, 25.46, 80.0, 900.0)},
        limits=[{"says": "p50 ≤ 3 x C", "measured": 51.26, "most": 76.38}],
    )  # fmt: skip
    shown = line_of("write", lines_of(tmp_path, measured))
    assert shown == "write → healed µs 2400 51.3 104 2,012 C loop 25.5 / 80 / 900 2.01 p50 ≤ 3 x C met"


def test_a_missed_budget_says_by_how_much_in_the_table_and_in_the_summary(tmp_path: Path) -> None:
    limits = [
        {"says": "≤ 8", "measured": 10.0, "most": 8.0},
        {"says": "≤ 9", "measured": 10.0, "most": 9.0},
    ]
    lines = lines_of(tmp_path, row("wake-ups", figures=figures(1, None, None, 10.0), limits=limits))
    assert line_of("wake-ups", lines).endswith("missed by 25 %")
    assert lines[-2:] == ["0 of 1 budgets met", "missed: wake-ups: missed by 25 % (≤ 8, ≤ 9)"]


def test_a_row_that_could_not_be_measured_says_why_and_counts_for_nothing(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, row("heal", note="skipped: needs root"))
    assert line_of("heal", lines) == "heal skipped: needs root"
    assert lines[-1] == "0 of 0 budgets met"


def test_columns_stand_below_one_another(tmp_path: Path) -> None:
    long = row("a much longer name than the other", figures=figures(1, 1.0, 2.0, 3.0), note="x")
    lines = lines_of(tmp_path, long, row("short", figures=figures(1, 1.0, 2.0, 12345.6), note="y"))
    assert next(line for line in lines if line.endswith("x")).index("x") == next(
        line for line in lines if line.endswith("y")
    ).index("y")


def test_a_file_that_is_no_result_is_refused_without_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"rows": [{}]}')
    shown = run("--show", str(file))
    assert shown.returncode == 2
    assert "is no result of this bench" in shown.stderr
    assert "Traceback" not in shown.stderr
