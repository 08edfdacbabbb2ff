"""Every overlay, as kubectl builds it: valid, within the policies, and as the topology says."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.config.topology import Arm, Hardware, load_topology
from bench.environments.cpu_engine import ENGINE_VARIABLES
from bench.environments.kubernetes.load_pods import load_objects
from bench.environments.kubernetes.manifests.overlay import overlay_path
from bench.environments.kubernetes.nodes import pod_requests
from bench.environments.kubernetes.objects import Object, deployment_name, namespace_of, object_name
from bench.paths import suite_version
from lb.options import make_parser
from tests.k8s.built import (
    APPLIED,
    OVERLAYS,
    applied,
    containers,
    find,
    name,
    need_kubectl,
    of_kind,
    pods,
    schema_errors,
)
from tests.k8s.policies import problems

pytestmark = pytest.mark.slow

TOPOLOGY = load_topology()
VERSION = suite_version()
HARDWARE: Sequence[Hardware] = ("cpu", "gpu")
BALANCED = [arm for arm in TOPOLOGY.arms.values() if arm.kubernetes == "balancer"]


def engines(objects: Sequence[Object]) -> list[Object]:
    return [one for one in of_kind(objects, "Deployment") if name(one).startswith("engine-")]


def only_container(objects: Sequence[Object], deployment: str) -> Object:
    (one,) = containers(find(objects, "Deployment", deployment)["spec"]["template"])
    return one


def of_arm(arm: Arm, hardware: Hardware) -> list[Object]:
    return applied(str(overlay_path(arm, hardware)))


@pytest.mark.parametrize("path", APPLIED)
def test_every_supported_version_knows_every_field(path: str) -> None:
    assert not schema_errors(applied(path))


@pytest.mark.parametrize("path", APPLIED)
def test_the_policies_hold(path: str) -> None:
    assert not problems(applied(path))


def test_a_field_that_no_version_knows_is_refused() -> None:
    objects = applied("overlays/managed")
    find(objects, "Service", "balancer")["spec"]["sticky"] = True
    errors = schema_errors(objects)
    assert [error.split(":")[0] for error in errors] == [
        *("1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
    ]
    assert all("'sticky' was unexpected" in error for error in errors)


def test_there_is_an_overlay_for_each_arm_and_each_hardware() -> None:
    arms = TOPOLOGY.arms.values()
    paths = {str(overlay_path(arm, hardware)) for arm in arms for hardware in HARDWARE}
    assert paths == set(OVERLAYS)


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("arm", TOPOLOGY.arms.values(), ids=lambda arm: arm.name)
def test_an_overlay_has_the_engines_of_the_topology(arm: Arm, hardware: Hardware) -> None:
    objects = of_arm(arm, hardware)
    (space,) = of_kind(objects, "Namespace")
    assert name(space) == namespace_of(arm)
    models = TOPOLOGY.models_for(hardware, "k8s")
    assert {name(one): one["spec"]["replicas"] for one in engines(objects)} == {
        deployment_name(model.name): model.replicas for model in models
    }
    for model in models:
        service = find(objects, "Service", object_name(model.name))
        assert service["spec"]["selector"]["llm-bench/model"] == model.name
        arguments = only_container(objects, deployment_name(model.name))["args"]
        assert arguments[arguments.index("--served-model-name") + 1] == model.name
    assert len(of_kind(objects, "Service")) == len(models) + (2 if arm in BALANCED else 1)


@pytest.mark.parametrize("hardware", HARDWARE)
def test_where_kube_proxy_balances_there_is_no_balancer(hardware: Hardware) -> None:
    objects = of_arm(TOPOLOGY.arm("baseline"), hardware)
    assert of_kind(objects, "Deployment") == engines(objects)
    assert not of_kind(objects, "Role")


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("arm", BALANCED, ids=lambda arm: arm.name)
def test_two_balancers_run_with_the_policy_and_the_options_of_the_arm(
    arm: Arm, hardware: Hardware
) -> None:
    objects = of_arm(arm, hardware)
    balancer = only_container(objects, "balancer")
    assert balancer["image"] == f"llm-bench-lb:{VERSION}"
    assert find(objects, "Deployment", "balancer")["spec"]["replicas"] == 2
    discovery = "--endpoints-kubernetes=engines"
    assert balancer["args"].count(discovery) == 1
    rest = [one for one in balancer["args"] if one != discovery]
    options = make_parser().parse_args(rest)
    assert options.policy == arm.policy
    assert tuple(balancer["args"][-len(arm.options) :]) == arm.options or not arm.options
    assert options.port == balancer["ports"][0]["containerPort"]


@pytest.mark.parametrize("path", OVERLAYS)
def test_a_balancer_may_read_endpoint_slices_of_its_namespace_and_nothing_else(path: str) -> None:
    objects = applied(path)
    for role in of_kind(objects, "Role"):
        assert role["rules"] == [
            {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "verbs": ["list", "watch"],
            }
        ]
    assert [name(one) for one in of_kind(objects, "RoleBinding")] == [
        name(one) for one in of_kind(objects, "Role")
    ]


@pytest.mark.parametrize("arm", TOPOLOGY.arms.values(), ids=lambda arm: arm.name)
def test_only_an_arm_with_kvcached_gets_it_and_all_run_one_version_of_vllm(arm: Arm) -> None:
    for engine in engines(of_arm(arm, "gpu")):
        (one,) = containers(engine["spec"]["template"])
        variables = {variable["name"] for variable in one["env"]}
        assert ("ENABLE_KVCACHED" in variables) is arm.kvcached
        assert ("kvcached" in one["image"]) is arm.kvcached
        assert one["image"].endswith("v0.30.0")


def test_each_engine_with_kvcached_has_a_name_of_its_own_and_the_memory_of_the_baseline() -> None:
    share = f"{TOPOLOGY.gpu_engine.gpu_memory_utilization:g}"
    for engine in engines(of_arm(TOPOLOGY.arm("managed"), "gpu")):
        (one,) = containers(engine["spec"]["template"])
        variables = {variable["name"]: variable for variable in one["env"]}
        source = variables["KVCACHED_IPC_NAME"]["valueFrom"]["fieldRef"]["fieldPath"]
        assert source == "metadata.name"
        assert variables["KVCACHED_GPU_UTILIZATION"]["value"] == share
        assert one["args"][one["args"].index("--gpu-memory-utilization") + 1] == share


@pytest.mark.parametrize("arm", TOPOLOGY.arms.values(), ids=lambda arm: arm.name)
def test_engines_on_cpus_never_have_kvcached_nor_a_token(arm: Arm) -> None:
    for engine in engines(of_arm(arm, "cpu")):
        (one,) = containers(engine["spec"]["template"])
        variables = {variable["name"]: variable["value"] for variable in one["env"]}
        assert variables.items() >= ENGINE_VARIABLES.items()
        assert not {key for key in variables if "KVCACHED" in key or key.endswith("_TOKEN")}


@pytest.mark.parametrize("path", OVERLAYS)
def test_an_engine_has_twenty_minutes_to_start_and_shared_memory(path: str) -> None:
    for engine in engines(applied(path)):
        (one,) = containers(engine["spec"]["template"])
        probe = one["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] == 20 * 60
        assert engine["spec"]["progressDeadlineSeconds"] > 20 * 60
        mounts = {mount["mountPath"]: mount["name"] for mount in one["volumeMounts"]}
        volumes = {one["name"]: one for one in engine["spec"]["template"]["spec"]["volumes"]}
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"


def test_six_tiny_engines_fit_a_laptop() -> None:
    asked = [
        one["resources"]["requests"]
        for _, template in pods(applied("overlays/cpu/managed"))
        for one in containers(template)
    ]
    assert {one["cpu"] for one in asked} == {"250m", "100m"}
    assert {one["memory"] for one in asked} == {"1280Mi", "128Mi"}


def test_engines_on_gpus_reach_the_hub_and_no_address_that_is_not_public() -> None:
    policy = find(applied("overlays/managed"), "NetworkPolicy", "engines-to-hub")
    (rule,) = policy["spec"]["egress"]
    assert rule["ports"] == [{"port": 443}]
    v4, v6 = (one["ipBlock"] for one in rule["to"])
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(v4["except"])
    assert {"fc00::/7", "fe80::/10"} == set(v6["except"])
    assert "engines-to-hub" not in map(name, applied("overlays/cpu/managed"))


def test_load_has_a_namespace_that_nothing_reaches() -> None:
    objects = applied("load")
    (space,) = of_kind(objects, "Namespace")
    assert name(space) == "llm-bench"
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for policy in of_kind(objects, "NetworkPolicy"):
        assert policy["spec"]["podSelector"] == {}
        assert policy["spec"]["policyTypes"][-1] == "Egress"
        assert "ingress" not in policy["spec"]


def test_load_is_of_the_suites_version_and_what_is_lost_of_it_is_not_replaced() -> None:
    job = find(applied("load"), "Job", "load")
    (container,) = containers(job["spec"]["template"])
    assert container["image"] == f"llm-bench:{VERSION}"
    for one in (job, job["spec"]["template"]):
        assert one["metadata"]["labels"]["app.kubernetes.io/version"] == VERSION
    assert job["spec"]["backoffLimitPerIndex"] == 0
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert job["spec"]["activeDeadlineSeconds"] > 0 < job["spec"]["ttlSecondsAfterFinished"]


def test_as_many_pods_send_load_as_are_asked_for() -> None:
    need_kubectl()
    objects = load_objects(3)
    spec = find(objects, "Job", "load")["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert not schema_errors(objects)
    assert len(pod_requests(objects)) == 3
