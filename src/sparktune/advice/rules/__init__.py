"""The registry of the rules: one explicit tuple, in the order in which they are documented."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparktune.advice.model import Rule

RULES: tuple[Rule, ...] = ()
