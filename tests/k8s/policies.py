"""What must hold for all objects of an overlay, beyond what a schema knows.

A policy is a function from objects to what is wrong with them, a line each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench.environments.kubernetes.objects import Object
from tests.k8s.built import containers, kind, name, of_kind, pods, templates

Policy = Callable[[Sequence[Object]], Iterator[str]]

CLUSTER_WIDE = {"Namespace", "PriorityClass"}
DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
RECOMMENDED = ("name", "instance", "component", "part-of", "managed-by")
NODE_FOLDERS = {"/mnt/model-cache/huggingface"}


def images_are_pinned(objects: Sequence[Object]) -> Iterator[str]:
    for owner, template in pods(objects):
        for one in containers(template):
            _, colon, tag = one["image"].rpartition("/")[2].partition(":")
            if not colon or tag == "latest":
                yield f"{owner}: image {one['image']} is not pinned"


def resources_are_set(objects: Sequence[Object]) -> Iterator[str]:
    for owner, template in pods(objects):
        for one in containers(template):
            for kind_ in ("requests", "limits"):
                for resource in ("cpu", "memory"):
                    if resource not in one.get("resources", {}).get(kind_, {}):
                        yield f"{owner}: {one['name']} {kind_} no {resource}"


def gpus_are_limited_as_requested(objects: Sequence[Object]) -> Iterator[str]:
    for owner, template in pods(objects):
        for one in containers(template):
            asked, limit = (
                one["resources"].get(kind_, {}).get("nvidia.com/gpu")
                for kind_ in ("requests", "limits")
            )
            if asked != limit:
                yield f"{owner}: requests {asked} GPUs, its limit is {limit}"
            tolerated = {one["key"] for one in template["spec"].get("tolerations", [])}
            if limit and "nvidia.com/gpu" not in tolerated:
                yield f"{owner}: nodes with GPUs are tainted, and it does not tolerate that"


def no_privilege(objects: Sequence[Object]) -> Iterator[str]:
    """What Pod Security Standard `restricted` asks, but for volumes."""
    for owner, template in pods(objects):
        pod = template["spec"]
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(key):
                yield f"{owner}: {key}"
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{owner}: may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{owner}: no seccomp profile"
        for one in containers(template):
            own = one.get("securityContext", {})
            if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
                yield f"{owner}: {one['name']} may gain privileges"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{owner}: {one['name']} has capabilities"
            if own.keys() & {"runAsUser", "runAsNonRoot", "seccompProfile"}:
                yield f"{owner}: {one['name']} is another user than its pod"


def root_file_system_is_read_only(objects: Sequence[Object]) -> Iterator[str]:
    for owner, template in pods(objects):
        for one in containers(template):
            if one.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield f"{owner}: {one['name']} may write into its image"


def tokens_only_for_those_with_a_role(objects: Sequence[Object]) -> Iterator[str]:
    bound = {
        subject["name"] for one in of_kind(objects, "RoleBinding") for subject in one["subjects"]
    }
    accounts = {name(one) for one in of_kind(objects, "ServiceAccount")}
    for one in of_kind(objects, "ServiceAccount"):
        if one.get("automountServiceAccountToken") is not False:
            yield f"account {name(one)} hands its token to every pod"
    for owner, template in pods(objects):
        account = template["spec"].get("serviceAccountName")
        if account not in accounts:
            yield f"{owner}: its account is {account}, none of ours"
        if template["spec"].get("automountServiceAccountToken") is not (account in bound):
            yield f"{owner}: a token is mounted if and only if its account has a role"


def roles_are_minimal(objects: Sequence[Object]) -> Iterator[str]:
    for one in objects:
        if kind(one) in {"ClusterRole", "ClusterRoleBinding"}:
            yield f"{kind(one)} {name(one)}"
    for role in of_kind(objects, "Role"):
        for rule in role["rules"]:
            if not set(rule["verbs"]) <= {"get", "list", "watch"}:
                yield f"role {name(role)} may change things: {rule['verbs']}"
            if "*" in [*rule["apiGroups"], *rule["resources"]]:
                yield f"role {name(role)} may see everything"


def selectors_select(objects: Sequence[Object]) -> Iterator[str]:
    templates = pods(objects)
    for one in objects:
        for selector in _selectors(one):
            if not any(_matches(selector, template) for _, template in templates):
                yield f"{kind(one)} {name(one)} selects no pod: {selector}"
    for one in of_kind(objects, "Deployment"):
        chosen = [owner for owner, pod in templates if _matches(_labels_of(one), pod)]
        if chosen != [name(one)]:
            yield f"Deployment {name(one)} selects the pods of {chosen}"


def service_ports_are_open(objects: Sequence[Object]) -> Iterator[str]:
    for service in of_kind(objects, "Service"):
        for owner, template in pods(objects):
            if not _matches(service["spec"]["selector"], template):
                continue
            opened = [port for one in containers(template) for port in one.get("ports", [])]
            known = {port.get("name") for port in opened} | {
                port["containerPort"] for port in opened
            }
            for port in service["spec"]["ports"]:
                if port.get("targetPort", port["port"]) not in known:
                    yield f"Service {name(service)}: {owner} has no port {port}"


def probes_are_there(objects: Sequence[Object]) -> Iterator[str]:
    for owner, template in templates(objects, "Deployment"):
        for one in template["spec"]["containers"]:
            ports = {port["name"] for port in one.get("ports", [])}
            numbers = [str(port["containerPort"]) for port in one.get("ports", [])]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = one.get(probe, {}).get("exec", {}).get("command", [])
                places = asked[asked.index("--health") + 1 :] if asked else []
                if asked and [place.rpartition(":")[2] for place in places] != numbers:
                    yield f"{owner}: {probe} of {one['name']} does not ask all of its ports"
                elif not asked and one.get(probe, {}).get("httpGet", {}).get("port") not in ports:
                    yield f"{owner}: {one['name']} has no {probe} of a port of its own"


def each_deployment_has_a_budget(objects: Sequence[Object]) -> Iterator[str]:
    budgets = of_kind(objects, "PodDisruptionBudget")
    for owner, template in templates(objects, "Deployment"):
        own = [one for one in budgets if _matches(_labels_of(one), template)]
        if [one["spec"].get("maxUnavailable") for one in own] != [1]:
            yield f"{owner}: {len(own)} budgets; one must let a single pod go at a time"


def pods_are_spread(objects: Sequence[Object]) -> Iterator[str]:
    for owner, template in pods(objects):
        spread = template["spec"].get("topologySpreadConstraints", [])
        if not any(_matches(one["labelSelector"]["matchLabels"], template) for one in spread):
            yield f"{owner}: its pods may all be on one node"


def pods_end_in_peace(objects: Sequence[Object]) -> Iterator[str]:
    """Endpoints go first, then what is under way may end, and only then SIGKILL comes."""
    for owner, template in templates(objects, "Deployment"):
        for one in template["spec"]["containers"]:
            leaving = one.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            leaving += _seconds(one, "--drain-delay")
            ending = _seconds(one, "--shutdown-timeout") + _seconds(one, "--grace")
            if leaving < 5:
                yield f"{owner}: ends before others know that it goes"
            if template["spec"]["terminationGracePeriodSeconds"] < leaving + ending + 5:
                yield f"{owner}: is killed while it still ends requests"


def networks_are_closed(objects: Sequence[Object]) -> Iterator[str]:
    policies = of_kind(objects, "NetworkPolicy")
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if closed not in [one["spec"] for one in policies]:
        yield "no policy closes what others do not open"
    for owner, template in pods(objects):
        selecting = [one["spec"] for one in policies if _chosen(one, template)]
        for direction in ("Ingress", "Egress"):
            if not any(direction in spec["policyTypes"] for spec in selecting):
                yield f"{owner}: no policy bounds its {direction.lower()}"
    for one in policies:
        for rule in one["spec"].get("ingress", []):
            if not rule.get("from") or not rule.get("ports"):
                yield f"NetworkPolicy {name(one)} lets in anybody, or to any port"
        for rule in one["spec"].get("egress", []):
            if not rule.get("ports"):
                yield f"NetworkPolicy {name(one)} lets out to any port"


def namespaces_are_as_strict_as_volumes_allow(objects: Sequence[Object]) -> Iterator[str]:
    folders = {
        volume["hostPath"]["path"]
        for _, template in pods(objects)
        for volume in template["spec"].get("volumes", [])
        if "hostPath" in volume
    }
    if folders - NODE_FOLDERS:
        yield f"folders of the node are mounted: {folders - NODE_FOLDERS}"
    (space,) = of_kind(objects, "Namespace")
    label = "pod-security.kubernetes.io/"
    levels = {
        mode: space["metadata"]["labels"].get(label + mode) for mode in ("enforce", "audit", "warn")
    }
    wanted = "privileged" if folders else "restricted"
    if levels != {"enforce": wanted, "audit": "restricted", "warn": "restricted"}:
        yield f"Namespace {name(space)}: {levels}, wanted is {wanted}"


def labels_are_complete(objects: Sequence[Object]) -> Iterator[str]:
    labelled = [(f"{kind(one)} {name(one)}", one["metadata"]) for one in objects]
    labelled += [(f"pods of {owner}", template["metadata"]) for owner, template in pods(objects)]
    for what, metadata in labelled:
        labels = metadata.get("labels", {})
        wanted = [*RECOMMENDED, *(["version"] if re.match("Deployment|Job|pods", what) else [])]
        missing = [one for one in wanted if not labels.get(f"app.kubernetes.io/{one}")]
        if missing:
            yield f"{what} lacks {missing}"
        if {labels.get(f"app.kubernetes.io/{one}") for one in RECOMMENDED[3:]} != {"llm-bench"}:
            yield f"{what} is not marked as part of llm-bench and managed by it"


def names_are_unique(objects: Sequence[Object]) -> Iterator[str]:
    counted = Counter((kind(one), one["metadata"].get("namespace"), name(one)) for one in objects)
    yield from (f"{key} is there {count} times" for key, count in counted.items() if count > 1)
    yield from (
        f"{kind(one)} {name(one)!r} is no name for one"
        for one in objects
        if not DNS_LABEL.fullmatch(name(one))
    )


def all_is_in_one_namespace(objects: Sequence[Object]) -> Iterator[str]:
    (space,) = of_kind(objects, "Namespace")
    for one in objects:
        wanted = None if kind(one) in CLUSTER_WIDE else name(space)
        if one["metadata"].get("namespace") != wanted:
            yield f"{kind(one)} {name(one)} is in {one['metadata'].get('namespace')}, not {wanted}"


def what_is_named_is_there(objects: Sequence[Object]) -> Iterator[str]:
    classes = {name(one) for one in of_kind(objects, "PriorityClass")}
    for owner, template in pods(objects):
        if template["spec"].get("priorityClassName") not in classes:
            yield f"{owner}: no such PriorityClass"
        volumes = {one["name"] for one in template["spec"].get("volumes", [])}
        for one in containers(template):
            if {mount["name"] for mount in one.get("volumeMounts", [])} != volumes:
                yield f"{owner}: {one['name']} mounts other volumes than its pod has"
    for binding in of_kind(objects, "RoleBinding"):
        if not any(name(role) == binding["roleRef"]["name"] for role in of_kind(objects, "Role")):
            yield f"RoleBinding {name(binding)}: no such role"
        spaces = {subject.get("namespace") for subject in binding["subjects"]}
        if spaces != {binding["metadata"]["namespace"]}:
            yield f"RoleBinding {name(binding)} is for accounts of {spaces}"


def services_do_not_set_variables(objects: Sequence[Object]) -> Iterator[str]:
    """A Service named vllm would set VLLM_PORT, which vLLM takes for its own."""
    for owner, template in pods(objects):
        if template["spec"].get("enableServiceLinks") is not False:
            yield f"{owner}: Services set its variables"


def secrets_are_not_written_down(objects: Sequence[Object]) -> Iterator[str]:
    yield from (f"Secret {name(one)}" for one in of_kind(objects, "Secret"))
    for owner, template in pods(objects):
        for one in containers(template):
            for variable in one.get("env", []):
                if "TOKEN" in variable["name"].split("_") and "value" in variable:
                    yield f"{owner}: {variable['name']} is written down"


POLICIES: Sequence[Policy] = (
    images_are_pinned,
    resources_are_set,
    gpus_are_limited_as_requested,
    no_privilege,
    root_file_system_is_read_only,
    tokens_only_for_those_with_a_role,
    roles_are_minimal,
    selectors_select,
    service_ports_are_open,
    probes_are_there,
    each_deployment_has_a_budget,
    pods_are_spread,
    pods_end_in_peace,
    networks_are_closed,
    namespaces_are_as_strict_as_volumes_allow,
    labels_are_complete,
    names_are_unique,
    all_is_in_one_namespace,
    what_is_named_is_there,
    services_do_not_set_variables,
    secrets_are_not_written_down,
)


def problems(objects: Sequence[Object]) -> list[str]:
    """What is wrong with the objects of an arm, by all policies."""
    return [f"{policy.__name__}: {line}" for policy in POLICIES for line in policy(objects)]


def _labels_of(one: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = one["spec"]["selector"]["matchLabels"]
    return labels


def _selectors(one: Object) -> Iterator[Mapping[str, str]]:
    """The labels by which an object selects pods of its namespace."""
    if kind(one) == "Service":
        yield one["spec"]["selector"]
    elif kind(one) in {"PodDisruptionBudget", "Deployment"}:
        yield _labels_of(one)
    elif kind(one) == "NetworkPolicy":
        yield one["spec"]["podSelector"].get("matchLabels", {})


def _matches(selector: Mapping[str, str], template: Object) -> bool:
    labels: Mapping[str, str] = template["metadata"]["labels"]
    return selector.items() <= labels.items()


def _chosen(policy: Object, template: Object) -> bool:
    return _matches(policy["spec"]["podSelector"].get("matchLabels", {}), template)


def _seconds(container: Mapping[str, Any], option: str) -> int:
    """The value of an option of a container, given as `--option=1` or as `--option 1`."""
    arguments = " ".join(container.get("args", []))
    found = re.search(rf"{option}[= ](\d+)", arguments)
    return int(found[1]) if found else 0
