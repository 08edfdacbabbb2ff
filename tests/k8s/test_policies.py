"""Each policy finds what it is there to find: objects that are good, and then are not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest

from bench.environments.kubernetes.objects import Object
from tests.k8s import policies
from tests.k8s.built import applied, find
from tests.k8s.policies import POLICIES, Policy

ENGINE = "engine-qwen2-5-7b"
Spoil = Callable[[list[Object]], object]


def pod(objects: Sequence[Object], deployment: str = ENGINE) -> Object:
    template: Object = find(objects, "Deployment", deployment)["spec"]["template"]
    return template


def container(objects: Sequence[Object], deployment: str = ENGINE) -> Object:
    one: Object = pod(objects, deployment)["spec"]["containers"][0]
    return one


def drop(wanted: str, named: str) -> Spoil:
    return lambda objects: objects.remove(find(objects, wanted, named))


def set_in_pod(key: str, value: object) -> Spoil:
    return lambda objects: pod(objects)["spec"].__setitem__(key, value)


def set_in_container(key: str, value: object) -> Spoil:
    return lambda objects: container(objects).__setitem__(key, value)


def set_in(wanted: str, named: str, path: str, value: object) -> Spoil:
    def spoil(objects: list[Object]) -> None:
        *way, last = path.split(".")
        place = find(objects, wanted, named)
        for step in way:
            place = place[step]
        place[last] = value

    return spoil


def secure(**context: object) -> Spoil:
    return lambda objects: container(objects)["securityContext"].update(context)


BAD: Sequence[tuple[Policy, Spoil]] = [
    (policies.images_are_pinned, set_in_container("image", "vllm/vllm-openai:latest")),
    (policies.images_are_pinned, set_in_container("image", "registry:5000/vllm-openai")),
    (policies.resources_are_set, set_in_container("resources", {"requests": {"cpu": "1"}})),
    (
        policies.gpus_are_limited_as_requested,
        set_in_container("resources", {"requests": {}, "limits": {"nvidia.com/gpu": "1"}}),
    ),
    (policies.gpus_are_limited_as_requested, set_in_pod("tolerations", [])),
    (policies.no_privilege, set_in_pod("hostIPC", True)),
    (policies.no_privilege, set_in_pod("securityContext", {"runAsNonRoot": True, "runAsUser": 0})),
    (policies.no_privilege, secure(privileged=True)),
    (policies.no_privilege, secure(allowPrivilegeEscalation=True)),
    (policies.no_privilege, secure(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]})),
    (policies.no_privilege, secure(runAsUser=0)),
    (policies.root_file_system_is_read_only, secure(readOnlyRootFilesystem=False)),
    (
        policies.tokens_only_for_those_with_a_role,
        set_in_pod("automountServiceAccountToken", True),
    ),
    (policies.tokens_only_for_those_with_a_role, set_in_pod("serviceAccountName", "default")),
    (
        policies.tokens_only_for_those_with_a_role,
        set_in("ServiceAccount", "engine", "automountServiceAccountToken", True),
    ),
    (
        policies.roles_are_minimal,
        set_in("Role", "balancer", "rules", [{"apiGroups": [], "resources": ["*"], "verbs": []}]),
    ),
    (
        policies.roles_are_minimal,
        set_in("Role", "balancer", "rules", [{"apiGroups": [], "resources": [], "verbs": ["*"]}]),
    ),
    (policies.roles_are_minimal, set_in("Role", "balancer", "kind", "ClusterRole")),
    (
        policies.selectors_select,
        set_in("Service", "balancer", "spec.selector", {"app.kubernetes.io/component": "engin"}),
    ),
    (
        policies.selectors_select,
        set_in("NetworkPolicy", "engines", "spec.podSelector.matchLabels", {"a": "b"}),
    ),
    (
        policies.selectors_select,
        set_in(
            "Deployment",
            ENGINE,
            "spec.selector.matchLabels",
            {"app.kubernetes.io/component": "engine"},
        ),
    ),
    (
        policies.service_ports_are_open,
        set_in("Service", "balancer", "spec.ports", [{"port": 8081}]),
    ),
    (policies.probes_are_there, set_in_container("startupProbe", {})),
    (
        policies.probes_are_there,
        set_in_container("livenessProbe", {"httpGet": {"path": "/", "port": "admin"}}),
    ),
    (policies.each_deployment_has_a_budget, drop("PodDisruptionBudget", ENGINE)),
    (
        policies.each_deployment_has_a_budget,
        set_in("PodDisruptionBudget", "balancer", "spec.maxUnavailable", 0),
    ),
    (policies.pods_are_spread, set_in_pod("topologySpreadConstraints", [])),
    (policies.pods_end_in_peace, set_in_container("lifecycle", {})),
    (policies.pods_end_in_peace, set_in_pod("terminationGracePeriodSeconds", 30)),
    (policies.networks_are_closed, drop("NetworkPolicy", "default-deny")),
    (policies.networks_are_closed, set_in("NetworkPolicy", "engines", "spec.ingress", [{}])),
    (policies.networks_are_closed, set_in("NetworkPolicy", "dns", "spec.egress", [{}])),
    (
        policies.namespaces_are_as_strict_as_volumes_allow,
        set_in_pod("volumes", [{"name": "node", "hostPath": {"path": "/"}}]),
    ),
    (
        policies.namespaces_are_as_strict_as_volumes_allow,
        set_in("Namespace", "managed", "metadata.labels", {}),
    ),
    (policies.labels_are_complete, set_in("Service", "engines", "metadata.labels", {})),
    (
        policies.labels_are_complete,
        lambda objects: pod(objects)["metadata"]["labels"].pop("app.kubernetes.io/version"),
    ),
    (
        policies.labels_are_complete,
        lambda objects: find(objects, "Role", "balancer")["metadata"]["labels"].update(
            {"app.kubernetes.io/managed-by": "Helm"}
        ),
    ),
    (
        policies.names_are_unique,
        lambda objects: objects.append(copy.deepcopy(find(objects, "Service", "engines"))),
    ),
    (policies.names_are_unique, set_in("Service", "engines", "metadata.name", "qwen2.5-7b")),
    (
        policies.all_is_in_one_namespace,
        set_in("Service", "engines", "metadata.namespace", "default"),
    ),
    (policies.what_is_named_is_there, drop("PriorityClass", "llm-bench-managed")),
    (policies.what_is_named_is_there, set_in_container("volumeMounts", [])),
    (policies.what_is_named_is_there, drop("Role", "balancer")),
    (policies.what_is_named_is_there, set_in("RoleBinding", "balancer", "subjects", [{}])),
    (policies.services_do_not_set_variables, set_in_pod("enableServiceLinks", True)),
    (
        policies.secrets_are_not_written_down,
        set_in_container("env", [{"name": "HF_TOKEN", "value": "hf_x"}]),
    ),
    (policies.secrets_are_not_written_down, set_in("Service", "engines", "kind", "Secret")),
]


@pytest.mark.parametrize(
    ("policy", "spoil"), BAD, ids=[f"{policy.__name__}-{n}" for n, (policy, _) in enumerate(BAD)]
)
def test_what_is_not_allowed_is_found(policy: Policy, spoil: Spoil) -> None:
    objects = applied("overlays/managed")
    assert not list(policy(objects))
    spoil(objects)
    assert list(policy(objects))


def test_every_policy_is_shown_to_be_able_to_fail() -> None:
    assert {policy for policy, _ in BAD} == set(POLICIES)
