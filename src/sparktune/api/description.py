"""What /openapi.json says beyond what FastAPI finds by itself: HEAD, failures and the conditional answer."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from sparktune.api.answers import Failure

TEXT = """\
The state of one host, read-only. Every path answers GET and HEAD. Anything else is 405 on every path, a Host
header other than localhost, 127.0.0.1 or [::1] is 421, an unknown path is 404, and bytes that are no HTTP are
400; these failures are a `Failure` as well. Times are RFC 3339 UTC."""

_FAILURES = {
    404: "there is no such thing; the hint names the nearest",
    405: "any method but GET and HEAD",
    409: "the fabric is not fit for NCCL; the error says why, the hint what to mend",
    421: "the Host header names another host",
    422: "a parameter is wrong",
    500: "a defect of sparktune; the log of sparktune-api has it",
    503: "the daemon has not published this, or not lately",
}
_EVERYWHERE = (405, 421, 500)

Responses = dict[int | str, dict[str, Any]]


def describe_failures(*statuses: int) -> Responses:
    """The `responses` of a route that can fail in these ways, besides those every route has."""
    return {
        status: {"model": Failure, "description": _FAILURES[status]}
        for status in sorted({*statuses, *_EVERYWHERE})
    }


def describe_document(*statuses: int) -> Responses:
    """The `responses` of a route that gives a published document: 304 and 503 are among its answers."""
    return {
        304: {"description": "unchanged since the ETag in If-None-Match"},
        **describe_failures(503, *statuses),
    }


def describe_text(responses: Responses) -> Responses:
    """The same for a route whose answer is plain text: its failures are JSON all the same."""
    schema = {"$ref": f"#/components/schemas/{Failure.__name__}"}
    content = {"application/json": {"schema": schema}}
    return {
        status: {"description": response["description"], "content": content}
        for status, response in responses.items()
    }


def describe_either(model: Any, *statuses: int) -> Responses:
    """The `responses` of a route that gives JSON or plain text as asked for, and fails likewise."""
    text = {"text/plain": {"schema": {"type": "string"}}}
    found: Responses = {200: {"model": model, "content": text}}
    for status, response in describe_failures(*statuses).items():
        found[status] = {**response, "content": text} if status in statuses else response
    return found


def add_head(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with a HEAD beside every GET: the same answers without their bodies."""
    schema = deepcopy(schema)
    for path in schema["paths"].values():
        head = deepcopy(path["get"])
        head["operationId"] += "_head"
        head["summary"] += ", headers only"
        for response in head["responses"].values():
            response.pop("content", None)
        path["head"] = head
    return schema
