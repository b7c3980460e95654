"""Asking the API in the tests: through ASGI, over a run directory of published documents."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

from documents import publish_everything
from sparktune.api.application import create_application
from sparktune.api.endpoints import PATHS

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.api.guard import Guard

DOCUMENT_PATHS = ("/status", "/tunables", "/drift", "/hardware", "/config")
TUNABLE = "/tunables/nvme.nvme0n1.read_ahead_kb"
EVERY_PATH = (*(path for path in PATHS if "{" not in path), TUNABLE)


class Served:
    """A run directory and the application over it: made once a test file, as FastAPI takes its time."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.api = create_application(run_dir=run_dir, state_dir=run_dir)

    def publish(self) -> Path:
        """Everything anew and fresh, whatever a test has left there."""
        status = self.run_dir / "status.json"
        if status.is_dir():
            status.rmdir()
        publish_everything(self.run_dir)
        return self.run_dir


def ask(api: Guard, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """One request. Header names are given with underscores."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return ask_with(api, path, method, named)


def ask_with(api: Guard, path: str, method: str, headers: list[tuple[str, str]]) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:9300") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(send())
