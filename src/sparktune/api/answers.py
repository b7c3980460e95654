"""How answers are made: documents with their ETag, and failures, which all look alike."""

from __future__ import annotations

import zlib
from collections.abc import Mapping  # noqa: TC003 - pydantic resolves the annotations at run time
from typing import ClassVar

from starlette.responses import Response

from sparktune.frozen import frozen
from sparktune.published import encode
from sparktune.snapshot import DOCUMENTED, StateName

ALLOWED = ("GET", "HEAD")
JSON = "application/json"


@frozen
class Failure:
    """Why there is no answer."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    error: str
    """What was asked, and what stands against it."""
    hint: str
    """What a person can do."""


@frozen
class Health:
    """The daemon is alive and has looked lately."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    state: StateName
    """The state of the host: healthy means that the daemon looks, not that everything holds."""
    age_s: float
    """Seconds since everything was last verified."""


@frozen
class Index:
    """What there is to ask."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    version: str
    """sparktune's version."""
    paths: dict[str, str]
    """Each path and what it gives."""


def render(value: object) -> bytes:
    """The bytes of a document, as the daemon publishes them."""
    return encode(value).encode() + b"\n"


def document(raw: bytes, tag: str) -> Response:
    """A JSON answer of bytes that are ready, under an ETag, given unquoted."""
    return Response(raw, media_type=JSON, headers={"ETag": f'"{tag}"'})


def constant(value: object) -> Response:
    """A JSON answer that changes only with the version of the program."""
    raw = render(value)
    return document(raw, f"{zlib.crc32(raw):08x}")


def changing(value: object) -> Response:
    """A JSON answer that is another one each time: no ETag."""
    return Response(render(value), media_type=JSON)


def text(status: int, body: str) -> Response:
    """An answer as plain text, made anew each time: no ETag."""
    return Response(body.encode(), status_code=status, media_type="text/plain; charset=utf-8")


def failure(status: int, error: str, *, hint: str, headers: Mapping[str, str] | None = None) -> Response:
    """A failure as JSON."""
    return Response(
        render(Failure(error=error, hint=hint)), status_code=status, media_type=JSON, headers=headers
    )
