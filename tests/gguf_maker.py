"""Writes a tiny llama model with random weights as GGUF: real enough for llama.cpp to load and to serve.

Format: ggml, docs/gguf.md (version 3); tensor names and keys: llama.cpp, src/llama-arch.cpp.
"""

from __future__ import annotations

import random
import struct
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ALIGNMENT = 32
_U32, _F32, _STRING, _ARRAY, _I32 = 4, 6, 8, 9, 5
_TENSOR_F32 = 0
_EMBEDDING, _HEADS, _CONTEXT = 64, 4, 64
_MOST_WEIGHTS = 1 << 18
"""A larger tensor is left empty: a hole in the file, which is mapped and resident like anything else."""


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: object) -> bytes:
    if isinstance(value, str):
        return _string(value)
    return struct.pack({_U32: "<I", _F32: "<f", _I32: "<i"}[kind], value)


def _entry(key: str, kind: int, value: object) -> bytes:
    return _string(key) + struct.pack("<I", kind) + _value(kind, value)


def _list(key: str, kind: int, values: list[object]) -> bytes:
    head = _string(key) + struct.pack("<IIQ", _ARRAY, kind, len(values))
    return head + b"".join(_value(kind, value) for value in values)


def vocabulary() -> tuple[list[str], list[int]]:
    """Tokens and their types: the special ones, every byte, and the letters."""
    special, letters = ["<unk>", "<s>", "</s>"], [chr(97 + number) for number in range(26)]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    return tokens, [2, 3, 3] + [6] * 256 + [1] * 27


def _tensors(vocabulary_size: int, layers: int, feed_forward: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (_EMBEDDING, vocabulary_size),
        "output_norm.weight": (_EMBEDDING,),
        "output.weight": (_EMBEDDING, vocabulary_size),
    }
    for layer in range(layers):
        for name, shape in (
            ("attn_norm", (_EMBEDDING,)),
            ("attn_q", (_EMBEDDING, _EMBEDDING)),
            ("attn_k", (_EMBEDDING, _EMBEDDING)),
            ("attn_v", (_EMBEDDING, _EMBEDDING)),
            ("attn_output", (_EMBEDDING, _EMBEDDING)),
            ("ffn_norm", (_EMBEDDING,)),
            ("ffn_gate", (_EMBEDDING, feed_forward)),
            ("ffn_up", (_EMBEDDING, feed_forward)),
            ("ffn_down", (feed_forward, _EMBEDDING)),
        ):
            found[f"blk.{layer}.{name}.weight"] = shape
    return found


def _metadata(layers: int, feed_forward: int) -> list[bytes]:
    tokens, types = vocabulary()
    return [
        _entry("general.architecture", _STRING, "llama"),
        _entry("general.name", _STRING, "tiny random"),
        _entry("general.file_type", _U32, 0),
        _entry("llama.context_length", _U32, _CONTEXT),
        _entry("llama.embedding_length", _U32, _EMBEDDING),
        _entry("llama.block_count", _U32, layers),
        _entry("llama.feed_forward_length", _U32, feed_forward),
        _entry("llama.attention.head_count", _U32, _HEADS),
        _entry("llama.attention.layer_norm_rms_epsilon", _F32, 1e-5),
        _entry("llama.rope.dimension_count", _U32, _EMBEDDING // _HEADS),
        _entry("tokenizer.ggml.model", _STRING, "llama"),
        _list("tokenizer.ggml.tokens", _STRING, [*tokens]),
        _list("tokenizer.ggml.scores", _F32, [0.0] * len(tokens)),
        _list("tokenizer.ggml.token_type", _I32, [*types]),
        _entry("tokenizer.ggml.bos_token_id", _U32, 1),
        _entry("tokenizer.ggml.eos_token_id", _U32, 2),
        _entry("tokenizer.ggml.unknown_token_id", _U32, 0),
    ]


def write_model(path: Path, *, layers: int = 8, feed_forward: int = 128) -> None:
    """Write the model, about 1.4 MB as it is by default. The weights are the same each time."""
    chance = random.Random(1)  # noqa: S311 - weights, not secrets
    tensors = _tensors(len(vocabulary()[0]), layers, feed_forward)
    metadata = _metadata(layers, feed_forward)
    head = bytearray(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)) + b"".join(metadata))
    places, offset = [], 0
    for name, shape in tensors.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _TENSOR_F32, offset)
        places.append((offset, count))
        offset += -(-4 * count // ALIGNMENT) * ALIGNMENT
    start = -(-len(head) // ALIGNMENT) * ALIGNMENT
    with path.open("wb") as file:
        file.write(head)
        for place, count in places:
            if count <= _MOST_WEIGHTS:
                file.seek(start + place)
                file.write(array("f", (chance.gauss(0, 0.02) for _ in range(count))).tobytes())
        file.truncate(start + offset)
