"""What is generated under `k8s/`: it follows the topology, whatever that says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cli.commands import main
from bench.config.topology import (
    DEFAULT_TOPOLOGY,
    Arm,
    EngineEntry,
    GpuEngineEntry,
    Model,
    Topology,
    load_topology,
)
from bench.environments.containers.engine import arguments
from bench.environments.containers.files import first_difference, write_files
from bench.environments.cpu_engine import engine_arguments
from bench.environments.cpu_engine.models import model_folder
from bench.environments.kubernetes.manifests.files import K8S, manifest_files
from bench.environments.kubernetes.manifests.overlay import overlay_path
from bench.environments.kubernetes.objects import LONGEST, RESERVED, object_name
from bench.errors import UserError
from lb.version import version
from tests.k8s.built import build, find, name, of_kind, schema_errors
from tests.k8s.policies import problems

pytestmark = pytest.mark.slow

TOPOLOGY = load_topology()
ARM = Arm("simple", 8080, "round-robin", None)
FIRST_LINE = "# Made from bench/topology.yaml by `python -m bench manifests`: change it there.\n"


def hub(model: str, replicas: int = 2, gpus: int = 1) -> Model:
    return Model(model, None, None, None, replicas, hub="org/weights", gpus=gpus)


def tiny(model: str, replicas: int = 2) -> Model:
    return Model(model, "llama", None, None, replicas)


def topology(*models: Model, arms: tuple[Arm, ...] = (ARM,)) -> Topology:
    return Topology(
        {model.name: model for model in models}, {arm.name: arm for arm in arms}, EngineEntry()
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(K8S, tmp_path / "k8s"))


def test_what_is_checked_in_follows_the_topology() -> None:
    assert main(["manifests", "--check"]) == 0


def test_every_generated_file_says_so_in_its_first_line() -> None:
    files = manifest_files(TOPOLOGY, "1")
    assert all((K8S / path).read_text().startswith(FIRST_LINE) for path in files)


def test_a_file_that_was_changed_by_hand_is_named(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copied / "engines/gpu/qwen2-5-7b.yaml"
    file.write_text(file.read_text().replace("replicas: 2", "replicas: 3"))
    check = ["manifests", "--check", "--folder", str(copied.parent)]
    assert main(check) == 1
    assert capsys.readouterr().err == (
        f"{file} differs from the topology; run python -m bench manifests\n"
    )
    assert main(check[:1] + check[2:]) == 0
    assert main(check) == 0


def test_a_file_that_is_missing_or_left_over_is_named_and_mended(copied: Path) -> None:
    files = manifest_files(TOPOLOGY, version())
    missing, left = copied / "engines/cpu/tiny-qwen.yaml", copied / "overlays/gone/x.yaml"
    missing.unlink()
    assert first_difference(copied, files) == f"{missing} is missing"
    left.parent.mkdir()
    left.write_text(FIRST_LINE)
    write_files(copied, files)
    assert not left.parent.exists()
    left.parent.mkdir()
    left.write_text(FIRST_LINE)
    assert first_difference(copied, files) == f"{left} belongs to nothing in the topology"


def test_files_that_people_write_are_left_alone(copied: Path) -> None:
    own = copied / "overlays/mine/kustomization.yaml"
    own.parent.mkdir()
    own.write_text("resources: [../managed]\n")
    write_files(copied, manifest_files(TOPOLOGY, version()))
    assert own.exists()
    assert first_difference(copied, manifest_files(TOPOLOGY, version())) is None


def test_adding_a_model_is_one_entry_and_one_command(tmp_path: Path, copied: Path) -> None:
    text = DEFAULT_TOPOLOGY.read_text(encoding="utf-8")
    entry = (
        "models:\n  phi-4.mini:\n    hub: microsoft/Phi-4-mini-instruct\n    replicas: 1\n"
        "    environments: [k8s]\n"
    )
    own = tmp_path / "topology.yaml"
    text = text.replace("gpus: 8,", "gpus: 800,")  # room for it, whatever models there are
    own.write_text(text.replace("models:\n", entry, 1), encoding="utf-8")
    assert main(["manifests", "--topology", str(own), "--folder", str(copied.parent)]) == 0
    for path in ("overlays/baseline", "overlays/managed"):
        objects = build(copied / path)
        assert not schema_errors(objects)
        assert not problems(objects)
        assert find(objects, "Deployment", "engine-phi-4-mini")["spec"]["replicas"] == 1
        assert find(objects, "Service", "phi-4-mini")
    assert "phi-4-mini" not in map(name, build(copied / "overlays/cpu/managed"))


def test_adding_an_arm_is_one_entry_and_one_command(copied: Path) -> None:
    options = ("--max-in-flight", "5")
    arm = Arm("my.arm", 9000, "power-of-two", None, options, kvcached=True)
    with_it = replace(TOPOLOGY, arms={**TOPOLOGY.arms, arm.name: arm})
    write_files(copied, manifest_files(with_it, version()))
    objects = build(copied / overlay_path(arm, "gpu"))
    assert not problems(objects)
    balancer = find(objects, "Deployment", "balancer")["spec"]["template"]["spec"]["containers"][0]
    assert balancer["args"][-4:] == ["--policy", "power-of-two", *options]


legal_names = st.from_regex(r"[A-Za-z]([A-Za-z0-9._-]{0,54}[A-Za-z0-9])?", fullmatch=True).filter(
    lambda text: text.lower() not in RESERVED
)
models = st.lists(
    st.builds(
        lambda text, replicas, gpus: hub(text, replicas, gpus) if gpus else tiny(text, replicas),
        legal_names,
        st.integers(1, 64),
        st.integers(0, 8),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda model: object_name(model.name),
)


@settings(max_examples=20)
@given(models)
def test_any_legal_topology_gives_valid_objects(listed: list[Model]) -> None:
    files = manifest_files(topology(*listed), "1.2.3")
    made = [
        one
        for path, text in files.items()
        if path.parts[0] == "engines" and path.parts[1] != "colocated"
        for one in yaml.safe_load_all(text)
        if one["kind"] != "Kustomization"
    ]
    assert not schema_errors(made)
    assert len({(one["kind"], name(one)) for one in made}) == 3 * len(listed)
    assert {
        (one["metadata"]["labels"]["llm-bench/model"], one["spec"]["replicas"])
        for one in of_kind(made, "Deployment")
    } == {(model.name, model.replicas) for model in listed}


@settings(max_examples=5)
@given(models)
def test_any_legal_topology_gives_overlays_within_the_policies(
    tmp_path_factory: pytest.TempPathFactory, listed: list[Model]
) -> None:
    folder = tmp_path_factory.mktemp("k8s")
    shutil.copytree(K8S, folder, dirs_exist_ok=True)
    write_files(folder, manifest_files(topology(*listed), "1.2.3"))
    for hardware in {model.hardware for model in listed}:
        objects = build(folder / overlay_path(ARM, hardware))
        assert not schema_errors(objects)
        assert not problems(objects)


def test_the_same_topology_gives_the_same_text() -> None:
    assert manifest_files(TOPOLOGY, "1") == manifest_files(load_topology(), "1")


@pytest.mark.parametrize(
    ("written", "made"),
    [("llama-3.1-8b", "llama-3-1-8b"), ("Qwen_2", "qwen-2"), ("a", "a"), ("a" * 56, "a" * 56)],
)
def test_names_become_those_of_kubernetes(written: str, made: str) -> None:
    assert object_name(written) == made


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("3-llama", "'3-llama' cannot be a name on Kubernetes"),
        ("org/llama", "'org/llama' cannot be a name on Kubernetes"),
        ("llama-", "'llama-' cannot be a name on Kubernetes"),
        ("a" * (LONGEST + 1), "at most 56 letters"),
        ("Engines", "'Engines' is taken on Kubernetes"),
        ("balancer", "'balancer' is taken on Kubernetes"),
        ("kustomization", "'kustomization' is taken on Kubernetes"),
    ],
)
def test_a_name_that_kubernetes_cannot_have_is_one_line(written: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        manifest_files(topology(tiny(written)), "1")
    assert "\n" not in str(caught.value)


def test_names_that_kubernetes_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(UserError, match=r"'a\.b' and 'a-b' are both 'a-b' on Kubernetes"):
        manifest_files(topology(tiny("a.b"), tiny("a-b")), "1")


def test_an_arm_with_a_command_of_its_own_has_no_overlay() -> None:
    proxy = Arm("proxy", 8090, None, ("haproxy",))
    files = manifest_files(topology(tiny("m"), arms=(ARM, proxy)), "1")
    assert not [path for path in files if "proxy" in path.parts]
    with pytest.raises(UserError, match="arm 'proxy' has a command of its own"):
        overlay_path(proxy, "gpu")


def test_hardware_without_a_model_has_no_overlay() -> None:
    files = manifest_files(topology(hub("m")), "1")
    assert not [path for path in files if "cpu" in path.parts]


def test_an_engine_on_a_cpu_gets_the_arguments_of_environment_local(tmp_path: Path) -> None:
    for model in TOPOLOGY.models_for("cpu", "local"):
        here = engine_arguments(model, str(model_folder(model, tmp_path)), TOPOLOGY.engine)
        there = arguments(model, TOPOLOGY)
        assert there[2:] == here[2:]
        assert there[:2] == ("--model", f"/opt/models/{model.architecture}")


def test_a_folder_of_ones_own_is_mounted_read_only(tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path, dirs_exist_ok=True)
    own = Model("mine", None, Path("/weights/x"), None, 1)
    write_files(tmp_path, manifest_files(topology(own), version()))
    objects = build(tmp_path / overlay_path(ARM, "cpu"))
    pod = find(objects, "Deployment", "engine-mine")["spec"]["template"]["spec"]
    folder = {"path": "/weights/x", "type": "Directory"}
    assert {"name": "model", "hostPath": folder} in pod["volumes"]
    mount = {"name": "model", "mountPath": "/model", "readOnly": True}
    assert mount in pod["containers"][0]["volumeMounts"]
    assert pod["containers"][0]["args"][:2] == ["--model", "/model"]
    (space,) = of_kind(objects, "Namespace")
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_flags_of_engines_on_gpus_are_the_topologys() -> None:
    changed = replace(TOPOLOGY, gpu_engine=GpuEngineEntry(4096, 0.5, 64))
    typed = " ".join(arguments(hub("m", gpus=2), changed))
    assert typed == (
        "org/weights --served-model-name m --max-model-len 4096 --gpu-memory-utilization 0.5 "
        "--max-num-seqs 64 --tensor-parallel-size 2 --disable-uvicorn-access-log"
    )


def test_a_claim_may_stand_in_for_the_folder_of_the_nodes(copied: Path) -> None:
    own = copied / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text(
        "namespace: managed\n"
        "resources: [../overlays/managed]\n"
        "components: [../components/model-claim]\n"
    )
    objects = build(own)
    assert not schema_errors(objects)
    assert not problems(objects)
    assert find(objects, "PersistentVolumeClaim", "model-cache")
    (space,) = of_kind(objects, "Namespace")
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
