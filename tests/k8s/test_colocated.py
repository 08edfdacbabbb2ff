"""Engines that share GPUs on Kubernetes: what is generated, deployed, and said of each engine."""

from __future__ import annotations

import io
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli.commands import main
from bench.config.fitting import MOST_COLOCATED, require_fit
from bench.config.memory import equal_share
from bench.config.topology import (
    GpuEngineEntry,
    HardwareEntry,
    Model,
    Topology,
)
from bench.environments.containers.colocated import LAUNCHER, engine_lines, ports_of
from bench.environments.containers.engine import PORT
from bench.environments.containers.files import write_files
from bench.environments.kubernetes import deploying
from bench.environments.kubernetes.access import Access
from bench.environments.kubernetes.deploying import DeployedArm
from bench.environments.kubernetes.environment import KubernetesEnvironment
from bench.environments.kubernetes.load_pods import load_objects
from bench.environments.kubernetes.manifests.files import K8S, manifest_files
from bench.environments.kubernetes.objects import Object, Resource
from bench.environments.kubernetes.operations import KubernetesOperations
from bench.errors import UserError
from bench.progress import PlainProgress
from lb.discovery.kubernetes import Service, parse_service
from lb.version import version
from tests.bench.colocating import colocated_topology
from tests.k8s.built import build, containers, find, of_kind, schema_errors
from tests.k8s.policies import problems
from tests.k8s.scripted_cluster import Cluster
from tests.terraform.running import EXAMPLE

H100 = HardwareEntry("NVIDIA H100 80GB", 8, 79.6)
SHIPPED = colocated_topology()
TOPOLOGY = replace(SHIPPED, hardware={"k8s": H100})
MODELS = TOPOLOGY.models_for("gpu", "k8s")
NAMES = {"llama-3.1-8b": 8000, "qwen2.5-7b": 8001, "mistral-7b": 8002}
ARMS = tuple(map(TOPOLOGY.arm, ("baseline", "managed", "simple")))
BASELINE, MANAGED, _ = ARMS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`k8s/` for nodes on whose GPUs all models fit."""
    made = shutil.copytree(K8S, tmp_path_factory.mktemp("own") / "k8s")
    write_files(made, manifest_files(TOPOLOGY, version()))
    return made


@pytest.fixture(autouse=True)
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "K8S", folder)


def objects_of(folder: Path, arm: str) -> list[Object]:
    return build(folder / "overlays/colocated" / arm)


def engine_of(objects: Sequence[Object]) -> Object:
    (one,) = containers(find(objects, "Deployment", "engine-colocated")["spec"]["template"])
    return one


@pytest.mark.parametrize("arm", [arm.name for arm in ARMS])
def test_an_overlay_is_valid_and_within_the_policies(folder: Path, arm: str) -> None:
    objects = objects_of(folder, arm)
    assert not schema_errors(objects)
    assert not problems(objects)


def test_a_pod_has_a_gpu_and_an_engine_of_every_model(folder: Path) -> None:
    objects = objects_of(folder, "managed")
    (deployment,) = [
        one for one in of_kind(objects, "Deployment") if one["metadata"]["name"] != "balancer"
    ]
    assert deployment["spec"]["replicas"] == 2
    engine = engine_of(objects)
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert ports_of(engine["args"]) == NAMES
    assert [one["containerPort"] for one in engine["ports"]] == list(NAMES.values())
    assert find(objects, "ConfigMap", "engine-launcher")["data"] == {
        "launcher.py": LAUNCHER.read_text()
    }
    (shm,) = [
        one for one in deployment["spec"]["template"]["spec"]["volumes"] if one["name"] == "shm"
    ]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "6Gi"}


def test_each_model_has_a_service_that_leads_to_its_engine(folder: Path) -> None:
    objects = objects_of(folder, "baseline")
    for service, port in (("llama-3-1-8b", 8000), ("qwen2-5-7b", 8001), ("mistral-7b", 8002)):
        (opened,) = find(objects, "Service", service)["spec"]["ports"]
        assert (opened["port"], opened["targetPort"]) == (8000, port)


def test_a_balancer_finds_every_engine_of_a_pod(folder: Path) -> None:
    deployment = find(objects_of(folder, "managed"), "Deployment", "balancer")
    (balancer,) = containers(deployment["spec"]["template"])
    (finding,) = [one for one in balancer["args"] if one.startswith("--endpoints-kubernetes=")]
    wanted = Service("managed", "engines", tuple(NAMES.values()))
    assert parse_service(finding.partition("=")[2], lambda: "managed") == wanted
    assert balancer["args"][-3:] == ["--policy", "cache-aware", "--late-binding"]


def flag(line: str, name: str) -> str:
    words = shlex.split(line)
    return words[words.index(name) + 1]


def without_memory(line: str) -> list[str]:
    """A line without what differs by design: how much memory, and KVCached's name."""
    words = [word for word in shlex.split(line) if not word.startswith("KVCACHED_")]
    at = words.index("--gpu-memory-utilization")
    return [word for word in (*words[:at], *words[at + 2 :]) if word != "env"]


names = st.from_regex(r"[a-z]([A-Za-z0-9._-]{0,10}[a-z0-9])?", fullmatch=True)


@given(
    st.lists(names, min_size=2, max_size=8, unique_by=lambda name: name.lower()),
    st.floats(0.05, 1),
)
def test_arms_differ_in_memory_alone_and_kvcached_has_all_of_it(
    listed: list[str], utilization: float
) -> None:
    models = [Model(name, hub="org/x", gpus=1) for name in listed]
    engine = GpuEngineEntry(gpu_memory_utilization=utilization)
    topology = Topology({}, {}, gpu_engine=engine, layout="colocated")
    static = engine_lines(models, topology, kvcached=False)
    elastic = engine_lines(models, topology, kvcached=True)
    assert list(map(without_memory, static)) == list(map(without_memory, elastic))
    assert len(set(ports_of(static).values())) == len(models)
    share = f"{equal_share(utilization, len(models)):g}"
    assert {flag(line, "--gpu-memory-utilization") for line in static} == {share}
    whole = f"{utilization:g}"
    assert {flag(line, "--gpu-memory-utilization") for line in elastic} == {whole}
    for line in (*static, *elastic):
        assert "--no-enable-prefix-caching" in shlex.split(line)


def test_every_engine_with_kvcached_has_a_name_of_its_own(folder: Path) -> None:
    engine = engine_of(objects_of(folder, "managed"))
    given = [
        word.partition("=")[2]
        for line in engine["args"]
        for word in shlex.split(line)
        if word.startswith("KVCACHED_IPC_NAME=")
    ]
    assert given == ["llama_3_1_8b", "qwen2_5_7b", "mistral_7b"]
    variables = {one["name"]: one.get("value") for one in engine["env"]}
    assert variables["ENABLE_KVCACHED"] == "true"
    assert "KVCACHED_IPC_NAME" not in variables
    assert engine["image"].startswith("ghcr.io/ovg-project/kvcached-vllm:")
    plain = engine_of(objects_of(folder, "simple"))
    assert "KVCACHED" not in f"{plain}"


def test_policies_open_a_port_for_each_of_the_most_engines(folder: Path) -> None:
    opened = [
        port
        for policy in of_kind([*objects_of(folder, "managed"), *load_objects(1)], "NetworkPolicy")
        for rule in (*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ()))
        for port in rule["ports"]
        if port["port"] == PORT
    ]
    assert [port["endPort"] for port in opened] == [PORT + MOST_COLOCATED - 1] * 3
    many = tuple(Model(f"m{index}", hub="a/b", gpus=1) for index in range(MOST_COLOCATED + 1))
    with pytest.raises(UserError, match="layout colocated has at most 16 models, seen 17"):
        require_fit(TOPOLOGY, many, "k8s")


def test_where_models_do_not_fit_there_are_no_files_and_manifests_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not [path for path in manifest_files(SHIPPED, "1") if "colocated" in path.parts]
    shutil.copytree(K8S, tmp_path / "k8s")
    typed = ["manifests", "--topology", str(EXAMPLE), "--folder", str(tmp_path)]
    assert main(typed) == 0
    said = capsys.readouterr().out
    assert "no files for layout colocated: environment k8s: layout colocated does not fit" in said
    own = tmp_path / "topology.yaml"
    own.write_text(EXAMPLE.read_text().replace("22.4}", "80.0}"))
    assert main(["manifests", "--topology", str(own), "--folder", str(tmp_path)]) == 0
    assert "no files" not in capsys.readouterr().out
    assert (tmp_path / "k8s/overlays/colocated/managed/kustomization.yaml").is_file()


def test_some_of_the_models_cannot_be_had_alone(folder: Path) -> None:
    assert DeployedArm(BASELINE, MODELS, "colocated").deployments == ("engine-colocated",)
    assert DeployedArm(BASELINE, MODELS, "colocated").objects()
    with pytest.raises(UserError, match=r"in a pod: llama-3.1-8b, qwen2.5-7b, mistral-7b; leave"):
        DeployedArm(BASELINE, MODELS[:2], "colocated").objects()


# What is deployed, in a cluster in memory.


@pytest.fixture
def operations(access: Access, said: io.StringIO) -> KubernetesOperations:
    return KubernetesOperations(access, TOPOLOGY, PlainProgress(said), timeout_s=10.0)


@pytest.fixture
def environment(
    cluster: Cluster, access: Access, said: io.StringIO, tmp_path: Path
) -> Iterator[KubernetesEnvironment]:
    progress = PlainProgress(said)
    one = KubernetesEnvironment(
        access, [BASELINE], tmp_path, progress, topology=SHIPPED, timeout_s=10.0
    )
    cluster.cores = 100
    one.start(MODELS)
    yield one
    one.stop()


def test_every_engine_of_a_pod_is_a_replica(environment: KubernetesEnvironment) -> None:
    found = environment.replicas(BASELINE)
    assert len({one.name for one in found}) == 6
    for one in found:
        assert one.url == f"http://10.0.0.1:{NAMES[one.model]}"
        assert one.name.endswith(f":{NAMES[one.model]}")


def test_every_engine_of_a_pod_is_looked_at_by_its_own_lines(
    cluster: Cluster, environment: KubernetesEnvironment
) -> None:
    cluster.log = "[llama-3.1-8b] one\n[qwen2.5-7b] two\n"
    consoles = environment._consoles("baseline")
    assert len({one.engine for one in consoles}) == 6
    assert {one.model: one.port for one in consoles} == NAMES
    assert {one.ipc for one in consoles} == {"llama_3_1_8b", "qwen2_5_7b", "mistral_7b"}
    lines = {one.model: list(one.log()) for one in consoles}
    assert lines == {"llama-3.1-8b": ["one"], "qwen2.5-7b": ["two"], "mistral-7b": []}


def test_memory_is_read_in_each_pod_once(environment: KubernetesEnvironment) -> None:
    """Where there is no GPU, as here, that is what is said of it."""
    with environment.memory(BASELINE) as watch:
        pass
    series = watch.since(0.0)
    assert sorted(one.place for one in series) == sorted(
        {one.place for one in environment._consoles("baseline")}
    )
    assert len(series) == 2
    for one in series:
        error = one.readings[0].error or ""
        assert "in place of the memory of GPUs" in error or error.startswith("nvidia-smi")


def test_a_replica_that_was_restarted_is_said_with_the_engine_that_ended(
    cluster: Cluster, environment: KubernetesEnvironment
) -> None:
    cluster.log = "[qwen2.5-7b] ValueError: no\n[launcher] qwen2.5-7b ended with exit code 1, so"
    (path, pod), *_ = [one for one in cluster.objects.items() if "/pods/engine-" in one[0]]
    status = [{**pod["status"]["containerStatuses"][0], "restartCount": 1}]
    pod["status"] = {**pod["status"], "containerStatuses": status}
    (dead,) = environment.dead_replicas()
    name = path.rpartition("/")[2]
    assert dead == (
        f"{name} in namespace baseline was restarted after the end of qwen2.5-7b; see "
        f"kubectl -n baseline logs {name} --previous"
    )


def test_every_engine_is_a_row_that_is_asked_at_its_port_and_has_its_own_lines(
    cluster: Cluster, operations: KubernetesOperations
) -> None:
    operations.deploy([BASELINE, MANAGED], MODELS, keep=False)
    rows = [one for one in operations.services(None) if one.kind == "engine"]
    assert len(rows) == 12
    assert {(one.model, one.kvcached) for one in rows} == {
        (name, kvcached) for name in NAMES for kvcached in (False, True)
    }
    cluster.served = {"/health": "ok"}
    cluster.log = "[llama-3.1-8b] one\n[qwen2.5-7b] two\n[launcher] three\n[qwen2.5-7b] [x] four"
    for one in rows:
        assert operations.fetch(one, "/health") == b"ok"
    lines = {one.model: list(operations.logs(one, None, follow=False)) for one in rows}
    assert lines == {"llama-3.1-8b": ["one"], "qwen2.5-7b": ["two", "[x] four"], "mistral-7b": []}


def test_another_layout_takes_the_place_of_the_one_before(
    cluster: Cluster, operations: KubernetesOperations
) -> None:
    operations.deploy([BASELINE], MODELS, keep=False)
    assert cluster.names("deployments") == ["engine-colocated"]
    dedicated = replace(TOPOLOGY, layout="dedicated")
    replaced = KubernetesOperations(
        operations._access, dedicated, PlainProgress(io.StringIO()), timeout_s=10.0
    )
    replaced.deploy([BASELINE], MODELS, keep=False)
    wanted = ["engine-llama-3-1-8b", "engine-mistral-7b", "engine-qwen2-5-7b"]
    assert cluster.names("deployments") == wanted
    assert not [name for name in cluster.names("pods") if "colocated" in name]
    operations.deploy([BASELINE], MODELS, keep=False)
    assert cluster.names("deployments") == ["engine-colocated"]
    assert operations.teardown(None)
    assert not cluster.objects


def test_a_pod_without_arguments_has_no_engines() -> None:
    assert Resource(metadata={"name": "x"}, spec={"containers": [{}]}).engines == {}
