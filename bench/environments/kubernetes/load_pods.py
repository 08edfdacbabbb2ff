"""The pods that load is sent from: an Indexed Job, in which programs are started by exec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bench.environments.kubernetes.capacity import fits, free, wanted
from bench.environments.kubernetes.cluster import Api
from bench.environments.kubernetes.deploying import apply_all, build
from bench.environments.kubernetes.diagnosis import diagnose
from bench.environments.kubernetes.manifests.files import K8S
from bench.environments.kubernetes.manifests.names import LOAD, LOAD_NAMESPACE
from bench.environments.kubernetes.objects import Object, is_terminating, name_of
from bench.environments.kubernetes.pod_program import PodProgram
from bench.environments.kubernetes.waiting import Wait
from bench.errors import UserError
from bench.progress import Progress

# The image's Python; the program itself is run by the same one.
_ATTENDED = ("python", "-m", "bench.sites.attended")


class PodSite:
    """A place is a pod. Programs are started in it through the API server.

    Nothing that is measured goes through the API server. Each pod has the clock of its node.
    """

    name = "pods"
    one_clock = False

    def __init__(self, api: Api, pods: Sequence[Object]) -> None:
        """`pods` are ready, in the order of their index."""
        self._api = api
        self._pods = tuple(pods)
        self.shards: int | None = len(self._pods)

    def start(self, module: str, arguments: Sequence[str], place: int) -> PodProgram:
        """Start `python -m module arguments` in a pod; see `Site`."""
        if not 0 <= place < len(self._pods):
            raise UserError(
                f"there is no place {place}: the load has {len(self._pods)} pods; see "
                "--load-processes"
            )
        name = name_of(self._pods[place])
        streams = self._api.execute(LOAD_NAMESPACE, name, LOAD, [*_ATTENDED, module, *arguments])
        return PodProgram(streams, partial(_pod_failure, self._api, name))

    def facts(self) -> Mapping[str, Any]:
        """The pods, and the nodes that they run on."""
        places = [{"pod": name_of(pod), "node": pod["spec"].get("nodeName")} for pod in self._pods]
        return {"name": self.name, "places": places}


def bring_up(api: Api, count: int, progress: Progress, timeout_s: float) -> PodSite:
    """Start `count` pods and return when all are ready.

    Pods of an earlier run are deleted first: their image may be older. Raises UserError with the
    reason if the nodes have no room for all, or one does not become ready; what has been applied
    stays.
    """
    wait = Wait(api, LOAD_NAMESPACE, progress, timeout_s)
    objects = load_objects(count)
    if api.get("Job", LOAD_NAMESPACE, LOAD) is not None:
        progress.note(f"the load that namespace {LOAD_NAMESPACE} has is replaced")
        api.delete("Job", LOAD_NAMESPACE, LOAD)
        wait.until_pods_gone()
    _check_room(api, objects)
    apply_all(api, objects, progress, f"applying the load to namespace {LOAD_NAMESPACE}")
    return PodSite(api, wait.until_job_ready(LOAD))


def load_objects(count: int) -> list[Object]:
    """The objects that are applied for load from `count` pods."""
    objects = build(K8S / LOAD)
    for one in objects:
        if one["kind"] == "Job":
            one["spec"].update(completions=count, parallelism=count)
    return objects


def _check_room(api: Api, objects: Sequence[Object]) -> None:
    """Raise UserError unless the nodes have room for all pods of the load."""
    pods, nodes = wanted(objects), free(api.find("Node"), api.find("Pod"), ())
    if fits(nodes, pods):
        return
    room = max(count for count in range(len(pods)) if fits(nodes, pods[:count]))
    raise UserError(
        f"the nodes have room for {room} load pods, --load-processes asks for {len(pods)}: each "
        f"reserves {pods[0]['cpu']:g} cores and {pods[0]['memory'] / 2**20:.0f} MiB"
    )


def _pod_failure(api: Api, name: str) -> str | None:
    """What is wrong with a pod, as the reason why a program in it has ended; None if nothing."""
    try:
        pod = api.get("Pod", LOAD_NAMESPACE, name)
    except UserError as error:
        return str(error)
    if pod is None:
        return f"pod {name} is gone"
    if is_terminating(pod):
        return f"pod {name} is being deleted"
    reason = diagnose(pod, (), "")
    return None if reason is None else f"pod {name}: {reason.text}"
