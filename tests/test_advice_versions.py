"""Which spelling a build understands, and what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from advised import llama, ollama
from sparktune.advice.model import Role
from sparktune.advice.rules.llama_flags import LOCK_SPLIT
from sparktune.advice.rules.versions import (
    AUTO_SINCE,
    LEGACY_GONE,
    LOAD_MODE_SINCE,
    Spelling,
    at_least,
    build_of,
    spelling_of,
)

ENGINES = (Path(__file__).parents[1] / "docs/engines.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("b10875", 10875),
        ("b10875-4850c772", 10875),
        ("10875", 10875),
        ("b4000", 4000),
        ("b3999", None),
        ("b1-7db35a7", None),  # a shallow clone
        ("b0-unknown", None),  # vendored
        ("0.4.0", None),
        ("b10875-turbo", None),
        ("b1087500000", None),
        ("", None),
        (None, None),
    ],
)
def test_a_build_number_that_says_nothing_is_not_known(version: str | None, number: int | None) -> None:
    assert build_of(llama(version=version)) == number


def test_llama_cpp_python_and_ollama_have_no_build_number() -> None:
    assert build_of(llama(version="b10875", role=Role.PYTHON)) is None
    assert build_of(ollama(version="b10875")) is None


@pytest.mark.parametrize(
    ("version", "spelling"),
    [
        ("b10104", Spelling.OLD),
        ("b10105", Spelling.BOTH),
        ("b10874", Spelling.BOTH),
        ("b10875", Spelling.NEW),
        ("b1", Spelling.UNKNOWN),
        (None, Spelling.UNKNOWN),
    ],
)
def test_the_build_number_tells_the_spelling(version: str | None, spelling: Spelling) -> None:
    assert spelling_of(llama(version=version)) is spelling


@pytest.mark.parametrize(
    ("knows", "spelling"),
    [
        ({"--no-mmap", "--mlock"}, Spelling.OLD),
        ({"--no-mmap", "--load-mode"}, Spelling.BOTH),
        ({"--load-mode"}, Spelling.NEW),
        ({"--mlock"}, Spelling.UNKNOWN),
        (set(), Spelling.UNKNOWN),
        (None, Spelling.UNKNOWN),
    ],
)
def test_without_a_number_the_texts_in_the_program_tell_it(
    knows: set[str] | None, spelling: Spelling
) -> None:
    texts = None if knows is None else frozenset(knows)
    assert spelling_of(llama(version="b1", knows=texts)) is spelling


@pytest.mark.parametrize(
    ("version", "knows", "spelling"),
    [
        ("b10104", {"--load-mode"}, Spelling.UNKNOWN),
        ("b10875", {"--no-mmap"}, Spelling.UNKNOWN),
        ("b10875", {"--no-mmap", "--load-mode"}, Spelling.BOTH),
        ("b10500", {"--load-mode"}, Spelling.BOTH),
    ],
)
def test_where_number_and_texts_contradict_it_is_what_is_safe_with_either(
    version: str, knows: set[str], spelling: Spelling
) -> None:
    assert spelling_of(llama(version=version, knows=frozenset(knows))) is spelling


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        ("0.18.0", True),
        ("0.18", True),
        ("v0.18.1", True),
        ("0.18.0+cu130", True),
        ("0.18.0.post1", True),
        ("0.20.1rc1.dev91+ga749a33d8", True),
        ("0.17.9", False),
        ("0.9.2", False),
        ("0.18.0rc1", None),
        ("0.18.0.dev3", None),
        ("0.1.dev12374+g942309a47", None),
        ("nightly", None),
        ("", None),
        (None, None),
        ("9" * 400, None),
    ],
)
def test_a_release_is_compared_by_its_numbers(version: str | None, answer: bool | None) -> None:  # noqa: FBT001
    assert at_least(version, "0.18.0") is answer


@pytest.mark.parametrize(
    "fact",
    [
        f"b{LOAD_MODE_SINCE}",
        f"b{LOCK_SPLIT}",
        f"b{AUTO_SINCE}",
        f"b{LEGACY_GONE}",
        "0.8.4",
        "0.10.2",
        "0.18.0",
        "0.4.8",
        "0.5.11",
        "0.32.6",
        "2.21.5",
    ],
)
def test_the_page_of_facts_says_where_each_version_is_known_from(fact: str) -> None:
    rows = [line for line in ENGINES.splitlines() if fact in line]
    assert any("source: " in row or "change: " in row or "Source: " in row for row in rows)
