"""A guest as a scenario sees it: commands, files, what kernel and sparktune say, reboots and power cuts."""

from __future__ import annotations

import base64
import json
import shlex
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vm.link import LostError
from vm.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vm.link import Pending
    from vm.machine import Site, Wire

PROGRAMS = "/usr/local/lib/sparktune-vm"
CHUNK_BYTES = 256 * 1024
ANSWER_SLACK_S = 30.0
ANSWER_LIMIT_S = 25.0
PORT = 9300
READ_AHEAD = "/sys/block/nvme0n1/queue/read_ahead_kb"


class CommandError(AssertionError):
    """A command in the guest did not exit 0."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command in the guest ended; times are the guest's."""

    code: int
    out: str
    err: str
    took_s: float


class Job:
    """A command that runs in the guest while the scenario goes on."""

    def __init__(self, guest: Guest, pending: Pending, what: str, limit_s: float) -> None:
        self._guest = guest
        self._pending = pending
        self._what = what
        self._limit_s = limit_s

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self._pending.done.is_set()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal it and its children."""
        self._guest.ask("signal", f"signal to: {self._what}", of=self._pending.number, number=int(number))

    def end(self, number: int = signal.SIGTERM) -> Result:
        """Signal it and wait for its end, whatever the exit code."""
        self.kill(number)
        return self.wait(check=False)

    def wait(self, *, check: bool = True) -> Result:
        """Its end. Raises CommandError, LostError."""
        answer = self._pending.wait(self._limit_s + ANSWER_SLACK_S)
        result = Result(
            answer["code"],
            base64.b64decode(answer["out"]).decode(errors="replace"),
            base64.b64decode(answer["err"]).decode(errors="replace"),
            answer["took_s"],
        )
        if not answer["in_time"]:
            raise CommandError(
                f"in the guest, not done within {self._limit_s:.0f} s: {self._what}\n{result.out}{result.err}"
            )
        if check and result.code != 0:
            raise CommandError(
                f"in the guest, exit code {result.code}: {self._what}\n{result.out}{result.err}"
            )
        return result


class Guest(Machine):
    """A machine with an agent in it."""

    def __init__(
        self,
        site: Site,
        name: str,
        base: Path | None = None,
        wire: Wire | None = None,
        cpus: int | None = None,
    ) -> None:
        super().__init__(site, name, base, wire, cpus)
        self._next_file = 0

    # -- commands --------------------------------------------------------------------------------------------

    def start_job(
        self,
        command: str | Sequence[str],
        *,
        user: str = "",
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        limit_s: float = 120.0,
    ) -> Job:
        """Start a command, text as a line for bash, a list as it is; as root unless a user is named."""
        argv = ["bash", "-c", command] if isinstance(command, str) else list(command)
        if user:
            argv = ["runuser", "-u", user, "--", *argv]
        what = command if isinstance(command, str) else shlex.join(command)
        limit_s *= self.site.patience
        pending = self.link.submit(
            "run", what, argv=argv, env=dict(env or {}), stdin=stdin, timeout_s=limit_s
        )
        return Job(self, pending, what, limit_s)

    def run(
        self,
        command: str | Sequence[str],
        *,
        check: bool = True,
        user: str = "",
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        limit_s: float = 120.0,
    ) -> Result:
        """Run a command to its end. Raises CommandError if it does not exit 0, unless `check` is off."""
        return self.start_job(command, user=user, env=env, stdin=stdin, limit_s=limit_s).wait(check=check)

    def out(self, command: str | Sequence[str], *, user: str = "", limit_s: float = 120.0) -> str:
        """What a command prints, stripped."""
        return self.run(command, user=user, limit_s=limit_s).out.strip()

    def ask(self, do: str, what: str, **arguments: Any) -> dict[str, Any]:
        """One request to the agent."""
        return self.link.submit(do, what, **arguments).wait(ANSWER_SLACK_S * self.site.patience)

    # -- files -----------------------------------------------------------------------------------------------

    def cat(self, path: str) -> str:
        """What `cat` says a file holds, stripped."""
        return self.out(["cat", path])

    def put(self, path: str, content: str | bytes | Path, mode: int = 0o644) -> None:
        """Make a file: of text, of bytes, or as a copy of a file of the host."""
        if isinstance(content, Path):
            content = content.read_bytes()
        data = content.encode() if isinstance(content, str) else content
        for start in range(0, max(len(data), 1), CHUNK_BYTES):
            part = base64.b64encode(data[start : start + CHUNK_BYTES]).decode()
            self.ask("put", f"write {path}", path=path, data=part, append=start > 0, mode=mode)

    def get(self, path: str) -> bytes:
        """The bytes of a file."""
        return base64.b64decode(self.ask("get", f"read {path}", path=path)["data"])

    # -- waiting ---------------------------------------------------------------------------------------------

    def wait_until(
        self, holds: Callable[[], object], what: str, patience_s: float = 90.0, every_s: float = 0.25
    ) -> float:
        """Wait for what takes its time; how long it took, by the host's clock. Fails if it never comes."""
        began_s = time.monotonic()
        patience_s *= self.site.patience
        while not holds():
            waited_s = time.monotonic() - began_s
            assert waited_s < patience_s, f"not within {patience_s:.0f} s: {what}"
            time.sleep(every_s)
        return time.monotonic() - began_s

    def wait_for_value(self, path: str, value: object, patience_s: float = 90.0) -> float:
        """Wait until `cat` says that a file holds a value."""
        return self.wait_until(
            lambda: self.cat(path) == str(value), f"{path} = {value}, it is {self.cat(path)}", patience_s
        )

    # -- boots -----------------------------------------------------------------------------------------------

    def start(self, append: str = "", *, gb10: bool = True, limit_s: float | None = None) -> Guest:
        """Power on, wait until each unit has started or failed; `append` is for the kernel's command line."""
        limit_s = limit_s or self.platform.boot_limit_s * self.site.patience
        with self.narrator.phase(f"{self.name}: booting{' with ' + append if append else ''}"):
            self.power_on(append, gb10=gb10)
            self._await_boot(1, limit_s)
        return self

    @staticmethod
    def start_together(*guests: Guest) -> None:
        """Power on several, then wait for each. Not by threads: QEMU dies with the one that starts it."""
        limit_s = sum(guest.platform.boot_limit_s * guest.site.patience for guest in guests)
        with guests[0].narrator.phase(f"{' and '.join(guest.name for guest in guests)}: booting"):
            for guest in guests:
                guest.power_on()
            for guest in guests:
                guest._await_boot(1, limit_s)

    def reboot(self) -> None:
        """Reboot from inside, with the same command line, and wait until it is up."""
        with self.narrator.phase(f"{self.name}: rebooting"):
            boots = self.link.boots
            self.run(["systemctl", "reboot", "--no-block"])
            self._await_boot(boots + 1, (self.platform.boot_limit_s + 60) * self.site.patience)

    def shut_down(self) -> None:
        """Power off from inside; `start` boots again from the same disks."""
        with self.narrator.phase(f"{self.name}: shutting down"):
            self.run(["systemctl", "poweroff", "--no-block"])
            self.await_end(90 * self.site.patience)

    def _await_boot(self, number: int, limit_s: float) -> None:
        end_s = time.monotonic() + limit_s
        try:
            self.link.await_boot(number, limit_s)
            left_s = max(1.0, end_s - time.monotonic())
            self.run(["systemctl", "is-system-running", "--wait"], check=False, limit_s=left_s)
        except (LostError, CommandError) as error:
            raise LostError(f"{self.name} did not boot: {error}\n{self.read_log_tails()}") from error

    # -- the package and sparktune ---------------------------------------------------------------------------

    def install(self, deb: Path, *, limit_s: float = 600.0) -> Result:
        """Put a package into the guest and install it with apt, as the README says."""
        target = f"/var/tmp/{deb.name}"  # noqa: S108 - in the guest
        self.put(target, deb)
        with self.narrator.phase(f"{self.name}: installing {deb.name}"):
            # The owner's file is kept without a question, as nobody is there to answer it.
            options = "--yes --quiet --allow-downgrades -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold"
            return self.run(f"apt-get install {options} {target}", limit_s=limit_s)

    def curl(self, path: str) -> Any:
        """One answer of the API, by curl in the guest: `curl("/status")`."""
        answer = self.out(
            ["curl", "--silent", "--show-error", "--max-time", "60", f"http://localhost:{PORT}{path}"]
        )
        return json.loads(answer)

    def fetch(self, path: str) -> Any:
        """The same by the agent, which starts no process for it. Raises CommandError if nobody answers.

        Emulated, a curl costs as much as many answers of the API: who asks until something has come true
        would slow down what he waits for.
        """
        limit_s = ANSWER_LIMIT_S * self.site.patience
        answer = self.ask("ask", f"GET {path}", port=PORT, path=path, timeout_s=limit_s)
        if not answer["status"]:
            raise CommandError(f"in the guest: GET http://localhost:{PORT}{path}: {answer['body']}")
        return json.loads(answer["body"])

    def status(self) -> dict[str, Any]:
        """What `/status` says in the guest."""
        status: dict[str, Any] = self.fetch("/status")
        return status

    def history(self, query: str = "limit=100") -> list[dict[str, Any]]:
        """Episodes, newest first, as the API has them."""
        episodes: list[dict[str, Any]] = self.fetch(f"/history?{query}")["episodes"]
        return episodes

    def tunable(self, id_: str) -> dict[str, Any]:
        """One tunable as the API has it."""
        tunable: dict[str, Any] = self.fetch(f"/tunables/{id_}")
        return tunable

    def wait_for_state(self, state: str, patience_s: float = 180.0) -> dict[str, Any]:
        """Wait until `/status` says a state; the status."""
        said: dict[str, Any] = {}

        def is_said() -> bool:
            try:
                said.update(self.status())
            except CommandError as error:  # the API is only being started
                said.update(state=None, summary=str(error))
            return bool(said["state"] == state)

        try:
            self.wait_until(is_said, f"state {state}", patience_s, every_s=0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {said.get('state')}: {said.get('summary')}") from None
        return said

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit by `systemctl show`."""
        lines = self.out(["systemctl", "show", unit, *(f"--property={name}" for name in properties)])
        return dict(line.split("=", 1) for line in lines.splitlines())

    def measure_heal(
        self, path: str, bad: object, wanted: object, *, command: Sequence[str] = (), limit_s: float = 30.0
    ) -> int:
        """Disturb an attribute; the µs, by the guest's clock, until the kernel has the wanted value again.

        The disturbance is a write of `bad`, or a command; the time counts from its start.
        """
        program = ["python3", "-I", f"{PROGRAMS}/measure_heal.py"]
        arguments = [path, str(bad), str(wanted), str(limit_s * self.site.patience), *command]
        result = self.run([*program, *arguments], check=False, limit_s=limit_s + 30)
        assert result.code == 0, f"{path} was not healed: {result.out}{result.err}"
        healed_us: int = json.loads(result.out)["healed_us"]
        return healed_us
