from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.topology import load_topology
from lb.policies import POLICIES

ONE_MODEL = "models: {m: {architecture: llama}}\narms: {a: {policy: round-robin, port: 8080}}\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "topology.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_file_serves_three_architectures_with_two_replicas_each() -> None:
    models = load_topology().models.values()
    assert {model.architecture for model in models} == {"llama", "qwen2", "mistral"}
    assert {model.replicas for model in models} == {2}


def test_every_policy_of_the_balancer_is_an_arm_on_the_policys_port() -> None:
    arms = {arm.policy: arm.port for arm in load_topology().arms.values() if not arm.options}
    assert arms == {name: entry.default_port for name, entry in POLICIES.items()}


def test_adding_a_model_is_one_entry(tmp_path: Path) -> None:
    extended = ONE_MODEL.replace("}}\narms", "}, mine: {path: /weights, replicas: 3}}\narms")
    mine = load_topology(written(tmp_path, extended)).models["mine"]
    assert (mine.path, mine.replicas, mine.random_weights) == (Path("/weights"), 3, False)


def test_models_come_in_the_order_asked_for() -> None:
    topology = load_topology()
    names = [model.name for model in topology.select_models(["tiny-qwen", "tiny-llama"])]
    assert names == ["tiny-qwen", "tiny-llama"]


def test_no_names_select_all_models() -> None:
    topology = load_topology()
    assert [model.name for model in topology.select_models([])] == list(topology.models)


def test_unknown_name_lists_the_known_ones_and_the_closest() -> None:
    with pytest.raises(UserError, match=r"unknown model 'tiny-lama'; known: .*mean 'tiny-llama'"):
        load_topology().select_models(["tiny-lama"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [", "is not YAML"),
        ("- a", "should be a"),
        ("models: {}\narms: {}\n", "models: none are listed"),
        (ONE_MODEL.replace("llama", "gpt9"), "models.m.architecture: .*seen 'gpt9'"),
        (ONE_MODEL.replace("architecture: llama", ""), "either architecture or path"),
        (ONE_MODEL.replace("llama}", "llama, path: /x}"), "either architecture or path"),
        (ONE_MODEL.replace("llama}", "llama, replicas: 0}"), "models.m.replicas: .*seen 0"),
        (ONE_MODEL.replace("8080", "99999"), "arms.a.port: .*seen 99999"),
        (ONE_MODEL.replace("policy: round-robin, ", ""), "either policy or command"),
        (
            ONE_MODEL.replace("policy: round-robin", "command: [x], options: [-v]"),
            "arms.a: options belong to a policy",
        ),
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
