"""Which processes are engines: by their documented command lines, and only with a second sign."""

from __future__ import annotations

import pytest

from sparktune.advice.allowed import ALLOWED, HIDDEN, choose_variables, safe_arguments
from sparktune.advice.maps import Mapping, Maps, read_maps
from sparktune.advice.model import EngineKind, Role
from sparktune.advice.recognition import Deeds, name_of, recognise
from sparktune.advice.rule_ids import RULE_IDS
from sparktune.advice.rules import RULES, VARIABLES

PYTHON = "/usr/bin/python3.12"
MAPPING = Mapping(1 << 30, None, "259:2")
NOTHING = Deeds(Maps({}, ()))


@pytest.mark.parametrize(
    ("line", "kind", "role"),
    [
        ("llama-server -m /models/a.gguf --port 8080", EngineKind.LLAMA_CPP, Role.SERVER),
        ("/opt/llama.cpp/build/bin/llama-cli -m a.gguf -p hello", EngineKind.LLAMA_CPP, Role.COMMAND),
        ("./rpc-server -H 0.0.0.0 -p 50052", EngineKind.LLAMA_CPP, Role.RPC),
        ("ggml-rpc-server --host 0.0.0.0", EngineKind.LLAMA_CPP, Role.RPC),
        ("python3 -m llama_cpp.server --model a.gguf", EngineKind.LLAMA_CPP, Role.PYTHON),
        ("ollama serve", EngineKind.OLLAMA, Role.SERVER),
        ("/usr/local/bin/ollama runner --model /x --port 4", EngineKind.OLLAMA, Role.RUNNER),
        ("/usr/local/lib/ollama/llama-server --model /x", EngineKind.OLLAMA, Role.RUNNER),
        ("python3 /usr/local/bin/vllm serve openai/gpt-oss-120b", EngineKind.VLLM, Role.SERVER),
        ("python3 -u -m vllm.entrypoints.openai.api_server --model x", EngineKind.VLLM, Role.SERVER),
        ("VLLM::EngineCore", EngineKind.VLLM, Role.WORKER),
        ("VLLM::Worker_TP1", EngineKind.VLLM, Role.WORKER),
        ("python3 -m sglang.launch_server --model-path x --tp 2", EngineKind.SGLANG, Role.SERVER),
        ("sglang::scheduler_TP0", EngineKind.SGLANG, Role.WORKER),
    ],
)
def test_an_engine_is_known_by_its_documented_command_line(line: str, kind: EngineKind, role: Role) -> None:
    arguments = tuple(line.split(" "))
    program = arguments[0] if arguments[0].startswith(("/", ".", "llama", "ggml", "ollama")) else PYTHON
    name = name_of(program, arguments)
    assert name is not None
    assert (name.kind, name.role) == (kind, role)


@pytest.mark.parametrize(
    "line", ["vim llama-server.log", "tail -f vllm.log", "bash -c llama-server", "grep vllm serve", "cat", ""]
)
def test_a_process_that_speaks_of_an_engine_is_none(line: str) -> None:
    arguments = tuple(line.split(" "))
    assert name_of(f"/usr/bin/{arguments[0]}", arguments) is None


@pytest.mark.parametrize("title", ["ray::RayWorkerWrapper.execute_method", "ray::RayWorkerProc.run"])
def test_what_is_in_a_ray_actor_is_known_by_its_libraries_alone(title: str) -> None:
    name = name_of(PYTHON, (title,))
    assert name is not None
    torch = Deeds(Maps({}, ("/v/site-packages/torch/lib/libtorch_cpu.so",)), gpu=True)
    assert recognise(name, torch) is None  # lmdeploy's workers have the same title
    found = recognise(name, Deeds(Maps({}, ("/v/site-packages/vllm/_C.abi3.so",))))
    assert found is not None
    assert (*found[:2], name.label) == (EngineKind.VLLM, Role.WORKER, title)


@pytest.mark.parametrize("line", ["ollama list", "ollama run llama3"])
def test_a_client_of_ollama_is_no_engine(line: str) -> None:
    assert name_of("/usr/bin/ollama", tuple(line.split(" "))) is None


def test_what_merely_calls_itself_llama_server_is_none() -> None:
    name = name_of("/usr/bin/sleep", ("llama-server", "1000"))
    assert name is not None
    assert recognise(name, NOTHING) is None


@pytest.mark.parametrize(
    "deeds",
    [
        Deeds(Maps({"/m/a.gguf": MAPPING}, ())),
        Deeds(Maps({}, ("/opt/lib/libggml-cuda.so",))),
        Deeds(Maps({}, ()), ("/m/a.gguf",)),
        Deeds(Maps({}, ()), (), (8080,)),
        Deeds(None, gpu=True),
    ],
)
def test_a_name_and_a_deed_make_an_engine(deeds: Deeds) -> None:
    name = name_of("/usr/bin/llama-server", ("llama-server", "-m", "/m/a.gguf"))
    assert name is not None
    found = recognise(name, deeds)
    assert found is not None
    assert len(found[2]) >= 2


def test_another_port_than_its_own_is_no_sign() -> None:
    name = name_of("/usr/bin/llama-server", ("llama-server", "--port=9999"))
    assert name is not None
    assert recognise(name, Deeds(Maps({}, ()), (), (8080,))) is None
    assert recognise(name, Deeds(Maps({}, ()), (), (9999,))) is not None


def test_a_script_with_libllama_in_it_is_an_engine_and_without_it_none() -> None:
    name = name_of(PYTHON, ("python3", "chat.py"))
    assert name is not None
    assert recognise(name, NOTHING) is None
    found = recognise(name, Deeds(Maps({}, ("/v/site-packages/llama_cpp/lib/libllama.so",))))
    assert found is not None
    assert found[:2] == (EngineKind.LLAMA_CPP, Role.PYTHON)


# -- maps ----------------------------------------------------------------------------------------------------

SMAPS = b"""\
7f00-8f00 r--s 00000000 103:02 55 /models/with\\012newline.gguf
Size: 4 kB
Rss:                2048 kB
8f00-9f00 r--s 00001000 103:02 55 /models/with\\012newline.gguf (deleted)
Rss: 1024 kB
9f00-af00 r-xp 00000000 103:02 56 /usr/lib/libllama.so
Rss: 4 kB
af00-bf00 rw-p 00000000 00:00 0 [heap]
Rss: 4 kB
garbage
zz-yy r--p 0 xx:yy 1 /models/odd.gguf
"""


def test_mappings_of_a_file_are_added_up() -> None:
    maps = read_maps(SMAPS.splitlines())
    assert maps.models["/models/with\nnewline.gguf"] == Mapping(0x2000, 3 << 20, "259:2")
    assert maps.libraries == ("/usr/lib/libllama.so",)
    assert maps.models["/models/odd.gguf"] == Mapping(0, None, "")


def test_a_model_is_added_up_whatever_lies_between_its_mappings() -> None:
    model, library = b"7f00-8f00 r--s 0 103:02 55 /m.gguf", b"9f00-af00 r-xp 0 103:02 56 /usr/lib/libllama.so"
    rss, anonymous = b"Rss: 4 kB", b"bf00-cf00 rw-p 0 00:00 0"
    lines = [library, model, rss, anonymous, rss, model, rss, library, rss, library, rss, model, rss]
    maps = read_maps(lines)
    assert maps.models == {"/m.gguf": Mapping(0x3000, 12 << 10, "259:2")}
    assert maps.libraries == ("/usr/lib/libllama.so",)


# -- secrets -------------------------------------------------------------------------------------------------

WORD = "tiger-swordfish-4711"


@pytest.mark.parametrize(
    "line",
    [
        ("llama-server", "--api-key", WORD),
        ("llama-server", f"--api-key={WORD}"),
        ("llama-server", "-hft", WORD),
        ("llama-cli", "-p", WORD),
        ("llama-cli", "--prompt", f"my secret is {WORD}"),
        ("vllm", "serve", "m", "--hf-token", WORD),
        ("python3", "-c", f"x = '{WORD}'"),
        ("python3", "-m", "vllm", "--model", f"https://me:{WORD}@host/m"),
        ("llama-server", f"--{WORD * 4}", "x"),
        ("llama-server", "--unknown", WORD),
        ("llama-server", "--model", "/m.gguf", "--ssl-key-file", "/k", f"DB_PASSWORD={WORD}"),
    ],
)
def test_no_secret_of_a_command_line_is_kept(line: tuple[str, ...]) -> None:
    assert WORD not in repr(safe_arguments(line))


def test_what_rules_need_is_kept() -> None:
    line = (
        "llama-server",
        "-m",
        "/m/a.gguf",
        "--load-mode",
        "mmap",
        "--no-mmap",
        "-np",
        "8",
        "--rpc",
        "a:1,b:2",
    )
    assert safe_arguments(line) == line


def test_a_command_line_of_two_mebibytes_with_newlines_and_bad_utf8_is_taken() -> None:
    line = ("llama-server", "-m", "\n\ufffd" * (1 << 20), "--port", "8080")
    assert safe_arguments(line) == ("llama-server", "-m", HIDDEN, "--port", "8080")


def test_only_listed_variables_are_read_by_exact_name() -> None:
    environment = f"NCCL_IB_HCA==a,b\0NCCL_IB_HCA_KEY={WORD}\0HF_TOKEN={WORD}\0X={WORD}\0nonsense\0".encode()
    assert choose_variables(environment) == (("NCCL_IB_HCA", "=a,b"),)


def test_a_secret_in_a_listed_variable_is_hidden() -> None:
    found = choose_variables(f"LLAMA_ARG_MODEL=https://me:{WORD}@host/m\0NCCL_NET=hf_{WORD}\0".encode())
    assert WORD not in repr(found)


def test_no_listed_variable_names_a_secret() -> None:
    assert not [name for name in ALLOWED if any(word in name for word in ("KEY", "TOKEN", "PASS", "SECRET"))]


# -- the rules -----------------------------------------------------------------------------------------------


def test_every_rule_can_be_named_in_the_configuration() -> None:
    assert [rule.id for rule in RULES] == list(RULE_IDS)


def test_every_variable_that_a_rule_asks_for_is_read() -> None:
    assert set(VARIABLES) <= ALLOWED
