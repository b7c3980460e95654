"""Real interactive shells on a terminal of their own: what they make of a line when they complete it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE_S = 30.0
_PROMPT = b"<ready>"
_SAY_READY = "PS1='<''ready>'"  # not spelled as the prompt: the terminal echoes what is typed

_BASH = """
bind 'set enable-bracketed-paste off'
bind '"\\C-x": insert-completions'
bind -x '"\\C-t": printf %s "$READLINE_LINE" >line.new; mv line.new line'
"""
_ZSH = """
zstyle ':completion:all-matches:*' completer _all_matches _complete
zstyle ':completion:all-matches:*' insert true
zle -C all-matches complete-word _generic; bindkey '^X' all-matches
show-line() { print -rn -- $BUFFER >line.new; mv line.new line }
zle -N show-line; bindkey '^T' show-line
"""
_PROGRAMS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
}
_COMPLETE_AND_SHOW = b"\x18\x14"  # Ctrl-X, Ctrl-T


@dataclass(frozen=True, slots=True)
class Desk:
    """Where somebody types.

    Attributes:
        directory: the current folder, and the home.
        environment: of the shells.
        bash: what bash reads first.
        zsh: what zsh reads first.
        fish: what fish reads first.
    """

    directory: Path
    environment: dict[str, str]
    bash: str = ""
    zsh: str = ""
    fish: str = ""

    def complete(self, shell: str, line: str) -> list[str]:
        """The words that may stand in place of the last one of the line, sorted."""
        if shell == "fish":
            return self._ask_fish(line)
        setup = {"bash": self.bash + _BASH, "zsh": self.zsh + _ZSH}[shell]
        (self.directory / "setup").write_text(setup)
        before = line[: line.rindex(" ") + 1]
        shown = self._type(shell, line)
        assert shown.startswith(before), shown
        words = shown.removeprefix(before).split()
        return [] if words == line.removeprefix(before).split() else sorted(words)

    def _ask_fish(self, line: str) -> list[str]:
        """What fish says itself that it would offer."""
        done = subprocess.run(
            ["fish", "--command", f'{self.fish}\ncomplete --do-complete "$argv[1]"', line],
            cwd=self.directory, env=self.environment,
            capture_output=True, text=True, check=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.stderr == ""
        return sorted(offer.partition("\t")[0] for offer in done.stdout.splitlines())

    def _type(self, shell: str, line: str) -> str:
        """The line after all completions were inserted into it."""
        ours, theirs = pty.openpty()
        result = self.directory / "line"
        result.unlink(missing_ok=True)
        command = ["setsid", "--ctty", *_PROGRAMS[shell]]
        with subprocess.Popen(
            command, cwd=self.directory, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            try:
                os.write(ours, f". ./setup; {_SAY_READY}\n".encode())
                _read_until(ours, lambda shown: _PROMPT in shown)
                os.write(ours, line.encode() + _COMPLETE_AND_SHOW)
                _read_until(ours, lambda _: result.exists())
            finally:
                process.kill()
                os.close(ours)
        return result.read_text()


def _read_until(terminal: int, done: Callable[[bytes], bool]) -> None:
    """Read what the terminal shows until that is enough."""
    shown = b""
    end_s = time.monotonic() + PATIENCE_S
    while not done(shown):
        assert time.monotonic() < end_s, shown.decode(errors="replace")
        if select.select([terminal], [], [], 0.02)[0]:
            shown += os.read(terminal, 4096)
