"""Completion in bash, zsh and fish: click's answers, in scripts of our own.

click's scripts lose what stands before the `=` of `--option=VALUE` (or everything after it), cut help at its
first comma, and leave variables behind in the shell. Imported only when a shell asks or a script is printed.
"""

from __future__ import annotations

from os.path import expanduser
from typing import TYPE_CHECKING

from click.shell_completion import (
    BashComplete,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

# bash takes `=` for a word of its own and replaces only what stands after it.
_BASH = """\
# bash completion for %(prog_name)s

%(complete_func)s() {
    local IFS=$'\\n' answer line
    local -a answers
    answer=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
%(complete_var)s=bash_complete "$1" 2>/dev/null)
    readarray -t answers <<<"$answer"
    COMPREPLY=()
    for line in "${answers[@]}"; do
        case $line in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            plain,*) COMPREPLY+=("${line#plain,}") ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

# Three lines an answer. The second half is for the two ways a script gets into zsh: as the file of an
# autoloaded function, which is run, or sourced, where the function has to be announced.
_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local kind value says found=1
    local -a answers plain described
    (( $+commands[%(prog_name)s] )) || return 1
    answers=("${(@f)$(env COMP_WORDS="${(pj:\\n:)words}" COMP_CWORD=$((CURRENT - 1)) \
%(complete_var)s=zsh_complete %(prog_name)s 2>/dev/null)}")
    [[ $words[CURRENT] == --*=* ]] && compset -P 1 '*='
    for kind value says in $answers; do
        case $kind in
            dir) _path_files -/ && found=0 ;;
            file) _path_files -f && found=0 ;;
            plain) if [[ $says == _ ]]; then plain+=($value); else described+=("$value:$says"); fi ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described && found=0
    (( $#plain )) && compadd -V unsorted -a plain && found=0
    return found
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

# fish compares candidates with the whole word, so what stands before the value has to be put there again.
_FISH = """\
# fish completion for %(prog_name)s

function %(complete_func)s
    set -l option (commandline -ct | string match --regex -- '^--[a-z-]+=')
    for line in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) \
COMP_CWORD=(commandline -ct) %(prog_name)s 2>/dev/null)
        set -l answer (string split --max 1 , -- $line)
        switch $answer[1]
            case dir
                string replace --regex -- '^' "$option" (__fish_complete_directories "$answer[2]")
            case file
                string replace --regex -- '^' "$option" (__fish_complete_path "$answer[2]")
            case plain
                string replace --regex -- '^' "$option" $answer[2]
        end
    end
end

complete --no-files --command %(prog_name)s --arguments '(%(complete_func)s)'
"""


class Bash(BashComplete):
    """For bash 4.4 and later, with or without bash-completion."""

    source_template = _BASH

    def source(self) -> str:
        """The script. The parent's own starts a bash to ask for its version, which is not ours to judge."""
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to complete, and that one."""
        words, incomplete = super().get_completion_args()
        return expand(join_options(words)), incomplete


class Zsh(ZshComplete):
    """For zsh, sourced or autoloaded."""

    source_template = _ZSH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to complete, and that one."""
        words, incomplete = super().get_completion_args()
        return expand(words), incomplete


class Fish(FishComplete):
    """For fish 3.1 and later."""

    source_template = _FISH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to complete, and that one."""
        words, incomplete = super().get_completion_args()
        return expand(words), incomplete


SHELLS = {kind.name: kind for kind in (Bash, Zsh, Fish)}


def register() -> None:
    """Let click answer with these instead of its own."""
    for kind in SHELLS.values():
        add_completion_class(kind)


def join_options(words: Iterable[str]) -> list[str]:
    """Put `--option`, `=`, `VALUE` together again; a `=` at the end belongs to the value being typed."""
    joined: list[str] = []
    for word in words:
        is_part = joined and joined[-1].startswith("--") and (word == "=" or joined[-1].endswith("="))
        if is_part:
            joined[-1] += word
        else:
            joined.append(word)
    if joined and joined[-1].startswith("--"):
        joined[-1] = joined[-1].removesuffix("=")
    return joined


def expand(words: Iterable[str]) -> list[str]:
    """Home directories as the shell will have replaced them when the command runs."""
    return [expanduser(word) for word in words]  # noqa: PTH111 - words, not paths: a Path drops slashes
