"""What `sparktune nccl` answers, as data: variables, or what stands against them. Judges nothing."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic resolves the annotations at run time
from typing import ClassVar

from sparktune.frozen import frozen
from sparktune.snapshot import DOCUMENTED


@frozen
class Setting:
    """A variable to set."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    name: str
    """`NCCL_IB_HCA`."""
    value: str
    """Its value, unquoted."""
    reason: str
    """Why, in one sentence."""


@frozen
class Removal:
    """A variable that must not be set."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    name: str
    """`NCCL_IB_GID_INDEX`."""
    reason: str
    """Why, in one sentence."""


@frozen
class Problem:
    """Something that makes NCCL hang or die with any variables."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    what: str
    """What is wrong, and on what."""
    do: str
    """What a person can do about it."""


@frozen
class Suggestion:
    """The environment of NCCL and UCX on this node now, or why there is none."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = DOCUMENTED
    fit: bool
    """Whether NCCL can work over this fabric as it is."""
    nccl_version: str
    """Which NCCL it is for: `2.21 or later`, or the version asked for."""
    variables: tuple[Setting, ...] = ()
    """To set. Nothing that is the default of that version; empty if the fabric is not fit."""
    unset: tuple[Removal, ...] = ()
    """Not to be set."""
    notes: tuple[str, ...] = ()
    """What else a person should know: what works, but not as well as it could; what was left out."""
    problems: tuple[Problem, ...] = ()
    """What to mend first. Not empty: the fabric is not fit, and no variable would help."""
