"""`@frozen` is what a frozen dataclass is, but for the time it takes to make one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import pytest

from sparktune.frozen import frozen


@frozen
class Point:
    """A point."""

    x: int
    y: int = 0
    seen: str = field(default="", compare=False)
    secret: str = field(default="", repr=False)


@frozen(kw_only=False)
class Pair:
    """Two of which everybody knows which is which."""

    key: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The same, made by dataclasses alone."""

    x: int
    y: int = 0
    seen: str = field(default="", compare=False)
    secret: str = field(default="", repr=False)


def test_it_is_equal_by_its_fields_and_to_its_own_kind_only() -> None:
    assert Point(x=1, seen="a") == Point(x=1, seen="b")
    assert Point(x=1) != Point(x=2)
    assert Point(x=1).__eq__(Model(x=1)) is NotImplemented
    assert {Point(x=1, seen="a"): "found"}[Point(x=1)] == "found"


def test_it_shows_what_a_dataclass_would_show() -> None:
    shown = repr(Point(x=1, y=2, seen="a", secret="b"))  # noqa: S106 - no secret
    assert shown == repr(Model(x=1, y=2, seen="a", secret="b")).replace("Model", "Point")  # noqa: S106 - no secret


def test_it_takes_keywords_and_has_no_other_attributes() -> None:
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        Point(x=1).z = 3  # type: ignore[attr-defined]


def test_its_fields_can_be_allowed_to_go_unnamed() -> None:
    assert Pair("a", 1) == Pair(key="a", value=1)
    Pair("a", 1).value = 2  # type: ignore[misc] # as below
    Pair("a", "1")  # type: ignore[arg-type] # as below


def test_what_works_with_dataclasses_works_with_it() -> None:
    assert replace(Point(x=1, y=2), x=3) == Point(x=3, y=2)
    assert asdict(Point(x=1)) == asdict(Model(x=1))
    match Point(x=1, y=2):
        case Point(x=x, y=y):
            assert (x, y) == (1, 2)


def test_that_nobody_changes_a_field_is_for_mypy_to_see() -> None:
    point = Point(x=1)
    point.x = 2  # type: ignore[misc] # an ignore that is not needed is an error: this line is the test


def test_methods_of_ones_own_stay() -> None:
    @frozen
    class Named:
        name: str

        def __repr__(self) -> str:
            return self.name

        def __eq__(self, other: object) -> bool:
            return other == self.name

        def __hash__(self) -> int:
            return 7

    named = Named(name="n")
    assert (repr(named), named == "n", hash(named)) == ("n", True, 7)


def test_without_fields_all_are_equal() -> None:
    @frozen
    class Nothing:
        pass

    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())
