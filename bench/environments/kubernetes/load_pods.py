"""The pods that load is sent from: brought up, and how many there is room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bench.environments.kubernetes import pods as pod_facts
from bench.environments.kubernetes.capacity import fits, free, wanted
from bench.environments.kubernetes.cluster import Api
from bench.environments.kubernetes.deploying import apply_one, build, in_order
from bench.environments.kubernetes.diagnosis import diagnose
from bench.environments.kubernetes.manifests import K8S
from bench.environments.kubernetes.manifests.names import LOAD, LOAD_NAMESPACE
from bench.environments.kubernetes.objects import Object
from bench.environments.kubernetes.pod_program import PodProgram
from bench.environments.kubernetes.waiting import Wait
from bench.errors import UserError
from bench.progress import Progress

# The Job, and the container of its pods.
NAME = LOAD


def load_objects(places: int) -> list[Object]:
    """What is applied for a load from so many pods."""
    objects = build(K8S / LOAD)
    for one in objects:
        if one["kind"] == "Job":
            one["spec"].update(completions=places, parallelism=places)
    return objects


def bring_up(api: Api, places: int, progress: Progress, timeout_s: float) -> tuple[Object, ...]:
    """So many pods, anew, in the order of their places; returns when all are ready.

    Pods that another run has left are taken away first: they are older than what they are to
    run. Raises UserError with the reason where there is no room for all, or one does not come
    up; what has been applied stays.
    """
    wait = Wait(api, LOAD_NAMESPACE, progress)
    objects = load_objects(places)
    if api.get("Job", LOAD_NAMESPACE, NAME) is not None:
        progress.note(f"the load that namespace {LOAD_NAMESPACE} has is replaced")
        api.delete("Job", LOAD_NAMESPACE, NAME)
        wait.until_gone(timeout_s)
    check_room(api, objects)
    with progress.step(f"applying the load to namespace {LOAD_NAMESPACE}") as step:
        for one in in_order(objects):
            step.update(f"{one['kind']} {pod_facts.name(one)}")
            apply_one(api, one)
    return wait.until_placed(NAME, timeout_s)


def check_room(api: Api, objects: Sequence[Object]) -> None:
    """Raise UserError unless the nodes have room for all pods of the load."""
    pods, nodes = wanted(objects), free(api.find("Node"), api.find("Pod"), ())
    if fits(nodes, pods):
        return
    room = max(count for count in range(len(pods)) if fits(nodes, pods[:count]))
    raise UserError(
        f"the nodes have room for {room} load pods, --load-processes asks for {len(pods)}: each "
        f"reserves {pods[0]['cpu']:g} cores and {pods[0]['memory'] / 2**20:.0f} MiB"
    )


# As the image has it; the program itself is run by the same Python.
_ATTENDED = ("python", "-m", "bench.sites.attended")


class PodSite:
    """A place is a pod; programs are started in it by exec, through the API server alone.

    Nothing that is measured passes there. The pods' clocks are their nodes' own.
    """

    name = "pods"
    one_clock = False

    def __init__(self, api: Api, pods: Sequence[Object]) -> None:
        """`pods` are ready, in the order of their places."""
        self._api = api
        self._pods = tuple(pods)
        self.shards: int | None = len(self._pods)

    def start(self, module: str, arguments: Sequence[str], place: int) -> PodProgram:
        """Start a program in a pod."""
        if not 0 <= place < len(self._pods):
            raise UserError(
                f"there is no place {place}: the load has {len(self._pods)} pods; see "
                "--load-processes"
            )
        name = pod_facts.name(self._pods[place])
        streams = self._api.execute(LOAD_NAMESPACE, name, NAME, [*_ATTENDED, module, *arguments])
        return PodProgram(streams, partial(fate, self._api, name))

    def facts(self) -> Mapping[str, Any]:
        """The pods, and the nodes that they are on."""
        return {
            "name": self.name,
            "places": [
                {"pod": pod_facts.name(pod), "node": pod["spec"].get("nodeName")}
                for pod in self._pods
            ],
        }


def fate(api: Api, name: str) -> str | None:
    """What has become of a load pod, None if nothing that tells why a program in it has ended."""
    try:
        pod = api.get("Pod", LOAD_NAMESPACE, name)
    except UserError as error:
        return str(error)
    if pod is None:
        return f"pod {name} is gone"
    if pod_facts.leaving(pod):
        return f"pod {name} is being deleted"
    reason = diagnose(pod, (), "")
    return None if reason is None else f"pod {name}: {reason.text}"
