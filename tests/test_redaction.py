"""No secret of a writer's command line survives; what is no secret does."""

from __future__ import annotations

import shlex
import string
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sparktune.redaction import redact

TOKEN = string.ascii_letters + string.digits
NAMES = [
    "password", "passwd", "db-passwd", "passphrase", "key-passphrase", "secret", "client_secret", "token",
    "auth-token", "hf-token", "api-key", "api_key", "apikey", "X-API-Key", "authorization",
    "credential", "credentials", "private", "private-key", "aws_secret_access_key", "PASS", "pwd",
    "MYSQL_PWD",
    "PGPASSWORD", "access-key", "psk", "cookie",
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["x", "--password", "hunter2", "y"], "x --password <redacted> y"),
        (["x", "--password=hunter2", "y"], "x --password=<redacted> y"),
        (["x", "--Password=two words", "y"], "x --Password=<redacted> y"),
        (["x", "-password", "hunter2"], "x -password <redacted>"),
        (["x", "--token", "--password", "hunter2"], "x --token <redacted> <redacted>"),
        (["x", "--api-key", "hunter2"], "x --api-key <redacted>"),
        (["x", "--set=db.password=two words"], "x --set=db.password=<redacted>"),
        (["env", "DB_PASSWORD=hunter2", "x"], "env DB_PASSWORD=<redacted> x"),
        (["x", "password: two words"], "x password: <redacted>"),
        (["sh", "-c", "x -e 'TOKEN=two words' y"], "sh -c x -e 'TOKEN=<redacted>"),
        (["docker", "run", "-e", "MY_SECRET=a b c", "x"], "docker run -e MY_SECRET=<redacted> x"),
        (["sh", "-c", "x --password hunter2; y"], "sh -c x --password <redacted> y"),
        (["sh", "-c", "x --password 'hunter 2' ; y"], "sh -c x --password <redacted> ; y"),
        (["sh", "-c", 'echo 1; TOKEN="hunter 2" x'], "sh -c echo 1; TOKEN=<redacted> x"),
        (["x", "https://me:hunter2@host/y"], "x https://me:<redacted>@host/y"),
        (["x", "https://me:hun@ter@host/y"], "x https://me:<redacted>@host/y"),
        (["x", "redis://:hunter2@host"], "x redis://:<redacted>@host"),
        (["x", "https://hunter2@host/y"], "x https://<redacted>@host/y"),
        (["curl", "-H", "Authorization: Bearer hunter 2", "y"], "curl -H Authorization: <redacted> y"),
        (["curl", "-H", "Authorization: Basic aHVudGVyMg==", "y"], "curl -H Authorization: <redacted> y"),
        (["curl", "Authorization:", "Bearer", "hunter2"], "curl Authorization: <redacted> <redacted>"),
        (["curl", "-H", "Cookie: a=hunter2; b=2"], "curl -H Cookie: <redacted>"),
        (["curl", "-u", "me:hunter2", "y"], "curl -u <redacted> y"),
        (["curl", "-sSume:hunter2", "y"], "curl -sSu<redacted> y"),
        (["curl", "--user", "me:hunter2", "y"], "curl --user <redacted> y"),
        (["curl", "--user=me:hunter2"], "curl --user=me:<redacted>"),
        (["mysql", "-phunter2", "db"], "mysql -p<redacted> db"),
        (["sudo", "/usr/bin/mysqldump", "-p", "hunter2"], "sudo /usr/bin/mysqldump -p <redacted>"),
        (["sh", "-c", "mysql -phunter2 db"], "sh -c mysql -p<redacted> db"),
        (["sshpass", "-p", "hunter2", "ssh", "y"], "sshpass -p <redacted> ssh y"),
        (["redis-cli", "-a", "hunter2"], "redis-cli -a <redacted>"),
        (["wpa_passphrase", "home", "hunter2"], "wpa_passphrase <redacted> <redacted>"),
        (["sh", "-c", "htpasswd -b f me hunter2"], "sh -c htpasswd <redacted>"),
        (["openssl", "-passin", "pass:hunter2"], "openssl -passin <redacted>"),
        (["nmcli", "wifi-sec.psk", "hunter2"], "nmcli wifi-sec.psk <redacted>"),
        (["x", "hf_hunter2hunter2"], "x <redacted>"),
        (["x", "sk-proj-hunter2hunter2"], "x <redacted>"),
        (["x", "ghp_hunter2hunter2"], "x <redacted>"),
        (["x", "github_pat_hunter2hunter2"], "x <redacted>"),
        (["x", "nvapi-hunter2hunter2"], "x <redacted>"),
        (["x", "AKIAIOSFODNN7EXAMPLE"], "x <redacted>"),
        (["x", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"], "x <redacted>"),
        (["x", "a-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----b"], "x a<redacted>b"),
        (["x", "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2 cut off"], "x <redacted>"),
        (["x", '{"a": "b", "password": "hunter 2", "n": 1}'], 'x {"a": "b", "password": <redacted>, "n": 1}'),
    ],
)  # fmt: skip
def test_the_secret_goes_and_its_name_stays(arguments: list[str], shown: str) -> None:
    assert redact(arguments) == shown


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["cpupower", "idle-set", "-E"],
        ["sh", "-c", "echo 128 > /sys/block/nvme0n1/queue/read_ahead_kb"],
        ["blockdev", "--setra", "1024", "/dev/nvme0n1"],
        ["tuned-adm", "profile", "throughput-performance"],
        ["systemctl", "--user", "restart", "x"],
        ["ip", "link", "set", "enp1s0f0np0", "mtu", "9000"],
        ["git", "clone", "ssh://git@host/x"],
        ["passwd", "root"],
        ["mkdir", "-p", "/etc/x"],
        ["bash", "-c", "for i in 1 2; do echo $i > /sys/x; done", "--", "--verbose"],
    ],
)
def test_what_holds_no_secret_stays_as_it_is(arguments: list[str]) -> None:
    assert redact(arguments) == " ".join(arguments)


def in_arguments(name: str, secret: str) -> list[list[str]]:
    return [
        ["x", f"--{name}", secret, "y"],
        ["x", f"-{name}", secret],
        ["x", f"--{name}={secret}", "y"],
        ["env", f"{name}={secret}", "y"],
        ["env", f"MY_{name.upper()}_1={secret}", "y"],
        ["curl", "-H", f"{name}: {secret}"],
        ["x", "--set", f"a.{name}={secret}"],
        ["x", f"--set=a.{name}={secret}"],
        ["x", name, secret],
    ]


def in_a_script(name: str, secret: str) -> list[str]:
    quoted = shlex.quote(secret)
    nested = f"bash -c {shlex.quote(f'x --{name}={quoted}')}"
    return [
        f"x --{name} {quoted} y",
        f"x --{name}={quoted} && y",
        f"cd /; {name}={quoted} y",
        f"cd /; export {name.upper()}={quoted}; y",
        f"it's 5; x --{name} {quoted}",
        nested,
        f"ssh h {shlex.quote(nested)}",
        f"curl -H {shlex.quote(f'{name}: {secret}')} https://host",
        f"docker run -e {shlex.quote(f'{name}={secret}')} y",
    ]


@settings(deadline=None)  # a loaded machine is no defect
@given(
    st.sampled_from(NAMES), st.text(min_size=6).filter(lambda text: text.strip() == text and "\0" not in text)
)
def test_no_secret_survives_as_an_argument_of_its_own(name: str, secret: str) -> None:
    for arguments in in_arguments(name, secret):
        assume(secret not in " ".join(part.replace(secret, "", 1) for part in arguments))
        assume(secret not in "<redacted>")  # noqa: S105 - no secret at all
        assert secret not in redact(arguments)


@settings(deadline=None)  # a loaded machine is no defect
@given(
    st.sampled_from(NAMES),
    st.text(alphabet=TOKEN, min_size=8, max_size=40),
    st.sampled_from(["", " ", "'", '"', "\\", "$", ";", "=", ":", "-", "@", "\n", " --", "' \"", "\\\\ "]),
)
def test_no_secret_survives_inside_a_script(name: str, word: str, between: str) -> None:
    secret = f"{word[:4]}{between}Zq{word[4:]}"
    for script in in_a_script(name, secret):
        shown = redact(["sh", "-c", script])
        assert f"Zq{word[4:]}" not in shown
        assert secret not in shown


@settings(deadline=None)  # a loaded machine is no defect
@given(
    st.text(alphabet=TOKEN, min_size=20, max_size=60), st.sampled_from(["x {} y", "k='{}'", "a,{}", "({})"])
)
def test_no_known_kind_of_token_survives_anywhere(word: str, around: str) -> None:
    for token in (
        f"hf_{word}",
        f"sk-{word}",
        f"ghp_{word}",
        f"gho_{word}",
        f"github_pat_{word}",
        f"AKIA{word.upper()}",
        f"eyJ{word}.eyJ{word}.{word}",
        f"https://me:{word}@host/",
    ):
        shown = redact(["sh", "-c", around.format(token)])
        assert word not in shown
        assert word.upper() not in shown


@pytest.mark.alone
@pytest.mark.parametrize(
    "script",
    [
        "password" * 512, "://x:" * 800, "a'" * 2000 + "password=", "\\" * 4000 + "token", "eyJ" * 1365,
        "mysql " + "-ppppppp " * 450, "-----BEGIN" * 400, 'token="' * 580, "--user " * 580, "pass " * 800,
        "authorization" * 315, "https://" * 510, "basic " * 680,
    ],
)  # fmt: skip
def test_a_hostile_command_line_costs_no_time(script: str) -> None:
    start = time.process_time()
    redact(["sh", "-c", script])
    assert time.process_time() - start < 0.25
