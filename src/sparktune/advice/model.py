"""The words of the advisor as types: engine, evidence, finding, rule. Frozen, and without any I/O.

`kernel/` fills them in, rules judge them. None is "not known" everywhere: a rule that needs it is silent.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from sparktune.frozen import frozen

if TYPE_CHECKING:
    from sparktune.fabric.model import Fabric


class EngineKind(StrEnum):
    """Which program it is."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vLLM"
    SGLANG = "SGLang"
    OLLAMA = "ollama"


class Role(StrEnum):
    """Which part of the engine a process is."""

    SERVER = "server"  # llama-server, vllm serve, sglang.launch_server, ollama serve
    COMMAND = "command"  # llama-cli, llama-bench: ends by itself
    RPC = "rpc"  # llama.cpp's rpc-server: computes for another node
    RUNNER = "runner"  # ollama's runner: llama.cpp inside
    PYTHON = "python"  # llama-cpp-python, or another program with libllama in it
    WORKER = "worker"  # vLLM's engine core and workers, SGLang's scheduler, Ray's workers


class Severity(StrEnum):
    """How much a finding matters. Nothing here is an error of the host."""

    INFO = "info"
    WARNING = "warning"


class Certainty(StrEnum):
    """How sure a rule is of what it says."""

    SOURCE = "source"  # read in the engine's or kernel's own source
    DOCUMENTED = "documented"  # its documentation says so
    MEASURED = "measured"  # by ourselves, on this kind of machine
    REPORTED = "reported"  # users or vendors published it; not tried by us
    DISPUTED = "disputed"  # results went both ways: measure both


@frozen
class Engine:
    """A process that is part of an inference engine.

    Attributes:
        pid: in the initial namespace.
        start_ticks: start time in clock ticks since boot; with the pid it names the process for good.
        started_s: start time in seconds since boot (CLOCK_BOOTTIME).
        kind: which program.
        role: which part of it.
        name: what people call it: `llama-server`, `VLLM::EngineCore`.
        signs: the two or more signs by which it is known, for people.
        version: `b6812`, `0.11.1rc4`; None: not to be had without running something.
        version_from: the file that says so; empty without a version.
        knows: which of `SPELLINGS` its program or libraries contain; None: not looked at, so unknown.
        libraries: base names of mapped libraries that tell something: `libllama.so`, `libnccl.so.2.27.3`.
        nccl: version of the NCCL it has mapped: `2.27.3`; None: none mapped, or version unknown.
        container: container id from its cgroup, at most 12 hex digits; empty on the host.
        unit: systemd unit from its cgroup; None if it has none.
        uid: real uid.
        exe: its program, as itself sees it.
        arguments: its command line, cut and redacted: never a secret. Options are asked for with `option`.
        environment: name and value of the allow-listed variables that it was started with.
        parent: pid of its parent; 0: not known.
        group: engine processes that belong together (server and its workers) have the same: a pid.
    """

    pid: int
    start_ticks: int
    started_s: float
    kind: EngineKind
    role: Role
    name: str
    signs: tuple[str, ...] = ()
    version: str | None = None
    version_from: str = ""
    knows: frozenset[str] | None = None
    libraries: tuple[str, ...] = ()
    nccl: str | None = None
    container: str = ""
    unit: str | None = None
    uid: int | None = None
    exe: str = ""
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    parent: int = 0
    group: int = 0

    def has(self, *names: str) -> bool:
        """Whether one of the options is on the command line: `--no-mmap`, also as `--no-mmap=…`."""
        return any(argument.partition("=")[0] in names for argument in self.arguments[1:])

    def option(self, *names: str) -> str | None:
        """The value of the last of these options: `--tp 2`, `--tp=2`; None if none of them has one."""
        found = None
        for number, argument in enumerate(self.arguments[1:], start=1):
            name, sign, value = argument.partition("=")
            if name not in names:
                continue
            if sign:
                found = value
            elif number + 1 < len(self.arguments):
                found = self.arguments[number + 1]
        return found

    def variable(self, name: str) -> str | None:
        """The value of an allow-listed environment variable; None if it is not set (or not readable)."""
        return dict(self.environment).get(name)


@frozen
class ModelFile:
    """A model file that a process has mapped or open.

    Attributes:
        path: as the process itself sees it.
        size_bytes: how large it is; None if that could not be asked.
        mapped_bytes: how much of it is mapped (Size in smaps).
        resident_bytes: how much of the mapping is resident (Rss in smaps); None: smaps was not readable.
        is_open: whether a descriptor of it is open.
        device: `major:minor` of the file system it is on.
        read_ahead_since_s: when sparktune last changed the read-ahead of that device, in seconds since boot;
            None: it did not, or does not manage it.
    """

    path: str
    size_bytes: int | None = None
    mapped_bytes: int = 0
    resident_bytes: int | None = None
    is_open: bool = False
    device: str = ""
    read_ahead_since_s: float | None = None


@frozen
class Connection:
    """Established TCP connections of one process with one remote host, by direction and interface.

    Attributes:
        local: local address.
        remote: remote address.
        port: the local port if they came in, else the remote one.
        inbound: the remote side connected to a port that the process listens on.
        interface: the interface that has the local address; empty if none was found.
        is_local: both ends are on this machine.
        count: how many connections.
    """

    local: str
    remote: str
    port: int
    inbound: bool
    interface: str = ""
    is_local: bool = False
    count: int = 1


@frozen
class Limit:
    """A resource limit in bytes; None is unlimited.

    Attributes:
        soft: what holds.
        hard: how far the process may raise it.
    """

    soft: int | None
    hard: int | None


@frozen
class Evidence:
    """What a process really does, at one moment. None is "could not be read".

    Attributes:
        models: model files that it has mapped or open, the largest first.
        uverbs: `/dev/infiniband/uverbs*` devices that it has open.
        queue_pairs: how many RDMA queue pairs the kernel counts for it; None also where nobody asked, because
            no engine has a device open.
        gpu: whether it has a GPU device open.
        listening: TCP ports it listens on, those beyond loopback only in `listening_beyond`.
        listening_beyond: TCP ports on which others than this machine can reach it.
        connections: established TCP connections.
        affinity: CPUs that it may run on.
        thread_cpus: CPUs that any of its busiest threads may use: threads may be pinned one by one.
        memlock: RLIMIT_MEMLOCK.
        ipc_lock: whether it has CAP_IPC_LOCK, for which memlock does not count.
        swap_bytes: how much of it is swapped out.
        rss_bytes: its resident memory.
        threads: how many threads.
        unreadable: what could not be read and why, for people.
    """

    models: tuple[ModelFile, ...] | None = None
    uverbs: tuple[str, ...] | None = None
    queue_pairs: int | None = None
    gpu: bool | None = None
    listening: tuple[int, ...] | None = None
    listening_beyond: tuple[int, ...] | None = None
    connections: tuple[Connection, ...] | None = None
    affinity: frozenset[int] | None = None
    thread_cpus: frozenset[int] | None = None
    memlock: Limit | None = None
    ipc_lock: bool | None = None
    swap_bytes: int | None = None
    rss_bytes: int | None = None
    threads: int | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def rdma(self) -> bool | None:
        """Whether it moves data over RDMA: by its queue pairs; by open devices where those are not counted.

        A device is open before anything goes over it, and stays open where all went over TCP after all.
        """
        if self.queue_pairs is not None:
            return self.queue_pairs > 0
        return None if self.uverbs is None else bool(self.uverbs)

    @property
    def remote(self) -> tuple[Connection, ...]:
        """The connections with other machines."""
        return tuple(one for one in self.connections or () if not one.is_local)


@frozen
class HostFacts:
    """What is true of the machine, at one moment. None is "could not be read".

    Attributes:
        kernel: kernel release: `6.17.0-1014-nvidia`.
        memory_bytes: MemTotal.
        available_bytes: MemAvailable.
        page_cache_bytes: Cached without Shmem.
        swap_total_bytes: SwapTotal.
        swap_used_bytes: SwapTotal without SwapFree.
        performance_cpus: CPUs of the fast cluster; empty where nothing tells CPUs apart.
        efficiency_cpus: CPUs of the slow cluster; empty where nothing tells CPUs apart.
        deepest_idle_us: the longest exit latency of an idle state that is enabled on any CPU.
        read_ahead_kb: what `[nvme] read_ahead_kb` wants; None: nothing is tuned.
        uptime_s: seconds since boot (CLOCK_BOOTTIME) when this was read.
        engines: all engines found in the same pass.
        fabric: the ConnectX-7 functions; None: not looked at.
        management: interfaces that are up, have an address, and are no function of the fabric.
    """

    kernel: str
    memory_bytes: int | None = None
    available_bytes: int | None = None
    page_cache_bytes: int | None = None
    swap_total_bytes: int | None = None
    swap_used_bytes: int | None = None
    performance_cpus: frozenset[int] = frozenset()
    efficiency_cpus: frozenset[int] = frozenset()
    deepest_idle_us: int | None = None
    read_ahead_kb: int | None = None
    uptime_s: float = 0.0
    engines: tuple[Engine, ...] = ()
    fabric: Fabric | None = None
    management: tuple[str, ...] = ()


@frozen
class ModelFacts:
    """What the headers of a model say of it.

    Attributes:
        path: the GGUF file, or the folder with `config.json`, as the engine sees it.
        format: `gguf` or `safetensors`; empty: neither was found beside config.json.
        architecture: `gpt-oss`, `Qwen3NextForCausalLM`; empty: not said.
        name: the model's name: GGUF `general.name`, or the folder's; empty: not said.
        quantisation: as people say it: `NVFP4`, `AWQ 4-bit`, `AWQ 8-bit`, `FP8`, `MXFP4`, `Q4_K_M`;
            empty: none, or not said.
        method: `quant_method` of config.json as it is written there; empty for GGUF.
        bits: of the weights; None: not said.
        bytes: all weight files together.
        largest_bytes: the largest weight file.
        files: how many weight files.
    """

    path: str
    format: str
    architecture: str = ""
    name: str = ""
    quantisation: str = ""
    method: str = ""
    bits: int | None = None
    bytes: int | None = None
    largest_bytes: int | None = None
    files: int | None = None


@frozen
class Finding:
    """One piece of advice about one process.

    Attributes:
        rule: the rule's id.
        severity: of this finding; never more than the rule's.
        pid: the process.
        engine: what people call it.
        what: what the process does, with the evidence: numbers that were read.
        why: what that costs.
        do: what a person can do, with the exact spelling; two where the build is unknown.
        expect: what to expect of it, with the version the figures hold for.
        source: where that is known from.
        certainty: how sure it is.
    """

    rule: str
    severity: Severity
    pid: int
    engine: str
    what: str
    why: str
    do: str
    expect: str
    source: str
    certainty: Certainty


Judge = Callable[[Engine, Evidence, "ModelFacts | None", HostFacts], "Finding | None"]


@frozen
class Rule:
    """One rule: data, and one pure function.

    Attributes:
        id: what it is silenced by: `llama-mmap`. Lower case, digits and `-`.
        severity: the highest that it gives.
        looks_for: what it looks for, one sentence.
        evidence: what it is judged by, one sentence.
        recommendation: what to do, one sentence or two.
        expect: what to expect, one sentence or two.
        versions: for which versions it holds, and what it says for others.
        source: project, version or tag, and file; or the published thread.
        certainty: how sure it is.
        judge: gives the finding for one process; None: nothing to say. Pure: no I/O, raises nothing.
    """

    id: str
    severity: Severity
    looks_for: str
    evidence: str
    recommendation: str
    expect: str
    versions: str
    source: str
    certainty: Certainty
    judge: Judge


SPELLINGS = ("--load-mode", "--no-mmap", "--direct-io", "--mlock")
"""Texts looked for in an engine's program and libraries, bounded: they tell builds apart without running any.

`Engine.knows` has those that were found. A rule that needs another one adds it here.
"""
