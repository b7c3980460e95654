"""Puts the API together: paths, failures, schema, guard. Knows no answers itself."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from sparktune import __version__, history
from sparktune.api import answers
from sparktune.api.description import (
    TEXT,
    Responses,
    add_head,
    describe_document,
    describe_either,
    describe_failures,
    describe_text,
)
from sparktune.api.endpoints import PATHS, Endpoints
from sparktune.api.guard import Guard
from sparktune.errors import SparktuneError, UsageError
from sparktune.fabric.report import FabricReport
from sparktune.fabric.suggestion import Suggestion
from sparktune.snapshot import (
    AdviceReport,
    ConfigReport,
    DriftReport,
    Hardware,
    Status,
    Tunables,
    TunableState,
)
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger("sparktune.api")


@dataclass(frozen=True, slots=True)
class _Route:
    path: str
    endpoint: Callable[..., Awaitable[Response]]
    model: Any
    responses: Responses


def create_application(*, run_dir: Path, state_dir: Path) -> Guard:
    """The ASGI application over the files in `run_dir` and the history in `state_dir`.

    Nothing needs to be there yet: what is missing is a 503 until it appears.
    """
    application = FastAPI(
        title="sparktune",
        version=__version__,
        description=TEXT,
        openapi_url=None,  # ours is a path like the others, indented and under an ETag
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            SparktuneError: _tell_expected,
            RequestValidationError: _tell_invalid,
            HTTPException: _tell_http,
            Exception: _tell_defect,
        },
    )
    endpoints = Endpoints(run_dir=run_dir, state_dir=state_dir)
    endpoints.schema = lambda: add_head(application.openapi())
    for route in _routes(endpoints):
        application.add_api_route(
            route.path,
            route.endpoint,
            response_model=route.model,
            responses=route.responses,
            operation_id=route.endpoint.__name__,
            summary=PATHS[route.path.replace(":path", "")],
            response_class=JSONResponse if route.model else PlainTextResponse,
        )
    return Guard(application)


def _routes(endpoints: Endpoints) -> Iterable[_Route]:
    conditional, computed = describe_document(), describe_failures(503)
    return (
        _Route("/status", endpoints.status, Status, conditional),
        _Route("/", endpoints.index, answers.Index, describe_document()),
        _Route("/tunables", endpoints.tunables, Tunables, describe_document(422)),
        _Route("/tunables/{id:path}", endpoints.tunable, TunableState, describe_document(404, 422)),
        _Route("/drift", endpoints.drift, DriftReport, conditional),
        _Route("/history", endpoints.history, history.HistoryPage, describe_failures(422, 503)),
        _Route("/hardware", endpoints.hardware, Hardware, conditional),
        _Route("/fabric", endpoints.fabric, FabricReport, conditional),
        _Route("/advice", endpoints.advice, AdviceReport, describe_document(422)),
        _Route("/config", endpoints.config, ConfigReport, conditional),
        _Route("/nccl", endpoints.nccl, Suggestion, describe_either(Suggestion, 409, 422, 503)),
        _Route("/metrics", endpoints.metrics, None, describe_text(computed)),
        _Route("/healthz", endpoints.healthz, answers.Health, computed),
        _Route("/openapi.json", endpoints.openapi, dict[str, Any], describe_document()),
    )


async def _tell_expected(_request: Request, error: Exception) -> Response:
    wrong = isinstance(error, UsageError)
    hint = error.hint if isinstance(error, SparktuneError) else ""
    return answers.failure(422 if wrong else 503, str(error), hint=hint)


async def _tell_invalid(_request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else ()
    told = "; ".join(
        f"{plain(' '.join(str(part) for part in problem['loc']))}: "
        + ("there is no such parameter" if problem["type"] == "extra_forbidden" else problem["msg"])
        for problem in problems[:5]
    )
    return answers.failure(422, told, hint="GET / lists the parameters, GET /openapi.json their limits")


async def _tell_http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    path = plain(request.scope["path"], most=200)
    near = difflib.get_close_matches(path, PATHS, n=1)
    hint = f"did you mean {near[0]}? GET / lists all paths" if near else "GET / lists all paths"
    return answers.failure(status, f"there is no path {path}", hint=hint)


async def _tell_defect(request: Request, error: Exception) -> Response:
    log.error("defect in %s: %s: %s", plain(request.scope["path"]), type(error).__name__, error)
    return answers.failure(
        500,
        "sparktune could not make this answer: a defect",
        hint="please report it with: journalctl -u sparktune-api",
    )
