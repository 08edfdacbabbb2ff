from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from bench.config.config import Options, new_run_id, resolve
from bench.config.topology import load_topology
from bench.errors import UserError

DEFAULTS = Options()


def test_defaults_compare_managed_with_baseline_on_all_models_for_cpus(tmp_path: Path) -> None:
    config = resolve(DEFAULTS, tmp_path, "run")
    assert (config.control.name, config.treatment.name) == ("baseline", "managed")
    assert config.model_names == ("tiny-llama", "tiny-qwen", "tiny-mistral")


@pytest.mark.parametrize(
    ("hardware", "first", "slots"), [(None, "llama-3.1-8b", 256), ("cpu", "tiny-llama", 4)]
)
def test_a_cluster_has_gpus_unless_told_otherwise(
    tmp_path: Path, hardware: str | None, first: str, slots: int
) -> None:
    config = resolve(replace(DEFAULTS, env="k8s", hardware=hardware), tmp_path, "run")
    assert config.model_names[0] == first
    assert config.slots == slots


def test_one_arm_twice_is_an_aa_run(tmp_path: Path) -> None:
    config = resolve(replace(DEFAULTS, arms="baseline,baseline"), tmp_path, "run")
    assert config.control == config.treatment


def test_any_two_arms_can_be_compared(tmp_path: Path) -> None:
    names = load_topology().arms
    for control, treatment in itertools.permutations(names, 2):
        config = resolve(replace(DEFAULTS, arms=f"{control},{treatment}"), tmp_path, "run")
        assert (config.control.name, config.treatment.name) == (control, treatment)


def test_repeated_model_is_measured_once(tmp_path: Path) -> None:
    config = resolve(replace(DEFAULTS, models="tiny-qwen, tiny-qwen"), tmp_path, "run")
    assert config.model_names == ("tiny-qwen",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (replace(DEFAULTS, env="mars"), "unknown environment 'mars'; known: local"),
        (replace(DEFAULTS, hardware="gpu"), "gpu with --env k8s, seen 'gpu' with --env local"),
        (replace(DEFAULTS, env="k8s", hardware="tpu"), "--hardware takes cpu, and gpu .*'tpu'"),
        (replace(DEFAULTS, env="k8s", models="tiny-qwen"), "'tiny-qwen' is for a cpu, here"),
        (replace(DEFAULTS, models="gpt"), "unknown model 'gpt'; known: tiny-llama"),
        (replace(DEFAULTS, models="qwen2.5-7b"), "'qwen2.5-7b' is for a gpu, here .* a cpu"),
        (replace(DEFAULTS, arms="baseline"), r"two names\), seen 'baseline'"),
        (replace(DEFAULTS, arms="baseline,mangaed"), "unknown arm 'mangaed'.*'managed'"),
        (replace(DEFAULTS, profile="slow"), "unknown profile 'slow'; known: auto, quick"),
        (replace(DEFAULTS, slo=Path("none.yaml")), "cannot read none.yaml"),
    ],
)
def test_mistake_is_one_line(tmp_path: Path, options: Options, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        resolve(options, tmp_path, "run")
    assert "\n" not in str(caught.value)


def test_arms_on_one_port_are_refused(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text(
        "models: {m: {architecture: llama}}\n"
        "arms: {a: {policy: x, port: 8080}, b: {policy: y, port: 8080}}\n"
    )
    with pytest.raises(UserError, match="both use port 8080"):
        resolve(replace(DEFAULTS, topology=topology, arms="a,b"), tmp_path, "run")


def test_drivers_that_send_from_this_machine_are_refused_for_pods(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"driver aiperf sends from this machine, which does not"):
        resolve(Options(env="k8s", driver="aiperf"), tmp_path, "run")


def test_only_the_own_driver_opens_a_connection_for_each_request(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text(
        "models: {m: {architecture: llama}}\n"
        "arms: {a: {policy: x, port: 8080},"
        " b: {policy: y, port: 8081, connections: per-request}}\n"
    )
    options = replace(DEFAULTS, topology=topology, arms="a,b")
    assert resolve(options, tmp_path, "run").treatment.connections == "per-request"
    with pytest.raises(UserError, match="arm b wants a connection for each request, which driver"):
        resolve(replace(options, driver="aiperf"), tmp_path, "run")


def test_run_ids_differ() -> None:
    assert new_run_id() != new_run_id()
