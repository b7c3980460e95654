"""Which processes are engines, by two signs: what they call themselves, and what they do. Pure, no I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sparktune.advice.model import EngineKind, Role
from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.advice.maps import Maps


@frozen(kw_only=False)
class Name:
    """What a process calls itself: the first sign.

    Attributes:
        kind: the engine; None: a Python program that may have one in it.
        role: which part of it.
        label: what people call it.
        sign: where the name was found, for people.
        port: the TCP port it listens on by its command line or by default; None: it need not listen.
    """

    kind: EngineKind | None
    role: Role
    label: str
    sign: str
    port: int | None = None


_LLAMA_PORT, _RPC_PORT, _VLLM_PORT, _SGLANG_PORT, _OLLAMA_PORT = 8080, 50052, 8000, 30000, 11434

# llama.cpp b10605: tools/*/CMakeLists.txt; ggml-rpc-server is its name since the tools were split.
_PROGRAMS = {
    "llama-server": (EngineKind.LLAMA_CPP, Role.SERVER, _LLAMA_PORT),
    "llama-cli": (EngineKind.LLAMA_CPP, Role.COMMAND, None),
    "llama-completion": (EngineKind.LLAMA_CPP, Role.COMMAND, None),
    "llama-mtmd-cli": (EngineKind.LLAMA_CPP, Role.COMMAND, None),
    "llama-bench": (EngineKind.LLAMA_CPP, Role.COMMAND, None),
    "llama-batched-bench": (EngineKind.LLAMA_CPP, Role.COMMAND, None),
    "llama-perplexity": (EngineKind.LLAMA_CPP, Role.COMMAND, None),
    "llama-embedding": (EngineKind.LLAMA_CPP, Role.COMMAND, None),
    "rpc-server": (EngineKind.LLAMA_CPP, Role.RPC, _RPC_PORT),
    "ggml-rpc-server": (EngineKind.LLAMA_CPP, Role.RPC, _RPC_PORT),
    "ollama_llama_server": (EngineKind.OLLAMA, Role.RUNNER, None),
}
_OLLAMA_COMMANDS = {"serve": (Role.SERVER, _OLLAMA_PORT), "runner": (Role.RUNNER, None)}
_MODULES = (
    ("vllm", EngineKind.VLLM, Role.SERVER, _VLLM_PORT),
    ("sglang", EngineKind.SGLANG, Role.SERVER, _SGLANG_PORT),
    ("llama_cpp.server", EngineKind.LLAMA_CPP, Role.PYTHON, _VLLM_PORT),
)
_SCRIPTS = {
    "vllm": (EngineKind.VLLM, _VLLM_PORT),
    "sglang": (EngineKind.SGLANG, _SGLANG_PORT),
}
# Set by setproctitle: vLLM, vllm/utils (set_process_title); SGLang, srt/managers/scheduler.py.
_TITLES = (
    ("VLLM::APIServer", EngineKind.VLLM, Role.SERVER),
    ("VLLM::", EngineKind.VLLM, Role.WORKER),
    ("sglang::", EngineKind.SGLANG, Role.WORKER),
)
# What is in a Ray actor is known by its libraries alone: lmdeploy's workers have the same title as vLLM's.
_RAY = "ray::"
_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*")
_NUMBER = re.compile(r"[0-9]{1,5}")
_FLAGS_WITH_VALUE = frozenset({"-W", "-X", "--check-hash-based-pycs"})
_MARKS = {
    EngineKind.LLAMA_CPP: ("libllama", "libggml", "xllamacpp"),
    EngineKind.OLLAMA: ("libllama", "libggml"),
    EngineKind.VLLM: ("/vllm/", "libtorch", "libcudart"),
    EngineKind.SGLANG: ("/sgl_kernel/", "/sglang/", "libtorch", "libcudart"),
}
"""Parts of the paths of libraries by which an engine is known; the first ones are its own."""
_EMBEDDED = (
    (EngineKind.LLAMA_CPP, Role.PYTHON, ("libllama", "xllamacpp")),
    (EngineKind.VLLM, Role.WORKER, ("/vllm/",)),
    (EngineKind.SGLANG, Role.WORKER, ("/sgl_kernel/",)),
)
_GGUF_ENGINES = frozenset({EngineKind.LLAMA_CPP, EngineKind.OLLAMA})


def name_of(program: str, arguments: Sequence[str]) -> Name | None:
    """What a process calls itself; None: nothing that we know.

    Args:
        program: the path of its program; empty where it is not to be seen.
        arguments: its command line.
    """
    first = arguments[0] if arguments else ""
    for title, kind, role in _TITLES:
        if first.startswith(title):
            return Name(kind, role, first.split(" ", 1)[0][:60], f"title {title}")
    for path in (program, first):
        base = path.rpartition("/")[2]
        if base in _PROGRAMS:
            return _named(base, path, arguments)
        if base == "ollama" and len(arguments) > 1 and arguments[1] in _OLLAMA_COMMANDS:
            role, port = _OLLAMA_COMMANDS[arguments[1]]
            return Name(EngineKind.OLLAMA, role, f"ollama {arguments[1]}", f"program {base}", port)
    return _name_of_python(program, arguments)


def _named(base: str, path: str, arguments: Sequence[str]) -> Name:
    kind, role, port = _PROGRAMS[base]
    if "/ollama/" in path:  # ollama brings llama.cpp's own server as its runner
        kind, role = EngineKind.OLLAMA, Role.RUNNER
    return Name(kind, role, base, f"program {base}", None if port is None else _port(arguments, port))


def _name_of_python(program: str, arguments: Sequence[str]) -> Name | None:
    names = (program.rpartition("/")[2], arguments[0].rpartition("/")[2] if arguments else "")
    if arguments and arguments[0].startswith(_RAY):
        return Name(None, Role.WORKER, arguments[0].split(" ", 1)[0][:60], f"title {_RAY}")
    if not any(_PYTHON.fullmatch(name) for name in names):
        return None
    module, script, rest = _started(arguments)
    for prefix, kind, role, port in _MODULES:
        if module == prefix or module.startswith(f"{prefix}."):
            return Name(kind, role, f"python -m {module}", f"module {module}", _port(rest, port))
    base = script.rpartition("/")[2]
    if base in _SCRIPTS and "serve" in rest[:1]:
        kind, port = _SCRIPTS[base]
        return Name(kind, Role.SERVER, f"{base} serve", f"script {base}", _port(rest, port))
    return Name(None, Role.PYTHON, base[:60] or module[:60] or "python", "a Python program")


def _started(arguments: Sequence[str]) -> tuple[str, str, Sequence[str]]:
    """Module, script and the arguments behind them: `python -u -m vllm…`, `python /usr/bin/vllm`."""
    position = 1
    while position < len(arguments):
        argument = arguments[position]
        if argument == "-m":
            module = arguments[position + 1] if position + 1 < len(arguments) else ""
            return module, "", arguments[position + 2 :]
        if argument == "-c":
            return "", "", ()
        if not argument.startswith("-"):
            return "", argument, arguments[position + 1 :]
        position += 2 if argument in _FLAGS_WITH_VALUE else 1
    return "", "", ()


def _port(arguments: Sequence[str], default: int) -> int:
    for number, argument in enumerate(arguments):
        name, sign, value = argument.partition("=")
        if name in {"--port", "-p"}:
            given = value if sign else (arguments[number + 1] if number + 1 < len(arguments) else "")
            return int(given) if _NUMBER.fullmatch(given) else default
    return default


@frozen(kw_only=False)
class Deeds:
    """What a process does, as far as it was looked at: where the second sign comes from.

    Attributes:
        maps: what it has mapped; None: not readable.
        open_models: model files that it has open.
        listening: TCP ports it listens on.
        gpu: whether it has a GPU device open.
    """

    maps: Maps | None
    open_models: tuple[str, ...] = ()
    listening: tuple[int, ...] = ()
    gpu: bool = False


def recognise(name: Name, deeds: Deeds) -> tuple[EngineKind, Role, tuple[str, ...]] | None:
    """Kind, role and all signs of an engine; None while there is only the name."""
    if name.kind is None:
        return _recognise_embedded(name, deeds)
    signs = tuple(_second_signs(name, name.kind, deeds))
    return (name.kind, name.role, (name.sign, *signs)) if signs else None


def _second_signs(name: Name, kind: EngineKind, deeds: Deeds) -> list[str]:
    models = [*(deeds.maps.models if deeds.maps else ()), *deeds.open_models]
    fitting = [
        path for path in models if path.endswith(".gguf") or kind not in _GGUF_ENGINES or "/blobs/" in path
    ]
    signs = [f"has {fitting[0]} mapped or open"] if fitting else []
    libraries = deeds.maps.libraries if deeds.maps else ()
    found = next((path for mark in _MARKS[kind] for path in libraries if mark in path), None)
    if found:
        signs.append(f"has {found.rpartition('/')[2]} loaded")
    if name.port is not None and name.port in deeds.listening:
        signs.append(f"listens on port {name.port}")
    if deeds.gpu:
        signs.append("has a GPU open")
    return signs


def _recognise_embedded(name: Name, deeds: Deeds) -> tuple[EngineKind, Role, tuple[str, ...]] | None:
    libraries = deeds.maps.libraries if deeds.maps else ()
    for kind, role, marks in _EMBEDDED:
        found = next((path for path in libraries if any(mark in path for mark in marks)), None)
        if found:
            return kind, role, (name.sign, f"has {found.rpartition('/')[2]} loaded")
    return None
