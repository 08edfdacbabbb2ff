"""What is to run: cores, arguments, ports, and whether it fits into memory."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.topology import EngineEntry, Model, Topology
from bench.environments.cpu_engine import engine_arguments
from bench.environments.local.enginehost.replicas import ReplicaSpec
from bench.environments.local.starting import (
    SERVER_BYTES,
    available_memory,
    check_memory,
    plan_replicas,
    replica_bytes,
)
from bench.errors import UserError
from bench.processes.ports import free_ports, is_free, port_holder

GIB = 1024**3


def topology(*replicas: int, engine: EngineEntry | None = None) -> Topology:
    models = {
        f"m{index}": Model(f"m{index}", "llama", None, None, count)
        for index, count in enumerate(replicas)
    }
    return Topology(models, {}, engine or EngineEntry())


def plan(top: Topology, names: list[str], cores: list[int]) -> tuple[ReplicaSpec, ...]:
    folders = {name: Path("/nowhere") / name for name in top.models}
    return plan_replicas(top, top.select_models(names, "cpu", "local"), folders, cores)


counts = st.lists(st.integers(1, 4), min_size=1, max_size=4)
core_lists = st.lists(st.integers(0, 64), min_size=1, max_size=8, unique=True)


@given(counts, core_lists)
def test_replicas_share_a_core_only_when_there_are_too_few(
    replicas: list[int], cores: list[int]
) -> None:
    plans = plan(topology(*replicas), [], cores)
    assert len({one.core for one in plans}) == min(len(plans), len(cores))
    for model in {one.model for one in plans}:
        own = [one.core for one in plans if one.model == model]
        assert len(set(own)) == min(len(own), len(cores))


@given(counts, core_lists, st.data())
def test_a_replica_keeps_its_core_whichever_models_are_picked(
    replicas: list[int], cores: list[int], data: st.DataObject
) -> None:
    top = topology(*replicas)
    picked = data.draw(st.lists(st.sampled_from(list(top.models)), min_size=1, unique=True))
    whole = {one.name: one for one in plan(top, [], cores)}
    assert all(whole[one.name] == one for one in plan(top, picked, cores))


def test_models_for_gpus_take_no_core() -> None:
    top = topology(2)
    hub = Model("big", None, None, None, 1, hub="a/b", gpus=1)
    both = replace(top, models={"big": hub, **top.models})
    assert plan(both, [], [0, 1, 2]) == plan(top, [], [0, 1, 2])


def test_two_replicas_get_the_names_that_logs_and_reports_use() -> None:
    assert [one.name for one in plan(topology(2), [], [0, 1])] == ["m0-0", "m0-1"]


def test_tiny_models_get_weights_made_up_and_real_ones_do_not(tmp_path: Path) -> None:
    tiny = Model("m", "llama", None, None, 1)
    real = Model("m", None, tmp_path, None, 1)
    assert "dummy" in engine_arguments(tiny, str(tmp_path), EngineEntry())
    assert "dummy" not in engine_arguments(real, str(tmp_path), EngineEntry())


def test_the_topology_sets_the_flags_of_the_engines(tmp_path: Path) -> None:
    engine = EngineEntry(max_model_len=512, max_num_seqs=3, kv_cache_mib=64)
    arguments = " ".join(
        engine_arguments(Model("m", "llama", None, None, 1), str(tmp_path), engine)
    )
    assert "--max-model-len 512 " in arguments
    assert "--max-num-seqs 3 " in arguments
    assert f"--kv-cache-memory-bytes {64 * 1024**2} " in arguments


def test_memory_that_does_not_do_is_refused_with_the_numbers(tmp_path: Path) -> None:
    needed = [replica_bytes(EngineEntry(kv_cache_mib=1024), tmp_path)] * 6
    with pytest.raises(UserError, match=r"6 replicas need 9\.0 GiB .* 4\.0 GiB are available"):
        check_memory(needed, 4 * GIB)
    check_memory(needed, 16 * GIB)


def test_weights_count_for_memory(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(3 * GIB)
    own = replica_bytes(EngineEntry(), tmp_path) - SERVER_BYTES
    assert own == pytest.approx(3 * GIB + 256 * 1024**2, abs=1)


@pytest.mark.parametrize(
    ("limit", "available"), [("1000000", 999_000), ("max", float("inf")), (None, float("inf"))]
)
def test_a_containers_memory_limit_counts(
    tmp_path: Path, limit: str | None, available: float
) -> None:
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("1000\n")
    machine = available_memory(tmp_path / "no control group")
    assert available_memory(tmp_path) == pytest.approx(min(available, machine), rel=0.2)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_ports_in_use_and_reserved_ones_are_passed_over(taken: int) -> None:
    free = list(islice(free_ports(taken, reserved={taken + 1}), 3))
    assert not {taken, taken + 1} & set(free)
    assert all(map(is_free, free))


def test_the_process_that_holds_a_port_is_named(taken: int) -> None:
    assert not is_free(taken)
    assert port_holder(taken).startswith(f"process {os.getpid()} (")
