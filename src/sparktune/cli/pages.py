"""Where `sparktune history` gets its episodes: the database if this user may read it, else the API."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sparktune.errors import DaemonNotRunningError, RefusedError, SparktuneError
from sparktune.frozen import frozen
from sparktune.published import encode, timestamp

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

MOST_A_PAGE = 1000
_TIMEOUT_S = 10.0
_LARGEST_ANSWER = 64 * 1024 * 1024


@frozen
class Query:
    """Which episodes.

    Attributes:
        since: the earliest moment.
        until: the moment before which they were.
        tunable: an id, or the beginning of ids and a star.
        commands: with command lines; the database only.
        cursor: where the page before ended.
    """

    since: datetime | None = None
    until: datetime | None = None
    tunable: str | None = None
    commands: bool = False
    cursor: str | None = None


Fetch = Callable[[Query, int], list[dict[str, Any]]]
"""Episodes as JSON, newest first, at most so many."""

_Page = Callable[[Query, int], dict[str, Any]]


def find_source(path: Path, api: str | None, default_api: str) -> Fetch:
    """The database where it can be read, else the API; the API alone where one was named."""
    if api is None and _is_readable(path):
        return _all_pages(lambda query, limit: _read_file(path, query, limit))
    address = (api or default_api).rstrip("/")
    return _all_pages(lambda query, limit: _ask(address, query, limit))


def _is_readable(path: Path) -> bool:
    """Also true where there is no history at all: the API would know no more."""
    if os.access(path, os.R_OK):
        return True
    return os.access(path.parent, os.X_OK) and not path.exists()


def _all_pages(page: _Page) -> Fetch:
    def fetch(query: Query, limit: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = page(query, min(limit - len(found), MOST_A_PAGE))
            found += answer["episodes"]
            if answer["next_cursor"] is None or len(found) >= limit:
                return found
            query = replace(query, cursor=answer["next_cursor"])

    return fetch


def _read_file(path: Path, query: Query, limit: int) -> dict[str, Any]:
    from sparktune.history_pages import read

    page = read(
        path,
        since=query.since,
        until=query.until,
        tunable=query.tunable,
        limit=limit,
        cursor=query.cursor,
        show_commands=query.commands,
    )
    document: dict[str, Any] = json.loads(encode(page, indent=None))
    return document


def _ask(address: str, query: Query, limit: int) -> dict[str, Any]:
    from urllib.error import HTTPError, URLError
    from urllib.parse import urlencode
    from urllib.request import ProxyHandler, build_opener

    wanted = {
        "since": None if query.since is None else timestamp(query.since),
        "until": None if query.until is None else timestamp(query.until),
        "tunable": query.tunable,
        "limit": limit,
        "cursor": query.cursor,
    }
    parameters = urlencode({name: value for name, value in wanted.items() if value is not None})
    opener = build_opener(ProxyHandler({}))  # a proxy of the environment has no business with localhost
    try:
        with opener.open(f"{address}/history?{parameters}", timeout=_TIMEOUT_S) as stream:
            return _parse(stream.read(_LARGEST_ANSWER), address)
    except HTTPError as error:
        raise _explain(error.read(_LARGEST_ANSWER), f"{address} answered {error.code}") from error
    except (URLError, OSError, ValueError) as error:  # ValueError: no URL at all
        reason = getattr(error, "reason", error)
        raise DaemonNotRunningError(
            f"cannot read the history here, nor ask {address}: {reason}",
            hint="is the API running? systemctl status sparktune-api.socket; or try again with sudo",
        ) from error


def _parse(data: bytes, address: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
        if isinstance(document["episodes"], list) and "next_cursor" in document:
            return dict(document)
    except (ValueError, KeyError, TypeError, RecursionError):  # somebody else listens there
        pass
    raise RefusedError(f"what answers at {address} is no sparktune", hint="name another one with --api")


def _explain(data: bytes, message: str) -> SparktuneError:
    """The API's own words for why it did not answer."""
    try:
        document = json.loads(data)
        return RefusedError(f"{message}: {document['error']}", hint=str(document.get("hint", "")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # somebody else's error page
        return RefusedError(message, hint="is that the address of sparktune's API?")
