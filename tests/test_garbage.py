"""Python looks for garbage rarely while a program starts, and as usual once it runs."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run(code: str) -> list[str]:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_command_imports_what_it_needs_without_looking() -> None:
    looked = run("""
        import gc
        from sparktune.cli.main import main
        before = sum(generation["collections"] for generation in gc.get_stats())
        main(["--version"])
        import sparktune.daemon
        print(sum(generation["collections"] for generation in gc.get_stats()) - before)
    """)
    assert int(looked[-1]) == 0


def test_once_it_runs_python_looks_as_usual_but_not_at_what_lives() -> None:
    same, kept, rare = run("""
        import gc
        usual = gc.get_threshold()
        from sparktune import garbage
        garbage.expect_start()
        rare = gc.get_threshold() != usual
        garbage.settle()
        print(gc.get_threshold() == usual, gc.get_freeze_count() > 1000, rare)
    """)
    assert (same, kept, rare) == ("True", "True", "True")
