"""What every answer looks like, for /openapi.json.

Imported when that is first asked for: it takes longer than all answers together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse

from sparktune import __version__
from sparktune.api.answers import Health, Index
from sparktune.api.description import (
    TEXT,
    Responses,
    add_head,
    describe_document,
    describe_either,
    describe_failures,
    describe_text,
)
from sparktune.api.endpoints import PATHS
from sparktune.fabric.report import FabricReport
from sparktune.fabric.suggestion import Suggestion
from sparktune.history import HistoryPage
from sparktune.snapshot import (
    AdviceReport,
    ConfigReport,
    DriftReport,
    Hardware,
    Status,
    Tunables,
    TunableState,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sparktune.api.endpoints import Endpoint


def make_schema(routes: Mapping[str, Endpoint]) -> dict[str, Any]:
    """The OpenAPI schema of the paths with these endpoints, whose parameters FastAPI reads off them."""
    described = FastAPI(title="sparktune", version=__version__, description=TEXT)
    answers = _describe_answers()
    for path, endpoint in routes.items():
        model, responses = answers[path]
        described.add_api_route(
            path,
            endpoint,
            response_model=model,
            responses=responses,
            operation_id=endpoint.__name__,
            summary=PATHS[path.replace(":path", "")],
            response_class=JSONResponse if model else PlainTextResponse,
        )
    return add_head(described.openapi())


def _describe_answers() -> dict[str, tuple[Any, Responses]]:
    """The type of each path's answer, and what else can come instead. No type: plain text."""
    conditional, computed = describe_document(), describe_failures(503)
    return {
        "/status": (Status, conditional),
        "/": (Index, describe_document()),
        "/tunables": (Tunables, describe_document(422)),
        "/tunables/{id:path}": (TunableState, describe_document(404, 422)),
        "/drift": (DriftReport, conditional),
        "/history": (HistoryPage, describe_failures(422, 503)),
        "/hardware": (Hardware, conditional),
        "/fabric": (FabricReport, conditional),
        "/advice": (AdviceReport, describe_document(422)),
        "/config": (ConfigReport, conditional),
        "/nccl": (Suggestion, describe_either(Suggestion, 409, 422, 503)),
        "/metrics": (None, describe_text(computed)),
        "/healthz": (Health, computed),
        "/openapi.json": (dict[str, Any], describe_document()),
    }
