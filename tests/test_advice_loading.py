"""Advice about how models are loaded: what triggers it, what beside it must not, and in which spelling."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advised import GIB, MIB, SHARD, SPARK, advice, judged, llama, mapped, model, ollama, sglang, vllm
from sparktune.advice.model import Certainty, Evidence, HostFacts, ModelFacts, ModelFile, Role, Severity
from sparktune.advice.rules.llama_flags import DEPRECATED, IGNORED, REMOVED
from sparktune.advice.rules.llama_loading import MAPPING
from sparktune.advice.rules.readahead import TOO_EARLY
from sparktune.advice.rules.safetensors_loading import SGLANG, VLLM

OLD, BOTH, NEW, UNKNOWN = "b6812-7db35a7", "b10500", "b10878", None


# -- llama.cpp's mapping -------------------------------------------------------------------------------------


def test_a_large_resident_mapping_of_the_model_is_reported_with_its_size() -> None:
    found = advice(MAPPING, llama(), mapped(59 * GIB))
    assert "59.0 GiB of 60.0 GiB" in found.what
    assert "/models/gpt-oss-120b.gguf" in found.what
    assert found.severity is Severity.WARNING


def test_the_load_times_of_both_kernels_and_the_kernel_at_hand_are_named() -> None:
    found = advice(MAPPING, llama(), mapped(59 * GIB))
    assert all(
        text in found.expect for text in ("6.11 1:44 and 0:56", "6.17 1:30 and 0:22", "6.17.0-1014-nvidia")
    )
    assert "read-ahead alone does not cure" in found.why


def test_a_model_that_was_read_instead_of_mapped_is_not_reported() -> None:
    opened = Evidence(
        models=(ModelFile(path="/m.gguf", size_bytes=60 * GIB, is_open=True, resident_bytes=0),)
    )
    assert judged(MAPPING, llama(version=NEW), opened) is None


def test_the_mapping_outranks_the_command_line() -> None:
    assert judged(MAPPING, llama("--no-mmap", version=OLD), mapped(59 * GIB))
    assert judged(MAPPING, llama("--load-mode", "mmap", version=NEW), mapped(0)) is None


@pytest.mark.parametrize(("resident", "reported"), [(256 * MIB, True), (256 * MIB - 1, False), (0, False)])
def test_a_mapping_counts_from_a_quarter_of_a_gib_on(resident: int, reported: bool) -> None:  # noqa: FBT001
    assert (judged(MAPPING, llama(), mapped(resident)) is not None) is reported


@pytest.mark.parametrize(("whole", "reported"), [(102 * GIB, True), (102 * GIB + 1, False)])
def test_a_model_that_only_fits_because_it_is_mapped_is_left_alone(whole: int, reported: bool) -> None:  # noqa: FBT001
    assert (judged(MAPPING, llama(), mapped(50 * GIB, whole=whole)) is not None) is reported


def test_a_mapping_without_a_gpu_is_information_only() -> None:
    found = advice(MAPPING, llama(), replace(mapped(59 * GIB), gpu=False))
    assert found.severity is Severity.INFO
    assert "mapping does no harm" in found.why
    assert advice(MAPPING, llama(), replace(mapped(59 * GIB), gpu=True)).severity is Severity.WARNING


def test_an_unreadable_smaps_is_no_mapping() -> None:
    unread = Evidence(models=(ModelFile(path="/m.gguf", mapped_bytes=60 * GIB),))
    assert judged(MAPPING, llama(), unread) is None


def test_an_old_build_is_told_the_old_flag_and_never_the_new_one() -> None:
    do = advice(MAPPING, llama(version=OLD), mapped(59 * GIB)).do
    assert "`--no-mmap`" in do
    assert "`--load-mode" not in do


@pytest.mark.parametrize("version", [BOTH, NEW])
def test_a_new_build_is_told_the_new_flag_and_never_the_old_one(version: str) -> None:
    do = advice(MAPPING, llama(version=version), mapped(59 * GIB)).do
    assert "`--load-mode none`" in do
    assert "`--load-mode dio`" in do
    assert "--no-mmap" not in do


@pytest.mark.parametrize("version", [UNKNOWN, "b1", "0.4.0"])
def test_an_unknown_build_is_told_both_side_by_side(version: str | None) -> None:
    do = advice(MAPPING, llama(version=version), mapped(59 * GIB)).do
    assert "`--load-mode none`" in do
    assert "`--no-mmap`" in do
    assert "--help" in do


def test_a_new_build_that_was_told_to_map_is_told_to_forget_that() -> None:
    do = advice(MAPPING, llama("--load-mode", "mmap", version=NEW), mapped(59 * GIB)).do
    assert do.startswith("take `--load-mode mmap` away: the default, auto, maps nothing on an integrated GPU")
    environment = (("LLAMA_ARG_LOAD_MODE", "mmap"),)
    do = advice(MAPPING, llama(version="b10368", environment=environment), mapped(59 * GIB)).do
    assert do.startswith("instead of `LLAMA_ARG_LOAD_MODE=mmap`: `--load-mode none`")  # no auto before b10369


def test_llama_cpp_python_is_told_its_own_argument() -> None:
    do = advice(MAPPING, llama(version="0.3.35", role=Role.PYTHON), mapped(300 * MIB, whole=300 * MIB)).do
    assert "use_mmap=False" in do
    assert "--load-mode" not in do
    assert "--no-mmap" not in do


@pytest.mark.parametrize(("version", "updates"), [("0.32.5", True), ("0.32.6", False), (None, True)])
def test_ollama_is_told_its_parameter_and_an_old_one_to_update(version: str | None, updates: bool) -> None:  # noqa: FBT001
    do = advice(MAPPING, ollama(version=version), mapped(59 * GIB)).do
    assert "PARAMETER use_mmap false" in do
    assert ("0.32.6" in do) is updates


def test_another_engine_with_a_gguf_is_not_told_llama_flags() -> None:
    assert judged(MAPPING, vllm(version="0.19.0"), mapped(59 * GIB)) is None


# -- llama.cpp's old flags -----------------------------------------------------------------------------------


def test_an_old_flag_on_a_build_that_removed_it_is_a_crash_at_the_next_start() -> None:
    found = advice(REMOVED, llama("--no-mmap", version=NEW))
    assert "`--no-mmap`" in found.what
    assert "`--load-mode none`" in found.do
    assert found.severity is Severity.WARNING


def test_a_program_replaced_on_disk_is_known_by_its_texts_too() -> None:
    assert judged(REMOVED, llama("--mlock", version="b1", knows=frozenset({"--load-mode"})))
    assert (
        judged(REMOVED, llama("--mlock", version="b1", knows=frozenset({"--load-mode", "--no-mmap"}))) is None
    )


@pytest.mark.parametrize("version", [OLD, "b10874", UNKNOWN])
def test_an_old_flag_on_a_build_that_may_know_it_is_not_called_removed(version: str | None) -> None:
    assert judged(REMOVED, llama("--no-mmap", version=version)) is None


def test_a_new_flag_is_not_called_removed() -> None:
    assert judged(REMOVED, llama("--load-mode", "none", version=NEW)) is None


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        (("--no-mmap", "--mlock"), "`--load-mode mlock`"),
        (("--mlock",), "`--load-mode mmap+mlock`"),
        (("-dio",), "`--load-mode dio`"),
        (("-ndio",), "`--load-mode none`"),
        (("--mmap",), "nothing, or `--load-mode mmap`"),
    ],
)
def test_each_old_flag_has_its_load_mode(flags: tuple[str, ...], mode: str) -> None:
    assert f"by {mode}" in advice(REMOVED, llama(*flags, version=NEW)).do


def test_a_build_that_knows_both_is_told_to_move_on() -> None:
    found = advice(DEPRECATED, llama("--no-mmap", version=BOTH))
    assert found.severity is Severity.INFO
    assert "this build knows both" in found.do


def test_an_unknown_build_is_told_to_look_before_an_update_only() -> None:
    found = advice(DEPRECATED, llama("--no-mmap"))
    assert found.do.startswith("nothing now")
    assert "--help" in found.do


@pytest.mark.parametrize("version", [OLD, NEW])
def test_deprecation_is_not_said_of_builds_that_know_only_one(version: str) -> None:
    assert judged(DEPRECATED, llama("--no-mmap", version=version)) is None


def test_locking_is_translated_by_what_mlock_means_in_the_build() -> None:
    before = advice(DEPRECATED, llama("--mlock", version="b10150")).do
    after = advice(DEPRECATED, llama("--mlock", version="b10151")).do
    assert "`--load-mode mlock` (before b10151) or `--load-mode mmap+mlock`" in before
    assert "`--load-mode mmap+mlock`: this build" in after


def test_ollamas_own_choice_of_flags_is_not_its_users() -> None:
    assert judged(DEPRECATED, llama("--no-mmap", version=BOTH, role=Role.RUNNER)) is None


def test_an_old_variable_is_ignored_by_a_new_build() -> None:
    environment = (("LLAMA_ARG_NO_MMAP", "1"),)
    found = advice(IGNORED, llama(version=NEW, environment=environment))
    assert "`LLAMA_ARG_NO_MMAP`" in found.what
    assert "LLAMA_ARG_LOAD_MODE" in found.do


@pytest.mark.parametrize("version", [OLD, BOTH, UNKNOWN])
def test_an_old_variable_is_obeyed_by_older_and_perhaps_by_unknown_builds(version: str | None) -> None:
    assert judged(IGNORED, llama(version=version, environment=(("LLAMA_ARG_MMAP", "0"),))) is None


def test_the_new_variable_is_not_called_ignored() -> None:
    assert judged(IGNORED, llama(version=NEW, environment=(("LLAMA_ARG_LOAD_MODE", "none"),))) is None


# -- vLLM ----------------------------------------------------------------------------------------------------


def test_vllm_without_a_strategy_loads_lazily() -> None:
    found = advice(VLLM, vllm("qwen", version="0.19.0"), model=model())
    assert "32.0 GiB of weights" in found.what
    assert found.certainty is Certainty.DOCUMENTED


def test_a_mapped_shard_outranks_the_command_line_of_vllm() -> None:
    worker = vllm(version="0.19.0", role=Role.WORKER, arguments=("VLLM::Worker_TP0",))
    found = advice(VLLM, worker, mapped(GIB, whole=4 * GIB, path=SHARD), model=model())
    assert "is loading" in found.what
    assert found.certainty is Certainty.REPORTED
    eager = vllm("qwen", "--safetensors-load-strategy", "eager", version="0.19.0")
    assert judged(VLLM, eager, mapped(GIB, path=SHARD), model=model())


@pytest.mark.parametrize(
    "options",
    [
        ("--safetensors-load-strategy", "eager"),
        ("--safetensors-load-strategy=prefetch",),
        ("--load-format", "instanttensor"),
        ("--load-format", "runai_streamer"),
        ("--load-format", "fastsafetensors"),
    ],
)
def test_vllm_with_another_strategy_or_loader_is_left_alone(options: tuple[str, ...]) -> None:
    assert judged(VLLM, vllm("qwen", *options, version="0.19.0"), model=model()) is None


def test_a_prefetched_shard_is_mapped_and_yet_not_lazy() -> None:
    fetching = vllm("qwen", "--safetensors-load-strategy", "prefetch", version="0.19.0")
    assert judged(VLLM, fetching, mapped(GIB, path=SHARD), model=model()) is None


def test_lazy_said_aloud_is_lazy() -> None:
    assert judged(VLLM, vllm("qwen", "--safetensors-load-strategy", "lazy", version="0.19.0"), model=model())


@pytest.mark.parametrize(("bytes_", "reported"), [(2 * GIB, True), (2 * GIB - 1, False)])
def test_small_models_are_not_worth_advice(bytes_: int, reported: bool) -> None:  # noqa: FBT001
    small = replace(model(), bytes=bytes_)
    assert (judged(VLLM, vllm("qwen", version="0.19.0"), model=small) is not None) is reported


def test_a_gguf_in_vllm_is_no_safetensors() -> None:
    gguf = ModelFacts(path="/m.gguf", format="gguf", bytes=60 * GIB)
    assert judged(VLLM, vllm("/m.gguf", version="0.19.0"), model=gguf) is None


def test_a_server_and_its_workers_are_told_once() -> None:
    server = vllm("qwen", version="0.19.0", pid=1, group=1)
    worker = vllm(version="0.19.0", role=Role.WORKER, arguments=("VLLM::EngineCore",), pid=2, group=1)
    host = replace(SPARK, engines=(server, worker))
    assert judged(VLLM, server, host=host, model=model())
    assert judged(VLLM, worker, host=host, model=model()) is None


@pytest.mark.parametrize(
    ("version", "names", "never"),
    [
        ("0.19.0", ("strategy eager`", "strategy prefetch`", "instanttensor"), ()),
        ("0.18.0", ("strategy eager`", "strategy prefetch`"), ()),
        ("0.17.1", ("strategy eager`",), ("prefetch`", "instanttensor")),
        ("0.11.1rc4", ("strategy eager`",), ("prefetch`", "instanttensor")),
        ("0.10.2", ("strategy eager`",), ("prefetch`",)),
        ("0.10.1", ("fastsafetensors",), ("eager", "prefetch`")),
        ("0.18.0rc1", ("strategy eager`",), ("prefetch`",)),
        (None, ("strategy eager`", "strategy prefetch`", "0.18.0 and later", "0.10.2 and later"), ()),
        ("0.1.dev12374+g942309a47", ("strategy eager`", "strategy prefetch`", "0.18.0 and later"), ()),
    ],
)
def test_vllm_is_told_what_its_version_knows(
    version: str | None, names: tuple[str, ...], never: tuple[str, ...]
) -> None:
    do = advice(VLLM, vllm("qwen", version=version), model=model()).do
    assert all(text in do for text in names)
    assert not any(text in do for text in never)


def test_a_vllm_without_any_of_them_is_told_nothing() -> None:
    assert judged(VLLM, vllm("qwen", version="0.8.3"), model=model()) is None


@pytest.mark.parametrize(("available", "eager"), [(8 * GIB, True), (8 * GIB - 1, False)])
def test_eager_only_where_the_largest_shard_is_at_most_half_of_what_is_available(
    available: int,
    eager: bool,  # noqa: FBT001
) -> None:
    host = replace(SPARK, available_bytes=available)
    do = advice(VLLM, vllm("qwen", version="0.19.0"), model=model(shard=4 * GIB), host=host).do
    assert do.startswith("`--safetensors-load-strategy eager` or") is eager
    assert ("prefetch`, not eager" in do) is not eager


def test_two_workers_read_two_shards_at_once() -> None:
    server = vllm("qwen", version="0.19.0", pid=1, group=1)
    workers = [
        vllm(role=Role.WORKER, name=f"VLLM::Worker_TP{number}", pid=2 + number, group=1)
        for number in range(2)
    ]
    host = replace(SPARK, available_bytes=15 * GIB, engines=(server, *workers))
    do = advice(VLLM, server, model=model(shard=4 * GIB), host=host).do
    assert "times 2 in flight is 8.0 GiB" in do
    assert "not eager" in do


@pytest.mark.parametrize(
    ("facts", "host"),
    [
        (model(), replace(SPARK, available_bytes=None)),
        (replace(model(), largest_bytes=None), SPARK),
        (None, SPARK),
    ],
)
def test_eager_is_not_recommended_where_memory_or_shard_is_not_known(
    facts: ModelFacts | None, host: HostFacts
) -> None:
    do = advice(VLLM, vllm("qwen", version="0.19.0"), model=facts, host=host).do
    assert "prefetch`, not eager" in do
    assert "is not known" in do


def test_a_version_without_prefetch_and_without_room_is_told_to_update() -> None:
    host = replace(SPARK, available_bytes=GIB)
    do = advice(VLLM, vllm("qwen", version="0.11.0"), model=model(), host=host).do
    assert do.startswith("update to 0.18.0 or later")
    assert "not eager here" in do


# -- SGLang --------------------------------------------------------------------------------------------------


def test_sglang_without_its_loader_flags_loads_lazily() -> None:
    found = advice(SGLANG, sglang("--model-path", "qwen", version="0.5.23"), model=model(shard=GIB))
    assert "`--weight-loader-disable-mmap`" in found.do
    assert "ten" in SGLANG.recommendation


@pytest.mark.parametrize(
    "option",
    ["--weight-loader-disable-mmap", "--weight-loader-prefetch-checkpoints", "--load-format=instanttensor"],
)
def test_sglang_with_another_loader_is_left_alone(option: str) -> None:
    assert judged(SGLANG, sglang("--model-path", "qwen", option, version="0.5.23"), model=model()) is None


@pytest.mark.parametrize(
    ("version", "names", "never"),
    [
        ("0.5.11", ("disable-mmap`", "prefetch-checkpoints`"), ()),
        ("0.5.10", ("disable-mmap`",), ("prefetch-checkpoints`",)),
        ("0.4.8", ("disable-mmap`",), ("prefetch-checkpoints`",)),
        (None, ("0.5.11 and later: `--weight-loader-prefetch-checkpoints`", "0.4.8 and later"), ()),
    ],
)
def test_sglang_is_told_what_its_version_knows(
    version: str | None, names: tuple[str, ...], never: tuple[str, ...]
) -> None:
    do = advice(SGLANG, sglang("--model-path", "qwen", version=version), model=model(shard=GIB)).do
    assert all(text in do for text in names)
    assert not any(text in do for text in never)


def test_an_sglang_without_any_of_them_is_told_nothing() -> None:
    assert judged(SGLANG, sglang("--model-path", "qwen", version="0.4.7"), model=model()) is None


@pytest.mark.parametrize(("available", "whole"), [(80 * GIB, True), (80 * GIB - 1, False)])
def test_sglang_reads_whole_shards_only_where_ten_of_them_are_at_most_half(
    available: int,
    whole: bool,  # noqa: FBT001
) -> None:
    host = replace(SPARK, available_bytes=available)
    server = sglang("--model-path", "qwen", version="0.5.23")
    do = advice(SGLANG, server, model=model(shard=4 * GIB), host=host).do
    assert do.startswith("`--weight-loader-disable-mmap`, or") is whole
    assert ("not `--weight-loader-disable-mmap`" in do) is not whole


def test_a_version_of_sglang_without_prefetch_and_without_room_is_told_to_update() -> None:
    host = replace(SPARK, available_bytes=GIB)
    do = advice(SGLANG, sglang("--model-path", "qwen", version="0.5.10"), model=model(), host=host).do
    assert do.startswith("update to 0.5.11")


# -- read-ahead ----------------------------------------------------------------------------------------------


def held(since: float | None, **more: object) -> Evidence:
    file = ModelFile(path="/m.gguf", size_bytes=8 * GIB, is_open=True, read_ahead_since_s=since)
    return Evidence(models=(replace(file, **more),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("since", "reported"), [(1000.1, True), (1000.0, False), (999.0, False), (None, False)]
)
def test_a_process_older_than_the_read_ahead_may_restart(since: float | None, reported: bool) -> None:  # noqa: FBT001
    assert (judged(TOO_EARLY, llama(started_s=1000.0), held(since)) is not None) is reported


def test_the_finding_names_file_value_and_how_much_earlier() -> None:
    found = advice(TOO_EARLY, vllm(), held(1090.0))
    assert "/m.gguf open" in found.what
    assert "90 s before the read-ahead of 8192 KiB" in found.what
    assert found.severity is Severity.INFO


def test_a_file_that_is_neither_open_nor_mapped_any_more_does_not_count() -> None:
    assert judged(TOO_EARLY, llama(), held(2000.0, is_open=False)) is None
    assert judged(TOO_EARLY, llama(), held(2000.0, is_open=False, mapped_bytes=GIB))


def test_a_model_that_is_all_in_memory_is_said_to_gain_little() -> None:
    whole = held(2000.0, mapped_bytes=8 * GIB, resident_bytes=8 * GIB)
    assert advice(TOO_EARLY, llama(), whole).expect.startswith("Little")
    part = held(2000.0, mapped_bytes=8 * GIB, resident_bytes=GIB)
    assert not advice(TOO_EARLY, llama(), part).expect.startswith("Little")
