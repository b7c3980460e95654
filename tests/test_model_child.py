"""The child that reads model files: with the engine's rights, within its folder, and whatever lies there."""

from __future__ import annotations

import json
import os
import select
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gguf_maker import write_model
from sparktune.advice.answer import Answer, read_answer
from sparktune.advice.headers import HeaderError, read_config, read_gguf
from sparktune.kernel.asking import Asking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

needs_root = pytest.mark.root
NOBODY = 65534
HOLD = (
    "import sys, time; held = [open(path, 'rb') for path in sys.argv[1:]]; print(flush=True); time.sleep(60)"
)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model folder that another user may get to."""
    path = Path("/tmp") / f"sparktune-models-{os.getpid()}"  # noqa: S108 - pytest's own is closed to others
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def hold() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a process that keeps files open."""
    started = []

    def start(*paths: Path, uid: int | None = None) -> subprocess.Popen[bytes]:
        command = ["/usr/bin/python3" if uid else sys.executable, "-c", HOLD, *map(str, paths)]
        process = subprocess.Popen(
            command, user=uid, group=uid, extra_groups=[] if uid else None, stdout=subprocess.PIPE, cwd="/"
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def start_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def ask(process: subprocess.Popen[bytes], **more: Any) -> Answer:
    """What the child says of a process."""
    pid = process.pid
    status = Path(f"/proc/{pid}/status").read_text()
    uid, gid = (int(status.split(f"\n{key}:\t")[1].split()[0]) for key in ("Uid", "Gid"))
    request = {
        "proc": "/proc", "pid": pid, "start_ticks": start_ticks(pid), "uid": uid, "gid": gid, "groups": [],
        "models": [], "folder": "", "program": "", "packages": [], "spellings": [],
    }  # fmt: skip
    asking = Asking({**request, **more})
    while (found := asking.read()) is None:
        select.select([asking.fileno()], [], [], 20)
    return read_answer(found)


def test_a_gguf_says_what_it_is(folder: Path, hold: Callable[..., Any]) -> None:
    write_model(folder / "tiny.gguf")
    answer = ask(hold(folder / "tiny.gguf"), models=[str(folder / "tiny.gguf")])
    assert answer.model is not None
    assert (answer.model.format, answer.model.architecture, answer.model.quantisation) == (
        "gguf",
        "llama",
        "F32",
    )
    assert answer.model.name == "tiny random"
    assert answer.model.bytes == (folder / "tiny.gguf").stat().st_size


@needs_root
def test_the_child_has_the_rights_of_the_engine_and_no_others(folder: Path, hold: Callable[..., Any]) -> None:
    write_model(folder / "mine.gguf")
    (folder / "mine.gguf").chmod(0o600)  # root's
    answer = ask(hold(uid=NOBODY), models=[str(folder / "mine.gguf")])
    assert answer.model is None
    assert any("Permission denied" in gap for gap in answer.gaps)
    (folder / "mine.gguf").chmod(0o644)
    answer = ask(hold(uid=NOBODY), models=[str(folder / "mine.gguf")])
    assert answer.model is not None


@needs_root
def test_also_where_the_engine_is_root_the_child_has_no_capability(
    folder: Path, hold: Callable[..., Any]
) -> None:
    write_model(folder / "theirs.gguf")
    os.chown(folder / "theirs.gguf", NOBODY, NOBODY)
    (folder / "theirs.gguf").chmod(0o600)
    answer = ask(hold(), models=[str(folder / "theirs.gguf")])
    assert answer.model is None
    assert any("Permission denied" in gap for gap in answer.gaps)


def test_a_link_out_of_the_model_folder_is_not_followed(folder: Path, hold: Callable[..., Any]) -> None:
    (folder / "config.json").symlink_to("/etc/shadow")
    answer = ask(hold(), folder=str(folder))
    assert answer.model is None
    assert any("cross-device" in gap.lower() for gap in answer.gaps)
    assert "root:" not in repr(answer)


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.json"])
def test_neither_absolute_nor_relative_links_lead_out(
    folder: Path, hold: Callable[..., Any], name: str
) -> None:
    model = folder / "model"
    model.mkdir()
    (folder / "outside.json").write_text('{"model_type": "outside"}')
    (model / "config.json").symlink_to(name)
    answer = ask(hold(), folder=str(model))
    assert answer.model is None
    assert answer.gaps


def test_a_snapshot_of_a_hub_links_to_its_blobs(folder: Path, hold: Callable[..., Any]) -> None:
    model = folder / "models--openai--gpt-oss-20b"
    for place in ("blobs", "snapshots/abc"):
        (model / place).mkdir(parents=True)
    blob = "a" * 64
    (model / "blobs" / "c0").write_text(json.dumps({
        "architectures": ["GptOssForCausalLM"], "quantization_config": {"quant_method": "mxfp4"},
    }))  # fmt: skip
    (model / "blobs" / blob).write_bytes(bytes(1000))
    (model / "snapshots/abc/config.json").symlink_to("../../blobs/c0")
    (model / "snapshots/abc/model-00001.safetensors").symlink_to(f"../../blobs/{blob}")
    answer = ask(hold(), models=[str(model / "blobs" / blob)])
    assert answer.model is not None
    assert (answer.model.name, answer.model.quantisation) == ("openai/gpt-oss-20b", "MXFP4")
    assert (answer.model.files, answer.model.bytes, answer.model.largest_bytes) == (1, 1000, 1000)


def test_a_fifo_is_not_opened(folder: Path, hold: Callable[..., Any]) -> None:
    os.mkfifo(folder / "model.gguf")
    os.mkfifo(folder / "config.json")
    process = hold()
    for more in ({"models": [str(folder / "model.gguf")]}, {"folder": str(folder)}):
        answer = ask(process, **more)
        assert answer.model is None
        assert any("no regular file" in gap or "Invalid argument" in gap for gap in answer.gaps)


@pytest.mark.parametrize(
    "data",
    [b"", b"GGUF", b"GGUX" + bytes(60), b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 40),
     b"GGUF" + struct.pack("<IQQQ", 3, 1, 3, 1 << 62), b"GGUF" + struct.pack("<IQQ", 99, 0, 0)],
)  # fmt: skip
def test_a_damaged_gguf_is_a_gap(folder: Path, hold: Callable[..., Any], data: bytes) -> None:
    (folder / "bad.gguf").write_bytes(data)
    answer = ask(hold(), models=[str(folder / "bad.gguf")])
    assert answer.model is None
    assert len(answer.gaps) == 1


def test_a_truncated_gguf_never_becomes_another_model(folder: Path) -> None:
    write_model(folder / "tiny.gguf", layers=1)
    whole = (folder / "tiny.gguf").read_bytes()
    for length in range(0, 500, 7):
        cut = whole[:length]
        try:
            found = read_gguf(lambda offset, size, cut=cut: cut[offset : offset + size])  # type: ignore[misc]
        except HeaderError:
            continue
        assert found["architecture"] == "llama"


def test_a_huge_config_is_refused_unread(folder: Path, hold: Callable[..., Any]) -> None:
    with (folder / "config.json").open("wb") as file:
        file.truncate(10 << 30)
    answer = ask(hold(), folder=str(folder))
    assert answer.model is None
    assert any("larger than 1 MiB" in gap for gap in answer.gaps)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"nothing", b"[]", b'"' + b"x" * 1000, b"\xff\xfe"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(HeaderError):
        read_config(data)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"quant_method": "awq", "bits": 4}, "AWQ 4-bit"),
        ({"quant_method": "awq_marlin", "bits": 8}, "AWQ 8-bit"),
        ({"quant_method": "gptq", "bits": 4}, "GPTQ 4-bit"),
        ({"quant_method": "fp8"}, "FP8"),
        ({"quant_method": "mxfp4"}, "MXFP4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "NVFP4"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "NVFP4"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}}, "FP8"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}}}, "INT4"),
        ({}, ""),
        (["nonsense"], ""),
    ],
)  # fmt: skip
def test_a_quantisation_is_told_as_people_say_it(config: object, said: str) -> None:
    found = read_config(json.dumps({"architectures": ["X"], "quantization_config": config}).encode())
    assert found["quantisation"] == said


def test_the_older_file_of_modelopt_counts_too() -> None:
    found = read_config(b"{}", b'{"quantization": {"quant_algo": "NVFP4"}}')
    assert (found["method"], found["quantisation"]) == ("modelopt", "NVFP4")


def test_a_process_that_ended_is_told(hold: Callable[..., Any]) -> None:
    process = hold()
    answer = ask(process, start_ticks=1)
    assert answer.models is None
    assert len(answer.gaps) == 1


def test_the_cpus_of_its_busiest_threads_are_told(hold: Callable[..., Any]) -> None:
    process = hold()
    os.sched_setaffinity(process.pid, {0})
    assert ask(process).thread_cpus == frozenset({0})


@pytest.mark.parametrize("lists", [[], ["x"], ["0-3", "9-2"], ["0-99999"], [""]])
def test_cpus_that_are_no_list_are_not_known(lists: list[str]) -> None:
    assert read_answer({"thread_cpus": lists}).thread_cpus is None


def test_spellings_are_found_in_a_program_without_running_it(folder: Path, hold: Callable[..., Any]) -> None:
    (folder / "llama-server").write_bytes(bytes(5000) + b"--load-mode\0" + b"--no-mmapper\0")
    answer = ask(hold(), program=str(folder / "llama-server"), spellings=["--load-mode", "--no-mmap"])
    assert answer.knows == frozenset({"--load-mode"})


@pytest.mark.parametrize(
    "hostile",
    [{}, {"models": []}, {"models": {"/x": "y"}}, {"sizes": [1]}, {"libraries": 5}, {"model": "x"},
     {"model": {"bytes": "many", "name": 7}}, {"packages": {"vllm": [1, 2, 3]}}, {"knows": {"a": 1}},
     {"thread_cpus": [-1, "x"]}, {"gaps": [None, "x" * 100_000]}, {"error": 5}],
)  # fmt: skip
def test_an_answer_of_any_shape_is_taken(hostile: dict[str, Any]) -> None:
    answer = read_answer(hostile)
    assert all(len(gap) <= 220 for gap in answer.gaps)
