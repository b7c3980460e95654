"""What /proc/PID/maps and smaps say of model files and libraries. Pure: bytes in, facts out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

_DELETED = b" (deleted)"
_FIELDS = 6  # address, permissions, offset, device, inode, path
_OCTAL = re.compile(rb"\\([0-7]{3})")
_BLOB = re.compile(r"/blobs/(?:sha256-)?[0-9a-f]{40,64}$")
_LIBRARY = re.compile(
    r"/(?:libllama|libggml|libnccl|libibverbs|librdmacm|libcudart|libtorch_cpu|xllamacpp)[^/]*$"
    r"|/(?:vllm|sgl_kernel|sglang)/[^\n]*\.so[^/]*$"
)
MOST_FILES = 4096
"""Model files and libraries that are kept of one process; no engine has as many."""


@frozen(kw_only=False)
class Mapping:
    """The mappings of one file, added up.

    Attributes:
        mapped_bytes: their sizes.
        resident_bytes: how much of them is resident; None: not told (maps).
        device: `major:minor`, decimal.
    """

    mapped_bytes: int
    resident_bytes: int | None
    device: str


@frozen(kw_only=False)
class Maps:
    """The mappings that tell something about an engine.

    Attributes:
        models: model files, by path as the process sees it.
        libraries: paths of telling libraries.
    """

    models: dict[str, Mapping]
    libraries: tuple[str, ...]


def is_model(path: str) -> bool:
    """Whether a path names model weights: GGUF, safetensors, or a blob of ollama or Hugging Face."""
    return path.endswith((".gguf", ".safetensors")) or _BLOB.search(path) is not None


def is_telling(path: str) -> bool:
    """Whether a path names a library by which an engine, or what it uses, is known."""
    return _LIBRARY.search(path) is not None


def read_maps(lines: Iterable[bytes]) -> Maps:
    """Add up the mappings of each file; proc_pid_maps(5), proc_pid_smaps(5). Other lines are skipped."""
    models: dict[str, list[int | None]] = {}
    devices: dict[str, str] = {}
    libraries: dict[str, None] = {}
    current: list[int | None] | None = None
    last = b""
    for line in lines:
        fields = line.split(None, _FIELDS - 1)
        if len(fields) == 3 and fields[0] == b"Rss:":  # noqa: PLR2004 - `Rss: 4 kB`
            if current is not None and fields[1].isdigit():
                current[1] = (current[1] or 0) + int(fields[1]) * 1024
            continue
        if fields and fields[0].endswith(b":"):
            continue
        if current is None and len(fields) == _FIELDS and fields[5] == last:
            continue  # one more mapping of a file that is no model: a library has four or five
        current = None
        if len(fields) < _FIELDS or not fields[5].startswith(b"/"):
            continue
        path = _path(fields[5])
        if is_model(path) and (path in models or len(models) < MOST_FILES):
            current = models.setdefault(path, [0, None])
            current[0] = (current[0] or 0) + _size(fields[0])
            devices[path] = _device(fields[3])
            continue
        last = fields[5]
        if is_telling(path) and len(libraries) < MOST_FILES:
            libraries[path] = None
    found = {path: Mapping(sizes[0] or 0, sizes[1], devices[path]) for path, sizes in models.items()}
    return Maps(found, tuple(libraries))


def _path(field: bytes) -> str:
    name = _OCTAL.sub(lambda match: bytes((int(match[1], 8) & 0xFF,)), field.rstrip(b"\n"))
    return name.removesuffix(_DELETED).decode(errors="replace")


def _size(field: bytes) -> int:
    start, _, end = field.partition(b"-")
    try:
        return max(int(end, 16) - int(start, 16), 0)
    except ValueError:  # not what a kernel writes
        return 0


def _device(field: bytes) -> str:
    major, _, minor = field.partition(b":")
    try:
        return f"{int(major, 16)}:{int(minor, 16)}"
    except ValueError:  # not what a kernel writes
        return ""
