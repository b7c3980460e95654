"""What dpkg runs when the package comes, changes and goes, case by case. Tools only note their calls."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from commands import run_process, running_daemon
from sparktune.simulate import tree

DEBIAN = Path(__file__).parents[1] / "packaging/debian"
TOOLS = ("snippets", "sparktune", "py3clean", "py3compile", "systemctl", "deb-systemd-invoke")
RESTORE = (
    "sparktune restore --all --until-start --state-dir {0}/var/lib/sparktune --run-dir {0}/run/sparktune"
)
CLEAN = "py3clean -p sparktune /usr/lib/sparktune"
COMPILE = "py3compile -p sparktune /usr/lib/sparktune"
RESET = "systemctl reset-failed sparktune.service sparktune-api.service sparktune-api.socket"
RESTART_API = "deb-systemd-invoke try-restart sparktune-api.service"
RESTART_SOCKET = "deb-systemd-invoke restart sparktune-api.socket"
UNIT = "usr/lib/systemd/system/sparktune-api.socket"
SEE = "To see it: sparktune status, or curl localhost:9300/status"
UNDO = "To undo it: sparktune restore --all puts the values back; apt remove sparktune does so as well"


class Machine:
    """A folder in place of the machine's /run, /var/lib and units, and tools that note their calls."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("run/systemd/system", "var/lib/sparktune", "usr/lib/systemd/system", "tools"):
            (directory / name).mkdir(parents=True)
        for tool in TOOLS:
            self.answer(tool)

    def answer(self, tool: str, script: str = "") -> None:
        """What a tool does besides noting its call."""
        path = self.directory / "tools" / tool
        path.write_text(f'#!/bin/sh\necho "{tool} $*" >>{self.directory}/calls\n{script}\n')
        path.chmod(0o755)

    def stop_systemd(self) -> None:
        """As in a chroot."""
        (self.directory / "run/systemd/system").rmdir()

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a maintainer script; `snippets` stands for what debhelper puts in."""
        text = (DEBIAN / name).read_text(encoding="utf-8").replace("#DEBHELPER#", "snippets")
        for path in ("/run/", "/var/lib/", "/usr/lib/systemd/"):
            text = text.replace(path, f"{self.directory}{path}")
        text = text.replace("find /usr/lib", f"find {self.directory}/usr/lib")
        environment = {"PATH": f"{self.directory}/tools:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        command = ["sh", "-c", text, name, *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done

    def calls(self) -> list[str]:
        """Every call of a tool, in order."""
        path = self.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(fast_path: Path) -> Machine:
    return Machine(fast_path)


# -- prerm ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("remove",), ("remove", "in-favour", "other", "1")])
def test_removal_stops_the_daemon_then_restores_then_cleans(
    machine: Machine, arguments: tuple[str, ...]
) -> None:
    machine.run("prerm", *arguments)
    assert machine.calls() == ["snippets ", RESTORE.format(machine.directory), CLEAN]


def test_bytecode_goes_where_python_is_broken_as_well(machine: Machine) -> None:
    machine.answer("py3clean", "exit 1")
    cache = machine.directory / "usr/lib/sparktune/rich/__pycache__"
    cache.mkdir(parents=True)
    (cache / "table.cpython-311.pyc").touch()
    machine.run("prerm", "remove")
    assert not cache.exists()
    assert cache.parent.exists()


@pytest.mark.parametrize(
    "arguments",
    [("upgrade", "2"), ("failed-upgrade", "1"), ("deconfigure", "in-favour", "other", "1")],
)
def test_nothing_is_put_back_while_the_package_stays(machine: Machine, arguments: tuple[str, ...]) -> None:
    machine.run("prerm", *arguments)
    assert machine.calls() == ["snippets ", CLEAN]


def test_a_restore_that_fails_is_told_and_does_not_keep_the_package(machine: Machine) -> None:
    machine.answer("sparktune", "exit 1")
    done = machine.run("prerm", "remove")
    assert "not everything has been put back" in done.stderr
    assert machine.calls()[-1] == CLEAN


def test_values_of_somebody_else_are_no_failed_restore(machine: Machine) -> None:
    machine.answer("sparktune", "exit 4")
    done = machine.run("prerm", "remove")
    assert done.stderr == ""
    assert machine.calls()[-1] == CLEAN


# -- postrm --------------------------------------------------------------------------------------------------


def places(machine: Machine) -> list[str]:
    kept = [machine.directory / name for name in ("run/sparktune", "var/lib/sparktune")]
    return [str(path.relative_to(machine.directory)) for path in kept if path.exists()]


@pytest.mark.parametrize(
    ("argument", "left"),
    [
        ("upgrade", ["run/sparktune", "var/lib/sparktune"]),
        ("failed-upgrade", ["run/sparktune", "var/lib/sparktune"]),
        ("abort-upgrade", ["run/sparktune", "var/lib/sparktune"]),
        ("abort-install", ["run/sparktune", "var/lib/sparktune"]),
        ("remove", ["var/lib/sparktune"]),
        ("purge", []),
    ],
)
def test_the_state_goes_with_a_purge_only(machine: Machine, argument: str, left: list[str]) -> None:
    (machine.directory / "run/sparktune").mkdir()
    machine.run("postrm", argument)
    assert places(machine) == left
    assert machine.calls() == ["snippets "]


# -- postinst ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("configure",),
        ("configure", "0.0.9"),
        ("abort-upgrade", "2"),
        ("abort-remove",),
        ("abort-deconfigure", "in-favour", "other", "1"),
    ],
)
def test_bytecode_is_there_before_anything_starts_and_so_is_a_fresh_count_of_starts(
    machine: Machine, arguments: tuple[str, ...]
) -> None:
    machine.run("postinst", *arguments)
    begin = machine.calls()[:3]
    assert begin == [COMPILE, RESET, "snippets "]


def test_installing_does_not_start_the_api(machine: Machine) -> None:
    machine.run("postinst", "configure")
    assert not [call for call in machine.calls() if "sparktune-api" in call and call != RESET]


def test_an_upgrade_restarts_an_api_that_runs_and_keeps_its_sockets_open(machine: Machine) -> None:
    (machine.directory / UNIT).write_text("same")
    machine.run("preinst", "upgrade", "0.0.9")
    machine.run("postinst", "configure", "0.0.9")
    assert RESTART_API in machine.calls()
    assert RESTART_SOCKET not in machine.calls()


def test_an_upgrade_with_another_socket_unit_makes_the_sockets_anew(machine: Machine) -> None:
    (machine.directory / UNIT).write_text("old")
    machine.run("preinst", "upgrade", "0.0.9")
    (machine.directory / UNIT).write_text("new")
    machine.run("postinst", "configure", "0.0.9")
    assert RESTART_SOCKET in machine.calls()
    assert not list((machine.directory / "run").glob("sparktune-api*"))


def test_without_systemd_nothing_is_asked_of_it(machine: Machine) -> None:
    machine.stop_systemd()
    machine.run("postinst", "configure", "0.0.9")
    assert machine.calls() == [COMPILE, "snippets "]


# -- the three lines -----------------------------------------------------------------------------------------


def three_lines(machine: Machine) -> str:
    """The first of exactly three lines; the others are always the same."""
    done = machine.run("postinst", "configure")
    first, *others = done.stdout.splitlines()
    assert others == [SEE, UNDO]
    assert done.stderr == ""
    return first


def let_systemctl_say(machine: Machine, state: str, exit_status: int = 0) -> None:
    code = 0 if state == "active" else 3
    machine.answer(
        "systemctl", f"case $1 in is-active) echo {state}; exit {code} ;; show) echo {exit_status} ;; esac"
    )


def publish(machine: Machine, variant: str) -> None:
    """What a real daemon publishes on such a machine."""
    host = machine.directory / "host"
    tree.build(host, variant)
    if variant == "gb10":
        with running_daemon(host):
            pass
    else:
        run_process("--root", host, "daemon")
    (host / "run/sparktune").rename(machine.directory / "run/sparktune")


def test_what_was_applied_is_told(machine: Machine) -> None:
    let_systemctl_say(machine, "active")
    publish(machine, "gb10")
    first = three_lines(machine)
    assert first.startswith("sparktune: ok: ")
    assert "read_ahead_kb 8192 on nvme0n1; " in first
    assert "RDMA-CM default mode RoCE v2 on 4 of 4 ports" in first


def test_a_machine_that_is_no_gb10_is_told(machine: Machine) -> None:
    let_systemctl_say(machine, "inactive", 5)
    publish(machine, "not-gb10")
    assert three_lines(machine).startswith("sparktune: unsupported: this is no GB10 machine")


@pytest.mark.parametrize(
    ("state", "exit_status", "says"),
    [
        ("active", 0, "started; what it does is in `sparktune status`"),
        ("inactive", 5, "this is no GB10 machine: nothing was changed"),
        ("inactive", 0, "not started (disabled, masked, or forbidden by policy-rc.d)"),
        ("failed", 1, "the daemon did not start: journalctl --unit=sparktune.service says why"),
        ("activating", 1, "the daemon did not start: journalctl --unit=sparktune.service says why"),
    ],
)
def test_what_became_of_the_daemon_is_told_without_its_word_too(
    machine: Machine, state: str, exit_status: int, says: str
) -> None:
    let_systemctl_say(machine, state, exit_status)
    assert three_lines(machine) == f"sparktune: {says}"


def test_a_damaged_status_is_no_failed_installation(machine: Machine) -> None:
    let_systemctl_say(machine, "active")
    (machine.directory / "run/sparktune").mkdir()
    (machine.directory / "run/sparktune/status.json").write_text("{")
    assert three_lines(machine).startswith("sparktune: started; ")


def test_without_systemd_it_says_so(machine: Machine) -> None:
    machine.stop_systemd()
    assert (
        three_lines(machine) == "sparktune: not started, for systemd does not run here: nothing was changed"
    )


@pytest.mark.parametrize("argument", ["abort-upgrade", "abort-remove", "abort-deconfigure"])
def test_nothing_is_told_when_dpkg_only_goes_back(machine: Machine, argument: str) -> None:
    assert machine.run("postinst", argument).stdout == ""


# -- another Python ------------------------------------------------------------------------------------------


def test_bytecode_is_renewed_when_the_distribution_changes_its_python(machine: Machine) -> None:
    machine.run("../rtupdate", "rtupdate", "python3.12", "python3.13")
    assert machine.calls() == [CLEAN, COMPILE]
    machine.run("../rtupdate", "pre-rtupdate", "python3.12", "python3.13")
    assert machine.calls() == [CLEAN, COMPILE]
