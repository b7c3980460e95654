"""`/nccl`: what the published fabric needs, as JSON and as text that a shell may evaluate."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from asking import Served, ask
from documents import SWEEP_S, make_status, publish_status
from fabrics import changed, fabric, function, healthy, named
from schema_check import check_answer
from sparktune.fabric.report import report
from sparktune.published import encode, publish

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.api.guard import Guard
    from sparktune.fabric.model import Fabric, Function

TWIN = "enP2p1s0f0np0"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("run"))


@pytest.fixture
def run_dir(served: Served) -> Path:
    run_dir = served.publish()
    show(run_dir, healthy())
    return run_dir


@pytest.fixture
def api(served: Served, run_dir: Path) -> Guard:
    assert run_dir.is_dir()
    return served.api


def show(run_dir: Path, found: Fabric) -> None:
    publish(run_dir, "fabric", encode(report(found, ())))


def drop_link(one: Function) -> Function:
    return function(2, "192.168.101.10", up=False)


def run(text: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of an answer."""
    script = 'eval "$1"; echo "$NCCL_IB_HCA"'
    return subprocess.run(["sh", "-euc", script, "sh", text], capture_output=True, text=True, check=False)


def test_a_healthy_fabric_gives_the_variables(api: Guard) -> None:
    answer = ask(api, "/nccl")
    assert answer.status_code == 200
    document = answer.json()
    assert document["fit"] is True
    assert {one["name"]: one["value"] for one in document["variables"]} == {
        "NCCL_IB_HCA": "=rocep1s0f0,roceP2p1s0f0",
        "NCCL_SOCKET_IFNAME": "=enp1s0f0np0",
        "UCX_NET_DEVICES": "rocep1s0f0:1,roceP2p1s0f0:1",
    }


def test_text_can_be_evaluated(api: Guard) -> None:
    answer = ask(api, "/nccl?format=env")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert run(answer.text).stdout == "=rocep1s0f0,roceP2p1s0f0\n"


def test_a_version_is_taken(api: Guard) -> None:
    assert "NCCL_IB_GID_INDEX=3" in ask(api, "/nccl?format=nccl.conf&nccl_version=2.20.5").text


def test_an_unfit_fabric_is_a_conflict_with_what_to_mend(api: Guard, run_dir: Path) -> None:
    show(run_dir, changed(healthy(), TWIN, drop_link))
    answer = ask(api, "/nccl")
    assert answer.status_code == 409
    assert "enP2p1s0f0np0 (p0, twin of enp1s0f0np0) has no link" in answer.json()["error"]
    assert "sudo ip link set enP2p1s0f0np0 down" in answer.json()["hint"]


def test_the_answer_follows_the_fabric(api: Guard, run_dir: Path) -> None:
    show(run_dir, changed(healthy(), TWIN, drop_link))
    assert ask(api, "/nccl").status_code == 409
    show(run_dir, healthy())
    assert ask(api, "/nccl").status_code == 200


@pytest.mark.parametrize("form", ["env", "fish"])
def test_every_failure_as_text_fails_in_a_shell(api: Guard, run_dir: Path, form: str) -> None:
    wrong = ask(api, f"/nccl?format={form}&nccl_version=two")
    show(run_dir, changed(healthy(), TWIN, drop_link))
    unfit = ask(api, f"/nccl?format={form}")
    publish_status(run_dir, make_status(age_s=3 * SWEEP_S + 5))
    stale = ask(api, f"/nccl?format={form}")
    (run_dir / "status.json").unlink()
    down = ask(api, f"/nccl?format={form}")
    assert [answer.status_code for answer in (wrong, unfit, stale, down)] == [422, 409, 503, 503]
    for answer in (wrong, unfit, stale, down):
        *comments, last = answer.text.splitlines()
        assert last == "false"
        assert comments
        assert all(line.startswith("# ") for line in comments)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_name_made_to_be_run_is_not(api: Guard, run_dir: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    show(run_dir, named([("a$(touch>mark)", "x"), ("b", "`touch>mark`")]))
    answer = ask(api, "/nccl?format=env")
    done = subprocess.run(
        ["sh", "-euc", 'eval "$1"; echo "$NCCL_IB_HCA$NCCL_SOCKET_IFNAME"', "sh", answer.text],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout == "=x,`touch>mark`=a$(touch>mark)\n"
    assert not mark.exists()


def test_a_fabric_nobody_looks_at_any_more_is_not_worked_out(api: Guard, run_dir: Path) -> None:
    publish_status(run_dir, make_status(age_s=3 * SWEEP_S + 5))
    answer = ask(api, "/nccl")
    assert answer.status_code == 503
    assert "silent since" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "said"), [("/nccl?nccl_version=two", "no version of NCCL"), ("/nccl?format=csh", "json")]
)
def test_a_wrong_parameter_is_refused(api: Guard, path: str, said: str) -> None:
    answer = ask(api, path)
    assert answer.status_code == 422
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    "query",
    ["", "?format=env", "?format=json&nccl_version=2.20", "?format=env&nccl_version=x", "?nccl_version=x"],
)
@pytest.mark.parametrize("fit", [True, False])
def test_every_answer_is_as_the_schema_says(api: Guard, run_dir: Path, query: str, fit: bool) -> None:  # noqa: FBT001
    if not fit:
        show(run_dir, fabric(function(0, up=False)))
    schema = ask(api, "/openapi.json").json()
    for method in ("GET", "HEAD"):
        check_answer(schema, "/nccl", method.lower(), ask(api, f"/nccl{query}", method))
