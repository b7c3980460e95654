"""The configuration as a whole: which values are valid, who wins, and what people are told."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sparktune.cpulist import parse_cpu_list
from sparktune.durations import parse_duration
from sparktune.errors import ConfigurationError, Problem, UsageError
from sparktune.model import Policy
from sparktune.settings import (
    MOST_PROBLEMS,
    ContestSettings,
    Effective,
    NvmeSettings,
    Settings,
    check,
    flatten,
    host_names,
    load,
    on_disk_changed,
)

SHIPPED = Path(__file__).parents[1] / "etc" / "sparktune.toml"

EXAMPLE_OF_THE_DESIGN = """
mode = "enforce"                 # enforce | report; report caps every policy
require_gb10 = true              # false: tune this machine although it is no GB10
sweep = "10s"                    # durations: "500ms", "10s", "10m", "1h"

[nvme]
policy = "enforce"
devices = ["nvme*"]              # globs on kernel block names
read_ahead_kb = 8192
stacked = true                   # also dm-crypt, LVM and md devices on top, of the disk or its partitions
paths = []                       # also whatever serves these paths ("/models": NFS, another disk)

[cpuidle]
policy = "enforce"
when = "always"                  # always | cluster: only while a ConnectX port has carrier
disable_latency_us = 0           # "off" leaves all alone
cpus = "all"                     # all | performance | efficiency | a list such as "5-9,15-19"

[roce]
policy = "enforce"

[contest]
after = 5
window = "60s"
hold = "10m"

[[host]]
match = ["spark-9f8f", "lab-0[34]"]
cpuidle.disable_latency_us = 231
"""


@pytest.fixture
def main(tmp_path: Path) -> Path:
    return tmp_path / "sparktune.toml"


def effective(path: Path, text: str, *names: str, **environ: str) -> Effective:
    path.write_text(text)
    return load(path, host_names=names, environ=environ)


def only_problem(path: Path, text: str) -> Problem:
    path.write_text(text)
    (problem,) = check(path)
    return problem


def problems_of(path: Path, **environ: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(path, host_names=(), environ=environ)
    return caught.value.problems


# What is shipped


def test_the_shipped_file_is_valid_and_changes_nothing() -> None:
    assert check(SHIPPED) == ()
    shipped = load(SHIPPED, host_names=("spark",), environ={})
    assert shipped.settings == Settings()
    assert set(shipped.origins.values()) == {"default"}


def test_every_value_of_the_shipped_file_is_the_default(main: Path) -> None:
    text = re.sub(r"(?m)^#(?=[a-z])", "", SHIPPED.read_text())
    uncommented = effective(main, text)
    assert uncommented.settings == Settings()
    assert set(uncommented.origins.values()) == {str(main)}, "a key is missing in the shipped file"


def test_the_example_of_the_design_loads(main: Path) -> None:
    assert effective(main, EXAMPLE_OF_THE_DESIGN, "spark-0001").settings == Settings()
    lab = effective(main, EXAMPLE_OF_THE_DESIGN, "lab-04")
    assert lab.settings.cpuidle.disable_latency_us == 231
    assert lab.origins["cpuidle.disable_latency_us"] == f"{main} [[host]] 1"
    assert lab.origins["cpuidle.cpus"] == str(main)
    assert lab.origins["history.days"] == "default"


def test_without_any_file_the_defaults_are_in_force(main: Path) -> None:
    nothing = load(main, host_names=(), environ={})
    assert nothing.settings == Settings()
    assert nothing.error is None


# Who wins


def test_drop_ins_host_blocks_and_environment_win_in_this_order(main: Path) -> None:
    directory = main.with_name("sparktune.toml.d")
    directory.mkdir()
    (directory / "50-x.toml").write_text("history.days = 3\nhistory.rows = 3000\ncontest.after = 3")
    text = "sweep = '2s'\nhistory.days = 2\nhistory.rows = 2000\ncontest.after = 2\n[[host]]\nmatch = '*'\n"
    result = effective(
        main, f"{text}contest.after = 4\nhistory.rows = 4000", "spark", SPARKTUNE_CONTEST__AFTER="5"
    )
    values = flatten(result.settings)
    keys = ("sweep", "history.days", "history.rows", "contest.after")
    assert [values[key] for key in keys] == [2.0, 3, 4000, 5]
    assert [result.origins[key] for key in keys] == [
        str(main),
        f"{directory}/50-x.toml",
        f"{main} [[host]] 1",
        "SPARKTUNE_CONTEST__AFTER",
    ]


def test_a_host_block_of_another_host_changes_nothing(main: Path) -> None:
    assert effective(main, "[[host]]\nmatch = 'lab-*'\nmode = 'report'", "spark").settings == Settings()


def test_every_key_has_an_origin(main: Path) -> None:
    result = effective(main, "")
    assert result.origins.keys() == flatten(result.settings).keys()


def test_the_process_environment_is_not_looked_at_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODE", "mode", "SPARKTUNE_MODE", "NVME"):
        monkeypatch.setenv(name, "report")
    assert Settings().mode == "enforce"


def test_the_sum_is_of_the_values_and_not_of_the_text(main: Path) -> None:
    first = effective(main, "sweep = '2s'\nmode = 'report'")
    second = effective(main, "# the same\nmode = 'report'\nsweep = '2000ms'")
    third = effective(main, "mode = 'report'")
    assert first.sha256 == second.sha256
    assert first.sha256 != third.sha256


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().nvme.read_ahead_kb = 1


def test_code_gives_seconds_where_a_file_gives_text() -> None:
    built = Settings(sweep=0.5, contest=ContestSettings(window=1, hold=0.1))
    assert (built.sweep, built.contest.window, built.contest.hold) == (0.5, 1.0, 0.1)


# Environment


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("SPARKTUNE_MODE", "report", "mode", "report"),
        ("SPARKTUNE_REQUIRE_GB10", "false", "require_gb10", False),
        ("SPARKTUNE_SWEEP", "500ms", "sweep", 0.5),
        ("SPARKTUNE_NVME__READ_AHEAD_KB", "4096", "nvme.read_ahead_kb", 4096),
        ("SPARKTUNE_NVME__POLICY", "off", "nvme.policy", Policy.OFF),
        ("SPARKTUNE_NVME__DEVICES", "loop0, loop1", "nvme.devices", ("loop0", "loop1")),
        ("SPARKTUNE_NVME__DEVICES", '["loop0"]', "nvme.devices", ("loop0",)),
        ("SPARKTUNE_NVME__DEVICES", "", "nvme.devices", ()),
        ("SPARKTUNE_CPUIDLE__DISABLE_LATENCY_US", "off", "cpuidle.disable_latency_us", "off"),
        ("SPARKTUNE_CPUIDLE__DISABLE_LATENCY_US", "42", "cpuidle.disable_latency_us", 42),
        ("SPARKTUNE_CPUIDLE__CPUS", "5", "cpuidle.cpus", "5"),
        ("SPARKTUNE_ROCE__MTU", "9000", "roce.mtu", 9000),
        ("SPARKTUNE_ROCE__MTU", "off", "roce.mtu", "off"),
        ("SPARKTUNE_ROCE__PFC_PRIORITIES", "[3]", "roce.pfc_priorities", (3,)),
        ("SPARKTUNE_ROCE__PAUSE", "none", "roce.pause", "none"),
    ],
)
def test_a_variable_sets_its_key(main: Path, name: str, text: str, key: str, value: object) -> None:
    result = load(main, host_names=(), environ={name: text})
    assert flatten(result.settings)[key] == value
    assert result.origins[key] == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SPARKTUNE_REQUIRE_GB10", "1"),
        ("SPARKTUNE_REQUIRE_GB10", "True"),
        ("SPARKTUNE_NVME__READ_AHEAD_KB", "8M"),
        ("SPARKTUNE_NVME__READ_AHEAD_KB", "-1"),
        ("SPARKTUNE_NVME__READ_AHEAD_KB", "8192.0"),
        ("SPARKTUNE_NVME__READ_AHEAD_KB", "true"),
        ("SPARKTUNE_NVME__READ_AHEAD_KB", "9" * 5000),
        ("SPARKTUNE_NVME__READ_AHEAD_KB", ""),
        ("SPARKTUNE_NVME__DEVICES", "[" * 100_000),
        ("SPARKTUNE_NVME__DEVICES", "[1]"),
        ("SPARKTUNE_NVME__DEVICES", "a,,b"),
        ("SPARKTUNE_SWEEP", "10"),
        ("SPARKTUNE_MODE", "\udcff"),
    ],
)
def test_a_variable_is_refused_by_its_name(main: Path, name: str, text: str) -> None:
    (problem,) = problems_of(main, **{name: text})
    assert problem.file == name
    assert problem.line == 0
    assert "expected " in problem.message
    assert str(problem).isprintable()


def test_an_unknown_variable_is_refused_with_the_nearest(main: Path) -> None:
    (problem,) = problems_of(main, SPARKTUNE_NVME__READAHEAD_KB="1")
    assert problem.file == "SPARKTUNE_NVME__READAHEAD_KB"
    assert "SPARKTUNE_NVME__READ_AHEAD_KB" in problem.hint


@pytest.mark.parametrize("name", ["SPARKTUNE_", "SPARKTUNE_NVME", "SPARKTUNE_HOST", "SPARKTUNE_LOG_FORMAT"])
def test_variables_that_are_no_key_are_refused(main: Path, name: str) -> None:
    assert problems_of(main, **{name: "x"})[0].message == "unknown environment variable"


def test_the_two_directories_and_foreign_variables_are_let_pass(main: Path) -> None:
    environ = {"SPARKTUNE_RUN_DIR": "/x", "SPARKTUNE_STATE_DIR": "/y", "PATH": "", "XSPARKTUNE_A": ""}
    assert load(main, host_names=(), environ=environ).settings == Settings()


# What is refused, and what people are told


@pytest.mark.parametrize(
    ("line", "found", "hint"),
    [
        ("nvme.read_ahead_kb = -1", "-1", ""),
        ("nvme.read_ahead_kb = 65537", "65537", ""),
        ("nvme.read_ahead_kb = 1_000_000_000_000", "1000000000000", ""),
        ("nvme.read_ahead_kb = '8M'", '"8M"', "write 8192, in KiB"),
        ("nvme.read_ahead_kb = '512 KiB'", '"512 KiB"', "write 512, in KiB"),
        ("nvme.read_ahead_kb = '8192'", '"8192"', "write 8192, without quotes"),
        ("nvme.read_ahead_kb = true", "true", ""),
        ("nvme.read_ahead_kb = 8192.0", "8192.0", "write 8192"),
        ("nvme.read_ahead_kb = nan", "nan", ""),
        ("nvme.read_ahead_kb = -inf", "-inf", ""),
        ("nvme.read_ahead_kb = 2026-11-23", "a date", ""),
        ("nvme.read_ahead_kb = 2026-11-23T10:00:00Z", "a datetime", ""),
        ("nvme.read_ahead_kb = [1]", "a list", ""),
        ("nvme.read_ahead_kb = {a = 1}", "a table", ""),
        (f"nvme.read_ahead_kb = 0x{'f' * 9000}", "a number of more than 18 digits", ""),
        (f"nvme.read_ahead_kb = {'[' * 60}{']' * 60}", "a list", ""),
        ("nvme = 5", "5", "its keys are written one by one: nvme.policy = …"),
        ("nvme = [{}]", "a list", "its keys are written one by one: nvme.policy = …"),
        ("nvme.stacked = 'true'", '"true"', "write true or false, without quotes"),
        ("nvme.stacked = 1", "1", "write true or false, without quotes"),
        ("nvme.devices = 'nvme*'", '"nvme*"', 'write ["nvme*"]'),
        ("nvme.devices = ['/dev/nvme0n1']", '"/dev/nvme0n1"', "names are written without /dev/"),
        ("nvme.devices = ['']", '""', ""),
        ("nvme.devices = [5]", "5", ""),
        (f"nvme.devices = [{'1,' * 5000}]", "a list of more than 1000", ""),
        ("nvme.paths = ['models']", '"models"', "a path begins with /"),
        ('nvme.paths = ["/mo\\u0000dels"]', '"/mo\\x00dels"', ""),
        ("nvme.policy = 'enforced'", '"enforced"', 'did you mean "enforce"?'),
        ("nvme.policy = true", "true", ""),
        ("mode = 'off'", '"off"', ""),
        ("mode = 'Enforce'", '"Enforce"', 'did you mean "enforce"?'),
        ("sweep = 10", "10", 'a duration is text with a unit: write "10s"'),
        ("sweep = 10.0", "10.0", 'a duration is text with a unit: write "10s"'),
        ("sweep = true", "true", ""),
        ("sweep = '10'", '"10"', 'say which unit: "10s"'),
        ("sweep = '499ms'", '"499ms"', ""),
        ("sweep = '601s'", '"601s"', ""),
        ("sweep = 'ten'", '"ten"', ""),
        ("contest.window = '0s'", '"0s"', ""),
        ("contest.hold = '25h'", '"25h"', ""),
        ("contest.hold = inf", "inf", ""),
        ("contest.after = 1001", "1001", ""),
        ("cpuidle.disable_latency_us = '231us'", '"231us"', "write 231, in µs"),
        ("cpuidle.disable_latency_us = 'of'", '"of"', 'did you mean "off"?'),
        ("cpuidle.disable_latency_us = 1_000_001", "1000001", ""),
        ("cpuidle.disable_latency_us = true", "true", ""),
        ("cpuidle.when = 'never'", '"never"', ""),
        ("cpuidle.cpus = 5", "5", ""),
        (
            "cpuidle.cpus = '5-'",
            '"5-"',
            '"5-" is no CPU number or range; write numbers and ranges: 5-9,15-19',
        ),
        ("cpuidle.cpus = '5-1'", '"5-1"', "the CPU range 5-1 runs backwards; write 1-5"),
        ("roce.default_roce_mode = 'RoCE V2'", '"RoCE V2"', 'did you mean "RoCE v2"?'),
        (
            "expect.link_rate_gbps = 250",
            "250",
            "no hardware has 250; a ConnectX-7 runs at 10, 25, 40, 50, 100, 200 and 400",
        ),
        ("expect.link_rate_gbps = '200G'", '"200G"', ""),
        ("history.days = 0", "0", ""),
        ("history.rows = 99", "99", ""),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected_found_and_meant(
    main: Path, line: str, found: str, hint: str
) -> None:
    problem = only_problem(main, f"# first line\n{line}\n")
    assert problem.line == 2
    assert problem.key == line.partition(" = ")[0]
    assert re.fullmatch(r"expected .+, found .+", problem.message)
    assert problem.message.rpartition(", found ")[2] == found
    assert problem.hint == hint
    assert problem.file == str(main)


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("nvme.readahead_kb = 1", "nvme.readahead_kb", "did you mean nvme.read_ahead_kb?"),
        ("read_ahead_kb = 1", "read_ahead_kb", "did you mean nvme.read_ahead_kb?"),
        ("[nvem]\npolicy = 'off'", "nvem", "did you mean nvme?"),
        ("cpuidle.window = '1s'", "cpuidle.window", "did you mean contest.window?"),
        ("[[host]]\nmatch = 'a'\nmachine = 'a'", "host[1].machine", "did you mean match?"),
        ("[[host]]\nmatch = 'a'\n[[host.host]]\nmatch = 'b'", "host[1].host", ""),
        ("history.xyzzy = 1", "history.xyzzy", "known here: days, rows"),
        ("xyzzy = 1", "xyzzy", "known here: mode, require_gb10, sweep, nvme"),
        ('"\\u001b[31m" = 1', "\\x1b[31m", "known here"),
        (f"{'a' * 100_000} = 1", f"{'a' * 59}…", ""),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_valid_one(
    main: Path, text: str, key: str, hint: str
) -> None:
    problem = only_problem(main, text)
    assert (problem.key, problem.message) == (key, "unknown key")
    assert hint in problem.hint
    assert problem.line


def test_every_problem_is_reported_in_the_order_of_files_and_lines(main: Path) -> None:
    directory = main.with_name("sparktune.toml.d")
    directory.mkdir()
    (directory / "a.toml").write_text("\nmode = 1")
    main.write_text(
        "nvme.devices = [\n 1,\n '/',\n]\nmode = 'x'\n[[host]]\nsweep = 1\n[history]\nday = 1\ndays = true"
    )
    found = [(problem.file, problem.line, problem.key) for problem in problems_of(main, SPARKTUNE_X="")]
    assert found[:-2] == [
        (str(main), 2, "nvme.devices"),
        (str(main), 3, "nvme.devices"),
        (str(main), 5, "mode"),
        (str(main), 6, "host[1].match"),
        (str(main), 7, "host[1].sweep"),
        (str(main), 9, "history.day"),
        (str(main), 10, "history.days"),
    ]
    assert found[-2:] == [(f"{directory}/a.toml", 2, "mode"), ("SPARKTUNE_X", 0, "")]


def test_a_mistake_that_another_layer_hides_is_refused_all_the_same(main: Path) -> None:
    main.write_text("nvme.read_ahead_kb = '8M'\n[[host]]\nmatch = '*'\nnvme.read_ahead_kb = 8192")
    assert [problem.key for problem in check(main)] == ["nvme.read_ahead_kb"]
    assert problems_of(main) == check(main)


def test_a_mistake_in_a_block_of_another_host_is_refused_on_every_machine(main: Path) -> None:
    main.write_text("[[host]]\nmatch = 'elsewhere'\nnvme.read_ahead_kb = -1")
    assert [problem.key for problem in check(main)] == ["host[1].nvme.read_ahead_kb"]
    assert problems_of(main) == check(main)


def test_a_hostile_file_is_not_answered_without_end(main: Path) -> None:
    main.write_text("".join(f"k{number} = 1\n" for number in range(20_000)))
    problems = check(main)
    assert len(problems) == MOST_PROBLEMS + 1
    assert problems[-1].message == "and 19500 more problems"


@pytest.mark.timeout(60)
def test_ten_thousand_host_blocks_are_loaded(main: Path) -> None:
    blocks = "".join(
        f"[[host]]\nmatch='h{number}'\nhistory.days={number % 99 + 1}\n" for number in range(10_000)
    )
    assert effective(main, blocks, "h9998").settings.history.days == 9998 % 99 + 1


def test_a_message_of_a_problem_fits_on_one_line(main: Path) -> None:
    main.write_text(f'mode = """{"x" * 500_000}\n\n"""\nnvme.devices = ["\\u001b]0;x\\u0007\\u202e/"]')
    for problem in check(main):
        assert str(problem).isprintable()
        assert len(str(problem)) < 1000


@settings(deadline=None)
@given(content=st.binary(max_size=400))
def test_any_bytes_give_a_configuration_or_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "sparktune.toml"
    path.write_bytes(content)
    try:
        load(path, host_names=("spark",), environ={})
        found: tuple[Problem, ...] = ()
    except ConfigurationError as error:
        found = error.problems
    assert found == check(path)


_KEYS = st.sampled_from([*flatten(Settings()), "nvme", "host", "host.match", "x", "nvme.x", "match"])
_VALUES = st.sampled_from(
    [
        "1",
        "-1",
        "true",
        "'off'",
        "'10s'",
        "[]",
        "['a']",
        "{}",
        "[{}]",
        "1.0",
        "inf",
        "1979-05-27",
        "'5-9'",
        "0x1",
    ]
)


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(st.sampled_from(["", "[[host]]\nmatch='*'\n"]), _KEYS, _VALUES), max_size=5))
def test_any_keys_with_any_values_give_a_configuration_or_problems_with_lines(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str, str]]
) -> None:
    path = tmp_path_factory.mktemp("any") / "sparktune.toml"
    path.write_text("".join(f"{head}{key} = {value}\n" for head, key, value in pairs))
    problems = check(path)
    assert all(problem.line for problem in problems)
    if not problems:
        assert load(path, host_names=("spark",), environ={}).error is None


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "mode": st.sampled_from(["enforce", "report"]),
            "nvme.read_ahead_kb": st.integers(0, 65536),
            "nvme.stacked": st.booleans(),
            "nvme.devices": st.lists(st.text("abc*?[]0-9"), max_size=3).filter(all),
            "cpuidle.disable_latency_us": st.integers(0, 1_000_000) | st.just("off"),
            "history.days": st.integers(1, 3650),
        },
    )
)
def test_every_valid_value_arrives_as_written(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("any") / "sparktune.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    result = flatten(load(path, host_names=(), environ={}).settings)
    defaults = flatten(Settings())
    for key in defaults:
        wanted = values.get(key, defaults[key])
        assert result[key] == (tuple(wanted) if isinstance(wanted, list) else wanted)


# The files afterwards


def test_nothing_changed_on_disk_right_after_loading(main: Path) -> None:
    assert not on_disk_changed(effective(main, "mode = 'report'"))
    assert not on_disk_changed(load(main.with_name("absent.toml"), host_names=(), environ={}))


def test_an_edit_is_seen(main: Path) -> None:
    result = effective(main, "")
    main.write_text("# edited")
    assert on_disk_changed(result)


def test_a_new_and_a_removed_drop_in_are_seen(main: Path) -> None:
    result = effective(main, "")
    drop_in = main.with_name("sparktune.toml.d") / "a.toml"
    drop_in.parent.mkdir()
    drop_in.write_text("")
    assert on_disk_changed(result)
    with_drop_in = effective(main, "")
    assert not on_disk_changed(with_drop_in)
    drop_in.unlink()
    assert on_disk_changed(with_drop_in)


def test_a_drop_in_directory_that_became_a_file_is_a_change(main: Path) -> None:
    result = effective(main, "")
    main.with_name("sparktune.toml.d").write_text("")
    assert on_disk_changed(result)


# Small things


def test_the_short_name_comes_first_and_none_twice() -> None:
    names = host_names()
    assert names[0] == socket.gethostname().split(".")[0]
    assert names[-1] == socket.gethostname()
    assert len(set(names)) == len(names) <= 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("1ms", 0.001), ("10s", 10), ("10m", 600), ("1h", 3600), ("1.5h", 5400), ("0s", 0)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "s",
        "10 s",
        "-1s",
        "1d",
        "1h30m",
        "10S",
        "1e3s",
        "٣s",
        "1s\n",
        "inf",
        "1.s",
        "9" * 5000 + "s",
    ],
)
def test_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is no duration") as caught:
        parse_duration(text)
    assert "10s" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("5", (5,)),
        ("5-7", (5, 6, 7)),
        ("15-16,5-6", (5, 6, 15, 16)),
        ("0-3,2-5,3", (0, 1, 2, 3, 4, 5)),
        ("0-9,2-3,5", tuple(range(10))),
        (" 1, 3 ", (1, 3)),
        ("8191", (8191,)),
    ],
)
def test_a_cpu_list_is_numbers_and_ranges(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5-",
        "a",
        "5-1",
        "-5",
        "1,,2",
        ",",
        "1-2-3",
        "8192",
        "1.5",
        "٣",
        "all",
        "0-99999999",
        "1," * 50_000,
    ],
)
def test_other_text_is_no_cpu_list(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_cpu_list(text)
    assert caught.value.hint
    assert len(caught.value.message) < 300


@given(st.sets(st.integers(0, 8191), min_size=1))
def test_every_set_of_cpus_survives_being_written(cpus: set[int]) -> None:
    assert set(parse_cpu_list(",".join(map(str, cpus)))) == cpus


def test_a_hostile_cpu_list_is_cheap() -> None:
    assert len(parse_cpu_list(",".join(["0-8191"] * 9000))) == 8192


@pytest.mark.parametrize(
    "module", ["durations", "cpulist", "layers", "environment", "complaints", "lastgood"]
)
def test_what_the_command_line_needs_is_imported_without_pydantic(module: str) -> None:
    program = (
        f"import sys, sparktune.{module}; print(any(name.startswith('pydantic') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_section_can_be_built_alone() -> None:
    assert Settings(nvme=NvmeSettings(devices=("loop0",))).nvme.devices == ("loop0",)
