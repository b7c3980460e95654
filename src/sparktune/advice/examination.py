"""One process that may be an engine: looked at once a minute, and by a child whenever it changed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sparktune.advice.allowed import choose_variables, safe_arguments
from sparktune.advice.answer import Answer
from sparktune.advice.maps import is_model, read_maps
from sparktune.advice.model import SPELLINGS, Connection, Engine, EngineKind, Evidence, Limit, ModelFile
from sparktune.advice.recognition import Deeds, Name, recognise
from sparktune.cpulist import parse_cpu_list
from sparktune.errors import UsageError
from sparktune.kernel import deeds
from sparktune.kernel.borrowed import as_user
from sparktune.kernel.engines import read_container
from sparktune.kernel.process import open_process, read_start, read_unit
from sparktune.kernel.sockets import Socket, SocketTables, inodes_of
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparktune.kernel.engines import Sketch

    Since = Callable[[str], float | None]

_TICKS = os.sysconf("SC_CLK_TCK")
_STEP_BYTES = 64 << 20
"""So much must its mapped or resident memory change before its map is read again."""
SOCKETS_FRESH_S = 300.0
"""How long connections are believed to be what they were while the sockets are the same ones."""
_PACKAGES = {EngineKind.VLLM: "vllm", EngineKind.SGLANG: "sglang", EngineKind.LLAMA_CPP: "llama_cpp_python"}
_NCCL = ("nvidia_nccl_cu12", "nvidia_nccl_cu13", "nvidia_nccl_cu11")
_UVERBS, _GPU = "/dev/infiniband/uverbs", "/dev/nvidia"
_MOST_CONNECTIONS = 256
_MOST_ASKED_FILES, _MOST_ASKED_BYTES = 64, 32768


@dataclass(slots=True, eq=False)
class Suspect:
    """A process with the name of an engine, and what is known of it.

    Attributes:
        sketch: the first look; its arguments are not kept.
        name: what it calls itself.
        arguments: its command line, harmless parts only.
        folder: the model it was told to load, if that is a path.
        engine: set once there is a second sign.
        evidence: as of the last look.
        answer: what the child said last.
        asked: the state of things when the child was asked last; another one is worth another child.
        seen: the state of things at the last look.
        request: what a child would be asked.
        library_bytes: how much code it had mapped when its map was read last.
        inodes, sockets, sockets_s: its TCP sockets as they were found last, and when on CLOCK_MONOTONIC.
    """

    sketch: Sketch
    name: Name
    arguments: tuple[str, ...]
    folder: str = ""
    engine: Engine | None = None
    evidence: Evidence = field(default_factory=Evidence)
    answer: Answer = field(default_factory=Answer)
    asked: tuple[object, ...] | None = None
    seen: tuple[object, ...] = ()
    request: dict[str, Any] = field(default_factory=dict)
    library_bytes: int | None = None
    inodes: frozenset[bytes] = frozenset()
    sockets: tuple[Socket, ...] | None = None
    sockets_s: float = float("-inf")


class _Look(NamedTuple):
    """What was read in one look."""

    status: deeds.Status
    descriptors: tuple[str, ...] | None
    sockets: tuple[Socket, ...] | None

    @property
    def open_models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for path in self.descriptors or () if is_model(path)))

    @property
    def has_gpu(self) -> bool | None:
        return None if self.descriptors is None else any(path.startswith(_GPU) for path in self.descriptors)

    @property
    def listening(self) -> list[Socket]:
        return [socket for socket in self.sockets or () if socket.listening]


def started_s(sketch: Sketch) -> float:
    """When a process was started, in seconds since boot."""
    return sketch.start_ticks / _TICKS


def suspect(sketch: Sketch, name: Name) -> Suspect:
    """Begin with a process: of its command line only the harmless parts are kept."""
    arguments = safe_arguments(sketch.arguments)
    return Suspect(sketch._replace(arguments=()), name, arguments, folder=_model_of(arguments))


def look_again(one: Suspect, proc: str, since: Since, tables: SocketTables) -> bool:
    """Read what the process does now. False: it is gone, or another one has its pid.

    Args:
        one: the process.
        proc: where procfs is.
        since: when the read-ahead of a device was last changed.
        tables: those of this pass.
    """
    process = open_process(proc, one.sketch.pid)
    if process is None:
        return False
    try:
        start, status = read_start(process), deeds.read_status(process)
        if start is None or status is None or status.exited:
            return False
        if start.starttime != one.sketch.start_ticks:
            return False
        if one.engine is None and one.name.kind is None and not _has_library(one, process, status):
            return True
        with as_user(status.uid):
            descriptors = deeds.read_descriptors(process)
        look = _Look(status, descriptors, _read_sockets(one, process, descriptors or (), status, tables))
        if one.engine is None:
            one.engine = _recognise(one, process, look)
        if one.engine is not None:
            one.seen = (look.open_models, *_steps(one.seen[1:], status))
            one.request = _request(one, proc, look)
            one.evidence = _evidence(one, process, look, since)
    finally:
        os.close(process)
    return True


def _has_library(one: Suspect, process: int, status: deeds.Status) -> bool:
    """Whether a Python program has an engine loaded: the one question there is before anything else.

    Its map is read again only once it has other code mapped: to load a library is to map its code.
    """
    before, one.library_bytes = one.library_bytes, status.library_bytes
    if before is not None and before == one.library_bytes:
        return False
    lines = deeds.read_maps_lines(process)
    return lines is not None and recognise(one.name, Deeds(read_maps(lines))) is not None


def _read_sockets(
    one: Suspect,
    process: int,
    descriptors: tuple[str, ...],
    status: deeds.Status,
    tables: SocketTables,
) -> tuple[Socket, ...] | None:
    """Its TCP sockets. An engine that has had the same ones for two looks has the same connections.

    What changes without a new socket (a late listen(), a peer that hung up) is seen within `SOCKETS_FRESH_S`.
    """
    inodes, now_s = inodes_of(descriptors), time.monotonic()
    is_same = one.engine is not None and one.sockets is not None and inodes == one.inodes
    if not is_same or now_s - one.sockets_s >= SOCKETS_FRESH_S:
        one.sockets_s = now_s if is_same else float("-inf")  # at first sight it may be about to connect
        one.inodes, one.sockets = inodes, tables.read(process, inodes, uid=status.uid)
    return one.sockets


def _recognise(one: Suspect, process: int, look: _Look) -> Engine | None:
    lines = deeds.read_maps_lines(process)
    maps = None if lines is None else read_maps(lines)
    ports = tuple(socket.local_port for socket in look.listening)
    known = recognise(one.name, Deeds(maps, look.open_models, ports, gpu=bool(look.has_gpu)))
    if known is None:
        return None
    with as_user(look.status.uid):
        environment = deeds.read_environment(process) or b""
    return Engine(
        pid=one.sketch.pid,
        start_ticks=one.sketch.start_ticks,
        started_s=started_s(one.sketch),
        kind=known[0],
        role=known[1],
        name=plain(one.name.label),
        signs=tuple(plain(sign, most=200) for sign in known[2]),
        libraries=_bases(maps.libraries if maps else ()),
        container=read_container(process),
        unit=read_unit(process),
        uid=look.status.uid,
        exe=plain(one.sketch.program, most=4096),
        arguments=one.arguments,
        environment=choose_variables(environment),
        parent=look.status.parent,
    )


def _steps(before: tuple[object, ...], status: deeds.Status) -> tuple[object, ...]:
    """Its mapped and resident memory as it was when it last differed by a step: a small swing is not new.

    The kernel takes file pages back from an idle engine, and a child costs as much as ten passes.
    """
    sizes = (status.file_bytes or 0, status.virtual_bytes or 0)
    return tuple(
        old if isinstance(old, int) and abs(size - old) < _STEP_BYTES else size
        for old, size in zip(before or (None, None), sizes, strict=True)
    )


def _request(one: Suspect, proc: str, look: _Look) -> dict[str, Any]:
    """What the child is asked; see kernel/model_child.py."""
    package = _PACKAGES.get(one.engine.kind, "") if one.engine else ""
    models = list(look.open_models[:_MOST_ASKED_FILES])
    while sum(map(len, models)) > _MOST_ASKED_BYTES:
        models.pop()
    return {
        "proc": proc,
        "pid": one.sketch.pid,
        "start_ticks": one.sketch.start_ticks,
        "uid": look.status.uid,
        "gid": look.status.gid,
        "groups": list(look.status.groups),
        "models": models,
        "folder": one.folder,
        "program": one.sketch.program,
        "packages": [package, *_NCCL],
        "spellings": list(SPELLINGS),
    }


def _evidence(one: Suspect, process: int, look: _Look, since: Since) -> Evidence:
    limit = deeds.read_memlock(process)
    status, answer = look.status, one.answer
    gaps = [f"open files of pid {one.sketch.pid}: not readable"] if look.descriptors is None else []
    seen = look.sockets is not None
    uverbs = sorted({path for path in look.descriptors or () if path.startswith(_UVERBS)})
    return Evidence(
        models=models_of(answer, look.open_models, since),
        uverbs=None if look.descriptors is None else tuple(uverbs),
        gpu=look.has_gpu,
        listening=_ports(look.listening) if seen else None,
        listening_beyond=_ports([one for one in look.listening if not _is_loopback(one.local)])
        if seen
        else None,
        connections=_connections(process, look.sockets) if look.sockets is not None else None,
        affinity=_cpus(status.cpus),
        thread_cpus=answer.thread_cpus,
        memlock=None if limit is None else Limit(soft=limit[0], hard=limit[1]),
        ipc_lock=status.ipc_lock,
        swap_bytes=status.swap_bytes,
        rss_bytes=status.rss_bytes,
        threads=status.threads,
        unreadable=(*gaps, *answer.gaps),
    )


def _ports(sockets: list[Socket]) -> tuple[int, ...]:
    return tuple(sorted({socket.local_port for socket in sockets}))


def _connections(process: int, sockets: tuple[Socket, ...]) -> tuple[Connection, ...]:
    ports = {socket.local_port for socket in sockets if socket.listening}
    found: dict[tuple[str, str, int, bool], int] = {}
    for socket in sockets:
        if not socket.listening:
            inbound = socket.local_port in ports
            key = (socket.local, socket.remote, socket.local_port if inbound else socket.remote_port, inbound)
            found[key] = found.get(key, 0) + 1
    if not found:
        return ()
    routes = deeds.read_routes(process)
    return tuple(
        Connection(
            local=local,
            remote=remote,
            port=port,
            inbound=inbound,
            interface="lo" if is_local else routes.interface_of(local, remote),
            is_local=is_local,
            count=count,
        )
        for (local, remote, port, inbound), count in list(found.items())[:_MOST_CONNECTIONS]
        for is_local in (local == remote or _is_loopback(remote),)
    )


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _cpus(text: str) -> frozenset[int] | None:
    try:
        return frozenset(parse_cpu_list(text)) if text else None
    except UsageError:  # not what a kernel writes
        return None


def models_of(answer: Answer, open_models: tuple[str, ...], since: Since) -> tuple[ModelFile, ...] | None:
    """Model files from the child's answer and from descriptors; None: neither could be read."""
    if answer.models is None and not open_models:
        return None
    mapped = answer.models or {}
    opened = {plain(path, most=4096) for path in open_models}
    found = [
        ModelFile(
            path=path,
            size_bytes=answer.sizes.get(path),
            mapped_bytes=size,
            resident_bytes=resident,
            is_open=path in opened,
            device=device,
            read_ahead_since_s=since(device) if device else None,
        )
        for path, (size, resident, device) in mapped.items()
    ]
    found += [
        ModelFile(path=path, size_bytes=answer.sizes.get(path), is_open=True)
        for path in sorted(opened - set(mapped))
    ]
    return tuple(sorted(found, key=lambda one: -max(one.mapped_bytes, one.size_bytes or 0)))


def take_answer(one: Suspect, answer: Answer, since: Since) -> None:
    """Add what the child found to the engine and its evidence."""
    opened = tuple(model.path for model in one.evidence.models or () if model.is_open)
    before = set(one.answer.gaps)
    one.answer = answer
    if one.engine is None:
        return
    version, place = answer.packages.get(_PACKAGES.get(one.engine.kind, ""), (None, ""))
    one.engine = replace(
        one.engine,
        version=version,
        version_from=place,
        knows=answer.knows,
        libraries=_bases(answer.libraries) or one.engine.libraries,
        nccl=_nccl(answer),
    )
    gaps = [gap for gap in one.evidence.unreadable if gap not in before]
    one.evidence = replace(
        one.evidence,
        models=models_of(answer, opened, since),
        thread_cpus=answer.thread_cpus,
        unreadable=(*gaps, *answer.gaps),
    )


def _bases(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({plain(path.rpartition("/")[2]) for path in paths}))


def _nccl(answer: Answer) -> str | None:
    """The version of the NCCL that is mapped: in its file's name, or that of the package it came in."""
    for path in answer.libraries:
        base = path.rpartition("/")[2]
        if not base.startswith("libnccl.so."):
            continue
        version = base.removeprefix("libnccl.so.")
        if version.count(".") >= 2:  # noqa: PLR2004 - major.minor.patch
            return version
        return next((answer.packages[name][0] for name in _NCCL if name in answer.packages), None)
    return None


def _model_of(arguments: tuple[str, ...]) -> str:
    """The path of the model on the command line; empty if it is a name of a hub, or not given."""
    for number, argument in enumerate(arguments[1:], start=1):
        name, sign, value = argument.partition("=")
        if name in {"--model", "--model-path", "-m"}:
            given = value if sign else (arguments[number + 1] if number + 1 < len(arguments) else "")
            if given.startswith("/"):
                return given[:4096]
    return next((argument[:4096] for argument in arguments[2:4] if argument.startswith("/")), "")
