"""Tokens of KV cache of engines that share a GPU, and where KVCached may give a gain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.fitting import require_fit, room_texts
from bench.config.memory import GIB, Footprint, Gpu, Room, equal_share, room_text, rooms
from bench.config.topology import HardwareEntry, Model, Topology
from bench.errors import UserError
from tests.bench.colocating import colocated_topology

TOPOLOGY = replace(colocated_topology(), layout="dedicated")
LLAMA = Footprint.of(TOPOLOGY.models["llama-3.1-8b"])
H100 = Gpu(79.6, 0.93, 2.0)

gpus = st.builds(Gpu, st.floats(4, 200), st.floats(0.1, 1), st.floats(0.1, 4))
footprints = st.builds(Footprint, st.floats(0.1, 60), st.integers(1024, 2**20))
together = st.lists(footprints, min_size=1, max_size=6)


def colocated(memory_gib: float, max_model_len: int = 8192) -> Topology:
    engine = replace(TOPOLOGY.gpu_engine, max_model_len=max_model_len)
    node = HardwareEntry("NVIDIA X1", 2, memory_gib)
    return replace(TOPOLOGY, hardware={"k8s": node}, gpu_engine=engine, layout="colocated")


def models(topology: Topology) -> tuple[Model, ...]:
    return topology.models_for("gpu", "k8s")


def refusal(topology: Topology, *listed: Model) -> str:
    with pytest.raises(UserError) as caught:
        require_fit(topology, listed or models(topology), "k8s")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "kib"),
    [("llama-3.1-8b", 128), ("qwen2.5-7b", 56), ("mistral-7b", 128), ("mixtral-8x7b", 128)],
)
def test_a_token_takes_what_the_shapes_say(name: str, kib: int) -> None:
    shape = TOPOLOGY.models[name].kv
    assert shape is not None
    assert shape.token_bytes == kib * 1024


def test_three_8b_models_on_an_h100_have_the_tokens_that_are_known() -> None:
    """By hand: 62,000 tokens with 0.31 each, 205,000 of the 0.95 that KVCached takes by default."""
    (static, *_), (elastic, *_) = (
        rooms(replace(H100, utilization=share), [LLAMA] * 3) for share in (0.93, 0.95)
    )
    assert static.static_tokens == pytest.approx(62_000, rel=0.02)
    assert elastic.elastic_tokens == pytest.approx(205_000, rel=0.02)
    assert static.requests(2560, 256)[0] == 24
    assert elastic.requests(2560, 256)[1] == pytest.approx(80, abs=2)


def test_a_tensor_parallel_replica_has_its_weights_and_tokens_on_all_its_gpus() -> None:
    assert Footprint.of(TOPOLOGY.models["mixtral-8x7b"]) == Footprint(43.5, 64 * 1024)


@given(gpus, together, st.floats(0, 100))
def test_more_memory_is_never_fewer_tokens(gpu: Gpu, engines: list[Footprint], more: float) -> None:
    larger = replace(gpu, memory_gib=gpu.memory_gib + more)
    for less, same in zip(rooms(gpu, engines), rooms(larger, engines), strict=True):
        assert same.static_tokens >= less.static_tokens
        assert same.elastic_tokens >= less.elastic_tokens


@given(gpus, together)
def test_static_parts_together_are_within_what_one_may_have(
    gpu: Gpu, engines: list[Footprint]
) -> None:
    found = rooms(gpu, engines)
    parts = sum(
        room.static_tokens * one.token_bytes for room, one in zip(found, engines, strict=True)
    )
    if all(room.static_tokens for room in found):
        for room, one in zip(found, engines, strict=True):
            # Less than a token is rounded off.
            assert parts <= (room.elastic_tokens + 1) * one.token_bytes
    for room, one in zip(found, engines, strict=True):
        used = room.elastic_tokens * one.token_bytes + sum(one.weights_gib for one in engines) * GIB
        assert not room.elastic_tokens or used <= gpu.memory_gib * gpu.utilization * GIB


@given(gpus, together, footprints)
def test_one_engine_more_leaves_no_more_to_others(
    gpu: Gpu, engines: list[Footprint], added: Footprint
) -> None:
    for before, after in zip(rooms(gpu, engines), rooms(gpu, [*engines, added]), strict=False):
        assert after.static_tokens <= before.static_tokens
        assert after.elastic_tokens <= before.elastic_tokens


@given(st.floats(0.05, 1), st.integers(1, 12))
def test_shares_are_as_large_as_they_may_be(utilization: float, engines: int) -> None:
    share = equal_share(utilization, engines)
    assert share * engines <= utilization + 1e-6
    assert (share + 0.001) * engines > utilization - 1e-6


def test_shares_have_no_more_digits_than_they_need() -> None:
    shares = [f"{equal_share(0.93, count):g}" for count in (1, 2, 3, 4)]
    assert shares == ["0.93", "0.465", "0.31", "0.232"]


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**5), st.integers(1, 10**5))
def test_longer_requests_are_never_more_at_once(
    static: int, more: int, length: int, longer: int
) -> None:
    room = Room(static, static + more)
    for short, long in zip(
        room.requests(length, 256), room.requests(length + longer, 256), strict=True
    ):
        assert long <= short <= 256


def test_where_a_gain_is_possible_is_said_with_its_bound() -> None:
    assert room_text("m", Room(62_000, 205_000), 2560, 256) == (
        "m: KV cache for 62,000 tokens in a static split, for 205,000 with KVCached while its "
        "peers are idle; requests of 2,560 tokens at once: 24 and 80. Below 24, or with all peaks "
        "together, no gain is to be expected"
    )
    assert room_text("m", Room(62_000, 205_000), 2560, 16).endswith(
        "; 16 requests of 2,560 tokens at once either way (max_num_seqs 16): no gain is possible"
    )


def test_colocated_models_that_fit_say_what_they_have_room_for() -> None:
    topology = colocated(79.6)
    require_fit(topology, models(topology), "k8s")
    said = room_texts(topology, models(topology), "k8s")
    assert [one.partition(":")[0] for one in said] == ["llama-3.1-8b", "qwen2.5-7b", "mistral-7b"]
    assert not room_texts(replace(topology, layout="dedicated"), models(topology), "k8s")
    assert not room_texts(topology, models(topology), "docker")


def test_colocated_models_that_do_not_fit_are_told_the_most_that_does() -> None:
    assert refusal(colocated(59.0)) == (
        "environment k8s: layout colocated does not fit: of 59 GiB of one NVIDIA X1 "
        "gpu_memory_utilization 0.9 gives each of 3 engines 0.3, 17.7 GiB; llama-3.1-8b needs 18.0 "
        "(15.0 for weights, 2 for activations, 1.0 for 8192 tokens of KV cache); "
        "all fit with max_model_len up to 5734"
    )
    require_fit(colocated(59.0, max_model_len=5734), models(TOPOLOGY), "k8s")
    assert "max_model_len up to 5734" in refusal(colocated(59.0, max_model_len=5735))
    assert refusal(colocated(40.0)).endswith("2 of these fit: --models qwen2.5-7b,mistral-7b")
    assert refusal(colocated(22.4)).endswith(
        "no two of these fit: give larger GPUs, or use --layout dedicated"
    )


def test_colocated_models_that_are_too_few_are_named() -> None:
    topology = colocated(79.6)
    for few, seen in (((), "seen none;"), (models(topology)[:1], "seen llama-3.1-8b alone;")):
        with pytest.raises(UserError, match=seen):
            require_fit(topology, few, "k8s")


@given(st.floats(20, 100))
def test_the_most_that_is_said_to_fit_does_fit(memory_gib: float) -> None:
    topology = colocated(memory_gib)
    try:
        require_fit(topology, models(topology), "k8s")
    except UserError as error:
        said = str(error)
        if "--models" in said:
            names = said.rpartition(" ")[2].split(",")
            require_fit(topology, [topology.models[name] for name in names], "k8s")
        elif "max_model_len" in said:
            shorter = colocated(memory_gib, max_model_len=int(said.rpartition(" ")[2]))
            require_fit(shorter, models(shorter), "k8s")


def test_colocated_replicas_are_counted_by_gpu() -> None:
    topology = colocated(79.6)
    many = [replace(model, replicas=3) for model in models(topology)]
    assert "3 GPUs are needed" in refusal(topology, *many)
    one, *others = models(topology)
    assert "seen llama-3.1-8b 1, qwen2.5-7b 2, mistral-7b 2" in refusal(
        topology, replace(one, replicas=1), *others
    )
    assert "seen llama-3.1-8b alone" in refusal(topology, one)


def test_colocated_engines_need_gpus_of_which_they_share_one() -> None:
    topology = colocated(79.6)
    assert "here engines run on CPUs; use --layout dedicated" in refusal(
        topology, *topology.models_for("cpu", "k8s")
    )
    assert "mixtral-8x7b" not in [model.name for model in topology.models_for("gpu", "docker")]
    with pytest.raises(UserError, match="needs 2 GPUs for each replica, which layout colocated"):
        topology.select_models(["mixtral-8x7b"], "gpu", "docker")
