"""What our libraries load for features we never use is not loaded, and works all the same if it is used."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from sparktune.standins import Later, standing_in


def run(code: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_daemon_loads_no_web_framework_no_event_loop_and_no_encryption() -> None:
    loaded = run("""
        import sys
        import sparktune.cli.daemon, sparktune.daemon, sparktune.logs
        for log_format in "console", "journal", "json":
            sparktune.logs.configure(log_format)
            sparktune.logs.get_logger().info("started", state="ok")
        print(*sys.modules)
    """).split()
    assert {"structlog", "pydantic_settings", "sdnotify", "sparktune.engine"} <= {*loaded}
    unwanted = ("fastapi", "starlette", "uvicorn", "prometheus_client", "asyncio", "ssl", "http", "rich")
    assert not {name for name in loaded if name.partition(".")[0] in (*unwanted, "subprocess", "pyudev")}


def test_what_stands_in_is_loaded_when_it_is_used() -> None:
    code = """
        import sys
        import sparktune.logs, sparktune.settings
        import structlog.stdlib, pydantic_settings.main
        assert "asyncio" not in sys.modules
        used = structlog.stdlib.asyncio.Queue, pydantic_settings.main.asyncio.Queue
        import asyncio
        print(used == (asyncio.Queue, asyncio.Queue))
    """
    assert run(code) == "True"


def test_what_is_loaded_already_stays_what_it_is() -> None:
    with standing_in(sys=Later("sys")):
        import sys as seen
    assert seen is sys


def test_used_while_it_is_handed_out_it_is_loaded_at_once() -> None:
    code = """
        import sys
        from sparktune.standins import Later, standing_in
        with standing_in(colorsys=Later("colorsys")):
            from colorsys import rgb_to_hls
        print(rgb_to_hls.__module__, sys.modules["colorsys"].__file__ is not None)
    """
    assert run(code) == "colorsys True"


def test_none_refuses_the_import_in_the_block_only() -> None:
    code = """
        from sparktune.standins import standing_in
        try:
            with standing_in(colorsys=None):
                import colorsys
        except ModuleNotFoundError:
            import colorsys
            print(colorsys.__name__)
    """
    assert run(code) == "colorsys"
