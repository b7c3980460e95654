"""Files of the configuration: read without trust, split into layers, merged, with the line of each key."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparktune.configfile import MOST_BYTES, differs, list_drop_ins, read_file
from sparktune.errors import ConfigurationError, Problem
from sparktune.keylines import KeyLines
from sparktune.layers import merge, read_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@contextmanager
def as_another_user() -> Iterator[None]:
    """Root may read everything, so become somebody who may not."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def main(tmp_path: Path) -> Path:
    return tmp_path / "sparktune.toml"


def refusal(path: Path) -> Problem:
    """The one problem of reading the stack."""
    (problem,) = read_stack(path).problems
    return problem


def test_without_a_main_file_there_is_nothing_and_nothing_is_wrong(main: Path) -> None:
    stack = read_stack(main)
    assert not stack.problems
    assert merge(stack.layers) == ({}, {})
    assert [stamp.sha256 for stamp in stack.stamps] == [None]


def test_drop_ins_come_after_the_main_file_in_name_order(main: Path) -> None:
    write(main, "a = 0\nb = 0\nc = 0")
    write(main.with_name("sparktune.toml.d") / "50-x.toml", "b = 50\nc = 50")
    write(main.with_name("sparktune.toml.d") / "9-y.toml", "c = 9")
    merged, origins = merge(read_stack(main).layers)
    assert merged == {"a": 0, "b": 50, "c": 9}
    assert origins == {"a": str(main), "b": f"{main}.d/50-x.toml", "c": f"{main}.d/9-y.toml"}


def test_only_visible_toml_files_are_drop_ins(main: Path) -> None:
    for name in ("a.toml", ".#a.toml", "a.toml.bak", "README"):
        write(main.with_name("sparktune.toml.d") / name, "")
    assert [path.name for path in list_drop_ins(main)] == ["a.toml"]


def test_a_file_in_place_of_the_drop_in_directory_is_refused(main: Path) -> None:
    write(main.with_name("sparktune.toml.d"), "")
    assert "is no directory" in refusal(main).message


def test_tables_are_merged_key_by_key_and_lists_as_a_whole(main: Path) -> None:
    write(main, "[t]\none = 1\nlist = [1, 2]")
    write(main.with_name("sparktune.toml.d") / "a.toml", "t.list = [3]")
    merged, origins = merge(read_stack(main).layers)
    assert merged == {"t": {"one": 1, "list": [3]}}
    assert origins == {"t.one": str(main), "t.list": f"{main}.d/a.toml"}


def test_host_blocks_win_over_the_plain_keys_of_every_file(main: Path) -> None:
    write(main, 'a = 1\n[[host]]\nmatch = "*"\na = 2\n[[host]]\nmatch = "*"\na = 3')
    write(main.with_name("sparktune.toml.d") / "z.toml", "a = 4")
    merged, origins = merge(read_stack(main).layers)
    assert merged == {"a": 3}
    assert origins == {"a": f"{main} [[host]] 2"}


def test_host_blocks_of_drop_ins_come_after_those_of_the_main_file(main: Path) -> None:
    write(main, '[[host]]\nmatch = "*"\na = 2')
    write(main.with_name("sparktune.toml.d") / "z.toml", '[[host]]\nmatch = "*"\na = 3')
    assert merge(read_stack(main).layers)[0] == {"a": 3}


@pytest.mark.parametrize(
    ("match", "names", "applies"),
    [
        ('"spark-9f8f"', ("spark-9f8f",), True),
        ('"SPARK-9F8F"', ("spark-9f8f",), True),
        ('"spark-9f8f"', ("Spark-9F8F",), True),
        ('"spark-9f8"', ("spark-9f8f",), False),
        ('["x", "lab-0[34]"]', ("lab-03",), True),
        ('["x", "lab-0[34]"]', ("lab-05",), False),
        ('"*.lab.example"', ("spark", "spark.lab.example"), True),
        ('"*.lab.example"', ("spark",), False),
        ('"*"', ("anything",), True),
    ],
)
def test_match_takes_globs_on_short_and_full_names_in_any_case(
    main: Path, match: str, names: tuple[str, ...], *, applies: bool
) -> None:
    write(main, f"[[host]]\nmatch = {match}\na = 1")
    assert read_stack(main).layers[-1].applies_to(names) is applies


@pytest.mark.parametrize(
    "match", ["", "match = 5", "match = []", 'match = ""', "match = [1]", "match = true"]
)
def test_a_host_block_without_a_usable_match_is_refused_with_its_line(main: Path, match: str) -> None:
    write(main, f"a = 1\n\n[[host]]\n{match}\n")
    problem = refusal(main)
    assert problem.key == "host[1].match"
    assert problem.line == (4 if match else 3)
    assert "spark-*" in problem.hint


@pytest.mark.parametrize("text", ["[host]\nmatch = 'a'", "host = 5", "host = [1]", "host.match = 'a'"])
def test_host_that_is_no_array_of_tables_is_refused(main: Path, text: str) -> None:
    write(main, text)
    problem = refusal(main)
    assert (problem.key, problem.line) == ("host", 1)
    assert "two brackets" in problem.hint


def test_a_syntax_error_has_its_line(main: Path) -> None:
    write(main, "a = 1\nb = 8M\n")
    problem = refusal(main)
    assert problem.line == 2
    assert problem.message.startswith("is no valid TOML: ")
    assert "column" not in problem.message


def test_an_unfinished_file_is_refused_at_its_last_line(main: Path) -> None:
    write(main, "a = 1\nb =\n\n\n")
    assert refusal(main).line == 2


def test_the_problems_of_all_files_are_found(main: Path) -> None:
    write(main, "a =")
    write(main.with_name("sparktune.toml.d") / "a.toml", "=")
    write(main.with_name("sparktune.toml.d") / "b.toml", "b = 1")
    write(main.with_name("sparktune.toml.d") / "c.toml", "[")
    files = [problem.file for problem in read_stack(main).problems]
    assert files == [str(main), f"{main}.d/a.toml", f"{main}.d/c.toml"]


@pytest.mark.parametrize("content", ["a = " + "[" * 500, "a = " + "[" * 5000, "a = " + "{b = " * 5000])
def test_nested_brackets_are_refused(main: Path, content: str) -> None:
    write(main, content)
    assert "nested too deeply" in refusal(main).message


def test_a_key_of_thousands_of_parts_is_refused_before_it_costs_minutes(main: Path) -> None:
    write(main, "a = 1\n" + "a." * 200_000 + "b = 1")
    problem = refusal(main)
    assert problem.line == 2
    assert "dotted parts" in problem.message


def test_dots_in_texts_are_no_parts_of_keys(main: Path) -> None:
    name = ".".join("abcdefghijklmnopqrst")
    write(main, f"a = ['{name}', '{name}', 'x...............................................y']")
    assert not read_stack(main).problems


def test_a_number_of_5000_digits_is_refused(main: Path) -> None:
    write(main, "a = " + "9" * 5000)
    assert "4300 digits" in refusal(main).message


def test_a_file_of_2_mib_is_refused(main: Path) -> None:
    write(main, "#" * 2 * MOST_BYTES)
    assert "larger than 1024 KiB" in refusal(main).message


def test_a_huge_sparse_file_is_refused_without_reading_it(main: Path) -> None:
    with main.open("wb") as file:
        file.truncate(1 << 40)
    assert "larger than 1024 KiB" in refusal(main).message


def test_a_file_of_exactly_1_mib_is_read(main: Path) -> None:
    write(main, "#" * MOST_BYTES)
    assert not read_stack(main).problems


def test_binary_is_refused_with_the_line(main: Path) -> None:
    write(main, b"a = 1\n\xff\xfe\x00")
    problem = refusal(main)
    assert (problem.line, problem.message) == (2, "is not UTF-8 text")


def test_a_byte_order_mark_is_named(main: Path) -> None:
    write(main, "\ufeffa = 1")
    assert "byte order mark" in refusal(main).message


def test_control_characters_of_a_file_do_not_reach_the_terminal(main: Path) -> None:
    write(main, "a = \x1b[31m")
    assert str(refusal(main)).isprintable()


def test_a_directory_in_place_of_the_file_is_refused(main: Path) -> None:
    main.mkdir()
    assert "is a directory" in refusal(main).message


@pytest.mark.timeout(10)
def test_a_fifo_in_place_of_the_file_is_refused_without_waiting(main: Path) -> None:
    os.mkfifo(main)
    assert "pipe" in refusal(main).message


def test_a_socket_in_place_of_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # socket addresses are short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.toml")
        assert "cannot be read: " in refusal(Path("s.toml")).message


def test_a_link_to_nothing_is_refused(main: Path) -> None:
    main.symlink_to("nowhere")
    assert "link" in refusal(main).message


def test_a_loop_of_links_is_refused(main: Path) -> None:
    main.symlink_to(main.name)
    assert "cannot be read: Too many levels" in refusal(main).message


def test_an_unreadable_file_is_refused_with_what_to_do(main: Path) -> None:
    write(main, "").chmod(0)
    with as_another_user():
        problems = read_stack(main).problems
    (problem,) = (problem for problem in problems if problem.file == str(main))
    assert problem.message == "cannot be read: Permission denied"
    assert "root" in problem.hint


def test_a_name_that_is_no_utf_8_can_be_shown(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b.toml"))
    write(path, "a = 1")
    label = read_stack(path).layers[0].label
    assert label.isprintable()
    assert label.encode()


def test_an_untouched_file_does_not_differ(main: Path) -> None:
    stamp = read_file(write(main, "a = 1"))[1]
    assert not differs(stamp)


def test_a_file_of_the_same_content_does_not_differ(main: Path) -> None:
    stamp = read_file(write(main, "a = 1"))[1]
    main.unlink()
    write(main, "a = 1")
    assert not differs(stamp)


def test_an_edited_file_differs(main: Path) -> None:
    stamp = read_file(write(main, "a = 1"))[1]
    write(main, "a = 22")
    assert differs(stamp)


def test_a_removed_file_differs(main: Path) -> None:
    stamp = read_file(write(main, "a = 1"))[1]
    main.unlink()
    assert differs(stamp)


def test_a_file_that_appeared_differs(main: Path) -> None:
    stamp = read_file(main)[1]
    assert not differs(stamp)
    write(main, "")
    assert differs(stamp)


def test_a_directory_in_place_of_a_file_differs(main: Path) -> None:
    stamp = read_file(write(main, ""))[1]
    main.unlink()
    main.mkdir()
    assert differs(stamp)


def test_a_file_above_1_mib_while_it_is_read_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="pipe, socket or device"):
        read_file(Path("/dev/zero"))


TEXT = '''# comment with [brackets]
mode = "enforce" # trailing
text = """
[nvme]
not = "a key"
"""
[nvme]
devices = [ # comment
  "a", "b]",

  'c',
]
"quoted key" = { inner = 1, deep.er = [ { x = 1 } ] }
[contest] # table
window = "1s"

[[host]]
match = "a"
cpuidle.disable_latency_us = 1
  [host.nvme]
  read_ahead_kb = 1
[[host]]
match = ["a",
 "b"]
[host.contest]
after = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("mode",), 2),
        (("text",), 3),
        (("nvme",), 7),
        (("nvme", "devices"), 8),
        (("nvme", "devices", 2), 9),
        (("nvme", "devices", 3), 11),
        (("nvme", "quoted key", "inner"), 13),
        (("nvme", "quoted key", "deep", "er", 1, "x"), 13),
        (("contest", "window"), 15),
        (("host",), 17),
        (("host", 1), 17),
        (("host", 1, "match"), 18),
        (("host", 1, "cpuidle"), 19),
        (("host", 1, "cpuidle", "disable_latency_us"), 19),
        (("host", 1, "nvme"), 20),
        (("host", 1, "nvme", "read_ahead_kb"), 21),
        (("host", 2), 22),
        (("host", 2, "match", 2), 24),
        (("host", 2, "contest", "after"), 26),
        (("nvme", "not"), 7),
        (("absent",), 0),
    ],
)
def test_the_line_of_a_key_is_found(path: tuple[str | int, ...], line: int) -> None:
    assert KeyLines(TEXT).line(path) == line
    assert KeyLines(TEXT.replace("\n", "\r\n")).line(path) == line


def test_inline_host_tables_have_lines_too() -> None:
    lines = KeyLines("host = [\n {match = 'a'},\n {match = 'b',\n  x = 1}]\n")
    assert lines.line(("host", 2, "x")) == 4


@settings(deadline=None)
@given(st.text())
def test_looking_for_lines_never_fails(text: str) -> None:
    assert KeyLines(text).line(("a",)) <= text.count("\n") + 1


@settings(deadline=None)
@example('"\\1"')  # a key with an escape that TOML does not know
@given(st.text(alphabet="[]{}=.,#\"'\\ \nab1"))
def test_looking_for_lines_in_a_soup_of_toml_never_fails(text: str) -> None:
    assert KeyLines(text).line(("a", "b")) <= text.count("\n") + 1
