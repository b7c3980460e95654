"""The units: what systemd itself says of them, and what it cannot know."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from sparktune.api.sockets import BACKLOG
from sparktune.cli.main import COMMANDS
from sparktune.daemon import EXIT_UNSUPPORTED
from sparktune.errors import UsageError

UNITS = Path(__file__).parents[1] / "systemd"
DAEMON, API, SOCKET = "sparktune.service", "sparktune-api.service", "sparktune-api.socket"
NAMES = (DAEMON, API, SOCKET)
PROGRAM = "/usr/bin/sparktune"
WATCHDOG_S = 30
MOST_EXPOSED = {DAEMON: 2.7, API: 1.0}
PEERS = "peers.conf"
MOST_EXPOSED_WITH_PEERS = 3.2
"""The drop-in is for a person to install; as shipped the unit stays below 3.0."""

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
needs_systemd_sysusers = pytest.mark.skipif(
    shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed"
)

STRICTEST = {
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateMounts": "yes",
    "PrivateNetwork": "yes",
    "PrivateTmp": "yes",
    "PrivateUsers": "yes",
    "ProcSubset": "pid",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}


class Line(NamedTuple):
    """One assignment, with the comment right above it."""

    section: str
    key: str
    value: str
    comment: str


class Unit(NamedTuple):
    """A unit file as text."""

    lines: tuple[Line, ...]

    def find(self, key: str) -> list[Line]:
        return [line for line in self.lines if line.key == key]

    def value(self, key: str) -> str:
        [line] = self.find(key)
        return line.value

    def words(self, key: str) -> set[str]:
        return {word for line in self.find(key) for word in line.value.split()}


def read(name: str) -> Unit:
    lines, section, comment = [], "", ""
    for text in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if text.startswith("#"):
            comment += text.removeprefix("#").strip() + "\n"
        elif text.startswith("["):
            section, comment = text.strip("[]"), ""
        elif "=" in text:
            key, _, value = text.partition("=")
            lines.append(Line(section, key, value, comment))
            comment = comment if value.endswith("\\") else ""
        else:
            comment = ""
    return Unit(tuple(lines))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units in a folder, with a program that is there in place of the one that is not installed here."""
    program = tmp_path / "sparktune"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in NAMES:
        text = (UNITS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(PROGRAM, str(program)))
    return tmp_path


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder}:/usr/lib/systemd/system:/lib/systemd/system"
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": path, "SYSTEMD_COLORS": "0", "TMPDIR": str(folder)}
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


# -- what systemd says ---------------------------------------------------------------------------------------


@needs_systemd_analyze
def test_systemd_has_nothing_to_say_against_the_units(installed: Path) -> None:
    done = analyze(installed, "verify", "--man=no", *(f"./{name}" for name in NAMES))
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "sparktune" in line]
    assert (done.returncode, complaints) == (0, [])


@needs_systemd_analyze
@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_key_in_a_unit_would_be_noticed(installed: Path, name: str) -> None:
    with (installed / name).open("a") as file:
        file.write("ProtectEverything=yes\n")
    done = analyze(installed, "verify", f"./{name}")
    assert f"{name}:" in done.stderr
    assert "ProtectEverything" in done.stderr


@needs_systemd_analyze
@pytest.mark.parametrize("name", MOST_EXPOSED)
def test_a_unit_is_exposed_no_more_than_was_agreed(installed: Path, name: str) -> None:
    threshold = round(MOST_EXPOSED[name] * 10)
    done = analyze(installed, "security", "--offline=true", f"--threshold={threshold}", f"./{name}")
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout


@needs_systemd_analyze
def test_what_lets_the_daemon_ping_peers_exposes_it_no_more_than_was_agreed(installed: Path) -> None:
    (installed / f"{DAEMON}.d").mkdir()
    shutil.copy(UNITS / PEERS, installed / f"{DAEMON}.d")
    threshold = round(MOST_EXPOSED_WITH_PEERS * 10)
    done = analyze(installed, "security", "--offline=true", f"--threshold={threshold}", f"./{DAEMON}")
    assert done.returncode == 0, done.stdout
    assert "Service may allocate Internet sockets" in done.stdout, "the drop-in was not read"


@needs_systemd_sysusers
def test_the_user_and_group_of_the_units_are_made(tmp_path: Path) -> None:
    command = ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "sparktune.sysusers")]
    (tmp_path / "etc").mkdir()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    users = (tmp_path / "etc/passwd").read_text().splitlines()
    groups = (tmp_path / "etc/group").read_text().splitlines()
    [user] = [line.split(":") for line in users if line.startswith("sparktune:")]
    assert user[5:] == ["/nonexistent", "/usr/sbin/nologin"]
    assert user[3] in {line.split(":")[2] for line in groups if line.startswith("sparktune:")}


# -- the daemon's life ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "command"),
    [(DAEMON, "ExecStart", "daemon"), (DAEMON, "ExecReload", "reload"), (API, "ExecStart", "api")],
)
def test_the_program_knows_the_command_that_a_unit_starts(name: str, key: str, command: str) -> None:
    assert read(name).value(key) == f"{PROGRAM} {command}"
    assert command in COMMANDS


def test_a_machine_that_is_not_to_be_tuned_is_no_failed_unit() -> None:
    unit = read(DAEMON)
    assert unit.value("Type") == "notify"
    assert unit.words("SuccessExitStatus") == {str(EXIT_UNSUPPORTED)}


def test_the_daemon_is_not_started_again_where_that_cannot_help() -> None:
    unit = read(DAEMON)
    assert unit.value("Restart") == "on-failure"
    usage = str(UsageError.exit_code)
    assert unit.words("RestartPreventExitStatus") == {usage, str(EXIT_UNSUPPORTED)}


def test_a_daemon_that_keeps_failing_is_given_up() -> None:
    unit = read(DAEMON)
    assert {line.section for line in unit.find("StartLimitBurst")} == {"Unit"}
    burst, pause_s = int(unit.value("StartLimitBurst")), int(unit.value("RestartSec").removesuffix("s"))
    window_s = 60 * int(unit.value("StartLimitIntervalSec").removesuffix("min"))
    assert burst * (pause_s + WATCHDOG_S) < window_s, "the limit would never be reached"


def test_the_daemon_is_watched() -> None:
    assert read(DAEMON).value("WatchdogSec") == f"{WATCHDOG_S}s"


def test_what_loads_models_starts_after_the_daemon_has_applied() -> None:
    loaders = {"docker", "containerd", "ollama", "kubelet", "k3s", "k3s-agent"}
    assert {f"{name}.service" for name in loaders} <= read(DAEMON).words("Before")


def test_the_daemon_starts_with_the_machine_and_the_api_with_its_socket() -> None:
    assert read(DAEMON).value("WantedBy") == "multi-user.target"
    assert read(SOCKET).value("WantedBy") == "sockets.target"
    assert read(API).value("Also") == SOCKET
    assert read(API).value("Requires") == SOCKET


# -- files ---------------------------------------------------------------------------------------------------


def test_the_last_snapshot_outlives_the_daemon() -> None:
    assert read(DAEMON).value("RuntimeDirectoryPreserve") == "yes"


def test_everybody_gets_to_the_snapshot_and_the_api_to_the_history() -> None:
    daemon, api = read(DAEMON), read(API)
    assert (daemon.value("RuntimeDirectory"), daemon.value("RuntimeDirectoryMode")) == ("sparktune", "0755")
    assert (daemon.value("StateDirectory"), daemon.value("StateDirectoryMode")) == ("sparktune", "0750")
    assert daemon.value("Group") == api.value("Group") == "sparktune"


def test_every_path_that_can_be_written_may_be_missing() -> None:
    paths = read(DAEMON).words("ReadWritePaths")
    assert paths
    assert all(path.startswith("-/sys/") for path in paths)


def test_the_rest_of_the_kernel_files_cannot_be_written() -> None:
    assert read(DAEMON).words("ReadOnlyPaths") >= {"/sys", "/proc"}


@pytest.mark.parametrize("name", [DAEMON, API])
def test_run_is_read_only_also_where_other_settings_take_it_out_of_strict(name: str) -> None:
    unit = read(name)
    assert unit.value("ProtectSystem") == "strict"
    assert "/run" in unit.words("ReadOnlyPaths")


# -- rights --------------------------------------------------------------------------------------------------


def test_each_capability_of_the_daemon_has_its_reason_beside_it() -> None:
    [line] = read(DAEMON).find("CapabilityBoundingSet")
    reasons = dict(re.findall(r"^(CAP_\w+)\s+(\S.*)$", line.comment, re.MULTILINE))
    assert set(line.value.split()) <= set(reasons)


def test_the_daemon_has_no_capability_that_the_code_does_not_use() -> None:
    assert read(DAEMON).words("CapabilityBoundingSet") == {
        "CAP_SYS_ADMIN",
        "CAP_SYS_PTRACE",
        "CAP_NET_ADMIN",
        "CAP_SETUID",
        "CAP_SETGID",
    }
    assert read(DAEMON).value("AmbientCapabilities") == ""


def test_what_lets_the_daemon_ping_peers_adds_one_capability_with_its_reason() -> None:
    unit = read(PEERS)
    [line] = unit.find("CapabilityBoundingSet")
    assert line.value == "CAP_NET_RAW"
    assert re.search(r"^CAP_NET_RAW\s+\S", line.comment, re.MULTILINE)
    assert unit.words("RestrictAddressFamilies") == {"AF_INET", "AF_INET6"}
    assert unit.find("IPAddressDeny") == [], "everything but the private ranges stays denied"


def test_the_api_has_no_capability_and_no_network() -> None:
    unit = read(API)
    assert unit.value("CapabilityBoundingSet") == unit.value("AmbientCapabilities") == ""
    assert unit.value("PrivateNetwork") == "yes"
    assert unit.words("RestrictAddressFamilies") == {"AF_UNIX"}
    assert unit.value("User") == "sparktune"


@pytest.mark.parametrize("name", [DAEMON, API])
@pytest.mark.parametrize("key", STRICTEST)
def test_what_is_less_strict_than_it_could_be_has_its_reason_above_it(name: str, key: str) -> None:
    [line] = read(name).find(key)
    if line.value != STRICTEST[key]:
        assert len(line.comment.split()) > 4, f"{name}: {key}={line.value} has no reason"


def test_a_reason_is_asked_for_at_all() -> None:
    relaxed = {line.key for line in read(DAEMON).lines if STRICTEST.get(line.key, line.value) != line.value}
    assert "PrivateNetwork" in relaxed


@pytest.mark.parametrize("name", [DAEMON, API])
def test_privileged_system_calls_are_refused_but_for_those_that_are_needed(name: str) -> None:
    filters = [line.value for line in read(name).find("SystemCallFilter")]
    assert filters[0] == "@system-service"
    assert filters[1].startswith("~@privileged @resources")
    more = ["fanotify_init fanotify_mark @chown", "@setuid setfsuid capset"]
    assert filters[2:] == (more if name == DAEMON else [])


# -- the socket ----------------------------------------------------------------------------------------------


def test_both_loopback_addresses_listen_and_none_takes_the_other_with_it() -> None:
    unit = read(SOCKET)
    assert [line.value for line in unit.find("ListenStream")] == ["127.0.0.1:9300", "[::1]:9300"]
    assert unit.value("BindIPv6Only") == "ipv6-only"
    assert unit.value("FreeBind") == "yes"


def test_only_this_machine_may_connect_and_that_is_said_where_it_counts() -> None:
    unit = read(SOCKET)
    assert (unit.value("IPAddressAllow"), unit.value("IPAddressDeny")) == ("localhost", "any")


def test_the_sockets_are_as_those_that_the_api_binds_itself() -> None:
    assert read(SOCKET).value("Backlog") == str(BACKLOG)
    assert read(SOCKET).value("NoDelay") == "yes"
