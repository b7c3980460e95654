"""What the headers of model files say: GGUF, config.json. Pure parsing of bytes from strangers, all bounded.

It runs in a child with the engine's own rights, never in the daemon. Formats: ggml, docs/gguf.md; llama.cpp
b10605, include/llama.h (llama_ftype); Hugging Face transformers, quantization_config.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CONFIG_BYTES = 1 << 20
MOST_HEADER_BYTES = 64 << 20
"""The keys of a GGUF file are within this; a vocabulary of 256,000 words needs about 6 MiB."""
_MOST_KEYS = 4096
_MOST_TEXT = 65536
_MOST_ITEMS = 1 << 21
_MOST_SHOWN = 120
_VERSIONS = (2, 3)
_GGUF = b"GGUF"
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_FORMATS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_WANTED = ("general.architecture", "general.name", "general.file_type", "split.count")
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}  # fmt: skip


class HeaderError(ValueError):
    """The file is not what it should be; the message says in which way."""


class _Cursor:
    """Reads forward; every length is checked before anything is read."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        self._window = b""
        self._start = 0
        self.offset = 0

    def take(self, size: int) -> bytes:
        if self.offset + size > MOST_HEADER_BYTES:
            raise HeaderError(f"the header is longer than {MOST_HEADER_BYTES >> 20} MiB")
        begin = self.offset - self._start
        if begin < 0 or begin + size > len(self._window):
            self._window = self._read(self.offset, max(size, 65536))
            self._start, begin = self.offset, 0
            if len(self._window) < size:
                raise HeaderError("the file ends within its header")
        self.offset += size
        return self._window[begin : begin + size]

    def skip(self, size: int) -> None:
        if self.offset + size > MOST_HEADER_BYTES:
            raise HeaderError(f"the header is longer than {MOST_HEADER_BYTES >> 20} MiB")
        self.offset += size

    def number(self, kind: str) -> Any:
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def text(self) -> str:
        size = self.number("<Q")
        if size > _MOST_TEXT:
            raise HeaderError(f"a text of {size} bytes in the header")
        return self.take(size).decode(errors="replace")


def read_gguf(read: Callable[[int, int], bytes]) -> dict[str, Any]:
    """Architecture, name, quantisation and number of files of a GGUF model.

    Args:
        read: gives so many bytes from an offset of the file; fewer at its end.

    Raises:
        HeaderError: it is no GGUF, truncated, or beyond the bounds.
    """
    cursor = _Cursor(read)
    if cursor.take(4) != _GGUF:
        raise HeaderError("no GGUF: it does not begin with GGUF")
    version, _tensors, keys = cursor.number("<I"), cursor.number("<Q"), cursor.number("<Q")
    if version not in _VERSIONS:
        raise HeaderError(f"GGUF version {version} is not known")
    if keys > _MOST_KEYS:
        raise HeaderError(f"{keys} keys in the header")
    found: dict[str, Any] = {}
    for _ in range(keys):
        key, kind = cursor.text(), cursor.number("<I")
        value = _value(cursor, kind)
        if key in _WANTED and value is not None:
            found[key] = value
        if all(name in found for name in _WANTED[:3]) and not key.startswith("general."):
            break
    return {
        "format": "gguf",
        "architecture": _shown(found.get("general.architecture")),
        "name": _shown(found.get("general.name")),
        "quantisation": _FILE_TYPES.get(_whole(found.get("general.file_type"), -1), ""),
        "files": _whole(found.get("split.count"), 1) or 1,
    }


def _value(cursor: _Cursor, kind: int) -> Any:
    if kind == _STRING:
        return cursor.text()
    if kind == _ARRAY:
        _skip_array(cursor)
        return None
    if kind not in _FORMATS:
        raise HeaderError(f"a value of unknown kind {kind}")
    return cursor.number(_FORMATS[kind])


def _skip_array(cursor: _Cursor) -> None:
    kind, count = cursor.number("<I"), cursor.number("<Q")
    if count > _MOST_ITEMS:
        raise HeaderError(f"an array of {count} items")
    if kind in _SIZES:
        cursor.skip(_SIZES[kind] * count)
    elif kind == _STRING:
        for _ in range(count):
            cursor.skip(cursor.number("<Q"))
    else:  # arrays of arrays: no model has them
        raise HeaderError(f"an array of unknown kind {kind}")


def read_config(data: bytes, quantisation: bytes = b"") -> dict[str, Any]:
    """Architecture and quantisation of a Hugging Face model.

    Args:
        data: config.json.
        quantisation: hf_quant_config.json, as NVIDIA's ModelOpt writes it; empty if there is none.

    Raises:
        HeaderError: it is too large, no JSON, or no object.
    """
    config = _object(data, "config.json")
    quant = config.get("quantization_config")
    if not isinstance(quant, dict) and quantisation:
        outer = _object(quantisation, "hf_quant_config.json")
        inner = outer.get("quantization")
        quant = {"quant_method": "modelopt", **inner} if isinstance(inner, dict) else None
    architectures = config.get("architectures")
    first = (
        architectures[0] if isinstance(architectures, list) and architectures else config.get("model_type")
    )
    method, said, bits = _quantisation(quant) if isinstance(quant, dict) else ("", "", None)
    return {"architecture": _shown(first), "method": method, "quantisation": said, "bits": bits}


def _object(data: bytes, name: str) -> dict[str, Any]:
    if len(data) > MOST_CONFIG_BYTES:
        raise HeaderError(f"{name} is larger than {MOST_CONFIG_BYTES >> 20} MiB")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"{name} is no JSON") from error
    if not isinstance(found, dict):
        raise HeaderError(f"{name} is no JSON object")
    return found


def _quantisation(quant: dict[str, Any]) -> tuple[str, str, int | None]:
    """Method as written, quantisation as people say it, bits."""
    method = _shown(quant.get("quant_method")).lower()
    algorithm = _shown(quant.get("quant_algo")).upper() or _shown(quant.get("format")).upper()
    bits = _whole(quant.get("bits"), 0) or None
    if "NVFP4" in algorithm or "FP4" in algorithm:
        return method, "MXFP4" if "MXFP4" in algorithm else "NVFP4", 4
    if method == "compressed-tensors":
        return _compressed(method, quant)
    if method == "mxfp4":
        return method, "MXFP4", 4
    if method == "fp8" or "FP8" in algorithm:
        return method, "FP8", 8
    if method in {"awq", "awq_marlin", "gptq", "gptq_marlin", "auto-round"}:
        bits = bits or _whole(quant.get("w_bit"), 0) or 4
        name = {"awq_marlin": "awq", "gptq_marlin": "gptq"}.get(method, method)
        return method, f"{name.upper()} {bits}-bit", bits
    return method, method, bits


def _compressed(method: str, quant: dict[str, Any]) -> tuple[str, str, int | None]:
    """llm-compressor's models say it by groups: number of bits and type of the weights."""
    groups = quant.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    if not isinstance(weights, dict):
        return method, method, None
    bits = _whole(weights.get("num_bits"), 0) or None
    if weights.get("type") == "float":
        return method, {4: "FP4", 8: "FP8"}.get(bits or 0, method), bits
    # AWQ and GPTQ leave the same kind of file behind: integers in groups.
    return method, f"INT{bits}" if bits else method, bits


def _shown(value: object) -> str:
    text = value[:_MOST_SHOWN] if isinstance(value, str) else ""
    return "".join(character if character.isprintable() else "?" for character in text)


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
