"""One method for each path of the API. They read, select and wrap; they judge nothing and change nothing.

No `from __future__ import annotations` here: FastAPI reads the annotations of the methods.
"""

import difflib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from sparktune import __version__
from sparktune.api import answers
from sparktune.api.documents import Publication, Snapshot, tell_down
from sparktune.api.queries import AdviceQuery, HistoryQuery, NcclQuery, TunablesQuery, parse_moment
from sparktune.errors import DaemonNotRunningError, SparktuneError, UsageError
from sparktune.fabric import nccl_text
from sparktune.fabric.nccl import suggest
from sparktune.fabric.nccl_version import parse_version
from sparktune.fabric.report import recall
from sparktune.fabric.suggestion import Suggestion
from sparktune.wording import plain, quoted

if TYPE_CHECKING:
    from sparktune.api.metrics import Exposition

Endpoint = Callable[..., Awaitable[Response]]

PATHS = {
    "/": "this list",
    "/status": "the state of this host, on one screen",
    "/tunables": "all tunables and checks; ?area=, ?verdict=",
    "/tunables/{id}": "one of them, with why, source, risk and configuration layer",
    "/drift": "what does not hold now, and the latest episodes",
    "/history": "episodes, newest first; ?since=, ?until=, ?tunable=, ?limit=, ?cursor=",
    "/hardware": "the machine, the evidence, and other tuners that set what sparktune sets",
    "/fabric": "the ConnectX-7 fabric: ports, twins, links, GIDs, owners, and what is wrong there",
    "/advice": "what the inference engines on this host do to themselves, and what to do; ?pid=",
    "/config": "the effective configuration and where each value comes from",
    "/nccl": "what NCCL and UCX need on this node; ?format=env, ?nccl_version=",
    "/metrics": "Prometheus text",
    "/healthz": "200 while the daemon looks, 503 with the reason when not",
    "/openapi.json": "the schema, true to every answer",
}
_NOT_FOUND, _CONFLICT, _WRONG, _UNAVAILABLE = 404, 409, 422, 503


class Endpoints:
    """What each path answers.

    Attributes:
        schema: gives the OpenAPI schema; set by whoever assembles the application.
    """

    def __init__(self, *, run_dir: Path, state_dir: Path) -> None:
        self.schema: Callable[[], dict[str, Any]] = dict
        self._snapshot = Snapshot(run_dir)
        self._history_file = state_dir / "history.db"
        self._schema_answer: Response | None = None

    def routes(self) -> dict[str, Endpoint]:
        """The endpoint of each path, in the order in which a path is looked for."""
        return {
            "/status": self.status,
            "/": self.index,
            "/tunables": self.tunables,
            "/tunables/{id:path}": self.tunable,
            "/drift": self.drift,
            "/history": self.history,
            "/hardware": self.hardware,
            "/fabric": self.fabric,
            "/advice": self.advice,
            "/config": self.config,
            "/nccl": self.nccl,
            "/metrics": self.metrics,
            "/healthz": self.healthz,
            "/openapi.json": self.openapi,
        }

    async def index(self) -> Response:
        """Every path and what it gives."""
        return answers.constant(answers.Index(version=__version__, paths=PATHS))

    async def status(self) -> Response:
        """The published status; once it is stale, the last one with state `down` and the reason."""
        standing = self._snapshot.standing()
        raw = standing.status.raw if standing.trusted else tell_down(standing)
        return answers.document(raw, standing.tag)

    async def tunables(self, query: Annotated[TunablesQuery, Query()]) -> Response:
        """All tunables and checks as published, or those of one area or verdict."""
        document = self._snapshot.tunables.current()
        tag = self._snapshot.tag(document)
        if query.area is None and query.verdict is None:
            return answers.document(document.raw, tag)
        everything = document.model.tunables
        if query.area is not None:
            self._require_area(query.area, {tunable.area for tunable in everything})
        chosen = tuple(
            tunable
            for tunable in everything
            if query.area in (None, tunable.area) and query.verdict in (None, tunable.verdict)
        )
        return answers.document(answers.render(replace(document.model, tunables=chosen)), tag)

    async def tunable(self, id: str) -> Response:  # noqa: A002 - the path parameter of the design is called id
        """One tunable or check."""
        document = self._snapshot.tunables.current()
        for tunable in document.model.tunables:
            if tunable.id == id:
                return answers.document(answers.render(tunable), self._snapshot.tag(document))
        known = [tunable.id for tunable in document.model.tunables]
        near = difflib.get_close_matches(id[:200], known, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "GET /tunables lists them all"
        return answers.failure(_NOT_FOUND, f"there is no tunable {plain(id, most=200)}", hint=hint)

    async def drift(self) -> Response:
        """What does not hold now, and the latest episodes, as published."""
        return self._published(self._snapshot.drift)

    async def hardware(self) -> Response:
        """The machine, the evidence, and conflicts with other tuners, as published."""
        return self._published(self._snapshot.hardware)

    async def fabric(self) -> Response:
        """The fabric port by port, as published."""
        return self._published(self._snapshot.fabric)

    async def advice(self, query: Annotated[AdviceQuery, Query()]) -> Response:
        """What the inference engines do to themselves, as published, or that of one process."""
        document = self._snapshot.advice.current()
        tag = self._snapshot.tag(document)
        if query.pid is None:
            return answers.document(document.raw, tag)
        report = document.model
        engines = tuple(engine for engine in report.engines if engine.pid == query.pid)
        findings = tuple(finding for finding in report.findings if finding.pid == query.pid)
        return answers.document(answers.render(replace(report, engines=engines, findings=findings)), tag)

    async def config(self) -> Response:
        """The effective configuration with its origins, as published."""
        return self._published(self._snapshot.config)

    async def history(self, query: Annotated[HistoryQuery, Query()]) -> Response:
        """Episodes from the database: also those of earlier starts, and with the daemon stopped or killed."""
        from sparktune import history

        page = await run_in_threadpool(
            history.read,
            self._history_file,
            since=_moment(query.since, name="since"),
            until=_moment(query.until, name="until"),
            tunable=query.tunable,
            limit=query.limit,
            cursor=query.cursor,
            show_commands=False,  # everybody can ask here; command lines are for root
        )
        return answers.changing(page)

    async def nccl(self, query: Annotated[NcclQuery, Query()]) -> Response:
        """The environment of NCCL and UCX from the published fabric; 409 if that is not fit.

        Text is for shells, and its failures are too: JSON in an `eval` would run what is in its strings.
        """
        try:
            suggestion = self._suggest(query.nccl_version)
        except SparktuneError as error:
            if query.format == "json":
                raise
            status = _WRONG if isinstance(error, UsageError) else _UNAVAILABLE
            return answers.text(status, nccl_text.refuse([error.message, error.hint], query.format))
        if query.format != "json":
            return answers.text(
                200 if suggestion.fit else _CONFLICT, nccl_text.render(suggestion, query.format)
            )
        if suggestion.fit:
            return answers.changing(suggestion)
        what = "; ".join(problem.what for problem in suggestion.problems)
        return answers.failure(
            _CONFLICT,
            f"the fabric is not fit for NCCL: {what}",
            hint="; ".join(problem.do for problem in suggestion.problems),
        )

    def _suggest(self, version: str | None) -> Suggestion:
        """Nothing from a fabric that nobody looks at any more: it would be guessing.

        Raises:
            DaemonNotRunningError: no daemon has published a fabric lately.
            UsageError: it is no version.
        """
        wanted = None if version is None else parse_version(version)
        standing = self._snapshot.standing()
        if standing.reason:
            raise DaemonNotRunningError(standing.reason, hint=standing.do)
        return suggest(recall(self._snapshot.fabric.current().model), wanted)

    async def metrics(self) -> Response:
        """State, counts and times for Prometheus."""
        exposition = self._exposition
        return Response(exposition.render(), headers={"Content-Type": exposition.content_type})

    async def healthz(self) -> Response:
        """Whether the daemon is alive and looks; not whether everything holds."""
        standing = self._snapshot.standing()
        status = standing.status.model
        if standing.reason:
            return answers.failure(_UNAVAILABLE, standing.reason, hint=standing.do)
        return answers.changing(answers.Health(state=status.state, age_s=round(standing.age_s, 3)))

    async def openapi(self) -> Response:
        """The schema, made when it is first asked for."""
        if self._schema_answer is None:
            self._schema_answer = answers.constant(self.schema())
        return self._schema_answer

    @cached_property
    def _exposition(self) -> "Exposition":
        """Made when it is first asked for: most hosts are never scraped, and curl shall not wait for it."""
        from sparktune.api.metrics import Exposition

        return Exposition(self._snapshot)

    def _published(self, publication: Publication[Any]) -> Response:
        document = publication.current()
        return answers.document(document.raw, self._snapshot.tag(document))

    def _require_area(self, area: str, found: set[str]) -> None:
        try:
            known = sorted(found | set(self._snapshot.status.current().model.areas))
        except DaemonNotRunningError:  # the tunables alone know fewer areas, but enough
            known = sorted(found)
        if area not in known:
            raise UsageError(
                f"query area: there is no area {quoted(area)}", hint=f"one of {', '.join(known)}"
            )


def _moment(text: str | None, *, name: str) -> datetime | None:
    return None if text is None else parse_moment(text, name=f"query {name}")
