"""The look for conflicts as a whole: what people, the API and the log are told, what it costs and spares.

To renew the golden file after a change that was meant: UPDATE_GOLDEN=1 pytest tests/test_conflicts.py
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands import CommandLine, run_as_nobody
from daemons import TreeDaemon, wait_until
from machines import READ_AHEAD
from rivals import RULES, Rivals, brief
from sparktune.conflicts import files
from sparktune.conflicts.look import Look
from sparktune.conflicts.watch import MOST_LINES, ConflictWatch
from sparktune.keeper import Keeper
from sparktune.logs import get_logger
from sparktune.model import Cause, CauseKind, Noticed
from sparktune.places import Places
from sparktune.published import encode
from sparktune.recorder import Recorder
from sparktune.simulate import tree
from sparktune.supervision import Supervisor
from sparktune.watches import Watches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from machines import Machine
    from sparktune.snapshot import Conflicts

GOLDEN = Path(__file__).parent / "golden" / "conflicts" / "other-tuners.txt"
RULE = 'KERNEL=="nvme*", ATTR{queue/read_ahead_kb}="4096"\n'


# -- the look ------------------------------------------------------------------------------------------------


def test_a_look_changes_nothing_on_the_host(rivals: Rivals) -> None:
    rivals.place(RULES, RULE)
    before = everything_in(rivals.machine.directory)
    rivals.look()
    assert everything_in(rivals.machine.directory) == before


def test_without_rivals_the_look_says_how_much_it_looked_at(rivals: Rivals) -> None:
    rivals.place(RULES, "# nothing\n")
    seen = rivals.look()
    assert (seen.found, seen.neighbours, seen.gaps) == ((), (), ())
    assert seen.files == 2  # the rules and the kernel command line
    assert seen.looked_at is not None


def test_the_secret_in_a_line_is_hidden_and_a_long_line_is_cut(rivals: Rivals) -> None:
    line = f"/bin/sh -c 'API_TOKEN=hunter2 report; echo 4096 > {READ_AHEAD}'; true {'x' * 500}"
    rivals.serve("tune.service", line)
    text = rivals.only().text
    assert "hunter2" not in encode(rivals.look())
    assert "API_TOKEN=<redacted>" in text
    assert len(text) <= 200


def test_the_text_of_a_file_that_not_everybody_may_read_is_kept_back(rivals: Rivals) -> None:
    rivals.place(RULES, RULE, mode=0o640)
    assert rivals.only().text == ""
    shown = Look(rivals.ours, show_all_text=True).finish().found
    assert [one.text for one in shown] == [RULE.strip()]


def test_the_text_below_a_closed_directory_is_kept_back(rivals: Rivals) -> None:
    rivals.place("/opt/private/run.sh", f"#!/bin/sh\necho 64 > {READ_AHEAD}\n", 0o755)
    rivals.serve("tune.service", "/opt/private/run.sh")
    assert rivals.only().text
    rivals.machine.root.path("/opt/private").chmod(0o700)
    assert rivals.only().text == ""


def test_a_file_that_is_too_long_is_read_in_part_and_said_to_be(rivals: Rivals) -> None:
    rivals.place(RULES, RULE + "# filler\n" * 10_000 + RULE)
    seen = rivals.look()
    assert brief(seen.found) == [(RULES, 1, "4096", False)]
    assert seen.gaps == (f"{RULES}: longer than 64 KiB, read in part",)


def test_there_is_a_limit_to_how_many_files_are_read(rivals: Rivals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 3)
    for number in range(5):
        rivals.place(f"/etc/udev/rules.d/{number}.rules", RULE)
    seen = rivals.look()
    assert seen.files == 3
    assert len(seen.found) == 2
    assert seen.gaps == ("more than 3 files: the rest was not looked at",)


def test_links_that_lead_in_circles_cost_nothing(rivals: Rivals) -> None:
    rivals.link(RULES, "/etc/udev/rules.d/70-other.rules")
    rivals.link("/etc/udev/rules.d/70-other.rules", RULES)
    rivals.place("/etc/udev/rules.d/80-last.rules", RULE)
    assert brief(rivals.found()) == [("/etc/udev/rules.d/80-last.rules", 1, "4096", False)]


def test_what_is_no_regular_file_is_passed_over(rivals: Rivals) -> None:
    (rivals.machine.directory / "etc/udev/rules.d/60-folder.rules").mkdir(parents=True)
    os.mkfifo(rivals.machine.directory / "etc/udev/rules.d/61-pipe.rules")
    rivals.place(RULES, RULE)
    seen = rivals.look()
    assert (len(seen.found), seen.gaps) == (1, ())


def test_bytes_that_are_no_text_are_passed_over(rivals: Rivals) -> None:
    rivals.place(RULES, RULE)
    rivals.machine.root.path("/etc/udev/rules.d/10-broken.rules").write_bytes(bytes(range(256)) * 20)
    assert len(rivals.found()) == 1


PLACES = (
    (RULES, 0o644),
    ("/etc/systemd/system/tune.service", 0o644),
    ("/etc/tmpfiles.d/tune.conf", 0o644),
    ("/etc/rc.local", 0o755),
    ("/etc/crontab", 0o644),
    ("/etc/tuned/mine/tuned.conf", 0o644),
    ("/etc/laptop-mode/laptop-mode.conf", 0o644),
)
WORDS = st.sampled_from(
    [
        *("#!/bin/sh", "\n", " ", "=", '"', "'", "\\\n", "$", "${", "}", "$(", "`", ">", ">>", "|"),
        *("\x00", "é", "٣", "²"),
        *("[disk]", "[cpu]", "[main]", "include=", "mine", "readahead=", "force_latency=cstate.id:"),
        *("[Service]", "ExecStart=", "echo ", "4096", READ_AHEAD, "tee ", "for x in", "; do", "/dev/nvme0n1"),
        *("ATTR{queue/read_ahead_kb}", '=="', 'KERNEL=="nvme*"', "GOTO=", "LABEL=", 'RUN+="', "%k"),
        *("blockdev --setra", "cpupower idle-set -D", "-c", "sysctl -w", "cma_roce_mode -m"),
        *("w ", "- - - -", "@reboot", "* * * * *", "NOLM_READAHEAD=", "HD="),
    ]
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(WORDS | st.text(max_size=8), max_size=60).map("".join))
def test_no_text_makes_a_reader_give_up(rivals: Rivals, text: str) -> None:
    rivals.clear()
    for unit in ("tuned.service", "laptop-mode.service"):
        rivals.enable(unit, "[Service]\nExecStart=/bin/true\n")
    rivals.place("/etc/tuned/active_profile", "mine")
    for name, mode in PLACES:
        rivals.place(name, "#!/bin/sh\n" + text if name == "/etc/rc.local" else text, mode)
    rivals.link("/etc/systemd/system/multi-user.target.wants/tune.service", "../tune.service")
    assert rivals.look().gaps == ()


def test_a_reader_that_gives_up_costs_only_its_own_kind(
    rivals: Rivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trip(*_: object) -> Iterator[None]:
        yield None
        raise ValueError("nobody thought of that")

    monkeypatch.setattr("sparktune.conflicts.tuned.read_tuned", trip)
    rivals.place(RULES, RULE)
    seen = rivals.look()
    assert len(seen.found) == 1
    assert seen.gaps == ("TuneD: given up, ValueError: nobody thought of that",)


# -- the command line ----------------------------------------------------------------------------------------


@pytest.fixture
def host(fast_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    tree.build(fast_path / "host", "other-tuners")
    return CommandLine(fast_path / "host", capsys)


def test_detect_shows_the_conflicts_as_they_were_read_by_eye(host: CommandLine) -> None:
    outcome = host("detect")
    shown = outcome.out[outcome.out.index("CONFLICTS") :]
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(shown)
    assert shown == GOLDEN.read_text()
    assert outcome.code == 0


def test_detect_says_so_when_there_are_none(host: CommandLine) -> None:
    tree.build(host.tree)
    outcome = host("detect")
    assert outcome.out.splitlines()[-1] == "CONFLICTS: none found, looked at 1 file; nothing was changed"
    assert outcome.code == 0


def test_detect_gives_programs_the_same(host: CommandLine) -> None:
    found = host("detect", "--json").document["conflicts"]["found"]
    assert [(one["file"], one["line"], one["agrees"]) for one in found] == [
        ("/usr/lib/tuned/desk/tuned.conf", 6, True),
        ("/etc/tuned/inference/tuned.conf", 6, False),
        (RULES.replace("rival", "read-ahead"), 3, True),
        ("/etc/systemd/system/idle-states.service", 6, False),
    ]


def test_detect_compares_with_the_configuration(host: CommandLine) -> None:
    host.configure("[nvme]\nread_ahead_kb = 4096\n[cpuidle]\ndisable_latency_us = 100\n")
    found = host("detect", "--json").document["conflicts"]["found"]
    assert [one["agrees"] for one in found] == [True, True, False, True]


def test_detect_compares_with_the_defaults_when_the_configuration_is_invalid(host: CommandLine) -> None:
    host.configure("[nvme]\nread_ahead_kb = 'much'\n")
    outcome = host("detect")
    assert outcome.code == 0
    assert "the configuration is invalid" in outcome.out
    assert "sparktune holds 8192 KiB" in outcome.out


def test_conflicts_leave_the_exit_code_alone(host: CommandLine) -> None:
    assert host("detect").code == 0
    tree.build(host.tree, "not-gb10")
    (host.tree / "etc/udev/rules.d").mkdir(parents=True, exist_ok=True)
    (host.tree / RULES[1:]).write_text(RULE)
    outcome = host("detect")
    assert "CONFLICTS: 1 found" in outcome.out
    assert outcome.code == 5


@pytest.mark.root
def test_a_user_is_told_which_files_he_may_not_read(host: CommandLine) -> None:
    for path in (host.tree, *host.tree.parents):
        if path.name.startswith("sparktune-test"):
            path.chmod(0o755)
    secret = host.tree / "etc/udev/rules.d/99-secret.rules"
    secret.write_text(RULE)
    secret.chmod(0o600)
    outcome = run_as_nobody("--root", host.tree, "detect", modules=["sparktune.cli.detect"])
    assert outcome.code == 0, outcome.err
    assert "not looked at:\n  /etc/udev/rules.d/99-secret.rules: not readable\n" in outcome.out
    assert "/etc/tuned/inference/tuned.conf:6" in outcome.out


# -- the daemon ----------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(fast_path: Path) -> Iterator[TreeDaemon]:
    daemon = TreeDaemon.build(fast_path / "tree", "other-tuners")
    yield daemon
    daemon.close()


def published(daemon: TreeDaemon) -> Any:
    return daemon.published("hardware")["conflicts"]


def await_look(daemon: TreeDaemon, after: str | None = None) -> Any:
    wait_until(lambda: published(daemon)["looked_at"] not in (None, after), "a look for conflicts")
    return published(daemon)


def test_the_daemon_publishes_what_it_finds_and_holds_on(daemon: TreeDaemon) -> None:
    daemon.start()
    found = await_look(daemon)["found"]
    assert [one["agrees"] for one in found] == [True, False, True, False]
    assert [one["text"] for one in found][1] == "readahead=4096"
    daemon.await_value(8192)
    assert daemon.published()["state"] == "ok"
    assert (daemon.tree / "etc/tuned/inference/tuned.conf").read_text().endswith("readahead=4096\n")


def test_the_status_warns_of_those_that_differ(daemon: TreeDaemon) -> None:
    daemon.start()
    await_look(daemon)
    wait_until(lambda: len(warnings(daemon)) == 2, "two warnings")
    first, second = warnings(daemon)
    assert first["says"].startswith("TuneD, profile inference (/etc/tuned/inference/tuned.conf:6) sets")
    assert (first["area"], second["area"]) == ("nvme", "cpuidle")
    assert "policy" in first["do"]


def warnings(daemon: TreeDaemon) -> list[Any]:
    return [
        one for one in daemon.published()["warnings"] if one["level"] == "warning" and "(/etc/" in one["says"]
    ]


def test_the_log_has_a_line_for_each_conflict_after_the_start(daemon: TreeDaemon) -> None:
    daemon.start()
    await_look(daemon)
    lines = [line for line in daemon.log.splitlines() if " conflict " in line]
    assert len(lines) == 4
    assert "file=/etc/tuned/inference/tuned.conf:6" in lines[1]
    assert "agrees=no" in lines[1]
    assert daemon.log.index("started") < daemon.log.index(" conflict ")


def test_a_reload_looks_again_and_logs_only_what_is_new(daemon: TreeDaemon) -> None:
    daemon.start()
    before = await_look(daemon)["looked_at"]
    (daemon.tree / "etc/udev/rules.d/99-new.rules").write_text(RULE)
    daemon.ask("reload")
    found = await_look(daemon, after=before)["found"]
    assert "/etc/udev/rules.d/99-new.rules" in [one["file"] for one in found]
    assert sum(" conflict " in line for line in daemon.log.splitlines()) == 5


def test_where_nothing_is_tuned_nothing_is_looked_for(fast_path: Path) -> None:
    daemon = TreeDaemon.build(fast_path / "desktop", "not-gb10")
    daemon.launch()
    assert daemon.outlive() == 5
    assert published(daemon) == {"looked_at": None, "files": 0, "found": [], "neighbours": [], "gaps": []}


# -- when the daemon looks -----------------------------------------------------------------------------------


class Audience:
    """Takes what the watch publishes and logs."""

    def __init__(self) -> None:
        self.published: list[Conflicts] = []
        self.lines: list[dict[str, Any]] = []

    def publish_conflicts(self, found: Conflicts) -> None:
        self.published.append(found)

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, "level": "info", **fields})

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, "level": "warning", **fields})


@pytest.fixture
def audience() -> Audience:
    return Audience()


@pytest.fixture
def watch(build_machine: Callable[..., Machine], audience: Audience) -> ConflictWatch:
    tuner = build_machine("other-tuners").start()
    return ConflictWatch(tuner, audience, audience)  # type: ignore[arg-type] # the two things it tells


def run(watch: ConflictWatch) -> int:
    """Turn until nothing is due; how often that was."""
    turns = 0
    while (due_s := watch.due_s()) is not None:
        time.sleep(max(0.0, due_s - time.monotonic()))
        watch.turn()
        turns += 1
    return turns


def test_nothing_is_looked_for_before_it_is_asked_for(watch: ConflictWatch, audience: Audience) -> None:
    assert watch.due_s() is None
    watch.turn()
    assert audience.published == []


def test_a_look_is_done_in_slices_and_told_once(watch: ConflictWatch, audience: Audience) -> None:
    watch.begin()
    assert run(watch) > 2
    assert [len(one.found) for one in audience.published] == [4]
    assert [line["agrees"] for line in audience.lines] == ["yes", "no", "yes", "no"]
    assert [line["level"] for line in audience.lines] == ["info", "warning", "info", "warning"]


def test_what_was_told_is_not_told_again(watch: ConflictWatch, audience: Audience) -> None:
    for _ in range(2):
        watch.begin()
        run(watch)
    assert (len(audience.published), len(audience.lines)) == (2, 4)


def test_new_tunables_ask_for_a_look_but_not_for_one_after_the_other(watch: ConflictWatch) -> None:
    watch.begin_later()
    first_s = watch.due_s()
    assert first_s is not None
    assert 1.0 < first_s - time.monotonic() <= 2.0
    watch.begin_later()
    assert watch.due_s() == first_s
    watch.begin()
    run(watch)
    watch.begin_later()
    due_s = watch.due_s()
    assert due_s is not None
    assert 50 < due_s - time.monotonic() <= 60


def test_a_disk_that_is_put_in_asks_for_a_look_once(machine: Machine, fast_path: Path) -> None:
    tuner, log = machine.tune(), get_logger()
    places = Places(root=machine.root, config=machine.config, run_dir=fast_path, state_dir=machine.state_dir)
    watches = Watches(log)
    keeper = Keeper(tuner, Recorder(tuner, places, watches, log), watches, Supervisor(), log)
    asked: list[str] = []
    keeper.discovered = lambda: asked.append("look")
    tree.add_disk(machine.directory, "nvme1n1")
    for _ in range(2):
        keeper.rediscover(["nvme"], Noticed.UDEV, Cause(kind=CauseKind.DEVICE))
    assert asked == ["look"]


def test_many_conflicts_do_not_flood_the_log(
    build_machine: Callable[..., Machine], audience: Audience
) -> None:
    machine = build_machine()
    (machine.directory / "etc/udev/rules.d").mkdir(parents=True)
    (machine.directory / RULES[1:]).write_text(RULE * 50)
    watch = ConflictWatch(machine.start(), audience, audience)  # type: ignore[arg-type] # what it tells
    watch.begin()
    run(watch)
    assert len(audience.published[0].found) == 50
    assert len(audience.lines) == MOST_LINES + 1
    assert audience.lines[-1]["count"] == 30


def everything_in(directory: Path) -> dict[str, tuple[bytes, int]]:
    """The content and the time of change of all files."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_the_document_is_plain_json(rivals: Rivals) -> None:
    rivals.place(RULES, RULE)
    document = json.loads(encode(rivals.look()))
    assert document["found"][0]["agrees"] is False
