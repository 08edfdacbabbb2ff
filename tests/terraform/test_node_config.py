"""The pure module: Terraform's own checks and tests, and a sizing that follows the topology."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.config.topology import GpuEngineEntry, load_topology
from bench.environments.kubernetes.manifests.engine import HARDWARE
from bench.environments.kubernetes.nodes import requests_of
from tests.k8s.built import SUPPORTED_VERSIONS
from tests.terraform.running import (
    EXAMPLE,
    NODE_CONFIG,
    TERRAFORM,
    TOPOLOGY,
    copy_of_node_config,
    named,
    outputs,
    parsed,
    refusal,
    terraform,
)

GIB = 2**30
MODEL = (
    "  mine-7b:\n    hub: org/mine\n    weights_gib: {size}\n    gpus: {gpus}\n    replicas: 1\n\n"
)


@pytest.fixture
def module(tmp_path: Path) -> Path:
    return copy_of_node_config(tmp_path)


def topology_with(folder: Path, model: str) -> Path:
    """The example with one more model: the one edit that adds it."""
    text = EXAMPLE.read_text(encoding="utf-8")
    assert text.count("\nhardware:\n") == 1
    file = folder / "topology.yaml"
    file.write_text(text.replace("\nhardware:\n", f"\n{model}hardware:\n"), encoding="utf-8")
    return file


def test_all_files_have_terraforms_format() -> None:
    done = terraform(TERRAFORM, "fmt", "-check", "-recursive")
    assert done.returncode == 0, f"run terraform fmt -recursive terraform: {done.stdout}"


def test_the_module_passes_terraforms_validation_and_its_own_tests(module: Path) -> None:
    valid = terraform(module, "validate", "-no-color")
    assert valid.returncode == 0, valid.stderr
    done = terraform(module, "test", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout
    assert "skip" not in done.stdout


def test_every_variable_says_what_it_is_and_refuses_something_in_a_test() -> None:
    tested = (NODE_CONFIG / "tests" / "variables.tftest.hcl").read_text(encoding="utf-8")
    for name, variable in named(parsed(NODE_CONFIG), "variable"):
        assert variable["description"].endswith("."), name
        assert variable["type"], name
        for validation in variable["validation"]:
            seen = validation["error_message"]
            assert name in seen, name
            assert any(mark in seen for mark in ("; ", ", ")), f"{name}: what to do? {seen}"
        assert f"expect_failures = [var.{name}]" in tested, name


def test_sizing_follows_the_topology(module: Path, tmp_path: Path) -> None:
    before = outputs(module)
    file = topology_with(tmp_path, MODEL.format(size=14.0, gpus=2))
    after = outputs(module, topology_file=str(file))
    assert before["sizing"]["gpus_of_an_arm"] + 2 == after["sizing"]["gpus_of_an_arm"]
    assert after["sizing"]["weights_gib"]["mine-7b"] == 14.0
    assert after["node"]["disks"]["model_cache_gib"] > before["node"]["disks"]["model_cache_gib"]
    assert after["node"]["disks"]["boot_gib"] > before["node"]["disks"]["boot_gib"]
    assert after["cost"]["per_hour"] > before["cost"]["per_hour"]


def test_colocated_models_share_a_gpu_for_each_replica(module: Path, tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    text = EXAMPLE.read_text(encoding="utf-8")
    file.write_text(f"{text}layout: colocated\n", encoding="utf-8")
    h100 = {"runtime": "compose", "gpu": "h100", "topology_file": str(file)}
    sizing = outputs(module, **h100)["sizing"]
    assert sizing["gpus_of_an_arm"] == 2
    assert sorted(sizing["weights_gib"]) == ["llama-3.1-8b", "mistral-7b", "qwen2.5-7b"]
    assert "Does not fit a GPU: llama-3.1-8b" in refusal(module, topology_file=str(file))


def test_more_gpus_than_the_machine_has_are_refused_with_the_sum(
    module: Path, tmp_path: Path
) -> None:
    file = topology_with(tmp_path, MODEL.format(size=14.0, gpus=4))
    said = refusal(module, topology_file=str(file))
    assert (
        "An arm needs 10 GPUs (replicas x gpus: llama-3.1-8b 2 x 1 + mine-7b 1 x 4 + "
        "mistral-7b 2 x 1 + qwen2.5-7b 2 x 1), g2-standard-96 has 8." in said
    )


def test_weights_that_do_not_fit_are_refused_with_the_arithmetic(
    module: Path, tmp_path: Path
) -> None:
    file = topology_with(tmp_path, MODEL.format(size=87.0, gpus=2))
    said = refusal(module, topology_file=str(file))
    assert (
        "mine-7b: 87.0 GiB of weights on 2 GPU(s) are 43.5 GiB each, with 2 GiB for activations "
        "and KV cache 45.5 GiB; NVIDIA L4 has 22.4 GiB, of which gpu_memory_utilization 0.9 "
        "leaves 20.2 GiB." in said
    )


@pytest.mark.parametrize(("root", "environment"), [("k3s-l4", "k8s"), ("compose-h100", "docker")])
def test_a_roots_node_has_the_gpus_that_the_topology_declares(
    module: Path, root: str, environment: str
) -> None:
    config = dict(named(parsed(TERRAFORM / root), "module"))["config"]
    values = {"runtime": config["runtime"], "gpu": config["gpu"], "topology_file": str(TOPOLOGY)}
    sizing = outputs(module, **values)["sizing"]
    topology = load_topology()
    (declared,) = [one for name, one in topology.hardware.items() if name == environment]
    assert (sizing["gpu"], sizing["gpus"]) == (declared.gpu, declared.gpus)
    machines = yaml.safe_load((NODE_CONFIG / "machines.yaml").read_text(encoding="utf-8"))
    assert machines["gpus"][config["gpu"]]["memory_gib"] == declared.gpu_memory_gib
    models = topology.models_for("gpu", environment)
    assert sizing["weights_gib"] == {one.name: one.weights_gib for one in models}
    assert sizing["gpus_of_an_arm"] == sum(one.replicas * one.gpus for one in models)


def test_terraform_assumes_the_defaults_of_the_suite(module: Path, tmp_path: Path) -> None:
    """Without flags of engines in the file, both say the same of a model at the limit."""
    engine = GpuEngineEntry()
    usable = load_topology().hardware["k8s"].gpu_memory_gib * engine.gpu_memory_utilization
    entry = "models:\n  mine: {hub: org/mine, replicas: 1, weights_gib: "
    file = tmp_path / "topology.yaml"
    file.write_text(f"{entry}{usable - engine.reserve_gib - 0.01}}}\n", encoding="utf-8")
    outputs(module, topology_file=str(file))
    file.write_text(f"{entry}{usable - engine.reserve_gib + 0.01}}}\n", encoding="utf-8")
    assert "Does not fit a GPU: mine: " in refusal(module, topology_file=str(file))


def test_a_model_for_another_environment_alone_is_refused_by_name(module: Path) -> None:
    assert (
        "models has mixtral-8x7b, which the topology file has for other environments than k8s "
        "alone; leave it out, or add k8s to its environments."
        in refusal(module, models=["mixtral-8x7b"])
    )


def test_a_machine_that_is_not_offered_is_refused_once(module: Path) -> None:
    said = refusal(module, machine_type="a3-highgpu-8g")
    assert said.count("Error: ") == 1
    assert (
        "machine_type is a3-highgpu-8g; with gpu l4 and provisioning on-demand give one of "
        "g2-standard-12, g2-standard-24, g2-standard-48, g2-standard-96." in said
    )


def test_a_model_of_unknown_size_may_fill_its_gpus(module: Path, tmp_path: Path) -> None:
    unknown = MODEL.format(size="0", gpus=1).replace("    weights_gib: 0\n", "")
    made = outputs(module, topology_file=str(topology_with(tmp_path, unknown)))
    assert made["sizing"]["weights_gib"]["mine-7b"] is None
    assert made["node"]["disks"]["model_cache_gib"] == 150


def test_a_replica_is_counted_as_the_manifests_request_it(module: Path) -> None:
    hardware = yaml.safe_load(HARDWARE.read_text(encoding="utf-8"))["gpu"]
    requests = requests_of({"containers": [{"resources": hardware["resources"]}]})
    sizing = outputs(module)["sizing"]
    assert sizing["replica_vcpus"] == requests["cpu"]
    assert sizing["replica_memory_gib"] * GIB == requests["memory"]


def test_k3s_is_a_version_that_the_manifests_are_for(module: Path) -> None:
    script = outputs(module)["node"]["startup_script"]
    assert any(f"K3S='v{version}." in script for version in SUPPORTED_VERSIONS)


def test_nothing_secret_is_asked_for_or_put_on_the_node(module: Path) -> None:
    made = outputs(module)
    assert "token" not in str(made).lower()
    assert not any("token" in name for name, _ in named(parsed(NODE_CONFIG), "variable"))


def test_the_guide_says_what_nodes_cost_and_how_a_refusal_reads(module: Path) -> None:
    guide = " ".join((TERRAFORM.parent / "docs/how-to/gcp.md").read_text(encoding="utf-8").split())
    # Of the models that it names, so that another one in the file changes nothing.
    values: dict[str, Any] = {"topology_file": str(TOPOLOGY)}
    node = outputs(module, **values, models=["llama-3.1-8b", "qwen2.5-7b", "mistral-7b"])["cost"]
    values |= {"runtime": "compose", "gpu": "h100"}
    models = ["llama-3.1-8b", "qwen2.5-7b", "mixtral-8x7b"]
    compose = outputs(module, **values, models=models)["cost"]
    for cost in (node["per_hour"], node["until_deleted"], compose["per_hour"]):
        assert f"{cost} USD" in guide
    assert f"{node['model_cache_per_month']} USD a month" in guide
    mixtral = str(module / "tests/mixtral.yaml")
    said = refusal(module, topology_file=mixtral)
    start = said.index("Does not fit a GPU")
    assert said[start : said.index(" Give the model", start)] in guide
