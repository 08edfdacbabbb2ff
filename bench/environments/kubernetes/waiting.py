"""Waits until pods are ready or gone, and ends early when one cannot become ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.diagnosis import Reason, diagnose, diagnose_workload
from bench.environments.kubernetes.objects import OURS, Object, Resource, one_line
from bench.errors import UserError
from bench.progress import Progress

INTERVAL_S = 2.0
LOG_LINES = 60
# How many events and lines of the log an error message shows.
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Problem:
    """A pod or a workload that is not ready, and why; its events and the end of its log."""

    name: str
    reason: Reason
    events: Sequence[Object] = ()
    log: str = ""

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.reason.text}"]
        if self.events:
            lines += ["last events:", *(f"  {_event_line(one)}" for one in self.events[-SHOWN:])]
        if self.log.strip():
            lines += ["end of its log:"]
            lines += [f"  {line}" for line in self.log.rstrip().splitlines()[-SHOWN:]]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Readiness:
    """How many of the wanted pods are ready, and the workloads that they belong to, by name."""

    ready: int
    wanted: int
    done: bool
    workloads: Mapping[str, Resource]


@dataclass(frozen=True, slots=True)
class Wait:
    """Waits for what a namespace has. Every method raises UserError after `timeout_s`."""

    api: Api
    namespace: str
    progress: Progress
    timeout_s: float

    def until_ready(self, deployments: Sequence[str]) -> None:
        """Return when every pod of `deployments` is ready and no pod of an older version is left.

        Raises UserError with the reason as soon as a pod cannot become ready.
        """

        def look() -> Readiness:
            found = self._workloads("Deployment", deployments)
            done = len(found) == len(deployments) and all(map(_is_rolled_out, found.values()))
            ready = sum(int(one.status.get("readyReplicas") or 0) for one in found.values())
            return Readiness(ready, sum(map(_replicas, found.values())), done, found)

        self._until_ready("the replicas", look)

    def until_job_ready(self, job: str) -> tuple[Resource, ...]:
        """Return the pods of an Indexed Job, by their index, when all of them are ready.

        Raises UserError like `until_ready`.
        """
        ready: list[Resource] = []

        def look() -> Readiness:
            found = self._workloads("Job", [job])
            count = found[job]["spec"]["completions"] if found else 1
            pods = self.api.find("Pod", self.namespace, OURS)
            ready[:] = [pod for pod in pods if pod.is_ready]
            ready.sort(key=lambda pod: pod.completion_index)
            return Readiness(len(ready), count, len(ready) == count, found)

        self._until_ready("the pods", look)
        return tuple(ready)

    def until_pods_gone(self) -> None:
        """Return when no pod of the suite is left: its GPU and memory are free then."""

        def look() -> str | None:
            left = self.api.find("Pod", self.namespace, OURS)
            return f"{len(left)} left: {', '.join(one.name for one in left)}" if left else None

        self._until_gone(f"pods in namespace {self.namespace}", look)

    def until_namespace_gone(self, space: Resource) -> None:
        """Return when the namespace does not exist any more; another run may make a new one."""

        def look() -> str | None:
            found = self.api.get("Namespace", None, self.namespace)
            if found is None or found["metadata"]["uid"] != space["metadata"]["uid"]:
                return None
            messages = found.true_conditions.values()
            return next(map(one_line, messages), "its objects are being deleted")

        self._until_gone(f"namespace {self.namespace}", look)

    def _until_ready(self, what: str, look: Callable[[], Readiness]) -> None:
        started_s = time.monotonic()
        first_seen_s: dict[tuple[str, float], float] = {}
        with self.progress.step(f"waiting for {what} in namespace {self.namespace}") as step:
            while not (seen := look()).done:
                late = late_pods(self.api, self.namespace)
                problems = find_problems(self.api, self.namespace, seen.workloads, late)
                states = [f"{one.name}: {one.reason.text}" for one in problems] or [
                    f"{one.name}: {one.state}" for one in late
                ]
                step.update("; ".join([f"{seen.ready} of {seen.wanted} ready", *states[:1]]))
                now_s = time.monotonic()
                for problem in problems:
                    # Reasons of one pod that differ in patience are different ones.
                    key = problem.name, problem.reason.patience_s
                    if now_s - first_seen_s.setdefault(key, now_s) >= problem.reason.patience_s:
                        raise UserError(str(problem))
                if now_s - started_s > self.timeout_s:
                    head = (
                        f"{what} in namespace {self.namespace} were not ready after "
                        f"{now_s - started_s:.0f} s: {seen.ready} of {seen.wanted} are; "
                        "--ready-timeout allows more"
                    )
                    raise UserError("\n".join([head, *(map(str, problems[:2] or states))]))
                time.sleep(INTERVAL_S)

    def _until_gone(self, what: str, look: Callable[[], str | None]) -> None:
        """Return when `look` gives None; until then it says what is left."""
        started_s = time.monotonic()
        with self.progress.step(f"waiting for {what} to end") as step:
            while (left := look()) is not None:
                step.update(left)
                if time.monotonic() - started_s > self.timeout_s:
                    raise UserError(f"{what} did not end within {self.timeout_s:.0f} s: {left}")
                time.sleep(INTERVAL_S)

    def _workloads(self, kind: str, names: Sequence[str]) -> dict[str, Resource]:
        """The objects called `names`, as far as they exist."""
        by_name = {one.name: one for one in self.api.find(kind, self.namespace, OURS)}
        return {name: by_name[name] for name in names if name in by_name}


def late_pods(api: Api, namespace: str) -> list[Resource]:
    """The pods of the suite that should be ready and are not."""
    pods = api.find("Pod", namespace, OURS)
    return [pod for pod in pods if not pod.is_ready and not pod.is_terminating]


def find_problems(
    api: Api, namespace: str, workloads: Mapping[str, Resource], late: Sequence[Resource]
) -> list[Problem]:
    """What is known of workloads that get no pods, and of pods that are late."""
    events: dict[str, list[Object]] = {}
    for event in sorted(api.find("Event", namespace), key=_event_time):
        events.setdefault(str(event["involvedObject"].get("name")), []).append(event)
    problems = [
        Problem(name, reason)
        for name, one in workloads.items()
        if (reason := diagnose_workload(one, events.get(name, ())))
    ]
    for pod in late:
        name = pod.name
        log = _log_of_ended(api, namespace, pod)
        if reason := diagnose(pod, events.get(name, ()), log):
            problems.append(Problem(name, reason, events.get(name, ()), log))
    return problems


def _log_of_ended(api: Api, namespace: str, pod: Resource) -> str:
    """The end of the log of a pod whose container has ended; empty if none has.

    After a restart, the reason is in the log of the container before.
    """
    if not any(
        "terminated" in (one.get(state) or {})
        for one in pod.container_statuses
        for state in ("state", "lastState")
    ):
        return ""
    previous = pod.restart_count and api.log(namespace, pod.name, LOG_LINES, previous=True)
    return previous or api.log(namespace, pod.name, LOG_LINES)


def _replicas(deployment: Resource) -> int:
    return int(deployment["spec"].get("replicas", 1))


def _is_rolled_out(deployment: Resource) -> bool:
    """Whether all pods of a Deployment are ready, and of its latest version."""
    status = deployment.status
    observed = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    counts = {int(status.get(key) or 0) for key in ("replicas", "updatedReplicas", "readyReplicas")}
    return bool(observed) and counts == {_replicas(deployment)}


def _event_time(event: Object) -> str:
    created = event["metadata"].get("creationTimestamp")
    return str(event.get("lastTimestamp") or event.get("eventTime") or created or "")


def _event_line(event: Object) -> str:
    times = f" ({event['count']} times)" if (event.get("count") or 1) > 1 else ""
    message = one_line(event.get("message"))
    return f"{event.get('type')} {event.get('reason')}: {message}{times}"
