"""A program of its own: looks at one engine's memory map and model files with the engine's own rights, once.

Model folders are other people's files, so they are never opened by the daemon. It is started by the daemon as
`python -IS model_child.py`, reads one JSON request from standard input, gives up every right that the engine
has not, writes one JSON answer to standard output, and ends. It imports next to nothing.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import resource
import stat
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sparktune.advice.headers import MOST_CONFIG_BYTES, HeaderError, read_config, read_gguf
from sparktune.advice.maps import Maps, read_maps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_REQUEST_BYTES = 49152
SECONDS = 10
"""The kernel ends it after so long: a dead NFS server must not keep it for ever."""
_CPU_S = 5
_MEMORY_BYTES = 1 << 30
"""Address space: programs of up to 256 MiB are mapped to look for texts in them."""
_MOST_SMAPS_BYTES = 64 << 20
_MOST_PROGRAM_BYTES = 256 << 20
_MOST_NAMES = 20000
_MOST_LIBRARIES = 8
_MOST_THREADS = 512
_BUSIEST = 32
_ALLOWED = re.compile(rb"^Cpus_allowed_list:\s*([0-9,-]{1,1024})$", re.MULTILINE)

_PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 38, 4
_CAPABILITY_VERSION_3 = 0x20080522
_SYS_OPENAT2 = 437  # the same on all architectures
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH, _RESOLVE_IN_ROOT = 0x02, 0x08, 0x10
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_HUB = re.compile(r"^(.*/models--[^/]+)(?:/|$)")
_SITE = re.compile(r"^(.*/(?:site|dist)-packages)/")
_LIBC = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def main() -> int:
    """Answer the request on standard input. Returns the exit code; a failure has its reason in the answer."""
    _limit()
    request = json.loads(os.read(0, MOST_REQUEST_BYTES))
    process = os.open(f"{request['proc']}/{request['pid']}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    answer: dict[str, Any] = {"gaps": []}
    # Of an engine in a container these two need CAP_SYS_PTRACE: before the drop.
    smaps, root = _try_open(process, "smaps"), _try_open(process, "root", os.O_PATH | os.O_CLOEXEC)
    threads = _thread_cpus(process)
    if not _is_still(process, request["start_ticks"]):
        raise ProcessLookupError(request["pid"])
    become(request["uid"], request["gid"], request["groups"])
    maps = Maps({}, ())
    if smaps is None:
        answer["gaps"].append("smaps: not readable")
    else:
        maps = read_maps(_lines(smaps))
        answer["models"] = {
            path: [one.mapped_bytes, one.resident_bytes, one.device] for path, one in maps.models.items()
        }
        answer["libraries"] = list(maps.libraries)
    answer["thread_cpus"] = threads
    if root is None:
        answer["gaps"].append("its files: not visible")
    else:
        Files(root, answer["gaps"]).tell(answer, request, maps)
    os.write(1, json.dumps(answer).encode())
    return 0


def _limit() -> None:
    for kind, most in (
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    with suppress(OSError):  # the unit's filter refuses it; it is a courtesy
        os.nice(10)
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    import signal

    signal.alarm(SECONDS)  # not handled: the kernel ends us


def become(uid: int, gid: int, groups: Iterable[int]) -> None:
    """Be the engine's user, with no capability at all, for good.

    Raises:
        OSError: the kernel refuses; then nothing may be opened.
    """
    own = (os.geteuid(), os.getegid())
    if own != (uid, gid) or os.geteuid() == 0:
        os.setgroups(sorted(set(groups))[:256])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _LIBC.capset(header, bytes(24)):  # also where the engine is root: its uid, but not root's rights
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "capset")
    _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PermissionError(1, "the engine's uid was not taken over")


def _is_still(process: int, start_ticks: int) -> bool:
    stat_file = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    try:
        data = os.read(stat_file, 4096)
    finally:
        os.close(stat_file)
    return int(data.rpartition(b")")[2].split()[19]) == start_ticks


def _try_open(process: int, name: str, flags: int = os.O_RDONLY | os.O_CLOEXEC) -> int | None:
    try:
        return os.open(name, flags, dir_fd=process)
    except OSError:  # EACCES, EPERM: said as a gap
        return None


def _thread_cpus(process: int) -> list[str]:
    """Where its busiest threads may run: the CPU lists among them (proc_pid_stat(5), proc_pid_status(5))."""
    ticks: list[tuple[int, str]] = []
    lists: set[str] = set()
    try:
        tasks = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
        for name in os.listdir(tasks)[:_MOST_THREADS]:  # noqa: PTH208 - a descriptor, not a path
            fields = _read_in(tasks, f"{name}/stat").rpartition(b")")[2].split()
            ticks.append((int(fields[11]) + int(fields[12]), name))
        busiest = sorted(ticks, reverse=True)[:_BUSIEST]
        for used, name in busiest:
            if used * 4 < busiest[0][0]:
                break
            allowed = _ALLOWED.search(_read_in(tasks, f"{name}/status"))
            lists.add(allowed[1].decode() if allowed else "")
    except (OSError, IndexError, ValueError):  # threads that ended; what was seen is enough
        pass
    return sorted(lists)


def _read_in(folder: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(descriptor, 8192)
    finally:
        os.close(descriptor)


def _lines(descriptor: int) -> Iterator[bytes]:
    with open(descriptor, "rb", buffering=65536) as file:
        read = 0
        for line in file:
            read += len(line)
            if read > _MOST_SMAPS_BYTES:
                return
            yield line


class Files:
    """The files of an engine, seen through /proc/PID/root; every refusal is a gap, never an exception."""

    def __init__(self, root: int, gaps: list[str]) -> None:
        """Look below the directory `root` stands for."""
        self._root = root
        self._gaps = gaps

    def tell(self, answer: dict[str, Any], request: dict[str, Any], maps: Maps) -> None:
        """Put sizes, headers, version and spellings into the answer."""
        models = list(dict.fromkeys([*maps.models, *request["models"]]))
        answer["sizes"] = {path: size for path in models[:256] if (size := self._size(path)) is not None}
        answer["model"] = self._model(models, request["folder"])
        answer["packages"] = self._packages(maps.libraries, request["packages"])
        programs = [request["program"], *(path for path in maps.libraries if "libllama" in path)]
        answer["knows"] = self._spellings(programs, request["spellings"])

    # -- opening ---------------------------------------------------------------------------------------------

    def open(self, path: str, *, within: str = "", flags: int = _FLAGS) -> int:
        """Open a file as the engine would see it. Links are followed only inside `within`, if it is given.

        Raises:
            OSError: EXDEV or ELOOP where a link leads out; otherwise as open(2).
        """
        if not within:
            return self._openat2(self._root, path, flags, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        folder = self._openat2(
            self._root, within, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC,
            _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS,
        )  # fmt: skip
        try:
            inside = path.removeprefix(within).lstrip("/") or "."
            return self._openat2(folder, inside, flags, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
        finally:
            os.close(folder)

    def _openat2(self, folder: int, path: str, flags: int, resolve: int) -> int:
        how = _How(flags, 0, resolve)
        name = os.fsencode(path)
        if b"\0" in name:
            raise OSError(22, "a name with a NUL byte", path)
        found = _LIBC.syscall(_SYS_OPENAT2, folder, name, ctypes.byref(how), ctypes.sizeof(how))
        if found < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        return int(found)

    def _regular(self, path: str, *, within: str = "") -> int:
        # O_PATH first: opening a FIFO or a device for reading may already do something.
        flags = os.O_PATH | os.O_CLOEXEC
        probe = self.open(path, within=within, flags=flags)
        try:
            mode = os.fstat(probe).st_mode
            if not stat.S_ISREG(mode):
                raise OSError(22, "no regular file", path)
            return self.open(path, within=within)
        finally:
            os.close(probe)

    def _size(self, path: str) -> int | None:
        try:
            descriptor = self.open(path, flags=os.O_PATH | os.O_CLOEXEC)
        except OSError:  # deleted, or not to be seen with these rights
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _read(self, path: str, *, within: str, most: int) -> bytes:
        descriptor = self._regular(path, within=within)
        try:
            return os.pread(descriptor, most, 0)
        finally:
            os.close(descriptor)

    def _names(self, path: str, *, within: str = "") -> list[str]:
        try:
            descriptor = self.open(path, within=within, flags=_FLAGS | os.O_DIRECTORY)
        except OSError:  # not there, or not ours to see: no names
            return []
        try:
            return sorted(os.listdir(descriptor)[:_MOST_NAMES])  # noqa: PTH208 - a descriptor
        finally:
            os.close(descriptor)

    # -- the model -------------------------------------------------------------------------------------------

    def _model(self, models: list[str], folder: str) -> dict[str, Any] | None:
        gguf = next((path for path in models if path.endswith(".gguf") or "/blobs/sha256-" in path), None)
        if gguf is None and folder.endswith(".gguf"):
            gguf = folder
        try:
            if gguf is not None:
                return self._gguf(gguf)
            weights = next(
                (path for path in models if path.endswith(".safetensors") or "/blobs/" in path), ""
            )
            for candidate in (folder, weights.rpartition("/")[0]):
                if candidate.startswith("/") and (found := self._config(candidate)) is not None:
                    return found
        except (OSError, HeaderError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            self._gaps.append(f"{gguf or folder}: {said}")
        return None

    def _gguf(self, path: str) -> dict[str, Any]:
        # The path is where the engine has it mapped or open: no link is left in its last part.
        folder = path.rpartition("/")[0] or "/"
        descriptor = self._regular(path, within=_enclosing(folder))
        try:
            found = read_gguf(lambda offset, size: os.pread(descriptor, size, offset))
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        return {**found, "path": path, "bytes": size, "largest_bytes": size}

    def _config(self, folder: str) -> dict[str, Any] | None:
        within = _enclosing(folder)
        places = [folder]
        if within != folder and folder.endswith("/blobs"):
            places = [
                f"{within}/snapshots/{name}" for name in self._names(f"{within}/snapshots", within=within)
            ]
        for place in places:
            names = self._names(place, within=within)
            if "config.json" not in names:
                continue
            config = self._read(f"{place}/config.json", within=within, most=MOST_CONFIG_BYTES + 1)
            extra = b""
            if "hf_quant_config.json" in names:
                extra = self._read(f"{place}/hf_quant_config.json", within=within, most=MOST_CONFIG_BYTES + 1)
            weights = [name for name in names if name.endswith(".safetensors")]
            sizes = [self._weight(f"{place}/{name}", within) for name in weights[:1024]]
            known = [size for size in sizes if size is not None]
            return {
                **read_config(config, extra),
                "path": place,
                "format": "safetensors" if weights else "",
                "name": _hub_name(within) or place.rpartition("/")[2],
                "files": len(weights) or None,
                "bytes": sum(known) or None,
                "largest_bytes": max(known, default=None),
            }
        return None

    def _weight(self, path: str, within: str) -> int | None:
        try:
            descriptor = self.open(path, within=within, flags=os.O_PATH | os.O_CLOEXEC)
        except OSError:  # a link that leads nowhere, or out
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    # -- the program -----------------------------------------------------------------------------------------

    def _packages(self, libraries: Iterable[str], wanted: list[str]) -> dict[str, list[str]]:
        """Version and place of Python packages, from the names of dist-info folders; nothing is opened."""
        folders = dict.fromkeys(match[1] for path in libraries if (match := _SITE.match(path)))
        found: dict[str, list[str]] = {}
        for folder in list(folders)[:4]:
            for name in self._names(folder):
                package, _, version = name.removesuffix(".dist-info").partition("-")
                if name.endswith(".dist-info") and package in wanted and version:
                    found.setdefault(package, [version[:60], f"{folder}/{name}"])
        return found

    def _spellings(self, programs: list[str], wanted: list[str]) -> list[str] | None:
        """Which texts the programs contain; None if none of them could be looked at."""
        found: set[str] = set()
        looked = False
        for path in programs[:_MOST_LIBRARIES]:
            try:
                descriptor = self._regular(path)
            except OSError:  # an interpreter's program that is not to be seen
                continue
            try:
                size = os.fstat(descriptor).st_size
                if 0 < size <= _MOST_PROGRAM_BYTES:
                    looked = True
                    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as data:
                        found |= {text for text in wanted if data.find(f"{text}\0".encode()) >= 0}
            except (OSError, ValueError):  # no memory for it
                pass
            finally:
                os.close(descriptor)
        return sorted(found) if looked else None


def _enclosing(folder: str) -> str:
    """The folder that a model is kept in: that of the model on a Hugging Face hub cache, else its own."""
    match = _HUB.match(folder)
    return match[1] if match else folder


def _hub_name(folder: str) -> str:
    """`openai/gpt-oss-120b` of `…/models--openai--gpt-oss-120b`."""
    name = folder.rpartition("/")[2]
    return name.removeprefix("models--").replace("--", "/") if name.startswith("models--") else ""


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, KeyError, MemoryError, RecursionError) as failure:
        os.write(1, json.dumps({"error": f"{type(failure).__name__}: {failure}"[:300]}).encode())
        sys.exit(1)
