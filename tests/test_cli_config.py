"""`sparktune config`: files are judged on any machine, and every effective value names its layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from commands import CommandLine
from sparktune.simulate import tree

if TYPE_CHECKING:
    from pathlib import Path

FLEET = """
[nvme]
read_ahead_kb = 4096

[[host]]
match = "lab-*"
sweep = "30s"

[[host]]
match = "spark-9f8f"
cpuidle.disable_latency_us = 231
"""


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    tree.build(tmp_path / "host")
    return CommandLine(tmp_path / "host", capsys)


def test_a_valid_file_is_said_to_be_valid(host: CommandLine) -> None:
    path = host.configure(FLEET)
    outcome = host("config", "check")
    assert (outcome.code, outcome.out.startswith(f"{path}: valid")) == (0, True)


def test_a_configured_file_that_is_not_there_is_valid(host: CommandLine) -> None:
    outcome = host("config", "check")
    assert outcome.code == 0
    assert "the defaults apply" in outcome.out


def test_a_named_file_that_is_not_there_is_a_usage_error(host: CommandLine, tmp_path: Path) -> None:
    assert host("config", "check", tmp_path / "typo.toml").code == 2


def test_every_problem_is_told_with_file_line_and_key_also_those_of_other_hosts(host: CommandLine) -> None:
    path = host.configure("[nvme]\nread_ahead_kbb = 1\n[[host]]\nmatch = 'lab-*'\nsweep = 10\n")
    outcome = host("config", "check")
    assert outcome.code == 2
    first, second = outcome.out.splitlines()
    assert first.startswith(f"{path}:2: nvme.read_ahead_kbb: unknown key (did you mean")
    assert second.startswith(f"{path}:5: host[1].sweep: expected a duration")


def test_problems_are_told_as_json_too(host: CommandLine) -> None:
    host.configure("mode = 3\n")
    outcome = host("config", "check", "--json")
    assert outcome.code == 2
    assert outcome.document["valid"] is False
    assert [(problem["line"], problem["key"]) for problem in outcome.document["problems"]] == [(1, "mode")]


@pytest.mark.parametrize("content", [b"[" * 500, b"\xff\xfe\x00", b"a = 1\n" * 400_000])
def test_hostile_files_are_problems_and_no_traceback(host: CommandLine, content: bytes) -> None:
    (host.tree / "etc/sparktune.toml").write_bytes(content)
    outcome = host("config", "check")
    assert outcome.code == 2
    assert outcome.out.startswith(f"{host.tree}/etc/sparktune.toml")


def test_each_value_is_shown_with_the_layer_that_set_it(host: CommandLine) -> None:
    path = host.configure(FLEET)
    values = host("config", "show", "--json").document["values"]
    assert values["nvme.read_ahead_kb"] == {"value": 4096, "layer": str(path)}
    assert values["cpuidle.disable_latency_us"] == {"value": 231, "layer": f"{path} [[host]] 2"}
    assert values["sweep"] == {"value": 10.0, "layer": "default"}


def test_the_configuration_of_another_host_can_be_shown(
    host: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.configure(FLEET)
    monkeypatch.setenv("SPARKTUNE_MODE", "report")  # this shell's, not the other host's
    values = host("config", "show", "--host", "lab-03.example.org", "--json").document["values"]
    assert values["sweep"]["value"] == 30.0
    assert values["cpuidle.disable_latency_us"]["layer"] == "default"
    assert values["mode"] == {"value": "enforce", "layer": "default"}


def test_values_are_spelled_as_in_the_file(host: CommandLine) -> None:
    out = host("config", "show").out
    for key, value in (("sweep", '"10s"'), ("require_gb10", "true"), ("nvme.devices", '["nvme*"]')):
        assert any(line.split()[:2] == [key, value] for line in out.splitlines())


def test_another_file_can_be_named(host: CommandLine, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('mode = "report"\n')
    values = host("--config", other, "config", "show", "--json").document["values"]
    assert values["mode"] == {"value": "report", "layer": str(other)}


def test_showing_an_invalid_configuration_exits_2(host: CommandLine) -> None:
    host.configure("mode = 3\n")
    assert host("config", "show").code == 2
