"""The pods that load is sent from: an Indexed Job, in which programs are started by exec."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.deploying import apply_all, build
from bench.environments.kubernetes.diagnosis import diagnose
from bench.environments.kubernetes.manifests.files import K8S
from bench.environments.kubernetes.nodes import fits, free_resources, pod_requests
from bench.environments.kubernetes.objects import LOAD, LOAD_NAMESPACE, Resource
from bench.environments.kubernetes.streams import STATUS, STDERR, STDOUT, Streams, exit_code
from bench.environments.kubernetes.waiting import Wait
from bench.errors import UserError
from bench.processes.guard import MODULE
from bench.processes.program import GRACE_S, Program, end_message, last_line
from bench.progress import Progress

_STDERR_BYTES = 4096
# Beyond the time that a program has to end before it is killed: for the API server to report it.
_REPORT_S = 10.0
# The image's Python. The guard runs the program by the same one, and ends it when the connection
# is lost.
_GUARD = ("python", "-m", "bench.processes.guard", MODULE, str(GRACE_S))


class PodSite:
    """Each shard of a load has a pod. Programs are started in it through the API server.

    Nothing that is measured goes through the API server. Each pod has the clock of its node.
    """

    name = "pods"
    one_clock = False

    def __init__(self, api: Api, pods: Sequence[Resource]) -> None:
        """`pods` are ready, in the order of their index."""
        self._api = api
        self._pods = tuple(pods)
        self.shards: int | None = len(self._pods)

    def start(self, module: str, arguments: Sequence[str], shard: int) -> PodProgram:
        """Start `python -m module arguments` in a pod; see `Site`."""
        if not 0 <= shard < len(self._pods):
            raise UserError(
                f"there is no load pod {shard}: there are {len(self._pods)}; see --load-processes"
            )
        name = self._pods[shard].name
        streams = self._api.execute(LOAD_NAMESPACE, name, LOAD, [*_GUARD, module, *arguments])
        return PodProgram(streams, partial(_pod_failure, self._api, name))

    def facts(self) -> Mapping[str, Any]:
        """The pods, and the nodes that they run on."""
        places = [{"pod": pod.name, "node": pod["spec"].get("nodeName")} for pod in self._pods]
        return {"name": self.name, "places": places}


def start_load_pods(api: Api, count: int, progress: Progress, timeout_s: float) -> PodSite:
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


def load_objects(count: int) -> list[Resource]:
    """The objects that are applied for load from `count` pods."""
    objects = build(K8S / LOAD)
    for one in objects:
        if one["kind"] == "Job":
            one["spec"].update(completions=count, parallelism=count)
    return objects


def _check_room(api: Api, objects: Sequence[Resource]) -> None:
    """Raise UserError unless the nodes have room for all pods of the load."""
    pods, nodes = pod_requests(objects), free_resources(api.find("Node"), api.find("Pod"), ())
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
    if pod.is_terminating:
        return f"pod {name} is being deleted"
    reason = diagnose(pod, (), "")
    return None if reason is None else f"pod {name}: {reason.text}"


class PodProgram(Program):
    """A program behind `streams`. A thread takes in what it writes, so its end is known at once.

    `pod_failure` gives what is wrong with the pod, None if nothing; it is called when the program
    was killed or its connection was lost.
    """

    def __init__(self, streams: Streams, pod_failure: Callable[[], str | None]) -> None:
        super().__init__()
        self._streams = streams
        self._pod_failure = pod_failure
        self._received = bytearray()
        self._end: str | None = None
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._receiver = threading.Thread(target=self._receive_all, daemon=True)
        self._receiver.start()

    def send(self, data: bytes) -> None:
        with self._sending:
            self._streams.send(data)

    def ended(self) -> str | None:
        return self._end

    def close(self) -> None:
        self._streams.end_input()  # its guard in the pod kills it if it does not end by itself
        self._receiver.join(GRACE_S + _REPORT_S)
        self._streams.abort()  # without a connection it is ended as well
        self._receiver.join()

    def _receive(self, deadline_s: float) -> bytes:
        with self._changed:
            wait_s = max(0.0, deadline_s - monotonic())
            if not self._changed.wait_for(lambda: self._received or self._end, wait_s):
                return b""
            if not self._received:
                raise UserError(self._end)
            received = bytes(self._received)
            self._received.clear()
            return received

    def _receive_all(self) -> None:
        """Take in all output until the streams end, and then how the program has ended."""
        errors, status = bytearray(), bytearray()
        while received := self._streams.receive():
            stream, data = received
            if stream == STDOUT:
                with self._changed:
                    self._received += data
                    self._changed.notify_all()
            elif stream == STDERR:
                errors += data
                del errors[:-_STDERR_BYTES]
            elif stream == STATUS:
                status += data
        self._streams.close()
        end = self._how_it_ended(bytes(errors), exit_code(bytes(status)))
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def _how_it_ended(self, errors: bytes, code: int | None) -> str:
        if code is None:
            said = last_line(errors)
            end = f"the connection to it was lost{': ' + said if said else ''}"
        else:
            end = end_message(code, errors)
        failure = self._pod_failure() if code is None or code > 128 else None
        return f"{end}; {failure}" if failure else end
