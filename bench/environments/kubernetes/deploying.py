"""Bringing an arm up in a cluster."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bench.environments.kubernetes.arm import DeployedArm
from bench.environments.kubernetes.cluster import Api
from bench.environments.kubernetes.cluster.api import APPLIED
from bench.environments.kubernetes.kustomize import model_of
from bench.environments.kubernetes.objects import Object
from bench.environments.kubernetes.ownership import OURS, marked
from bench.environments.kubernetes.waiting import Wait
from bench.progress import Progress


def deploy(api: Api, arm: DeployedArm, progress: Progress, timeout_s: float) -> None:
    """Apply an arm and return when all of it is ready. Safe to repeat.

    Engines of models that are not asked for go. Raises UserError with the reason when
    something is refused or does not come up; what has been applied stays.
    """
    objects = arm.objects()
    with progress.step(f"applying arm {arm.arm.name} to namespace {arm.namespace}") as step:
        for one in in_order(objects):
            step.update(f"{one['kind']} {one['metadata']['name']}")
            apply_one(api, one)
        remove_other_models(api, arm, objects)
    Wait(api, arm.namespace, progress).until_ready(arm.deployments, timeout_s)


def in_order(objects: Sequence[Object]) -> list[Object]:
    """What others refer to first. Kinds that are not known stay, for the API to refuse."""
    places = {kind: place for place, kind in enumerate(APPLIED)}
    return sorted(objects, key=lambda one: places.get(one["kind"], len(places)))


def apply_one(api: Api, one: Object) -> None:
    """Apply an object. A namespace that is there and not the suite's is left as it is."""
    if one["kind"] != "Namespace":
        api.apply(one)
        return
    if api.get("Namespace", None, one["metadata"]["name"]) is None:
        api.apply(marked(one))


def remove_other_models(api: Api, arm: DeployedArm, wanted: Collection[Object]) -> None:
    """Delete what an earlier deployment left of models that are not asked for now."""
    models = {model.name for model in arm.models}
    for kind in dict.fromkeys(one["kind"] for one in wanted if model_of(one)):
        for one in api.find(kind, arm.namespace, OURS):
            if (model := model_of(one)) and model not in models:
                api.delete(kind, arm.namespace, one["metadata"]["name"])
