"""`sparktune advise`: what the inference engines here do to themselves, as the daemon published it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sparktune.advice.rule_ids import RULE_IDS
from sparktune.cli.options import json_option, places
from sparktune.cli.phrases import local_time
from sparktune.cli.screen import Screen
from sparktune.errors import DaemonNotRunningError, UsageError
from sparktune.published import HINT_NO_DAEMON, describe_age, fetch

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from sparktune.advice.model import Rule

_COLUMN = 8
_RULE_COLUMN = 16
_LIST = "list"
_MIB = 1 << 20
_GIB = 1 << 30


def _complete_rules(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the rules."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(id_) for id_ in RULE_IDS if id_.startswith(incomplete)]


@click.command()
@click.option("--pid", type=click.IntRange(min=1), help="Only this process.")
@click.option(
    "--explain",
    metavar="RULE",
    is_flag=False,
    flag_value=_LIST,
    shell_complete=_complete_rules,
    help="One rule, whether it has found something or not; without RULE, all of them in a line each.",
)
@json_option
def advise(*, pid: int | None, explain: str | None, as_json: bool) -> int:
    """Show what the engines that serve models here do to themselves: what, why, and what to do about it.

    Nothing is changed, and the state of the host does not depend on it.
    """
    screen = Screen()
    if explain is not None:
        _explain(screen, explain, as_json=as_json)
        return 0
    run_dir = places().run_dir
    published = fetch(run_dir, "advice")
    status = fetch(run_dir, "status")
    try:
        document = _only(published.data, pid)
        if as_json:
            screen.json(document)
        else:
            _show(screen, document, silent_for=None if status.trusted else status.age_s)
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # damaged, or of another version
        raise DaemonNotRunningError(f"{run_dir}/advice.json is damaged", hint=HINT_NO_DAEMON) from error
    return 0


def _only(document: dict[str, Any], pid: int | None) -> dict[str, Any]:
    """The part of the document that is about one process."""
    if pid is None:
        return document
    engines = [engine for engine in document["engines"] if engine["pid"] == pid]
    if not engines:
        known = ", ".join(str(engine["pid"]) for engine in document["engines"][:10])
        hint = f"those found are {known}" if known else "sparktune advise says which were found"
        raise UsageError(f"no engine has pid {pid}; new ones are looked at once a minute", hint=hint)
    findings = [finding for finding in document["findings"] if finding["pid"] == pid]
    return {**document, "engines": engines, "findings": findings}


def _show(screen: Screen, document: dict[str, Any], *, silent_for: float | None) -> None:
    looked = document["looked_at"]
    screen.say(f"advice: {document['summary']['says']}", style="bold")
    if silent_for is not None:
        says = f"the daemon is silent, this was published {describe_age(silent_for)}"
        screen.tell("note", says, column=_COLUMN)
    elif looked:
        screen.tell("looked", local_time(looked), column=_COLUMN)
    if document["unseen"]:
        screen.tell("unseen", document["unseen"], column=_COLUMN)
    for engine in document["engines"]:
        screen.say()
        _show_engine(screen, engine)
        for finding in document["findings"]:
            if finding["pid"] == engine["pid"]:
                _show_finding(screen, finding)
    if document["ignored"]:
        screen.say()
        screen.tell("silent", f"{', '.join(document['ignored'])} (advice.ignore)", column=_COLUMN)


def _show_engine(screen: Screen, engine: dict[str, Any]) -> None:
    version = f" {engine['version']}" if engine["version"] else ""
    where = f" in container {engine['container']}" if engine["container"] else ""
    screen.say(f"{engine['name']}[{engine['pid']}], {engine['kind']}{version}{where}", style="bold")
    screen.tell("known", f"by: {'; '.join(engine['signs'])}", indent=2, column=_COLUMN)
    if engine["model"]:
        screen.tell("model", engine["model"] + _say_mapped(engine), indent=2, column=_COLUMN)
    if engine["rdma"] or engine["queue_pairs"]:
        screen.tell("rdma", _say_rdma(engine), indent=2, column=_COLUMN)
    for gap in engine["unreadable"]:
        screen.tell("unseen", gap, indent=2, column=_COLUMN)


def _say_mapped(engine: dict[str, Any]) -> str:
    mapped, resident = engine["mapped_bytes"], engine["resident_bytes"]
    if mapped is None or resident is None:
        return ""
    return f"; {_size(mapped)} mapped, {_size(resident)} resident" if mapped else "; not mapped"


def _say_rdma(engine: dict[str, Any]) -> str:
    pairs = engine["queue_pairs"]
    if pairs is None:
        return "a device is open; queue pairs not known"
    return f"{pairs} queue pair{'' if pairs == 1 else 's'}" if pairs else "a device is open, no queue pair"


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / _MIB:.1f} MiB"


def _show_finding(screen: Screen, finding: dict[str, Any]) -> None:
    screen.say()
    screen.head(f"  {finding['severity']}", finding["rule"])
    for label, key in (("what", "what"), ("why", "why"), ("do", "do"), ("expect", "expect")):
        if finding[key]:
            screen.tell(label, finding[key], indent=4, column=_COLUMN)
    screen.tell("source", f"{finding['source']} ({finding['certainty']})", indent=4, column=_COLUMN)


def _explain(screen: Screen, id_: str, *, as_json: bool) -> None:
    from sparktune.advice.rules import RULES

    if id_ == _LIST:
        if as_json:
            screen.json([_plain(rule) for rule in RULES])
        else:
            rows = [(rule.id, rule.severity.value, rule.looks_for) for rule in RULES]
            screen.table(("RULE", "AT MOST", "LOOKS FOR"), rows)
        return
    rule = next((rule for rule in RULES if rule.id == id_), None)
    if rule is None:
        from difflib import get_close_matches

        near = get_close_matches(id_[:100], RULE_IDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "sparktune advise --explain lists them"
        raise UsageError(f"there is no rule {id_[:80]}", hint=hint)
    if as_json:
        screen.json(_plain(rule))
        return
    screen.say(rule.id, style="bold")
    for label, text in _plain(rule).items():
        if label != "id":
            screen.tell(label.replace("_", " "), text, column=_RULE_COLUMN)


def _plain(rule: Rule) -> dict[str, str]:
    """A rule without its function."""
    return {
        "id": rule.id,
        "severity": rule.severity.value,
        "looks_for": rule.looks_for,
        "evidence": rule.evidence,
        "recommendation": rule.recommendation,
        "expect": rule.expect,
        "versions": rule.versions,
        "source": rule.source,
        "certainty": rule.certainty.value,
    }
