"""`sparktune advise`: what was found, for people and programs; one process, one rule, and nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from commands import CommandLine
from documents import make_advice, publish_everything
from sparktune.advice.rule_ids import RULE_IDS
from sparktune.published import encode, publish

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.snapshot import AdviceReport


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    run_dir = tmp_path / "run/sparktune"
    run_dir.mkdir(parents=True)
    publish_everything(run_dir)
    return CommandLine(tmp_path, capsys)


def announce(host: CommandLine, advice: AdviceReport) -> None:
    publish(host.tree / "run/sparktune", "advice", encode(advice))


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_finding_says_what_why_what_to_do_what_to_expect_and_where_from(host: CommandLine) -> None:
    outcome = host("advise")
    assert outcome.code == 0
    assert outcome.out.startswith("advice: 1 finding (1 costly), 1 engine examined")
    finding = make_advice().findings[0]
    parts = [finding.rule, finding.what, finding.why, finding.do, finding.expect, finding.source]
    places = [words(outcome.out).index(part) for part in parts]
    assert places == sorted(places)
    assert "llama-server[4711], llama.cpp in container 3f2a5b6c7d8e" in outcome.out
    assert "gpt-oss-120b, MXFP4; 63.0 GiB mapped, 60.0 GiB resident" in words(outcome.out)


def test_what_could_not_be_seen_is_told(host: CommandLine) -> None:
    report = make_advice()
    engine = replace(report.engines[0], unreadable=("smaps: not readable",))
    announce(host, replace(report, engines=(engine,), unseen="processes of other users: hidden"))
    said = words(host("advise").out)
    assert "unseen processes of other users: hidden" in said
    assert "unseen smaps: not readable" in said


def test_rdma_is_shown_where_it_is_used(host: CommandLine) -> None:
    assert "rdma" not in host("advise").out
    report = make_advice()
    announce(host, replace(report, engines=(replace(report.engines[0], rdma=True, queue_pairs=16),)))
    assert "rdma 16 queue pairs" in words(host("advise").out)


def test_silenced_rules_are_named(host: CommandLine) -> None:
    announce(host, replace(make_advice(), findings=(), ignored=("llama-mmap",)))
    assert "silent llama-mmap (advice.ignore)" in words(host("advise").out)


def test_as_json_it_is_the_published_document(host: CommandLine) -> None:
    document = host("advise", "--json").document
    assert (document["findings"][0]["rule"], document["engines"][0]["queue_pairs"]) == ("llama-mmap", None)
    assert document["unseen"] == ""


def test_one_process_is_shown_alone_and_an_unknown_one_is_refused(host: CommandLine) -> None:
    assert [engine["pid"] for engine in host("advise", "--pid", "4711", "--json").document["engines"]] == [
        4711
    ]
    outcome = host("advise", "--pid", "4712")
    assert outcome.code == 2
    assert "no engine has pid 4712" in words(outcome.err)
    assert "4711" in outcome.err


@pytest.mark.parametrize("rule", RULE_IDS)
def test_every_rule_is_explained_without_a_daemon(
    rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = CommandLine(tmp_path, capsys)("advise", "--explain", rule)
    assert outcome.code == 0
    labels = (
        "severity",
        "looks for",
        "evidence",
        "recommendation",
        "expect",
        "versions",
        "source",
        "certainty",
    )
    assert all(f"\n{label} " in outcome.out for label in labels)


def test_without_a_name_all_rules_are_listed(host: CommandLine) -> None:
    assert all(rule in host("advise", "--explain").out for rule in RULE_IDS)
    assert [rule["id"] for rule in host("advise", "--json", "--explain").document] == list(RULE_IDS)


def test_a_rule_that_is_none_is_refused_with_the_nearest_one(host: CommandLine) -> None:
    outcome = host("advise", "--explain", "llama-map")
    assert outcome.code == 2
    assert "did you mean llama-mmap?" in outcome.err


def test_without_a_daemon_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = CommandLine(tmp_path, capsys)("advise")
    assert (outcome.code, outcome.out) == (3, "")


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"engines": 5}', '{"summary": {"says": "x"}, "looked_at": null}']
)
def test_a_damaged_document_is_no_traceback(host: CommandLine, text: str) -> None:
    (host.tree / "run/sparktune/advice.json").write_text(text)
    outcome = host("advise")
    assert outcome.code == 3
    assert "damaged" in outcome.err


def test_the_status_has_a_line_of_it(host: CommandLine) -> None:
    assert "nothing to advise, 3 engines examined" in host("status").out
