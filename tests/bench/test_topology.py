from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.topology import GpuEngineEntry, Hardware, load_topology
from bench.errors import UserError
from lb.policies import POLICIES

ENVIRONMENTS = ("k8s", "docker")
TINY = ("tiny-llama", "tiny-qwen", "tiny-mistral")
ONE_MODEL = "models: {m: {architecture: llama}}\narms: {a: {policy: round-robin, port: 8080}}\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "topology.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_file_serves_three_architectures_with_two_replicas_each() -> None:
    models = load_topology().select_models(TINY, "cpu", "local")
    assert {model.architecture for model in models} == {"llama", "qwen2", "mistral"}
    assert {model.replicas for model in models} == {2}


def test_each_tiny_model_stands_for_one_of_the_hub() -> None:
    topology = load_topology()
    real = topology.select_models(["llama-3.1-8b", "qwen2.5-7b", "mistral-7b"], "gpu", "k8s")
    tiny = topology.select_models(TINY, "cpu", "local")
    assert [model.hub for model in real] == [model.counterpart for model in tiny]
    assert {(model.replicas, model.gpus) for model in real} == {(2, 1)}


def test_a_policy_of_the_balancer_is_an_arm_on_the_policys_port() -> None:
    arms = [(arm.policy, arm.port) for arm in load_topology().arms.values()]
    policies = POLICIES.keys() & {policy for policy, _ in arms}
    assert {(name, POLICIES[name].default_port) for name in policies} <= set(arms)
    shipped = "round-robin queue-aware queue-depth random least-outstanding power-of-two"
    assert {*shipped.split(), "prefix-aware", "cache-aware", "session"} <= policies
    assert len({port for _, port in arms}) == len(arms)


def test_only_managed_has_kvcached_and_only_the_baseline_has_no_balancer_on_kubernetes() -> None:
    arms = load_topology().arms.values()
    assert [arm.name for arm in arms if arm.kvcached] == ["managed"]
    assert [arm.name for arm in arms if arm.kubernetes == "kube-proxy"] == ["baseline"]


def test_adding_a_model_is_one_entry(tmp_path: Path) -> None:
    extended = ONE_MODEL.replace("}}\narms", "}, mine: {path: /weights, replicas: 3}}\narms")
    mine = load_topology(written(tmp_path, extended)).models["mine"]
    assert (mine.path, mine.replicas, mine.random_weights) == (Path("/weights"), 3, False)


def test_models_come_in_the_order_asked_for() -> None:
    topology = load_topology()
    names = [
        model.name for model in topology.select_models(["tiny-qwen", "tiny-llama"], "cpu", "local")
    ]
    assert names == ["tiny-qwen", "tiny-llama"]


def test_no_names_select_all_models_for_the_hardware_and_the_environment() -> None:
    topology = load_topology()
    for environment in ENVIRONMENTS:
        cpu = topology.select_models([], "cpu", environment)
        gpu = topology.select_models([], "gpu", environment)
        there = [one for one in topology.models.values() if one.is_for(environment)]
        assert cpu + gpu == tuple(there)
        assert {model.hardware for model in cpu} == {"cpu"}
        assert {model.hardware for model in gpu} == {"gpu"}


def test_only_h100s_serve_mixtral() -> None:
    topology = load_topology()
    names = {name: {one.name for one in topology.models_for("gpu", name)} for name in ENVIRONMENTS}
    assert {"llama-3.1-8b", "qwen2.5-7b"} <= names["k8s"] & names["docker"]
    assert names["k8s"] >= {"mistral-7b"}
    assert names["docker"] >= {"mixtral-8x7b"}
    assert "mixtral-8x7b" not in names["k8s"]
    assert "mistral-7b" not in names["docker"]


def test_a_model_of_the_hub_is_for_all_environments_unless_told_otherwise(tmp_path: Path) -> None:
    text = ONE_MODEL.replace("architecture: llama", "hub: a/b")
    model = load_topology(written(tmp_path, text)).models["m"]
    assert model.is_for("k8s")
    assert model.is_for("docker")
    text = text.replace("a/b", "a/b, environments: [docker]")
    model = load_topology(written(tmp_path, text)).models["m"]
    assert not model.is_for("k8s")
    assert model.is_for("docker")


def test_model_for_another_environment_is_refused_with_those_that_fit() -> None:
    with pytest.raises(UserError) as caught:
        load_topology().select_models(["mixtral-8x7b"], "gpu", "k8s")
    assert str(caught.value).startswith(
        "model 'mixtral-8x7b' is for docker, here engines run in k8s; "
        "for that: llama-3.1-8b, qwen2.5-7b, mistral-7b"
    )


@pytest.mark.parametrize(
    ("name", "hardware", "message"),
    [
        ("qwen2.5-7b", "cpu", "'qwen2.5-7b' is for a gpu, here .* on a cpu; .*: tiny-llama, tiny-"),
        ("tiny-qwen", "gpu", "'tiny-qwen' is for a cpu, here .* on a gpu; .*: llama-3.1-8b, qwen"),
    ],
)
def test_model_for_other_hardware_is_refused_with_those_that_fit(
    name: str, hardware: Hardware, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_topology().select_models([name], hardware, "k8s")
    assert "\n" not in str(caught.value)


def test_a_model_of_the_hub_takes_one_gpu_unless_told_otherwise(tmp_path: Path) -> None:
    text = ONE_MODEL.replace("architecture: llama", "hub: a/b")
    assert load_topology(written(tmp_path, text)).models["m"].gpus == 1
    text = text.replace("a/b", "a/b, gpus: 2")
    assert load_topology(written(tmp_path, text)).models["m"].gpus == 2


def test_flags_of_engines_on_gpus_are_in_the_file(tmp_path: Path) -> None:
    text = ONE_MODEL + "gpu_engine: {max_model_len: 4096, max_num_seqs: 64}\n"
    engine = load_topology(written(tmp_path, text)).gpu_engine
    assert engine == GpuEngineEntry(4096, 0.9, 64)
    assert load_topology().gpu_engine == GpuEngineEntry(8192, 0.9, 256)


def test_a_topology_without_a_model_for_the_hardware_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the topology has no model for a gpu"):
        load_topology(written(tmp_path, ONE_MODEL)).select_models([], "gpu", "k8s")


def test_unknown_name_lists_the_known_ones_and_the_closest() -> None:
    with pytest.raises(UserError, match=r"unknown model 'tiny-lama'; known: .*mean 'tiny-llama'"):
        load_topology().select_models(["tiny-lama"], "cpu", "local")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [", "is not YAML"),
        ("- a", "should be a"),
        ("models: {}\narms: {}\n", "models: none are listed"),
        (ONE_MODEL.replace("llama", "gpt9"), "models.m.architecture: .*seen 'gpt9'"),
        (ONE_MODEL.replace("architecture: llama", ""), "either architecture or path"),
        (ONE_MODEL.replace("llama}", "llama, path: /x}"), "either architecture or path or hub"),
        (ONE_MODEL.replace("llama}", "llama, hub: a/b}"), "either architecture or path or hub"),
        (ONE_MODEL.replace("llama}", "llama, gpus: 1}"), "models.m: gpus belong to .* the hub"),
        (ONE_MODEL.replace("architecture: llama", "hub: a/b, gpus: 0"), "models.m.gpus: .*seen 0"),
        (ONE_MODEL.replace("llama}", "llama, replicas: 0}"), "models.m.replicas: .*seen 0"),
        (ONE_MODEL.replace("8080", "99999"), "arms.a.port: .*seen 99999"),
        (ONE_MODEL.replace("8080", "on"), "arms.a.port: .*seen 'on'"),
        (ONE_MODEL.replace("llama}", "llama, replicas: yes}"), "models.m.replicas: .*seen 'yes'"),
        (ONE_MODEL + "models: {}\n", "models is given twice, first in line 1"),
        (ONE_MODEL.replace("policy: round-robin, ", ""), "either policy or peer or command"),
        (ONE_MODEL.replace("8080", "8080, peer: nginx"), "either policy or peer or command"),
        (
            ONE_MODEL.replace("policy: round-robin", "command: [x], options: [-v]"),
            "arms.a: options belong to a policy",
        ),
        (ONE_MODEL.replace("8080", "8080, kvcached: maybe"), "arms.a.kvcached: .*seen 'maybe'"),
        *(
            (ONE_MODEL.replace("8080", f"8080, kvcached: {one}"), "arms.a.kvcached: .*boolean")
            for one in ("yes", "1", "'true'")
        ),
        (ONE_MODEL.replace("policy: round-robin", "command: []"), "arms.a.command: .*seen"),
        (ONE_MODEL.replace("8080", "8080, kubernetes: x"), "arms.a.kubernetes: .*seen 'x'"),
        (ONE_MODEL + "gpu_engine: {gpu_memory_utilization: 1.5}\n", "utilization: .*seen 1.5"),
        (ONE_MODEL + "gpu_engine: {max_model_len: 0}\n", "gpu_engine.max_model_len: .*seen 0"),
        (
            ONE_MODEL.replace("architecture: llama", "hub: a/b, environments: [k9s]"),
            "models.m.environments.0: .*'k8s' or 'docker', seen 'k9s'",
        ),
        (ONE_MODEL.replace("architecture: llama", "hub: a/b, environments: []"), "at least 1"),
        (ONE_MODEL.replace("llama}", "llama, environments: [k8s]}"), "m: environments belong to"),
        (ONE_MODEL + "hardware: {moon: {}}\n", "hardware.moon.*seen 'moon'"),
        (ONE_MODEL + "hardware: {k8s: {gpu: X1, gpus: 8}}\n", "hardware.k8s.gpu_memory_gib"),
        (ONE_MODEL + "modles: {}\n", "modles: Unexpected keyword"),
    ],
)
def test_mistake_is_one_line_that_names_file_and_place(
    tmp_path: Path, text: str, message: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        load_topology(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*none.yaml: No such file"):
        load_topology(tmp_path / "none.yaml")


def test_binary_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        load_topology(path)
