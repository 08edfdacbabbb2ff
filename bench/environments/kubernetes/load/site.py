"""The pods of a load as a site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bench.environments.kubernetes import pods as pod_facts
from bench.environments.kubernetes.cluster import Api
from bench.environments.kubernetes.diagnosis import diagnose
from bench.environments.kubernetes.load.places import NAME
from bench.environments.kubernetes.load.program import PodProgram
from bench.environments.kubernetes.manifests.names import LOAD_NAMESPACE
from bench.environments.kubernetes.objects import Object
from bench.errors import UserError

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
