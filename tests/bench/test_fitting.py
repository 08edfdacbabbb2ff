"""What fits the declared GPUs, and how a refusal reads."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli.commands import main
from bench.cli.options import read_options
from bench.config.config import resolve
from bench.config.fitting import require_fit
from bench.config.options import PYTEST
from bench.config.topology import (
    HardwareEntry,
    Model,
    Topology,
    load_topology,
)
from bench.errors import UserError
from tests.terraform.running import EXAMPLE

TOPOLOGY = load_topology(EXAMPLE)
TOO_LARGE = (
    "environment k8s: mixtral-8x7b does not fit: 87.0 GiB of weights over 2 GPUs are 43.5 GiB "
    "each; NVIDIA L4 has 22.4 GiB, of which gpu_memory_utilization 0.9 leaves 20.2, so for "
    "activations and KV cache nothing is left, and 2 are needed; "
    "it needs 5 GPUs: give gpus: 8 (tensor parallel) or larger GPUs"
)
TOO_MANY = (
    "environment docker: 10 GPUs are needed (replicas x gpus: llama-3.1-8b 2 x 1 + "
    "qwen2.5-7b 2 x 1 + mistral-7b 2 x 1 + mixtral-8x7b 2 x 2), 8 (NVIDIA H100 80GB) are there; "
    "give fewer models or replicas"
)


def node(gpus: int, memory_gib: float) -> Topology:
    """The topology with such GPUs on Kubernetes."""
    return replace(TOPOLOGY, hardware={"k8s": HardwareEntry("NVIDIA X1", gpus, memory_gib)})


def hub(gpus: int, weights_gib: float | None, replicas: int = 1) -> Model:
    return Model("mine", hub="org/mine", gpus=gpus, weights_gib=weights_gib, replicas=replicas)


def refusal(topology: Topology, *models: Model) -> str:
    with pytest.raises(UserError) as caught:
        require_fit(topology, models, "k8s")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edited(folder: Path, old: str, new: str) -> Path:
    """A copy of the example with another text."""
    text = EXAMPLE.read_text(encoding="utf-8")
    assert old in text
    file = folder / "topology.yaml"
    file.write_text(text.replace(old, new), encoding="utf-8")
    return file


def test_what_is_shipped_fits_and_mixtral_fills_the_h100s() -> None:
    shipped = load_topology()
    assert set(shipped.hardware) == {"k8s", "docker"}
    for environment in shipped.hardware:
        require_fit(shipped, shipped.models_for("gpu", environment), environment)
    docker = shipped.models_for("gpu", "docker")
    assert sum(model.replicas * model.gpus for model in docker) == shipped.hardware["docker"].gpus


def test_weights_need_room_beside_them() -> None:
    require_fit(node(1, 20.0), [hub(1, 16.0)], "k8s")
    said = refusal(node(1, 20.0), hub(1, 16.1))
    assert "leaves 18.0, so for activations and KV cache 1.9 GiB are left, and 2 are needed" in said


@given(st.floats(0.1, 2000), st.floats(3, 200))
def test_a_refusal_names_the_least_number_of_gpus(weights_gib: float, memory_gib: float) -> None:
    topology = node(2**20, memory_gib)
    try:
        require_fit(topology, [hub(1, weights_gib)], "k8s")
    except UserError as error:
        found = re.search(r"needs (\d+) GPUs: give gpus: (\d+) ", str(error))
        assert found
        least, parallel = map(int, found.groups())
        assert parallel >= least > 1
        assert parallel.bit_count() == 1
        require_fit(topology, [hub(least, weights_gib * 0.999)], "k8s")
        assert "does not fit" in refusal(topology, hub(least - 1, weights_gib * 1.001))


def test_gpus_with_no_room_at_all_are_said_to_be_too_small() -> None:
    assert refusal(node(8, 2.0), hub(8, 1.0)).endswith(
        "give larger GPUs: on these no share of a model fits"
    )


def test_all_that_does_not_fit_is_in_one_line() -> None:
    said = refusal(node(4, 20.0), hub(1, 30.0, replicas=5))
    assert "mine does not fit" in said
    assert "5 GPUs are needed (replicas x gpus: mine 5 x 1), 4 (NVIDIA X1) are there" in said


def test_what_is_not_declared_is_not_checked() -> None:
    require_fit(replace(TOPOLOGY, hardware={}), [hub(1, 1000.0)], "k8s")
    require_fit(node(1, 20.0), [hub(1, None)], "k8s")
    require_fit(node(1, 20.0), [hub(9, 1000.0)], "docker")
    require_fit(node(1, 20.0), TOPOLOGY.models_for("cpu", "k8s"), "k8s")


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_manifests_of_what_does_not_fit_are_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], check: list[str]
) -> None:
    everywhere = edited(tmp_path, ", environments: [k8s]", "")
    made = tmp_path / "made"
    arguments = ["manifests", "--topology", str(everywhere), "--folder", str(made), *check]
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"error: {TOO_MANY}\n"
    assert not made.exists()


def test_an_arm_of_what_does_not_fit_is_not_deployed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = edited(tmp_path, "environments: [docker]", "environments: [k8s]")
    which = ["--env", "k8s", "--topology", str(moved), "--models", "mixtral-8x7b"]
    assert main(["deploy", "baseline", *which]) == 2
    assert capsys.readouterr().err == f"error: {TOO_LARGE}\n"


def test_a_run_counts_the_models_that_it_has_selected(tmp_path: Path) -> None:
    moved = str(edited(tmp_path, "environments: [docker]", "environments: [k8s]"))
    typed = {"env": "k8s", "topology": moved}
    resolve(read_options({**typed, "models": "llama-3.1-8b"}, PYTEST), tmp_path, "run")
    resolve(read_options({**typed, "hardware": "cpu"}, PYTEST), tmp_path, "run")
    with pytest.raises(UserError) as caught:
        resolve(read_options({**typed, "models": "mixtral-8x7b"}, PYTEST), tmp_path, "run")
    assert str(caught.value) == TOO_LARGE
