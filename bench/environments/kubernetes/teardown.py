"""Taking down what the suite has made, and nothing else."""

from __future__ import annotations

import time

from bench.environments.kubernetes.cluster import Api
from bench.environments.kubernetes.cluster.api import APPLIED, KINDS
from bench.environments.kubernetes.objects import (
    OURS,
    follows_from_others,
    is_ours,
    made_by_us,
)
from bench.environments.kubernetes.waiting import INTERVAL_S, Wait
from bench.errors import UserError
from bench.progress import Progress


def teardown(api: Api, namespace: str, progress: Progress, timeout_s: float) -> bool:
    """Delete all of the suite's from a namespace, and the namespace if the suite made it.

    A namespace stays that was there before, or in which others have put something. It needs
    to know nothing of the run that deployed. False if there was nothing of ours.
    """
    space = api.get("Namespace", None, namespace)
    found = _ours(api, namespace) if space is not None else []
    everywhere = _of_the_cluster(api, namespace)
    if not found and not everywhere and not (space and made_by_us(space)):
        return False
    with progress.step(f"taking down namespace {namespace}") as step:
        for kind, name in [*found, *everywhere]:
            step.update(f"{kind} {name}")
            api.delete(kind, namespace if KINDS[kind].namespaced else None, name)
    if space is None:
        return True
    Wait(api, namespace, progress).until_gone(timeout_s)
    if not made_by_us(space):
        progress.note(f"namespace {namespace} stays: it was not made by the suite")
    elif others := foreign(api, namespace):
        progress.note(f"namespace {namespace} stays: it holds what is not ours: {others[0]}")
    else:
        api.delete("Namespace", None, namespace)
        _await_no_namespace(api, namespace, progress, timeout_s)
    return True


def foreign(api: Api, namespace: str) -> list[str]:
    """Objects in a namespace that neither are the suite's nor follow from others.

    A kind that may not be listed counts as one: nobody knows then.
    """
    found = []
    for resource in api.resources():
        group, plural = str(resource["group"]), str(resource["resource"])
        try:
            objects = api.listed(resource, namespace)
        except UserError as error:
            found.append(f"{plural}, perhaps ({error})")
            continue
        found += [
            f"{resource['responseKind']['kind']} {one['metadata']['name']}"
            for one in objects
            if not is_ours(one) and not follows_from_others(group, plural, one)
        ]
    return found


def _ours(api: Api, namespace: str) -> list[tuple[str, str]]:
    """The suite's objects in a namespace, those first that others exist for."""
    return [
        (kind, str(one["metadata"]["name"]))
        for kind in reversed(APPLIED)
        if KINDS[kind].namespaced
        for one in api.find(kind, namespace, OURS)
    ]


def _of_the_cluster(api: Api, namespace: str) -> list[tuple[str, str]]:
    """What belongs to the namespace's arm but lives in none: its PriorityClass."""
    wanted = f"llm-bench-{namespace}"
    classes = api.find("PriorityClass", None, OURS)
    return [("PriorityClass", wanted) for one in classes if one["metadata"]["name"] == wanted]


def _await_no_namespace(api: Api, namespace: str, progress: Progress, timeout_s: float) -> None:
    started_s = time.monotonic()
    with progress.step(f"waiting for namespace {namespace} to go") as step:
        while space := api.get("Namespace", None, namespace):
            conditions = (space.get("status") or {}).get("conditions") or ()
            told = [str(one.get("message")) for one in conditions if one.get("status") == "True"]
            step.update(told[0] if told else "its objects are being deleted")
            if time.monotonic() - started_s > timeout_s:
                raise UserError(
                    f"namespace {namespace} was not gone after {timeout_s:.0f} s: "
                    f"{told[0] if told else 'the cluster does not say why'}"
                )
            time.sleep(INTERVAL_S)
