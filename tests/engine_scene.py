"""A folder with models, libraries and engines, and what a real process in it must be told.

The command lines are those of the engines' own documentation; where each was read is said beside it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gguf_maker import write_model
from stand_ins import Stage, StandIn, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparktune.snapshot import Advice, AdviceReport

MIB, GIB = 1 << 20, 1 << 30
RESIDENT = 280 * MIB
BLOB = "models/blobs/sha256-" + "c0ffee" * 10 + "abcd"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - rpc-server of the documentation binds to all interfaces
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "nvfp4": {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}},
    "awq4": {"quantization_config": {"quant_method": "awq", "bits": 4}},
    "fp8": {"quantization_config": {"quant_method": "fp8"}},
    "mxfp4": {"quantization_config": {"quant_method": "mxfp4"}},
}


class Scene:
    """The models, libraries and processes of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stage = Stage(folder)
        self.gguf = folder / "models/7B/ggml-model.gguf"
        self.gguf.parent.mkdir(parents=True)
        write_model(self.gguf, layers=2, feed_forward=288 * MIB // (4 * 64 * 3 * 2))
        self.blob = folder / BLOB
        self.blob.parent.mkdir()
        self.blob.hardlink_to(self.gguf)
        for name, config in CONFIGS.items():
            self._write_model(folder / "models" / name, config)
        self.vllm = self._install("vllm/_C.abi3.so", "vllm-0.11.1.dist-info")
        self.sglang = self._install("sgl_kernel/common_ops.abi3.so", "sglang-0.5.11.dist-info")
        self.torch = self._install("torch/lib/libtorch_cpu.so", "torch-2.9.0.dist-info")
        self.nccl = self._install("nvidia/nccl/lib/libnccl.so.2", "nvidia_nccl_cu12-2.27.3.dist-info")
        self.old_nccl = self._install(
            "nvidia/nccl/lib/libnccl.so.2", "nvidia_nccl_cu12-2.20.5.dist-info", place="old"
        )

    def _write_model(self, folder: Path, config: dict[str, Any]) -> None:
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"], **config}))
        for number in (1, 2):
            with (folder / f"model-0000{number}-of-00002.safetensors").open("wb") as file:
                file.truncate(2 * GIB)  # a hole: it costs no disk

    def _install(self, library: str, package: str, *, place: str = "env") -> str:
        site = self.folder / place / "lib/python3.12/site-packages"
        (site / library).parent.mkdir(parents=True, exist_ok=True)
        (site / library).write_bytes(b"\x7fELF" + bytes(8192))
        (site / package).mkdir()
        return str(site / library)

    def shard(self, name: str) -> str:
        return f"{self.folder}/models/{name}/model-00001-of-00002.safetensors"

    # -- engines, by the command lines of their documentation ------------------------------------------------

    def llama(self, *options: str, knows: tuple[str, ...] = (), mapped: int = 0, **more: Any) -> StandIn:
        """`./llama-server -m models/7B/ggml-model.gguf -c 2048`: llama.cpp, tools/server/README.md."""
        port = free_port()
        line = (
            "./llama-server",
            "-m",
            "models/7B/ggml-model.gguf",
            "-c",
            "2048",
            "--port",
            str(port),
            *options,
        )
        files: dict[str, Any] = {"maps": {str(self.gguf): mapped}} if mapped else {"opens": (str(self.gguf),)}
        return StandIn(line=line, knows=knows, port=port, **files, **more)

    def serve(self, model: str, *options: str, maps: dict[str, int] | None = None, **more: Any) -> StandIn:
        """`vllm serve /path/to/model`: vLLM, docs/serving/parallelism_scaling.md at 096bd6a4."""
        port = free_port()
        line = ("vllm", "serve", f"{self.folder}/models/{model}", "--port", str(port), *options)
        return StandIn(line=line, port=port, maps={self.vllm: 0, **(maps or {})}, **more)

    def serve_module(self, model: str, *options: str) -> StandIn:
        """As it was before `vllm serve`: vLLM, docs/source/getting_started/cpu-installation.rst of 2024."""
        one = self.serve(model, *options)
        module = ("python3", "-m", "vllm.entrypoints.openai.api_server", "--model")
        return replace(one, line=(*module, *one.line[2:]))

    def launch(self, model: str, *options: str, maps: dict[str, int] | None = None, **more: Any) -> StandIn:
        """`python3 -m sglang.launch_server --model-path …`: SGLang, docs/references/multi_node_deployment."""
        port = free_port()
        folder = f"{self.folder}/models/{model}"
        line = (
            "python3",
            "-m",
            "sglang.launch_server",
            "--model-path",
            folder,
            "--port",
            str(port),
            *options,
        )
        return StandIn(line=line, port=port, maps={self.sglang: 0, **(maps or {})}, **more)

    def ollama(self, *options: str, mapped: int = 0) -> StandIn:
        """`ollama runner --ollama-engine …`: Ollama, llm/server.go at v0.12.0 to v0.20.0."""
        port = str(free_port())
        model = str(self.blob)
        line = ("bin/ollama", "runner", "--ollama-engine", "--model", model, *options, "--port", port)
        return StandIn(line=line, **({"maps": {model: mapped}} if mapped else {"opens": (model,)}))

    def ollama_server(self, *options: str, mapped: int = 0) -> StandIn:
        """`lib/ollama/llama-server --model …`: Ollama, llm/llama_server.go at 00f6d620."""
        port = str(free_port())
        model = str(self.blob)
        line = (
            "lib/ollama/llama-server", "--model", model, "--port", port, "--host", "127.0.0.1", "--no-webui",
            "--offline", "-c", "65536", "-np", "1", *options,
        )  # fmt: skip
        return StandIn(line=line, **({"maps": {model: mapped}} if mapped else {"opens": (model,)}))

    def rpc_server(self, **more: Any) -> StandIn:
        """`bin/rpc-server -H 0.0.0.0 -p 50052 -c`: llama.cpp, tools/rpc/README.md at 038514c9."""
        line = ("bin/rpc-server", "-H", EVERYWHERE, "-p", "50052", "-c")
        return StandIn(line=line, port=50052, host=EVERYWHERE, **more)

    def llama_cli(self, servers: str, **more: Any) -> StandIn:
        """`llama-cli -hf … -ngl 99 --rpc …`: llama.cpp, tools/rpc/README.md at 038514c9."""
        line = ("llama-cli", "-hf", "ggml-org/gemma-3-1b-it-GGUF", "-ngl", "99", "--rpc", servers)
        return StandIn(line=line, opens=(str(self.gguf),), **more)

    def ray_worker(self, **more: Any) -> StandIn:
        """The title of a Ray actor that runs vLLM's worker: docs/engines.md."""
        maps = {self.vllm: 0, self.torch: 0, **more.pop("maps", {})}
        return StandIn(line=("ray::RayWorkerWrapper.execute_method",), title=True, maps=maps, **more)

    def scheduler(self, **more: Any) -> StandIn:
        """The title of SGLang's scheduler: srt/managers/scheduler.py."""
        maps = {self.sglang: 0, self.torch: 0}
        return StandIn(line=("sglang::scheduler_TP0",), title=True, maps=maps, **more)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What one process must be told, and the one beside it must not.

    Attributes:
        rule: the rule's id.
        says: what must be among its words.
        never: what must not be.
        beside: what is different about the other process.
    """

    rule: str
    says: str
    beside: str
    never: str = "\0"


@dataclass(frozen=True, kw_only=True)
class Case(Expected):
    """The same, with both processes.

    Attributes:
        name: what tells it from the others of the rule.
        make: the process that triggers the rule, and the one beside it.
    """

    name: str
    make: Callable[[Scene], tuple[StandIn, StandIn]]


def advice(report: AdviceReport, pid: int, rule: str) -> list[Advice]:
    """What a rule says of a process."""
    return [one for one in report.findings if one.pid == pid and one.rule == rule]


def check(case: Expected, report: AdviceReport, pids: tuple[int, int], line: tuple[str, ...]) -> None:
    """That one of two engines is advised, and with which words; writes the row of the table."""
    kinds = {engine.pid: engine.kind for engine in report.engines}
    assert set(pids) <= set(kinds), "what is beside it must be an engine too"
    found, others = (advice(report, pid, case.rule) for pid in pids)
    assert [one.pid for one in found] == [pids[0]]
    assert others == []
    tell(case, found[0], line, kinds[pids[0]])


def tell(case: Expected, found: Advice, line: tuple[str, ...], kind: str) -> None:
    """That a finding says what it should; writes the row of the table."""
    words = f"{found.severity}: {found.what}. Do: {found.do}"
    assert case.says in words
    assert case.never not in words
    shown = " ".join(Path(part).name if part.startswith("/") else part for part in line if part)
    cells = (case.rule, f"`{shown}` ({kind})", case.beside, words)
    sys.stdout.write(f"\n| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
