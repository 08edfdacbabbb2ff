"""Deletes what the suite has applied, and nothing else."""

from __future__ import annotations

from bench.environments.kubernetes.cluster import Api
from bench.environments.kubernetes.cluster.api import APPLIED, KINDS, Kind
from bench.environments.kubernetes.objects import (
    OURS,
    Object,
    is_created_by_us,
    is_ours,
    name_of,
)
from bench.environments.kubernetes.waiting import Wait
from bench.errors import UserError
from bench.progress import Progress

# Objects that every namespace has, by API group, plural of the kind, and name.
_DEFAULT = {
    ("", "serviceaccounts", "default"),
    ("", "configmaps", "kube-root-ca.crt"),
    ("", "configmaps", "openshift-service-ca.crt"),
}
# Kinds whose objects the cluster derives from others, by API group and plural.
_DERIVED = {
    ("", "events"),
    ("events.k8s.io", "events"),
    ("", "endpoints"),
    ("discovery.k8s.io", "endpointslices"),
    ("metrics.k8s.io", "pods"),
}


def teardown(api: Api, namespace: str, progress: Progress, timeout_s: float) -> bool:
    """Delete the suite's objects from a namespace; False if there were none.

    Deletes the namespace too, unless somebody else created it or has put something into it. Works
    for whatever an earlier run has left. Raises UserError if something is left after `timeout_s`.
    """
    space = api.get("Namespace", None, namespace)
    found = _applied(api, namespace, exists=space is not None)
    if not found and not (space and is_created_by_us(space)):
        return False
    with progress.step(f"taking down namespace {namespace}") as step:
        for kind, name in found:
            step.update(f"{kind} {name}")
            api.delete(kind, namespace, name)
    if space is None:
        return True
    wait = Wait(api, namespace, progress, timeout_s)
    wait.until_pods_gone()
    if not is_created_by_us(space):
        progress.note(f"namespace {namespace} stays: it was not made by the suite")
    elif others := _foreign(api, namespace):
        progress.note(f"namespace {namespace} stays: it holds what is not ours: {others[0]}")
    else:
        api.delete("Namespace", None, namespace)
        wait.until_namespace_gone()
    return True


def _applied(api: Api, namespace: str, *, exists: bool) -> list[tuple[str, str]]:
    """Kind and name of the suite's objects, in the order in which they are to be deleted.

    The last is the PriorityClass of the namespace's arm, which is in no namespace itself.
    """
    inside = [
        (kind, name_of(one))
        for kind in reversed(APPLIED)
        if exists and KINDS[kind].namespaced
        for one in api.find(kind, namespace, OURS)
    ]
    classes = map(name_of, api.find("PriorityClass", None, OURS))
    return [
        *inside,
        *(("PriorityClass", one) for one in classes if one == f"llm-bench-{namespace}"),
    ]


def _foreign(api: Api, namespace: str) -> list[str]:
    """Objects in a namespace that are neither the suite's nor go away with others, in words.

    Also names kinds that this user may not list: there may be objects of them.
    """
    found = []
    for kind in api.namespaced_kinds():
        try:
            objects = api.find(kind, namespace)
        except UserError as error:
            found.append(f"{kind.plural}, perhaps ({error})")
            continue
        found += [
            f"{kind.name} {name_of(one)}"
            for one in objects
            if not is_ours(one) and not _goes_by_itself(kind, one)
        ]
    return found


def _goes_by_itself(kind: Kind, one: Object) -> bool:
    """Whether the cluster deletes the object with its owner or with the namespace."""
    return (
        (kind.group, kind.plural) in _DERIVED
        or (kind.group, kind.plural, name_of(one)) in _DEFAULT
        or bool(one["metadata"].get("ownerReferences"))
    )
