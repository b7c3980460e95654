"""The `simulate` command as a process: what it starts, says and leaves behind; and the disturber."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from commands import PATIENCE_S, Outcome, run_process, wait_until
from sparktune.cli import simulate
from sparktune.cli.main import main
from sparktune.kernel.root import Root
from sparktune.simulate import tree
from sparktune.simulate.disturb import Disturber
from sparktune.simulate.flap import flaps
from sparktune.simulate.run import Running, Simulation
from sparktune.simulate.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPARKTUNE = str(Path(sys.executable).with_name("sparktune"))
DISK = "sys/block/nvme0n1/queue/read_ahead_kb"


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a thing, and with a short name: the control socket's has 107 bytes."""
    memory = "/dev/shm"  # noqa: S108 - thousands of small files a tree
    with tempfile.TemporaryDirectory(
        prefix="st-", dir=memory if os.access(memory, os.W_OK) else None
    ) as name:
        yield Path(name)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """The command in this process, for calls that start none."""

    def call(*arguments: str | Path) -> Outcome:
        code = main(["simulate", *map(str, arguments)])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    hook = sys.excepthook
    yield call
    sys.excepthook = hook


class Simulated:
    """A running `sparktune simulate`."""

    def __init__(self, temporary: Path, *arguments: str | Path, before: tuple[str | Path, ...]) -> None:
        self.temporary = temporary
        self.output = temporary.parent / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [SPARKTUNE, *map(str, before), "simulate", "--port", "0", *map(str, arguments)],
                stdout=output,
                stderr=output,
                env={**os.environ, "TMPDIR": str(temporary)},
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def tree(self) -> Path:
        return Path(self.find(r"building a simulated machine in (\S+):"))

    @property
    def address(self) -> str:
        return "http://" + self.find(r"  curl (localhost:\d+)/status")

    def find(self, pattern: str) -> str:
        match = re.search(pattern, self.text)
        assert match is not None, self.text
        return match[1]

    def wait_for(self, words: str) -> None:
        wait_until(lambda: words in self.text or self.process.poll() is not None)
        assert words in self.text, self.text

    def get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self.address + path, timeout=PATIENCE_S) as answer:  # noqa: S310 - ours
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    def children(self) -> dict[str, int]:
        """Process ids by what they run: `daemon`, `api`, `disturb`, `flap`."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            names = ("daemon", "api", "sparktune.simulate.disturb", "sparktune.simulate.flap")
            name = next(name for name in names if name in arguments)
            found[name.rpartition(".")[2]] = int(pid)
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def simulated(
    folder: Path, *arguments: str | Path, before: tuple[str | Path, ...] = ()
) -> Iterator[Simulated]:
    """A simulation that answers; ended at the end if the test has not."""
    temporary = folder / "t"
    temporary.mkdir()
    simulation = Simulated(temporary, *arguments, before=before)
    try:
        simulation.wait_for("Ctrl-C here ends it")
        yield simulation
    finally:
        if simulation.process.poll() is None:
            simulation.end()


def is_running(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody reaps does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_daemon_and_api_answer_once_it_says_what_to_try(folder: Path) -> None:
    with simulated(folder) as simulation:
        status = simulation.get("/status")
        assert (status["state"], status["host"]["name"]) == ("ok", "spark-9f8f")
        assert status["daemon"]["pid"] == simulation.children()["daemon"]


def test_the_commands_it_prints_do_what_it_says(folder: Path) -> None:
    with simulated(folder) as simulation:
        status, history = re.findall(r"^  (\S+ --root .*)$", simulation.text, re.MULTILINE)
        assert "ok" in simulation.shell(status).stdout
        assert simulation.shell(simulation.find(r"(?m)^  (echo 128 > .*)$")).returncode == 0
        # The shell empties a plain file before it writes: seen in between, that is a value healed, too.
        told = re.compile("nvme: (1 value|2 values) healed")
        wait_until(lambda: told.search(simulation.shell(history).stdout))
        assert (simulation.tree / DISK).read_text().strip() == "8192"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_children_removes_the_folder_and_exits_0(folder: Path, number: int) -> None:
    with simulated(folder) as simulation:
        pids = simulation.children().values()
        assert len(pids) == 2
        assert simulation.end(number) == 0
        assert not any(map(is_running, pids))
        assert list(simulation.temporary.iterdir()) == []
        assert "stopping" in simulation.text  # the daemon was asked, not killed


def test_children_end_when_the_parent_is_killed(folder: Path) -> None:
    with simulated(folder, "--disturb") as simulation:
        wait_until(lambda: len(simulation.children()) == 3)
        pids = simulation.children().values()
        simulation.end(signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, pids)))


def test_a_child_whose_parent_was_killed_before_it_began_does_not_begin() -> None:
    command = [sys.executable, "-m", "sparktune.simulate.child", "1", "sparktune.cli.main", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.parametrize(("name", "shown"), [("daemon", "daemon"), ("api", "API")])
def test_a_child_that_dies_is_named_and_ends_it_with_1(folder: Path, name: str, shown: str) -> None:
    with simulated(folder) as simulation:
        children = simulation.children()
        os.kill(children[name], signal.SIGKILL)
        assert simulation.process.wait(PATIENCE_S) == 1
        assert f"the {shown} (pid {children[name]}) was killed by SIGKILL" in simulation.text
        assert not any(map(is_running, children.values()))
        assert list(simulation.temporary.iterdir()) == []


def test_a_child_that_does_not_start_is_named(folder: Path) -> None:
    tree.build(folder / "built")
    (folder / "built/run").write_text("no directory\n")
    outcome = run_process("simulate", "--port", "0", "--directory", folder / "built")
    assert outcome.code == 1
    assert re.search(r"the daemon \(pid \d+\) ended with exit code 1", outcome.err)
    assert "Traceback" not in outcome.err


def test_asked_twice_it_kills_a_child_that_does_not_end(folder: Path) -> None:
    with simulated(folder) as simulation:
        pids = simulation.children()
        os.kill(pids["daemon"], signal.SIGSTOP)
        began_s = time.monotonic()
        simulation.process.send_signal(signal.SIGINT)
        wait_until(lambda: not is_running(pids["api"]))
        assert simulation.end(signal.SIGINT) == 0
        assert time.monotonic() - began_s < 4.5  # the grace is 5 s
        assert not is_running(pids["daemon"])
        assert f"(pid {pids['daemon']}) did not end when asked" in simulation.text


def test_a_port_in_use_is_told_before_anything_is_built(folder: Path, call: Callable[..., Outcome]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = call("--port", str(port), "--directory", folder / "built")
    assert outcome.code == 1
    assert f"127.0.0.1:{port}: Address already in use" in outcome.err
    assert f"--port {port + 1}" in outcome.err
    assert not (folder / "built").exists()


def test_a_given_directory_stays_and_is_not_built_anew_while_it_is_tuned(folder: Path) -> None:
    built = folder / "built"
    with simulated(folder, "--directory", built) as simulation:
        boot_id = (built / "proc/sys/kernel/random/boot_id").read_text()
        for arguments in (("--directory", built, "--port", "0"), ("--tree-only", built)):
            outcome = run_process("simulate", *arguments)
            assert outcome.code == 1
            assert "a daemon already tunes the simulated machine" in outcome.err
        assert (built / "proc/sys/kernel/random/boot_id").read_text() == boot_id
        assert simulation.end() == 0
    assert (built / DISK).read_text() == "8192\n"


def test_a_directory_of_somebody_else_is_left_alone(folder: Path, call: Callable[..., Outcome]) -> None:
    (folder / "letter").write_text("dear\n")
    outcome = call("--port", "0", "--directory", folder)
    assert outcome.code == 1
    assert "holds no simulated machine" in outcome.err
    assert [path.name for path in folder.iterdir()] == ["letter"]


def test_configuration_and_run_directory_of_the_call_count_for_the_simulation(folder: Path) -> None:
    config = folder / "mine.toml"
    config.write_text("nvme.read_ahead_kb = 2048\n")
    run_dir = folder / "published"
    with simulated(folder, "--run-dir", run_dir, before=("--config", config)) as simulation:
        assert (simulation.tree / DISK).read_text() == "2048\n"
        assert (run_dir / "status.json").exists()
        command = simulation.find(r"(?m)^  (\S+ --root \S+ .*status)$")
        assert f"--run-dir {run_dir}" in command
        assert simulation.shell(command).returncode == 0


def test_a_machine_that_is_no_gb10_is_shown_untouched(folder: Path) -> None:
    with simulated(folder, "--variant", "not-gb10", "--disturb") as simulation:
        assert simulation.get("/status")["state"] == "unsupported"
        assert simulation.children().keys() == {"api"}
        assert (simulation.tree / DISK).read_text() == "128\n"
        assert "echo 128" not in simulation.text
        assert simulation.end() == 0


@pytest.mark.parametrize("variant", tree.VARIANTS)
def test_a_tree_only_has_the_disk_that_is_drifted_and_starts_nothing(
    folder: Path, call: Callable[..., Outcome], variant: str
) -> None:
    directory = folder / "built"
    outcome = call("--variant", variant, "--tree-only", directory)
    assert outcome.code == 0
    assert f"--root {directory} plan" in outcome.out
    assert (directory / DISK).read_text() == "128\n"
    assert not (directory / "run/sparktune").exists()


def test_the_variants_are_listed_with_what_they_are(call: Callable[..., Outcome]) -> None:
    outcome = call("--list-variants")
    assert outcome.code == 0
    for name, about in tree.VARIANTS.items():
        assert re.search(rf"^{name} +{re.escape(about)}$", outcome.out, re.MULTILINE)


def test_the_scenarios_are_listed_with_what_they_are(call: Callable[..., Outcome]) -> None:
    outcome = call("--list-scenarios")
    assert outcome.code == 0
    for name, scenario in SCENARIOS.items():
        assert re.search(rf"^{name} +{re.escape(scenario.about)}$", outcome.out, re.MULTILINE)


def test_both_lists_are_there_as_json(call: Callable[..., Outcome]) -> None:
    document = call("--list-scenarios", "--list-variants", "--json").document
    assert [entry["name"] for entry in document["scenarios"]] == list(SCENARIOS)
    assert {entry["name"]: entry["about"] for entry in document["variants"]} == tree.VARIANTS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_is_built_as_a_tree_for_other_commands(
    folder: Path, call: Callable[..., Outcome], scenario: str
) -> None:
    directory = folder / "built"
    outcome = call("--scenario", scenario, "--tree-only", directory)
    assert outcome.code == 0
    assert outcome.out.startswith(f"{directory}: {SCENARIOS[scenario].about}\nTry:\n")
    assert json.loads((directory / tree.MARKER).read_text())["scenario"] == scenario
    assert not (directory / "run/sparktune").exists()


@pytest.mark.parametrize(("name", "nearest"), [("nodcb", "no-dcb"), ("mtu-mismach", "mtu-mismatch")])
def test_an_unknown_scenario_is_answered_with_the_nearest(
    call: Callable[..., Outcome], name: str, nearest: str
) -> None:
    outcome = call("--scenario", name)
    assert outcome.code == 2
    assert f"there is no scenario {name!r}" in outcome.err
    assert nearest in outcome.err


def test_names_of_scenarios_and_variants_are_completed() -> None:
    for option, incomplete, expected in (("--scenario", "no-", "no-cable"), ("--variant", "gb", "gb10")):
        parameter = next(one for one in simulate.simulate.params if option in one.opts)
        context = simulate.simulate.make_context("simulate", [], resilient_parsing=True)
        items = parameter.shell_complete(context, incomplete)
        assert expected in [item.value for item in items]
        assert all(item.value.startswith(incomplete) and item.help for item in items)


def test_a_flapping_link_goes_down_and_up_while_the_simulation_runs(folder: Path) -> None:
    config = folder / "sparktune.toml"
    config.write_text('sweep = "1s"\n')
    with simulated(folder, "--scenario", "flapping", before=("--config", config)) as simulation:
        assert simulation.children().keys() == {"daemon", "api", "flap"}
        simulation.wait_for("enP2p1s0f0np0 has no link for 0.3 s")
        simulation.wait_for("enP2p1s0f0np0 has its link again")
        changes = simulation.tree / "sys/class/net/enP2p1s0f0np0/carrier_changes"
        assert int(changes.read_text()) >= 45
        flaps = "roce.enP2p1s0f0np0.link_flaps"
        wait_until(lambda: flaps in [one["id"] for one in simulation.get("/status")["not_holding"]])
        assert simulation.end() == 0


def test_a_link_flaps_for_times_short_and_long() -> None:
    assert [*itertools.islice(flaps(), 6)] == [
        (False, 0.3), (True, 20.0), (False, 2.0), (True, 20.0), (False, 6.0), (True, 20.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("--scenario", "no-dcb", "--variant", "gb10"),
        ("--scenario", "no-dcb", "--json"),
        ("--tree-only", "x", "--disturb"),
        ("--tree-only", "x", "--directory", "y"),
        ("--disturb", "--every", "4"),
        ("--disturb", "--every", "0s"),
        ("--variant", "gb11"),
        ("--port", "65536"),
    ],
)
def test_what_makes_no_sense_is_refused_and_makes_nothing(
    folder: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    outcome = call(*arguments)
    assert outcome.code == 2
    assert outcome.err
    assert list(folder.iterdir()) == []


def test_another_root_is_refused_with_what_to_write_instead(folder: Path) -> None:
    outcome = run_process("--root", folder, "simulate")
    assert outcome.code == 2
    assert "simulate --directory DIR" in outcome.err


def test_the_command_is_printed_by_its_name_where_that_finds_it(folder: Path) -> None:
    path = f"{Path(SPARKTUNE).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sparktune", "simulate", "--tree-only", str(folder / "with blank")],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"\n  sparktune --root '{folder}/with blank' plan\n" in done.stdout


@pytest.mark.parametrize(("events", "is_told"), [("inotify", True), ("fanotify+pid", False)])
def test_it_says_where_writers_cannot_be_named(
    folder: Path, capsys: pytest.CaptureFixture[str], events: str, *, is_told: bool
) -> None:
    running = Running(directory=folder, port=9300, events=events, supported=True)
    simulate.tell_what_to_try(running, {}, Simulation())
    assert ("not by whom" in capsys.readouterr().out) == is_told


@pytest.mark.root
def test_the_disturber_is_a_process_that_the_history_names(folder: Path) -> None:
    with simulated(folder, "--disturb", "--every", "100ms") as simulation:
        simulation.wait_for("enabled all idle states of cpu0")
        simulation.wait_for("/sys/class/bdi/")
        pid = simulation.children()["disturb"]
        wait_until(lambda: {"nvme", "cpuidle"} <= healed_from(simulation, pid))


def healed_from(simulation: Simulated, pid: int) -> set[str]:
    """The areas in which something was healed that this process, called disturber, had written."""
    return {
        episode["area"]
        for episode in simulation.get("/history?limit=100")["episodes"]
        if (episode["action"], episode["by"]["comm"], episode["by"]["pid"]) == ("healed", "disturber", pid)
    }


def written(root: Root, says: str) -> list[tuple[int, int]]:
    """The inodes a disturbance wrote to, by what it says."""
    if match := re.search(r"idle states of (cpu\d+)$", says):
        base = f"/sys/devices/system/cpu/{match[1]}/cpuidle"
        names = [f"{base}/{state}/disable" for state in root.names(base)]
    elif " link " in says:
        names = ["/sys/class/net/enP2p1s0f0np0/carrier"]
    else:
        names = [says.rpartition(" to ")[2]]
    return [(status.st_dev, status.st_ino) for name in names for status in [root.path(name).stat()]]


@pytest.mark.parametrize("every_s", [0.2, 4.0])
def test_nothing_is_disturbed_more_than_4_times_a_minute(folder: Path, every_s: float) -> None:
    tree.build(folder / "tree", "lvm-luks")
    root = Root(folder / "tree")
    disturber = Disturber(root)
    writes: dict[tuple[int, int], list[float]] = {}
    for turn in range(1000):
        if says := disturber.disturb(turn * every_s):
            for inode in written(root, says):
                writes.setdefault(inode, []).append(turn * every_s)
    assert len(writes) > 80
    for moments in writes.values():
        assert not any(late - early <= 60.0 for early, late in zip(moments, moments[4:], strict=False))


def test_the_disturber_takes_turns_among_all_kinds(folder: Path) -> None:
    tree.build(folder / "tree")
    root = Root(folder / "tree")
    mode = root.path("/sys/kernel/config/rdma_cm/rocep1s0f0/ports/1/default_roce_mode")
    mode.parent.mkdir(parents=True)
    mode.write_text("RoCE v2\n")
    disturber = Disturber(root)
    says = [disturber.disturb(0.0) for _ in range(6)]
    assert [re.sub(r"\d+ to", "N to", text) for text in says] == [
        "wrote N to /sys/block/nvme0n1/queue/read_ahead_kb",
        "enabled all idle states of cpu0",
        "wrote N to /sys/class/bdi/259:0/read_ahead_kb",
        "wrote 'IB/RoCE v1' to /sys/kernel/config/rdma_cm/rocep1s0f0/ports/1/default_roce_mode",
        "wrote N to /sys/class/net/enp1s0f0np0/mtu",
        "took the link of enP2p1s0f0np0",
    ]
    assert mode.read_text().strip() == "IB/RoCE v1"


def test_what_is_done_to_mtu_and_link_is_undone_the_next_time(folder: Path) -> None:
    tree.build(folder / "tree", scenario="healthy-pair")
    root = Root(folder / "tree")
    state = (
        "/sys/class/net/enp1s0f0np0/mtu",
        "/sys/class/net/enP2p1s0f0np0/carrier",
        "/sys/class/net/enP2p1s0f0np0/operstate",
        "/sys/class/infiniband/roceP2p1s0f0/ports/1/state",
    )
    found: list[list[str | None]] = []
    disturber = Disturber(root)
    while len(found) < 2:
        if disturber.disturb(0.0).endswith(("link of enP2p1s0f0np0", "its link back")):
            found.append([root.read(name) for name in state])
    assert found == [["1500", "0", "down", "1: DOWN"], ["9000", "1", "up", "4: ACTIVE"]]


def test_a_disturbance_leaves_nothing_of_a_longer_value(folder: Path) -> None:
    tree.build(folder / "tree")
    root = Root(folder / "tree")
    root.path(f"/{DISK}").write_text("8192\n")
    assert Disturber(root).disturb(0.0).startswith("wrote 128 ")
    assert root.path(f"/{DISK}").read_text().split() == ["128"]


def test_the_disturber_refuses_what_was_not_built_by_the_simulator(folder: Path) -> None:
    queue = folder / DISK
    queue.parent.mkdir(parents=True)
    queue.write_text("8192\n")
    command = [sys.executable, "-m", "sparktune.simulate.disturb", str(folder), "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert "nothing was written" in done.stderr
    assert queue.read_text() == "8192\n"
