"""Hides secrets in command lines before anything is stored. It rather hides too much than too little.

Patterns only: it does not parse shell. Where a value's end is not plain to see, everything up to the end of
the argument is hidden. All patterns are linear: the command lines of strangers are read on a busy path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REDACTED = "<redacted>"

_FLAGS = re.IGNORECASE | re.ASCII

_PROMISING = (
    r"(?:passw|passphrase|passcode|pass(?:in|out)?(?![a-z])|pwd|pword|secret|token|auth|cred|private|bearer"
    r"|cookie|basic(?=\s|$)|signature|(?<![a-z])sig(?![a-z])|psk(?![a-z])|(?<![a-z])otp(?![a-z])|webhook"
    r"|connection[-_.]?str|(?:api|access|account|encryption|signing|session|licen[cs]e|master|shared|storage"
    r"|service|client|deploy)[-_.]?key)"
)
_NAME = re.compile(_PROMISING + r"[\w.\-\]]{0,128}+", _FLAGS)
"""A name that promises a secret, from the word that does to its end."""
_SEPARATOR = re.compile(r"""[\\"']*+(?:\s*+(?P<assigns>[:=]|%3[ad])\s*+|\s++)""", _FLAGS)
_BLANKS = re.compile(r"\s++")
_BLANK = " \t\n"
_QUOTES = frozenset("\"'\\`")
_VALUE_PATTERN = r"""(?:(?:'[^'"\\]*+'|"[^'"\\]*+"|[^\s"'\\]++)(?=[\s;&|)\]},]|$)|.++)"""
_VALUE = re.compile(_VALUE_PATTERN, re.DOTALL)
"""One plainly quoted or unquoted word; whatever is quoted in another way ends with the argument."""
_PROMISE = re.compile(_NAME.pattern + r"""[\\"']*+\s*+(?:[:=]|%3[ad])?[\s\\"']*+\Z""", _FLAGS)
"""At the end of an argument: the next one is the secret."""
_HEADER = re.compile(
    r"""((?:authorization[\\"']*+\s*+[:=]|cookie[\\"']*+\s*+:)[\s\\"']*+).++""", _FLAGS | re.DOTALL
)
"""Headers whose value holds blanks and quotes of its own: hidden to the end of the argument."""

_USERINFO = re.compile(r"""(://[^\s:/@"']*+:)(?:((?:[^\s@]*+@)++)|\S*+)""")
"""A URL's `user:password@`, up to the word's last `@`; else the rest of the word: each is read once."""

_PLAIN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN\b.*?(?:-----END[^-]{0,64}-----|\Z)", re.DOTALL), REDACTED),
    (re.compile(r"""(https?://)[^\s/@"':<]++@""", _FLAGS), rf"\1{REDACTED}@"),
    (re.compile(r"""(--(?:proxy-)?user(?:\s++|=)["']?[^\s:"']{0,256}+):\S++""", _FLAGS), rf"\1:{REDACTED}"),
    (re.compile(r"(?<![a-z0-9])eyJ[\w\-+/=.]{8,}+", _FLAGS), REDACTED),
    (re.compile(r"(?<![a-z0-9])a(?:kia|sia|gpa|ida|roa|npa)[0-9a-z]{12,}+", _FLAGS), REDACTED),
    (
        re.compile(
            r"(?<![a-z0-9])(?:hf_|sk-|sk_|rk_|gh[opsur]_|github_pat_|glpat-|xox[a-z]-|xapp-|nvapi-"
            r"|npm_|pypi-|aiza|gsk_|tskey-|hvs\.|hvb\.|ya29\.|r8_|dop_v1_|shpat_|sg\.)[\w\-.]{6,}+",
            _FLAGS,
        ),
        REDACTED,
    ),
    (re.compile(r"\b(htpasswd|wpa_passphrase)\s.*+", re.DOTALL), rf"\1 {REDACTED}"),
)
"""What is a secret whatever stands before it."""

_LOGINS = ("--user", "--proxy-user")
"""Followed by `user:password`; or by something harmless without a colon, as in `systemctl --user restart`."""
_ALL_SECRET = ("htpasswd", "wpa_passphrase")
"""Programs that take secrets without any option."""
_LETTERS = {
    "mysql": "p", "maria": "p", "mongo": "p", "sshpass": "p", "docker": "p", "podman": "p", "skopeo": "p",
    "buildah": "p", "helm": "p", "7z": "p", "cqlsh": "p", "clickhouse": "p", "influx": "p", "rar": "p",
    "vncviewer": "p", "rdesktop": "p", "ldap": "wa", "curl": "uUbE", "redis": "a", "ipmi": "P", "zip": "P",
    "sqlcmd": "P", "bcp": "P", "mosquitto": "P", "smbclient": "U", "rpcclient": "U", "openssl": "kK",
    "snmp": "cAX",
}  # fmt: skip
"""What occurs in the names of programs that take secrets behind short options, and the letters."""
_HINTS = (
    "pass", "pwd", "pword", "secret", "token", "key", "auth", "cred", "private", "bearer", "basic", "cookie",
    "sig", "psk", "otp", "connection", "webhook", "://", "-----begin", "--user", "--proxy-user", "eyj", "aki",
    "asi", "agpa", "aida", "aroa", "anpa", "hf_", "sk-", "sk_", "rk_", "gh", "glpat", "_pat", "xox", "xapp",
    "nvapi", "npm_", "pypi", "aiza", "gsk_", "hvs.", "hvb.", "ya29", "r8_", "dop_", "shpat", "sg.", *_LETTERS,
)  # fmt: skip
"""Without one of these there is nothing to hide: most command lines take this way out."""


def redact(arguments: Sequence[str]) -> str:
    """The command line in one string, joined with blanks; secrets become `<redacted>`.

    Names stay: `--token=<redacted>`, `DB_PASSWORD=<redacted>`, `https://user:<redacted>@host/`.
    """
    return " ".join(redact_each(arguments))


def redact_each(arguments: Sequence[str]) -> Sequence[str]:
    """As `redact`, each argument on its own: as many as there were."""
    lowered = " ".join(arguments).lower()
    for hint in _HINTS:
        if hint in lowered:
            break
    else:
        return arguments
    letters = "".join(
        sorted({letter for name, some in _LETTERS.items() if name in lowered for letter in some})
    )
    return tuple(_redact_arguments(arguments, _short_option(letters) if letters else None))


def _short_option(letters: str) -> re.Pattern[str]:
    """`-p`, also behind other flags (`-vp`), and what it takes, attached or not."""
    return re.compile(
        rf"""(?<![^\s"'`(=])(-[a-zA-Z0-9]{{0,8}}?[{letters}])(\s*+)({_VALUE_PATTERN})?""", re.DOTALL
    )


def _redact_arguments(arguments: Sequence[str], short_option: re.Pattern[str] | None) -> Iterator[str]:
    promised = all_secret = False
    for number, argument in enumerate(arguments):
        login = number > 0 and arguments[number - 1] in _LOGINS and ":" in argument
        hidden = promised or all_secret or login
        yield REDACTED if hidden else _redact_argument(argument, short_option)
        all_secret = all_secret or argument.rpartition("/")[2] in _ALL_SECRET
        # The first is the program: `sshpass` promises nothing.
        promised = number > 0 and _promises(argument, short_option)


def _promises(argument: str, short_option: re.Pattern[str] | None) -> bool:
    """Whether the next argument is a secret. Judged by the original, even where that is hidden itself."""
    if short_option is not None and (match := short_option.fullmatch(argument)) and not match[3]:
        return True
    return _PROMISE.search(argument) is not None


def _redact_argument(argument: str, short_option: re.Pattern[str] | None) -> str:
    if short_option is not None:
        if (attached := short_option.match(argument)) and attached[3] and not attached[2]:
            return attached[1] + REDACTED
        argument = short_option.sub(
            lambda match: match[1] + match[2] + (REDACTED if match[3] else ""), argument
        )
    argument = _USERINFO.sub(lambda match: f"{match[1]}{REDACTED}@" if match[2] else match[0], argument)
    for pattern, replacement in _PLAIN:
        argument = pattern.sub(replacement, argument)
    argument = _HEADER.sub(rf"\1{REDACTED}", argument)
    return _redact_names(argument)


def _redact_names(text: str) -> str:
    """Hide the values that stand behind promising names in one argument, which may be a whole script."""
    parts: list[str] = []
    kept = position = 0
    while name := _NAME.search(text, position):
        position = name.end()
        separator = _SEPARATOR.match(text, position)
        if separator is None or separator.end() == len(text):
            continue
        start = separator.end()
        position = len(text) if _takes_all(text, name.start(), separator) else _end_of_value(text, start)
        parts += text[kept:start], REDACTED
        kept = position
    return "".join(parts) + text[kept:]


def _takes_all(text: str, name_start: int, separator: re.Match[str]) -> bool:
    """Whether a value may hold blanks although it is not quoted itself, so that its end cannot be known.

    `DB_PASSWORD=two words` as an argument of its own; in a script, `-e "DB_PASSWORD=two words"` and
    `-H 'X-Token: two words'`.
    """
    if separator["assigns"] is None:
        return False
    colon = separator["assigns"] == ":"
    quoted = text[separator.end()] in "\"'"
    word_start = max(text.rfind(blank, 0, name_start) for blank in _BLANK) + 1
    if word_start == 0:
        return not (colon and quoted)
    return not quoted and (colon or not _QUOTES.isdisjoint(text[word_start:name_start]))


def _end_of_value(text: str, start: int) -> int:
    """Where a value ends. One that itself promises a secret (`Bearer`, `--token --password`) takes more."""
    while value := _VALUE.match(text, start):
        gap = _BLANKS.match(text, value.end())
        if gap is None or gap.end() == len(text) or _NAME.search(text, start, value.end()) is None:
            return value.end()
        start = gap.end()
    return len(text)
