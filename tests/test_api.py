"""What each path of the REST API answers, over published files."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from asking import DOCUMENT_PATHS, TUNABLE, Served, ask
from documents import SWEEP_S, make_status, make_tunables, publish_everything, publish_status
from sparktune.api.application import create_application
from sparktune.published import encode, publish

if TYPE_CHECKING:
    from sparktune.api.guard import Guard

STALE_S = 3 * SWEEP_S + 5
HOSTILE = {
    "empty": b"",
    "truncated": b'{"state": "ok", "summ',
    "a list": b"[]",
    "null": b"null",
    "binary": b"\xff\xfe\x00\x01",
    "deeply nested": b"[" * 100_000,
    "of another version": b'{"state": "splendid"}',
}


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


def test_a_fresh_status_is_the_published_bytes(api: Guard, run_dir: Path) -> None:
    answer = ask(api, "/status")
    assert answer.status_code == 200
    assert answer.content == (run_dir / "status.json").read_bytes()
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/tunables", "/drift", "/hardware", "/fabric", "/config"])
def test_other_documents_are_the_published_bytes(api: Guard, run_dir: Path, path: str) -> None:
    assert ask(api, path).content == (run_dir / f"{path[1:]}.json").read_bytes()


def test_a_replaced_document_is_seen_at_once(api: Guard, run_dir: Path) -> None:
    before = ask(api, "/status")
    published = publish_status(run_dir, make_status(number=8))
    assert ask(api, "/status").content == published != before.content


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("area=nvme", ["nvme.nvme0n1.read_ahead_kb"]),
        ("verdict=contested", ["roce.rocep1s0f0.default_roce_mode"]),
        ("area=nvme&verdict=contested", []),
    ],
)
def test_tunables_are_filtered_by_area_and_verdict(api: Guard, query: str, ids: list[str]) -> None:
    answer = ask(api, f"/tunables?{query}")
    assert [tunable["id"] for tunable in answer.json()["tunables"]] == ids


def test_an_unknown_area_is_refused_with_the_known_ones(api: Guard) -> None:
    answer = ask(api, "/tunables?area=nvm")
    assert answer.status_code == 422
    assert answer.json()["hint"] == "one of cpuidle, nvme, roce"


def test_an_area_without_tunables_is_empty_but_known(api: Guard, run_dir: Path) -> None:
    publish(run_dir, "tunables", encode(replace(make_tunables(), tunables=())))
    assert ask(api, "/tunables?area=roce").json()["tunables"] == []


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/tunables?verdict=fine", "verdict"),
        ("/tunables?aera=nvme", "aera"),
        ("/history?limit=0", "limit"),
        ("/history?limit=1001", "limit"),
        ("/history?limit=many", "limit"),
        ("/history?since=yesterday", "since"),
        ("/history?until=2026-11-23T16:31:00", "zone"),
        ("/history?since=0001-01-01T00:00:00%2B14:00", "since"),
        ("/history?page=2", "page"),
    ],
)
def test_a_wrong_parameter_is_422_and_named(api: Guard, path: str, word: str) -> None:
    answer = ask(api, path)
    assert answer.status_code == 422
    assert word in answer.json()["error"]
    assert answer.json()["hint"]


def test_one_tunable_is_given_with_why_source_risk_and_layer(api: Guard) -> None:
    answer = ask(api, TUNABLE).json()
    assert (answer["why"], answer["source"], answer["risk"], answer["layer"]) == (
        "sequential reads",
        "measured",
        "",
        "default",
    )


def test_an_id_with_a_slash_can_be_asked_escaped(api: Guard, run_dir: Path) -> None:
    tunables = make_tunables()
    odd = replace(tunables.tunables[0], id="nvme./models.read_ahead_kb")
    publish(run_dir, "tunables", encode(replace(tunables, tunables=(odd,))))
    assert ask(api, "/tunables/nvme.%2Fmodels.read_ahead_kb").json()["id"] == odd.id


def test_an_unknown_tunable_is_404_and_the_nearest_is_named(api: Guard) -> None:
    answer = ask(api, "/tunables/nvme.nvme0n1.readahead")
    assert answer.status_code == 404
    assert "nvme.nvme0n1.read_ahead_kb" in answer.json()["hint"]


def test_a_stale_status_is_down_and_says_since_when_and_how_old(api: Guard, run_dir: Path) -> None:
    last = make_status(age_s=125)
    publish_status(run_dir, last)
    answer = ask(api, "/status").json()
    assert answer["state"] == "down"
    assert f"silent since {last.daemon.verified_at}, 2 min ago" in answer["summary"]
    assert last.summary in answer["summary"]


def test_a_status_that_is_down_still_holds_the_last_snapshot(api: Guard, run_dir: Path) -> None:
    last = make_status(age_s=STALE_S)
    publish_status(run_dir, last)
    answer = ask(api, "/status").json()
    ours = {"state", "summary"}
    published = json.loads(encode(last))
    assert {key: answer[key] for key in answer if key not in ours} == {
        key: published[key] for key in published if key not in ours
    }


def test_a_status_from_before_a_reboot_is_down(api: Guard, run_dir: Path) -> None:
    last = make_status(age_s=-100_000)
    daemon = replace(last.daemon, verified_at="2026-01-01T00:00:00.000000Z")
    publish_status(run_dir, replace(last, daemon=daemon))
    answer = ask(api, "/status").json()
    assert answer["state"] == "down"
    assert " d ago" in answer["summary"]


def test_an_unsupported_machine_stays_unsupported_however_old(api: Guard, run_dir: Path) -> None:
    published = publish_status(run_dir, replace(make_status(age_s=9999), state="unsupported"))
    assert ask(api, "/status").content == published


def test_healthz_is_200_while_the_snapshot_is_fresh(api: Guard) -> None:
    answer = ask(api, "/healthz")
    assert answer.status_code == 200
    assert answer.json()["state"] == "degraded"


@pytest.mark.parametrize(
    ("state", "age_s", "reason"),
    [("ok", STALE_S, "silent since"), ("unsupported", 0, "checked 3 of 3"), ("down", 0, "checked 3 of 3")],
)
def test_healthz_is_503_with_the_reason(
    api: Guard, run_dir: Path, state: Any, age_s: float, reason: str
) -> None:
    publish_status(run_dir, replace(make_status(age_s=age_s), state=state))
    answer = ask(api, "/healthz")
    assert answer.status_code == 503
    assert reason in answer.json()["error"]
    assert answer.json()["hint"]


@pytest.mark.parametrize("path", [*DOCUMENT_PATHS, TUNABLE, "/healthz", "/metrics"])
def test_without_any_snapshot_it_is_503_with_a_hint(tmp_path: Path, path: str) -> None:
    answer = ask(create_application(run_dir=tmp_path / "none", state_dir=tmp_path), path)
    assert answer.status_code == 503
    assert "No such file" in answer.json()["error"]
    assert "systemctl status sparktune" in answer.json()["hint"]


@pytest.mark.parametrize("damage", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("path", DOCUMENT_PATHS)
def test_a_damaged_document_is_503_until_it_is_published_again(
    api: Guard, run_dir: Path, path: str, damage: bytes
) -> None:
    assert ask(api, path).status_code == 200
    (run_dir / f"{path[1:]}.json").write_bytes(damage)
    answer = ask(api, path)
    assert (answer.status_code, "damaged" in answer.json()["error"]) == (503, True)
    publish_everything(run_dir)
    assert ask(api, path).status_code == 200


def test_a_directory_in_place_of_a_document_is_503(api: Guard, run_dir: Path) -> None:
    (run_dir / "status.json").unlink()
    (run_dir / "status.json").mkdir()
    assert ask(api, "/status").status_code == 503


def test_tunables_are_answered_without_a_status(api: Guard, run_dir: Path) -> None:
    (run_dir / "status.json").unlink()
    assert ask(api, "/tunables?area=nvme").status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/status/", "/nowhere", "/%00", "/tunables2"])
def test_an_unknown_path_is_404_with_a_hint(api: Guard, path: str) -> None:
    answer = ask(api, path)
    assert answer.status_code == 404
    assert "GET / lists all paths" in answer.json()["hint"]


def test_a_mistyped_path_is_corrected(api: Guard) -> None:
    assert "did you mean /status?" in ask(api, "/staus").json()["hint"]


def test_the_root_lists_all_paths(api: Guard) -> None:
    assert set(ask(api, "/").json()["paths"]) == set(ask(api, "/openapi.json").json()["paths"])


def test_answers_are_indented_utf8(api: Guard) -> None:
    answer = ask(api, "/tunables?area=cpuidle")
    assert answer.content.startswith(b'{\n  "')
    assert "µs".encode() in answer.content


def test_a_defect_is_500_in_json_and_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = create_application(run_dir=tmp_path, state_dir=tmp_path)

    async def fail() -> None:
        raise ZeroDivisionError("by design")

    api.application.add_api_route("/defect", fail)  # type: ignore[attr-defined] # the FastAPI below the guard
    with caplog.at_level(logging.ERROR, logger="sparktune.api"):
        answer = ask(api, "/defect")
    assert answer.status_code == 500
    assert answer.json()["hint"]
    assert [record.getMessage() for record in caplog.records] == [
        "defect in /defect: ZeroDivisionError: by design"
    ]
    assert caplog.records[0].exc_info is None


def test_no_answer_waits_for_what_only_the_schema_or_a_scrape_needs(run_dir: Path) -> None:
    loaded = modules_after(run_dir, "/status", "/tunables?area=nvme", "/healthz")
    assert "sparktune.api.endpoints" in loaded
    assert not {"sparktune.api.schema", "sparktune.fielddocs", "prometheus_client", "sqlite3"} & loaded
    assert "prometheus_client" in modules_after(run_dir, "/metrics")
    assert "sparktune.fielddocs" in modules_after(run_dir, "/openapi.json")


def modules_after(run_dir: Path, *paths: str) -> set[str]:
    """The modules of a process that has answered these requests and no others."""
    code = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from asking import ask
        from sparktune.api.application import create_application
        run_dir = Path({str(run_dir)!r})
        api = create_application(run_dir=run_dir, state_dir=run_dir)
        print([ask(api, path).status_code for path in {paths!r}], *sys.modules, sep="\\n")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answered, *modules = done.stdout.splitlines()
    assert answered == str([200] * len(paths))
    return set(modules)
