"""What holds for every request, whatever its path: hosts, methods, HEAD, ETags, headers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from asking import DOCUMENT_PATHS, EVERY_PATH, TUNABLE, Served, ask, ask_with
from documents import make_status, publish_everything, publish_status

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.api.guard import Guard


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("run"))


@pytest.fixture
def run_dir(served: Served) -> Path:
    return served.publish()


@pytest.fixture
def api(served: Served, run_dir: Path) -> Guard:
    assert run_dir.is_dir()
    return served.api


@pytest.mark.parametrize("path", [*DOCUMENT_PATHS, TUNABLE, "/", "/openapi.json"])
def test_what_did_not_change_is_304_without_a_body(api: Guard, path: str) -> None:
    tag = ask(api, path).headers["etag"]
    answer = ask(api, path, if_none_match=f'"other", W/{tag}')
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("path", DOCUMENT_PATHS)
def test_what_was_published_again_is_not_304(api: Guard, run_dir: Path, path: str) -> None:
    tag = ask(api, path).headers["etag"]
    publish_everything(run_dir)
    publish_status(run_dir, make_status(number=8))
    assert ask(api, path, if_none_match=tag).status_code == 200


def test_the_tag_of_the_status_is_instance_number_and_freshness(api: Guard, run_dir: Path) -> None:
    assert ask(api, "/status").headers["etag"] == '"a1b2-7-fresh"'
    publish_status(run_dir, make_status(age_s=125))
    assert ask(api, "/status").headers["etag"] == '"a1b2-7-down-2minago"'


def test_a_hostile_instance_cannot_break_the_headers(api: Guard, run_dir: Path) -> None:
    publish_status(run_dir, make_status(instance='x"\r\nSet-Cookie: a=b'))
    answer = ask(api, "/status")
    assert answer.headers["etag"] == '"xSet-Cookieab-7-fresh"'
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", EVERY_PATH)
def test_head_is_get_without_the_body(api: Guard, path: str) -> None:
    got, head = ask(api, path), ask(api, path, "HEAD")
    assert head.content == b""
    assert head.status_code == got.status_code
    volatile = {"date"} if path not in {"/metrics", "/healthz"} else {"date", "content-length"}
    assert {name: value for name, value in head.headers.items() if name not in volatile} == {
        name: value for name, value in got.headers.items() if name not in volatile
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_any_other_method_is_405_on_every_path(api: Guard, method: str) -> None:
    for path in (*EVERY_PATH, "/nowhere", "/tunables/nothing"):
        answer = ask(api, path, method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD"), path
        assert answer.json()["hint"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:9300", "[::1]", "[::1]:9300"])
def test_known_hosts_are_answered(api: Guard, host: str) -> None:
    assert ask(api, "/status", host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:9300",
        "localhost:",
        "localhost:93000000",
        "localhost@evil.example",
        "127.0.0.2",
        "::1",
        "",
        "localhost\n",
    ],
)
def test_unknown_hosts_are_421(api: Guard, host: str) -> None:
    answer = ask(api, "/status", host=host)
    assert answer.status_code == 421
    assert "localhost" in answer.json()["hint"]


def test_several_hosts_are_421(api: Guard) -> None:
    both = [("host", "localhost"), ("host", "evil.example")]
    assert ask_with(api, "/status", "GET", both).status_code == 421


def test_no_host_is_421(api: Guard) -> None:
    assert asyncio.run(call_bare(api, [])) == 421


async def call_bare(api: Guard, headers: list[tuple[bytes, bytes]]) -> int:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/status", "query_string": b"", "headers": headers}
    await api(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize("path", [*EVERY_PATH, "/nowhere"])
def test_no_answer_is_stored_and_none_is_for_other_origins(api: Guard, path: str) -> None:
    answer = ask(api, path, origin="http://evil.example")
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("access-control")]
