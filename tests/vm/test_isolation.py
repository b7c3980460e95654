"""Who may do what: other users, the API's process, other machines, the daemon with one capability less."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from vm.guest import PROGRAMS, READ_AHEAD
from vm.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vm.figures import Figures
    from vm.guest import Guest

WANTED = 8192
RUN, STATE = "/run/sparktune", "/var/lib/sparktune"
CAPABILITIES = {
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
}
MOST_EXPOSED = {"sparktune.service": 2.7, "sparktune-api.service": 1.0}


# -- another user --------------------------------------------------------------------------------------------


def test_another_user_may_read_the_state_and_nothing_else(spark: Guest) -> None:
    published = json.loads(spark.out(["cat", f"{RUN}/status.json"], user="nobody"))
    assert published["state"] == "ok"
    assert spark.run(["sparktune", "status", "--short"], user="nobody").out.startswith("ok: ")
    for path in (f"{STATE}/originals.jsonl", f"{STATE}/history.db", f"{STATE}/marks.json"):
        refused = spark.run(["cat", path], user="nobody", check=False)
        assert (refused.code, "Permission denied" in refused.err) == (1, True), path


@pytest.mark.parametrize("user", ["nobody", "sparktune"])
@pytest.mark.parametrize("command", ["pause --for 1m", "apply", "restore --all", "reload", "resume"])
def test_another_user_changes_nothing_and_is_told_how(spark: Guest, user: str, command: str) -> None:
    refused = spark.run(["sparktune", *command.split()], user=user, check=False)
    assert refused.code == 1
    assert refused.err.splitlines() == [
        f"sparktune: {RUN}/control.sock: only root may change the host",
        "hint: try again with sudo",
    ]
    assert spark.cat(READ_AHEAD) == str(WANTED)
    assert spark.status()["state"] == "ok"


@pytest.mark.parametrize("user", ["nobody", "sparktune"])
def test_the_control_socket_lets_nobody_else_in(spark: Guest, user: str) -> None:
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect('{RUN}/control.sock')"
    refused = spark.run(["python3", "-c", connect], user=user, check=False)
    assert "PermissionError: [Errno 13] Permission denied" in refused.err
    assert spark.run(["python3", "-c", connect]).code == 0


class Answer(NamedTuple):
    """What `curl` got."""

    code: int
    body: dict[str, Any]


def ask(guest: Guest, *options: str, path: str = "/status") -> Answer:
    """One request as another user."""
    command = ["curl", "--silent", "--max-time", "30", "--write-out", "\\n%{http_code}", *options]
    body, _, code = guest.out([*command, f"http://localhost:9300{path}"], user="nobody").rpartition("\n")
    return Answer(int(code), json.loads(body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_api_takes_no_request_that_changes_something(spark: Guest, method: str) -> None:
    refused = ask(spark, "--request", method, "--data", '{"request": "restore"}', path="/tunables")
    assert refused.code == 405
    assert refused.body["error"] == f"{method} is not possible here: the API only reads"
    assert ask(spark).code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9300", "10.0.2.15:9300", "localhost.evil.example"]
)
def test_the_api_answers_for_no_other_host_name(spark: Guest, host: str) -> None:
    refused = ask(spark, "--header", f"Host: {host}")
    assert (refused.code, host in refused.body["error"]) == (421, True)
    assert ask(spark, "--header", "Host: localhost:9300").code == 200


# -- the API's process ---------------------------------------------------------------------------------------


@pytest.fixture
def api_pid(spark: Guest) -> str:
    """The API, running."""
    spark.status()
    return spark.show("sparktune-api.service", "MainPID")["MainPID"]


def read_process(guest: Guest, pid: str) -> dict[str, str]:
    """What the kernel says of a process."""
    return {
        key: value.strip()
        for key, _, value in (line.partition(":") for line in guest.cat(f"/proc/{pid}/status").splitlines())
    }


def test_the_api_process_holds_no_capability_and_gets_none(spark: Guest, api_pid: str) -> None:
    process = read_process(spark, api_pid)
    assert {process[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0000000000000000"
    }
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")
    uid, gid = spark.out("id -u sparktune; id -g sparktune").split()
    assert process["Uid"].split() == [uid] * 4
    assert process["Gid"].split() == [gid] * 4
    assert process["Groups"] in ("", gid)
    assert uid != "0"


def test_the_api_process_lives_in_namespaces_of_its_own(spark: Guest, api_pid: str) -> None:
    def namespaces(pid: str) -> dict[str, str]:
        names = ("mnt", "net", "ipc", "user")
        return {name: spark.out(["readlink", f"/proc/{pid}/ns/{name}"]) for name in names}

    own, of_init = namespaces(api_pid), namespaces("1")
    assert [name for name in own if own[name] == of_init[name]] == []
    links = spark.out(["nsenter", f"--target={api_pid}", "--net", "ip", "-brief", "link"])
    assert [line.split()[0] for line in links.splitlines()] == ["lo"]


@pytest.mark.parametrize("directory", [RUN, STATE, "/etc", "/usr", "/root", "/var/log"])
def test_where_the_api_lives_not_even_root_can_write(spark: Guest, api_pid: str, directory: str) -> None:
    touch = ["touch", f"{directory}/made-by-a-scenario"]
    refused = spark.run(["nsenter", f"--target={api_pid}", "--mount", *touch], check=False)
    assert (refused.code, "Read-only file system" in refused.err) == (1, True), refused.err
    spark.run(touch)
    spark.run(["rm", touch[1]])


@pytest.mark.parametrize(
    "directory", ["/etc", "/usr", "/run", "/run/udev", "/run/systemd/system", "/var/log"]
)
def test_what_runs_as_root_cannot_be_changed_from_where_the_daemon_lives(
    spark: Guest, directory: str
) -> None:
    pid = spark.show("sparktune", "MainPID")["MainPID"]
    inside = ["nsenter", f"--target={pid}", "--mount", "touch"]
    spark.run(["mkdir", "--parents", directory])
    refused = spark.run([*inside, f"{directory}/made-by-a-scenario"], check=False)
    assert (refused.code, "Read-only file system" in refused.err) == (1, True), refused.err
    for own in (RUN, STATE):
        spark.run([*inside, f"{own}/made-by-a-scenario"])
        spark.run(["rm", f"{own}/made-by-a-scenario"])


def test_from_inside_the_apis_sandbox_nothing_can_be_changed_or_reached(
    spark: Guest, figures: Figures
) -> None:
    program = f"/usr/bin/python3 -I {PROGRAMS}/attempts.py"
    outside = json.loads(spark.out(program))
    assert set(outside["needed"].values()) | set(outside["forbidden"].values()) == {"done"}, outside
    with unit_copy(
        spark, f"[Service]\nType=oneshot\nRestart=no\nExecStart=\nExecStart={program}\n"
    ) as output:
        inside = json.loads(spark.cat(output))
    assert set(inside["needed"].values()) == {"done"}, inside
    assert "done" not in inside["forbidden"].values(), inside
    assert inside["forbidden"].keys() == outside["forbidden"].keys()
    figures.record("API sandbox: attempts that were refused", len(inside["forbidden"]), "")


@contextmanager
def unit_copy(guest: Guest, setting: str) -> Iterator[str]:
    """A copy of the API's unit runs another program to its end; the file with its output."""
    unit, output = "sparktune-attempts.service", "/run/sparktune-attempts.json"
    guest.run(["cp", "/usr/lib/systemd/system/sparktune-api.service", f"/run/systemd/system/{unit}"])
    guest.put(f"/run/systemd/system/{unit}.d/50-program.conf", f"{setting}StandardOutput=truncate:{output}\n")
    guest.run(["systemctl", "daemon-reload"])
    try:
        guest.run(["systemctl", "start", unit])
        yield output
    finally:
        guest.run(f"rm -rf /run/systemd/system/{unit}* {output}; systemctl daemon-reload")


# -- other machines ------------------------------------------------------------------------------------------


LOCAL_END, FAR_END, NIC = "192.0.2.1", "192.0.2.2", "10.0.2.15"
CONTROL_PORT = 9301
REFUSED, TIMED_OUT = 7, 28


@pytest.fixture
def neighbour(spark: Guest) -> Iterator[Guest]:
    """The shared guest with another machine beside it: a network namespace at the other end of a cable."""
    spark.run(
        f"""set -e
        ip netns add neighbour
        ip link add cable0 type veth peer name cable1 netns neighbour
        ip address add {LOCAL_END}/24 dev cable0
        ip address add 2001:db8::1/64 dev cable0 nodad
        ip link set cable0 up
        ip -n neighbour address add {FAR_END}/24 dev cable1
        ip -n neighbour address add 2001:db8::2/64 dev cable1 nodad
        ip -n neighbour link set cable1 up
        ip -n neighbour link set lo up
        ip -n neighbour route add default via {LOCAL_END}"""
    )
    listener = spark.start_job(f"exec python3 -m http.server --bind 127.0.0.1 {CONTROL_PORT}", limit_s=300)
    spark.wait_until(lambda: curl(spark, f"127.0.0.1:{CONTROL_PORT}") == 0, "another listener on 127.0.0.1")
    yield spark
    listener.end()
    spark.run("ip link del cable0; ip netns del neighbour")


def curl(guest: Guest, address: str, *, prefix: Sequence[str] = ()) -> int:
    """What curl exits with."""
    command = [
        "curl",
        "--silent",
        "--globoff",
        "--max-time",
        "4",
        "--output",
        "/dev/null",
        f"http://{address}/",
    ]
    return guest.run([*prefix, *command], check=False).code


def test_only_loopback_is_listened_on(spark: Guest) -> None:
    lines = spark.out(
        ["ss", "--no-header", "--listening", "--tcp", "--numeric", "sport = :9300"]
    ).splitlines()
    assert sorted(line.split()[3] for line in lines) == ["127.0.0.1:9300", "[::1]:9300"]


def test_a_neighbour_cannot_reach_the_api_at_any_address(neighbour: Guest) -> None:
    elsewhere = ["ip", "netns", "exec", "neighbour"]
    for address in (LOCAL_END, NIC, "[2001:db8::1]", "0", "127.0.0.1", "[::1]"):
        assert curl(neighbour, f"{address}:9300", prefix=elsewhere) == REFUSED, address
    for address in (LOCAL_END, NIC, "[2001:db8::1]"):
        assert curl(neighbour, f"{address}:9300") == REFUSED, address
    assert [curl(neighbour, f"{address}:9300") for address in ("127.0.0.1", "[::1]")] == [0, 0]


def test_not_even_packets_turned_to_127_0_0_1_reach_the_api(neighbour: Guest) -> None:
    elsewhere = ["ip", "netns", "exec", "neighbour"]
    neighbour.run(
        f"""set -e
        sysctl --quiet --write net.ipv4.conf.cable0.route_localnet=1 net.ipv4.conf.cable0.rp_filter=0
        tc qdisc add dev cable0 clsact
        tc filter add dev cable0 ingress protocol ip matchall action nat ingress {LOCAL_END}/32 127.0.0.1
        tc filter add dev cable0 egress protocol ip matchall action nat egress 127.0.0.1/32 {LOCAL_END}"""
    )
    assert curl(neighbour, f"{LOCAL_END}:{CONTROL_PORT}", prefix=elsewhere) == 0, (
        "others are reached that way"
    )
    assert curl(neighbour, f"{LOCAL_END}:9300", prefix=elsewhere) == TIMED_OUT
    assert curl(neighbour, "127.0.0.1:9300") == 0


# -- the daemon's capabilities -------------------------------------------------------------------------------


@contextmanager
def daemon_without(guest: Guest, capability: str) -> Iterator[None]:
    """The daemon, restarted with one capability less; afterwards with all of them again."""
    directory = "/run/systemd/system/sparktune.service.d"
    guest.put(f"{directory}/50-less.conf", f"[Service]\nCapabilityBoundingSet=~{capability}\n")
    restart = "systemctl daemon-reload; systemctl reset-failed sparktune; systemctl restart sparktune"
    guest.run(restart)
    try:
        yield
    finally:
        guest.run(f"rm -r {directory}; {restart}; sparktune apply")


def held_capabilities(guest: Guest) -> set[str]:
    """What the kernel says the daemon holds; a number it has no name for here stays a number."""
    pid = guest.show("sparktune", "MainPID")["MainPID"]
    process = read_process(guest, pid)
    assert process["CapEff"] == process["CapPrm"] == process["CapBnd"]
    bits = int(process["CapEff"], 16)
    names = {number: name for name, number in CAPABILITIES.items()}
    return {names.get(number, str(number)) for number in range(64) if bits >> number & 1}


def await_writer(guest: Guest, command: str) -> tuple[dict[str, Any], int]:
    """Who is said to have made the next drift, and the pid that the command printed."""
    ledger = Ledger.open(guest)
    pid = int(guest.out(command))
    guest.wait_for_value(READ_AHEAD, WANTED)
    [episode] = ledger.await_new()
    by: dict[str, Any] = episode["by"]
    return by, pid


WRITE_BY_ANOTHER_USER = (
    "setpriv --reuid=nobody --regid=nogroup --clear-groups "
    f"bash -c 'echo $$; echo 128 >&3; sleep 2; exit' 3> {READ_AHEAD}"
)
WRITE_AND_BE_GONE = (
    "systemctl kill --signal=STOP --kill-whom=main sparktune; "
    f"sh -c 'echo $$; echo 128 > {READ_AHEAD}'; "
    "systemctl kill --signal=CONT --kill-whom=main sparktune"
)


def test_the_daemon_holds_five_capabilities_and_no_more(spark: Guest) -> None:
    assert held_capabilities(spark) == set(CAPABILITIES)


def test_without_cap_sys_admin_nobody_is_named(spark: Guest) -> None:
    spark.run(["sparktune", "apply"])  # nothing of an earlier fight counts
    assert spark.status()["daemon"]["events"] == "fanotify+pid"
    with daemon_without(spark, "CAP_SYS_ADMIN"):
        assert held_capabilities(spark) == set(CAPABILITIES) - {"CAP_SYS_ADMIN"}
        assert spark.status()["daemon"]["events"] == "inotify"
        by, _ = await_writer(spark, f"sh -c 'echo $$; echo 128 > {READ_AHEAD}'")
        assert (by["kind"], by["pid"], by["comm"]) == ("unknown", None, None)
    spark.wait_for_state("ok")


def test_without_cap_sys_ptrace_a_writer_of_another_user_is_hardly_known(spark: Guest) -> None:
    spark.run(["sparktune", "apply"])  # nothing of an earlier fight counts
    by, pid = await_writer(spark, WRITE_BY_ANOTHER_USER)
    assert (by["pid"], by["comm"], by["exe"], by["uid"]) == (pid, "bash", "/usr/bin/bash", 65534)
    with daemon_without(spark, "CAP_SYS_PTRACE"):
        assert held_capabilities(spark) == set(CAPABILITIES) - {"CAP_SYS_PTRACE"}
        by, pid = await_writer(spark, WRITE_BY_ANOTHER_USER)
        assert (by["pid"], by["exe"]) == (pid, None)


def test_without_cap_net_admin_a_writer_who_is_gone_has_no_name(spark: Guest) -> None:
    spark.run(["sparktune", "apply"])  # nothing of an earlier fight counts
    by, pid = await_writer(spark, WRITE_AND_BE_GONE)
    assert (by["pid"], by["comm"], by["uid"]) == (pid, "sh", 0)
    with daemon_without(spark, "CAP_NET_ADMIN"):
        assert held_capabilities(spark) == set(CAPABILITIES) - {"CAP_NET_ADMIN"}
        by, pid = await_writer(spark, WRITE_AND_BE_GONE)
        assert (by["pid"], by["comm"], by["uid"]) == (pid, None, None)


@pytest.mark.parametrize("unit", MOST_EXPOSED)
def test_a_unit_is_exposed_no_more_than_was_agreed(spark: Guest, figures: Figures, unit: str) -> None:
    said = spark.out(["systemd-analyze", "--no-pager", "security", unit])
    exposure = float(said.rpartition("Overall exposure level for ")[2].split(":")[1].split()[0])
    assert 0 < exposure <= MOST_EXPOSED[unit]
    version = spark.out("systemctl --version").split()[1]
    figures.record(f"systemd-analyze security {unit}, systemd {version}", exposure, "")
