"""Names from the system as they may stand in sentences and in command lines for people."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable


def shell_word(name: str) -> str:
    """A name as one word of a shell's command line; control characters in the `$''` of bash and zsh."""
    if name.isprintable():
        return shlex.quote(name)
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(one if one.isprintable() else _escape(one) for one in escaped) + "'"


def _escape(character: str) -> str:
    """The bytes of a character; a lone surrogate stands for a byte that was no UTF-8."""
    return "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))


def listed(names: Iterable[str]) -> str:
    """`enp1s0f0np0 and enP2p1s0f0np0`, safe to print."""
    shown = [plain(name) for name in names]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
