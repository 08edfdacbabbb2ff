"""Engine flags of an arm: which engines it gets from them, and what is refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.config.config import resolve, suite_facts
from bench.config.fitting import require_flags
from bench.config.options import Options
from bench.config.topology import (
    DEFAULT_TOPOLOGY,
    Arm,
    EngineFlags,
    Hardware,
    HardwareEntry,
    Layout,
    Topology,
    load_topology,
)
from bench.drivers.builtin import BuiltinDriver
from bench.environments.base import Target
from bench.environments.containers.engine import arguments, engine_group
from bench.environments.docker.compose import engine_service, plan_engines
from bench.environments.kubernetes.manifests.engine import engine_objects
from bench.environments.kubernetes.manifests.files import manifest_files
from bench.environments.kubernetes.manifests.overlay import overlay, overlay_path
from bench.environments.local.starting import plan_replicas
from bench.errors import UserError
from bench.experiment.capacity import IN_FLIGHT_PER_SEQUENCE, WARM_ROUNDS
from bench.records import Replica
from tests.bench.colocating import colocated_topology
from tests.bench.experimenting import MODEL, SITE, Served, answer, experiment, question
from tests.bench.load_source import Call, source

TOPOLOGY = load_topology()
BASELINE = TOPOLOGY.arm("baseline")
WIDE = replace(BASELINE, name="wide", port=9001, engine=EngineFlags(max_num_seqs=8))
FOLDERS = {name: Path("/nowhere") / name for name in TOPOLOGY.models}


def written(tmp_path: Path, **engine: object) -> Path:
    """The topology file with arm `wide`, whose engines have these flags."""
    data = yaml.safe_load(DEFAULT_TOPOLOGY.read_text(encoding="utf-8"))
    data["arms"]["wide"] = {"policy": "round-robin", "port": 9001, "engine": engine}
    file = tmp_path / "topology.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    return file


def options(
    tmp_path: Path, arms: tuple[str, ...] = ("baseline", "wide"), **engine: object
) -> Options:
    return Options(models=("tiny-llama",), arms=arms, topology=written(tmp_path, **engine))


def test_flags_of_an_arm_take_the_place_of_those_of_all(tmp_path: Path) -> None:
    topology = load_topology(written(tmp_path, max_num_seqs=8, kv_cache_mib=16))
    own = topology.for_arm(topology.arm("wide"))
    assert own.engine == replace(topology.engine, max_num_seqs=8, kv_cache_mib=16)
    assert own.gpu_engine == replace(topology.gpu_engine, max_num_seqs=8)
    assert topology.for_arm(topology.arm("baseline")) == topology


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"first_port": 9}, "arms.wide.engine.first_port"),
        ({"max_num_seqs": 0}, "arms.wide.engine.max_num_seqs"),
        ({"max_num_seqs": "8"}, "arms.wide.engine.max_num_seqs"),
    ],
)
def test_a_flag_that_cannot_differ_is_one_line(
    tmp_path: Path, engine: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_topology(written(tmp_path, **engine))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_load_of_all_arms_follows_the_control(tmp_path: Path) -> None:
    given = options(tmp_path, max_num_seqs=8)
    assert resolve(given, tmp_path, "run").max_num_seqs == 4
    turned = replace(given, arms=("wide", "baseline"))
    assert resolve(turned, tmp_path, "run").max_num_seqs == 8


def test_provenance_has_the_flags_where_an_arm_has_some(tmp_path: Path) -> None:
    config = resolve(options(tmp_path, max_num_seqs=8), tmp_path, "run")
    facts = suite_facts(config, ())
    assert facts["engine_flags_of_arms"] == {"baseline": {}, "wide": {"max_num_seqs": 8}}
    plain = resolve(Options(models=("tiny-llama",)), tmp_path, "run")
    assert "engine_flags_of_arms" not in suite_facts(plain, ())


def test_flags_that_engines_here_do_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="flag gpu_memory_utilization, which engines on a cpu do"):
        resolve(options(tmp_path, gpu_memory_utilization=0.5), tmp_path, "run")
    given = replace(options(tmp_path, max_num_seqs=8), env="external", models=("m",))
    with pytest.raises(UserError, match=r"wide has engine flags \(max_num_seqs\), and engines of"):
        resolve(replace(given, endpoints="http://a:1,http://b:1"), tmp_path, "run")


def test_engines_with_other_flags_are_others_on_the_same_cores() -> None:
    models = TOPOLOGY.select_models(["tiny-llama"], "cpu", "local")
    usual = plan_replicas(TOPOLOGY, models, FOLDERS, [0, 1])
    wide = plan_replicas(TOPOLOGY, models, FOLDERS, [0, 1], TOPOLOGY.for_arm(WIDE).engine)
    assert [one.name for one in wide] == [f"{one.name}-max_num_seqs-8" for one in usual]
    assert [one.core for one in wide] == [one.core for one in usual]
    for one, other in zip(wide, usual, strict=True):
        changed = [pair for pair in zip(other.argv, one.argv, strict=True) if len({*pair}) > 1]
        assert changed == [("4", "8")]


def test_in_containers_engines_with_other_flags_are_a_group_of_their_own() -> None:
    assert engine_group(BASELINE) == "baseline"
    assert engine_group(WIDE) == "baseline-max-num-seqs-8"
    small = replace(WIDE, kvcached=True, engine=EngineFlags(gpu_memory_utilization=0.31))
    assert engine_group(small) == "managed-gpu-memory-utilization-0-31"


@given(
    st.builds(
        EngineFlags,
        *(st.none() | st.sampled_from(sizes) for sizes in ([2048, 8192], [4, 256], [2, 3])),
        st.none() | st.sampled_from([0.5, 0.9]),
    ),
    st.sampled_from(["cpu", "gpu"]),
)
def test_flags_that_all_engines_have_change_nothing(flags: EngineFlags, hardware: Hardware) -> None:
    arm = replace(WIDE, engine=flags)
    own = TOPOLOGY.own_flags(arm, hardware)
    usual = TOPOLOGY.engine_on(hardware)
    assert TOPOLOGY.for_arm(own).engine_on(hardware) == TOPOLOGY.for_arm(arm).engine_on(hardware)
    assert not any(getattr(usual, name, None) == value for name, value in own.engine.given.items())


def test_the_group_of_engines_with_every_flag_is_a_name_on_kubernetes() -> None:
    flags = [EngineFlags(8192, 256, gpu_memory_utilization=share) for share in (0.31, 0.32)]
    groups = [engine_group(replace(WIDE, engine=one)) for one in flags]
    assert len(set(groups)) == 2
    for group in groups:
        assert re.fullmatch(r"baseline-max-model-len-8192-[a-z0-9-]*[a-z0-9]", group)
        assert len(group) <= 63


@pytest.mark.parametrize("hardware", ["cpu", "gpu"])
def test_containers_get_the_flags_by_their_one_template(hardware: str) -> None:
    own: Topology = TOPOLOGY.for_arm(WIDE)
    for plan in plan_engines(
        [one for one in TOPOLOGY.models.values() if one.hardware == hardware], 8001
    ):
        command = engine_service(plan, own, "1", kvcached=False)["command"]
        assert command[command.index("--max-num-seqs") + 1] == "8"


def test_an_overlay_gives_the_engines_of_each_model_the_flags() -> None:
    made = overlay(WIDE, "gpu", TOPOLOGY, node_folders=True, version="1")
    usual = overlay(BASELINE, "gpu", TOPOLOGY, node_folders=True, version="1")
    assert made["namespace"] == "baseline-max-num-seqs-8"
    patches = [one for one in made["patches"] if one["target"]["name"].startswith("engine-")]
    assert not [one for one in usual["patches"] if one["target"]["name"].startswith("engine-")]
    models = TOPOLOGY.models_for("gpu", "k8s")
    for model, patch in zip(models, patches, strict=True):
        deployment, *_ = engine_objects(model, TOPOLOGY, "1")
        assert patch["target"]["name"] == deployment["metadata"]["name"]
        (change,) = yaml.safe_load(patch["patch"])
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        place = int(change["path"].rpartition("/")[2])
        assert container["args"][place - 1 : place + 1] == ["--max-num-seqs", "256"]
        assert change["value"] == "8"
        assert list(arguments(model, TOPOLOGY.for_arm(WIDE)))[place] == "8"


SMALL = replace(WIDE, name="small", engine=EngineFlags(gpu_memory_utilization=0.31))


@pytest.mark.parametrize(
    ("arm", "layout", "refused"),
    [
        (SMALL, "dedicated", None),
        (WIDE, "dedicated", None),
        (replace(WIDE, kvcached=True), "dedicated", None),
        (replace(SMALL, kvcached=True), "dedicated", "small has gpu_memory_utilization of its"),
        (WIDE, "colocated", r"wide has engine flags \(max_num_seqs\), and with --env k8s and"),
        (SMALL, "colocated", r"flags \(gpu_memory_utilization\), and with --env k8s and --layout"),
        (replace(SMALL, kvcached=True), "colocated", "with --env k8s and --layout colocated all"),
        (BASELINE, "colocated", None),
    ],
)
def test_flags_that_engines_on_kubernetes_have_in_common_are_refused_and_have_no_overlay(
    arm: Arm, layout: Layout, refused: str | None
) -> None:
    require_flags([arm], "docker", "gpu", layout)
    with pytest.raises(UserError, match=refused) if refused else nullcontext():
        require_flags([arm], "k8s", "gpu", layout)
    node = HardwareEntry("NVIDIA H100", 8, 79.6)
    topology = replace(colocated_topology(), hardware={"k8s": node}, arms={arm.name: arm})
    path = overlay_path(arm, "gpu", layout) / "kustomization.yaml"
    assert (path in manifest_files(topology, "1")) is (refused is None)


def test_a_run_with_flags_in_layout_colocated_is_refused_on_kubernetes_alone(
    tmp_path: Path,
) -> None:
    large = yaml.safe_load(written(tmp_path, max_num_seqs=8).read_text(encoding="utf-8"))
    large["hardware"]["k8s"]["gpu_memory_gib"] = 79.6
    file = tmp_path / "large.yaml"
    file.write_text(yaml.safe_dump(large), encoding="utf-8")
    names = ("llama-3.1-8b", "qwen2.5-7b")
    given = Options(
        models=names, arms=("baseline", "wide"), topology=file, layout="colocated", hardware="gpu"
    )
    with pytest.raises(UserError, match="use --layout dedicated"):
        resolve(replace(given, env="k8s"), tmp_path, "run")
    assert resolve(replace(given, env="docker"), tmp_path, "run").arms["treatment"].engine.given
    assert resolve(replace(given, env="k8s", layout="dedicated"), tmp_path, "run")


class TwoGroups(Served):
    """An environment in which arm `wide` has a replica of its own."""

    wide_url = "http://127.0.0.1:9"

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        usual = super().replicas(arm)
        if arm.name != "wide":
            return usual
        return (Replica(MODEL.name, "tiny-llama-0-wide", self.wide_url),)


def test_replicas_of_other_arms_are_warmed_unless_arms_take_turns() -> None:
    arms = {"control": BASELINE, "treatment": WIDE, "treatment-2": replace(WIDE, policy="random")}
    environment = TwoGroups("http://127.0.0.1:8", None)
    ((one,),) = environment.other_targets(arms)
    assert (one.name, one.url) == ("tiny-llama-0-wide", TwoGroups.wide_url)
    assert environment.other_targets({"control": BASELINE, "treatment": BASELINE}) == ()
    assert TwoGroups("", None, alternates=True).other_targets(arms) == ()


@pytest.mark.slow
def test_engines_of_other_arms_are_warmed_and_capacity_is_the_controls(tmp_path: Path) -> None:
    asked = Counter[str]()

    def counted(name: str) -> Callable[[Call], Awaitable[None]]:
        async def serve(call: Call) -> None:
            asked[name] += 1
            await answer(call)

        return serve

    with source(counted("control")) as control, source(counted("other")) as other:
        made = experiment(Served(control.url, None), BuiltinDriver(SITE), tmp_path)
        target = Target(MODEL.name, "other-0", other.url)
        calibration = replace(made.context.calibration, others=lambda: ((target,),))
        calibration.capacity(question().scenario.workload, question().models)
    assert asked["other"] == WARM_ROUNDS * IN_FLIGHT_PER_SEQUENCE
    assert asked["control"] > asked["other"]
