"""Puts the API together: paths, failures, guard. Knows no answers itself.

What the answers look like is for /openapi.json alone and in `schema.py`: FastAPI neither makes nor checks an
answer, so none waits for that.
"""

from __future__ import annotations

import difflib
import logging
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sparktune.api import answers
from sparktune.api.endpoints import PATHS, Endpoints
from sparktune.api.guard import Guard
from sparktune.errors import SparktuneError, UsageError
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from sparktune.api.endpoints import Endpoint

log = logging.getLogger("sparktune.api")


def create_application(*, run_dir: Path, state_dir: Path) -> Guard:
    """The ASGI application over the files in `run_dir` and the history in `state_dir`.

    Nothing needs to be there yet: what is missing is a 503 until it appears.
    """
    application = FastAPI(
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
    routes = endpoints.routes()
    endpoints.schema = lambda: _make_schema(routes)
    for path, endpoint in routes.items():
        application.add_api_route(path, endpoint, response_model=None)
    return Guard(application)


def _make_schema(routes: Mapping[str, Endpoint]) -> dict[str, Any]:
    from sparktune.api.schema import make_schema

    return make_schema(routes)


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
