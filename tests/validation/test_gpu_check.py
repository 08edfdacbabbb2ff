"""gpu-check without a GPU: arithmetic, commands, order and packages."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bench.analysis.kvcached import GpuMemory
from bench.environments.cpu_engine.models import made_folder
from bench.errors import UserError
from bench.records import Role
from validation.__main__ import main, parser
from validation.gpu_check import engines
from validation.gpu_check.card import choose_card, selected
from validation.gpu_check.greedy_model import NAME, greedy_model_folder, shapes
from validation.gpu_check.installing import (
    check_version,
    install_commands,
    join_parts,
    parts_of,
)
from validation.gpu_check.plan import (
    ARMS,
    LEAST_IN_PEAK,
    LOADS,
    ORDER,
    REQUESTS,
    Plan,
    Shape,
    engine_command,
    fitting,
    ipc_name,
    known_shapes,
    mean_tokens,
)

STAGGERED, SIMULTANEOUS, HALF = LOADS
PYTHON = Path("python")
LLAMA = known_shapes()[0][0]
PLAN = Plan({"a": 60_000, "b": 40_000, "c": 20_000})
EVERY = [shape for shapes in known_shapes() for shape in shapes]


@pytest.mark.parametrize(
    ("name", "billions", "token_kib"),
    [
        ("llama-3.1-8b", 8.03, 128),
        ("qwen2.5-7b", 7.62, 56),
        ("mistral-7b", 7.25, 128),
        ("llama-3.2-1b", 1.24, 32),
        ("qwen2.5-1.5b", 1.54, 28),
        ("qwen2.5-0.5b", 0.494, 12),
    ],
)
def test_shapes_have_the_published_sizes(name: str, billions: float, token_kib: int) -> None:
    (shape,) = (one for one in EVERY if one.name == name)
    assert shape.footprint.weights_gib * 2**30 / 2e9 == pytest.approx(billions, rel=0.005)
    assert shape.footprint.token_bytes == token_kib * 1024


@given(st.floats(20.0, 300.0))
def test_models_that_are_chosen_fit_and_have_a_peak(memory_gib: float) -> None:
    sized = fitting(memory_gib)
    weights = sum(shape.footprint.weights_gib for shape in sized.shapes)
    cached = sum(
        room.static_tokens * shape.footprint.token_bytes / 2**30
        for shape, room in zip(sized.shapes, sized.rooms, strict=True)
    )
    assert weights + cached < memory_gib * 0.9
    assert all(room.elastic_tokens > room.static_tokens for room in sized.rooms)
    assert min(sized.plan().requests(STAGGERED).values()) >= LEAST_IN_PEAK
    assert sized.plan().minutes() < 25


def test_the_largest_models_that_fit_are_chosen() -> None:
    assert [shape.name for shape in fitting(79.6).shapes] == [
        *("llama-3.1-8b", "qwen2.5-7b", "mistral-7b"),
    ]
    assert fitting(22.4).shapes[0].name == "qwen2.5-1.5b"


def test_a_gpu_that_is_too_small_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(
        UserError, match=r"8\.0 GiB, of which each of 3 .* 2\.4 .* need \d\.\d: take"
    ):
        fitting(8.0)


def test_peaks_are_one_and_a_half_times_the_static_cache() -> None:
    mean = mean_tokens(REQUESTS)
    for model, tokens in PLAN.static_tokens.items():
        assert PLAN.requests(STAGGERED)[model] * mean == pytest.approx(1.5 * tokens, abs=mean)
        assert PLAN.requests(HALF)[model] * mean == pytest.approx(0.5 * tokens, abs=mean)
    assert PLAN.requests(SIMULTANEOUS) == PLAN.requests(STAGGERED)


def test_decode_lengths_vary_and_every_request_fits_the_engines() -> None:
    requests = PLAN.schedule(STAGGERED, 0).requests
    assert len({one.output_tokens for one in requests}) > len(requests) / 4
    assert all(one.prompt_tokens + one.output_tokens <= 8192 for one in requests)


def parts(turn: int) -> dict[str, set[int]]:
    """By model: the thirds of the window in which its requests come."""
    found: dict[str, set[int]] = {}
    for one in PLAN.schedule(STAGGERED, turn).requests:
        found.setdefault(one.model, set()).add(int(3 * one.at_s / PLAN.duration_s))
    return found


def test_staggered_peaks_come_in_turn_and_simultaneous_ones_together() -> None:
    assert parts(0) == {"a": {0}, "b": {1}, "c": {2}}
    together = PLAN.schedule(SIMULTANEOUS, 0).requests
    assert {int(3 * one.at_s / PLAN.duration_s) for one in together} == {1}
    spread = {int(3 * one.at_s / PLAN.duration_s) for one in PLAN.schedule(HALF, 0).requests}
    assert spread == {0, 1, 2}


def test_turns_are_a_b_b_a_and_both_arms_get_the_same_requests() -> None:
    assert [ARMS[role] for role in ORDER] == ["static", "kvcached", "kvcached", "static"]
    for one in LOADS:
        hashes = [PLAN.schedule(one, turn).sha256 for turn in range(4)]
        assert (hashes[0], hashes[3]) == (hashes[1], hashes[2])
        assert hashes[0] != hashes[3]


def words(role: Role, vllm: str = "0.30.0") -> list[str]:
    return engine_command(PYTHON, vllm, LLAMA.name, Path("model"), 8600, role)


def share(command: Sequence[str]) -> float:
    return float(command[command.index("--gpu-memory-utilization") + 1])


def test_the_arms_differ_in_kvcached_and_the_share_of_the_gpu_alone() -> None:
    static, elastic = words("control"), words("treatment")
    assert 3 * share(static) <= share(elastic) == 0.9
    own = re.compile(r"ENABLE_KVCACHED=|KVCACHED_")
    rest = [
        [one for one in command if not own.match(one) and one != f"{share(command):g}"]
        for command in (static, elastic)
    ]
    assert rest[0] == rest[1]
    assert {"--load-format", "dummy", "--no-enable-prefix-caching"} <= set(static)
    assert "ENABLE_KVCACHED=true" in elastic
    assert f"KVCACHED_IPC_NAME={ipc_name(LLAMA.name)}" in elastic
    assert "ENABLE_KVCACHED=false" in static


def test_names_of_segments_are_what_shared_memory_takes_and_differ() -> None:
    names = [ipc_name(shape.name) for shape in EVERY]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9_]{1,64}", name) for name in names)


@pytest.mark.parametrize(
    ("vllm", "first"), [("0.24.0", True), ("0.28.0", False), ("0.30.0", False)]
)
def test_both_arms_have_the_model_runner_that_kvcached_takes(vllm: str, first: bool) -> None:
    for role in ARMS:
        assert ("VLLM_USE_V2_MODEL_RUNNER=0" in words(role, vllm)) is first


@pytest.mark.parametrize("version", ["0.16.0", "0.31.0", "1.0.0", "nightly"])
def test_versions_that_kvcached_does_not_take_are_refused(version: str) -> None:
    with pytest.raises(UserError, match=f"takes vLLM 0.17 to 0.30, seen '{version}'"):
        check_version(version)


def card(used_gib: float) -> GpuMemory:
    return GpuMemory("GPU-1", "NVIDIA H100", used_gib, 79.6)


def test_the_first_empty_gpu_is_taken() -> None:
    assert choose_card([card(40.0), card(0.5)]) == (1, card(0.5))
    with pytest.raises(
        UserError, match=r"all are in use: GPU 0 \(NVIDIA H100\) 40\.0 of 79\.6 GiB"
    ):
        choose_card([card(40.0)])


def test_engines_count_gpus_as_nvidia_smi_does_whose_number_they_get() -> None:
    number, _ = choose_card([card(40.0), card(0.5)])
    assert {"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=1"} == set(selected(number))


def test_without_a_gpu_it_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["gpu-check", "--output", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(
        "error: gpu-check needs an NVIDIA GPU, and none is seen here: nvidia-smi"
    )
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_commands_sizes_and_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu-check", "--dry-run", "79.6"]) == 0
    told = capsys.readouterr().out
    assert told.count("-m vllm.entrypoints.openai.api_server") == 6
    assert "vllm==0.30.0" in told
    assert "15.0 GiB of weights" in told
    assert re.search(r"about \d+ minutes", told)


@pytest.mark.parametrize("typed", ["nan", "inf", "-1", "0", "1e308", "80GiB"])
def test_a_memory_that_no_gpu_has_is_one_line(
    typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gpu-check", f"--dry-run={typed}"]) == 2
    told = capsys.readouterr().err
    assert f"--dry-run: {typed!r} is not a number of GiB" in told
    assert told.count("\n") == 1


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}\.whl", fullmatch=True), st.integers(1, 30)))
def test_parts_are_joined_in_the_order_of_their_numbers(counts: Mapping[str, int]) -> None:
    names = [
        f"{name}.part-{number:02}" for name, count in counts.items() for number in range(count)
    ]
    found = parts_of(reversed(names))
    assert {name: len(of_name) for name, of_name in found.items()} == counts
    for of_name in found.values():
        assert [int(one.rpartition("-")[2]) for one in of_name] == list(range(len(of_name)))


@given(st.integers(2, 40), st.data())
def test_a_missing_part_is_named(count: int, data: st.DataObject) -> None:
    missing = data.draw(st.integers(0, count - 2))
    names = [f"a.whl.part-{number:02}" for number in range(count) if number != missing]
    with pytest.raises(UserError, match=f"a.whl lacks part {missing:02} of {count}"):
        parts_of(names)


def test_wheels_in_parts_become_wheels(tmp_path: Path) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("a.py", "x" * 1000)
    data = whole.getvalue()
    (tmp_path / "a-1.whl.part-00").write_bytes(data[:100])
    (tmp_path / "a-1.whl.part-01").write_bytes(data[100:])
    assert (join_parts(tmp_path, tmp_path / "joined") / "a-1.whl").read_bytes() == data
    (tmp_path / "a-1.whl.part-01").write_bytes(data[200:])
    with pytest.raises(UserError, match=r"a-1\.whl is damaged: copy its 2 parts again"):
        join_parts(tmp_path, tmp_path / "joined")
    assert not (tmp_path / "joined" / "a-1.whl").exists()


def test_a_folder_without_wheels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no wheels"):
        join_parts(tmp_path, tmp_path / "joined")
    with pytest.raises(UserError, match="is no folder"):
        join_parts(tmp_path / "absent", tmp_path / "joined")


def test_offline_nothing_but_the_folder_is_asked_and_kvcached_is_built_last() -> None:
    pins = ["vllm==0.30.0", "kvcached==0.1.6"]
    first, last = install_commands(pins, (Path("joined"), Path("wheels")))
    for command in (first, last):
        assert command[command.index("--no-index") :][:5] == [
            *("--no-index", "--find-links", "joined", "--find-links", "wheels"),
        ]
    assert "vllm==0.30.0" in first
    assert last[-1] == "kvcached==0.1.6"
    assert "--no-build-isolation" in last
    assert not any("--no-index" in command for command in install_commands(pins, ()))


@pytest.mark.slow
def test_a_model_of_a_real_shape_says_something_whatever_token_comes(tmp_path: Path) -> None:
    shape: Shape = LLAMA
    folder = made_folder(shape.architecture, tmp_path, {**engines._LONGEST, **shape.sizes})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert shape.sizes.items() <= config.items()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    assert all(tokenizer.decode([token]) for token in range(0, config["vocab_size"], 997))
    assert config["eos_token_id"] < config["vocab_size"]
    assert tokenizer.token_to_id("<|eot_id|>") == config["eos_token_id"]


def test_the_model_that_gives_greedy_answers_has_all_its_tensors(tmp_path: Path) -> None:
    folder = greedy_model_folder(tmp_path)
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert set(header) == {name for name, _ in shapes(config)}
    end = 0
    for one in header.values():
        begin, end_of_one = one["data_offsets"]
        assert (begin, end_of_one - begin) == (end, 2 * math.prod(one["shape"]))
        end = end_of_one
    assert len(data) == 8 + size + end
    assert greedy_model_folder(tmp_path) == folder
    command = engine_command(PYTHON, "0.30.0", NAME, folder, 8600, "treatment")
    assert command[command.index("--load-format") + 1] == "auto"


def test_the_options_have_defaults() -> None:
    options = parser().parse_args(["gpu-check"])
    assert (options.wheels, options.vllm, options.dry_run) == (None, "0.30.0", None)
