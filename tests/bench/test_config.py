from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from bench.cli.options import read_options
from bench.config.config import Config, new_run_id, resolve
from bench.config.options import PYTEST
from bench.config.topology import load_topology
from bench.errors import UserError
from tests.terraform.running import EXAMPLE


def configured(folder: Path, **typed: str) -> Config:
    """The configuration of a run with these options."""
    return resolve(read_options(typed, PYTEST), folder, "run")


def test_defaults_compare_managed_with_baseline_on_all_models_for_cpus(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert [arm.name for arm in config.arms.values()] == ["baseline", "managed"]
    assert config.model_names == tuple(
        one.name for one in config.topology.models_for("cpu", "local")
    )
    assert {"tiny-llama", "tiny-qwen", "tiny-mistral"} <= set(config.model_names)


@pytest.mark.parametrize(
    ("typed", "first", "max_num_seqs"),
    [({}, "llama-3.1-8b", 256), ({"hardware": "cpu"}, "tiny-llama", 4)],
)
def test_a_cluster_has_gpus_unless_told_otherwise(
    tmp_path: Path, typed: dict[str, str], first: str, max_num_seqs: int
) -> None:
    config = configured(tmp_path, env="k8s", **typed)
    assert config.model_names[0] == first
    assert config.max_num_seqs == max_num_seqs


def test_colocated_models_are_those_with_one_gpu_each(tmp_path: Path) -> None:
    typed = {"env": "docker", "topology": str(EXAMPLE)}
    config = configured(tmp_path, layout="colocated", **typed)
    assert config.model_names == ("llama-3.1-8b", "qwen2.5-7b", "mistral-7b")
    assert config.topology.layout == "colocated"
    assert "mixtral-8x7b" in configured(tmp_path, **typed).model_names


def test_a_layout_of_the_file_is_that_of_runs_unless_told_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(f"{EXAMPLE.read_text(encoding='utf-8')}layout: colocated\n", encoding="utf-8")
    typed = {"env": "docker", "topology": str(file)}
    assert configured(tmp_path, **typed).topology.layout == "colocated"
    assert configured(tmp_path, layout="dedicated", **typed).topology.layout == "dedicated"
    with pytest.raises(UserError, match="layout colocated needs GPUs, since it is about engines"):
        configured(tmp_path, topology=str(file))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({}, "layout colocated needs GPUs"),
        ({"env": "docker", "hardware": "cpu"}, "layout colocated needs GPUs"),
        ({"env": "docker", "models": "llama-3.1-8b"}, "is for several models with gpus: 1, seen"),
        (
            {"env": "docker", "models": "mixtral-8x7b"},
            "needs 2 GPUs for each replica, which layout",
        ),
        ({"env": "k8s"}, "of 22.4 GiB of one NVIDIA L4 gpu_memory_utilization 0.9 gives each of 3"),
        ({"env": "external", "endpoints": "http://a:1"}, "--layout is for engines that the suite"),
    ],
)
def test_what_cannot_be_colocated_is_one_line(
    tmp_path: Path, typed: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        configured(tmp_path, layout="colocated", topology=str(EXAMPLE), **typed)
    assert "\n" not in str(caught.value)


def test_one_arm_twice_is_an_aa_run(tmp_path: Path) -> None:
    config = configured(tmp_path, arms="baseline,baseline")
    assert config.arms["control"] == config.arms["treatment"]


def test_any_two_arms_can_be_compared(tmp_path: Path) -> None:
    names = load_topology().arms
    for control, treatment in itertools.permutations(names, 2):
        config = configured(tmp_path, arms=f"{control},{treatment}")
        assert [arm.name for arm in config.arms.values()] == [control, treatment]


def test_repeated_model_is_measured_once(tmp_path: Path) -> None:
    config = configured(tmp_path, models="tiny-qwen, tiny-qwen")
    assert config.model_names == ("tiny-qwen",)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"env": "mars"}, "--env takes local.*, seen 'mars'"),
        ({"hardware": "gpu"}, "gpu with --env docker or k8s, seen 'gpu' with --env local"),
        ({"env": "k8s", "hardware": "tpu"}, "--hardware takes cpu or gpu, seen 'tpu'"),
        ({"env": "k8s", "models": "tiny-qwen"}, "'tiny-qwen' is for a cpu, here"),
        ({"models": "gpt"}, "unknown model 'gpt'; known: tiny-llama"),
        ({"models": "qwen2.5-7b"}, "'qwen2.5-7b' is for a gpu, here .* a cpu"),
        ({"arms": "baseline"}, r"two names or more\), seen 'baseline'"),
        ({"arms": "baseline,mangaed"}, "unknown arm 'mangaed'.*'managed'"),
        ({"profile": "slow"}, "--profile takes auto, quick, standard or thorough, seen 'slow'"),
        ({"slo": "none.yaml"}, "cannot read none.yaml"),
    ],
)
def test_mistake_is_one_line(tmp_path: Path, typed: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        configured(tmp_path, **typed)
    assert "\n" not in str(caught.value)


def test_arms_on_one_port_are_refused(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text(
        "models: {m: {architecture: llama}}\n"
        "arms: {a: {policy: x, port: 8080}, b: {policy: y, port: 8080}}\n"
    )
    with pytest.raises(UserError, match="both use port 8080"):
        configured(tmp_path, topology=str(topology), arms="a,b")


def test_drivers_that_send_from_this_machine_are_refused_for_pods(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"driver aiperf sends from this machine, which does not"):
        configured(tmp_path, env="k8s", driver="aiperf")


def test_only_the_own_driver_opens_a_connection_for_each_request(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    topology.write_text(
        "models: {m: {architecture: llama}}\n"
        "arms: {a: {policy: x, port: 8080},"
        " b: {policy: y, port: 8081, connections: per-request}}\n"
    )
    typed = {"topology": str(topology), "arms": "a,b"}
    assert configured(tmp_path, **typed).arms["treatment"].connections == "per-request"
    with pytest.raises(UserError, match="arm b wants a connection for each request, which driver"):
        configured(tmp_path, **typed, driver="aiperf")


def test_run_ids_differ() -> None:
    assert new_run_id() != new_run_id()


@pytest.mark.parametrize("before", ["20991231-235959-ffff", "99991231-235958-ffff"])
def test_a_run_sorts_after_the_one_before_though_the_clock_was_set_back(before: str) -> None:
    assert new_run_id(before) > before


@pytest.mark.parametrize("before", ["", "kept", "20991331-235959-ffff", "99991231-235959-ffff"])
def test_what_is_no_run_changes_no_run_id(before: str) -> None:
    assert new_run_id(before)[:2] == new_run_id()[:2]


def test_a_run_in_the_same_second_sorts_after_the_one_before() -> None:
    names = [new_run_id()]
    for _ in range(5):
        names.append(new_run_id(names[-1]))
    assert names == sorted(names)
