"""Waiting until every replica is ready, and telling as soon as one cannot be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.environments.kubernetes import pods as pod_facts
from bench.environments.kubernetes.cluster import Api
from bench.environments.kubernetes.diagnosis import Reason, diagnose, diagnose_workload
from bench.environments.kubernetes.objects import OURS, Object
from bench.errors import UserError
from bench.progress import Progress, Step

INTERVAL_S = 2.0
LOG_LINES = 60
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Trouble:
    """A pod or a workload that is not ready, why, and what the cluster said of it."""

    name: str
    reason: Reason
    events: Sequence[Object] = ()
    log: str = ""

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.reason.text}"]
        if self.events:
            lines += ["last events:", *(f"  {_told(one)}" for one in self.events[-SHOWN:])]
        if self.log.strip():
            lines += ["end of its log:"]
            lines += [f"  {line}" for line in self.log.rstrip().splitlines()[-SHOWN:]]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Look:
    """How many pods are ready of those that are wanted, and the workloads that they are of."""

    ready: int
    wanted: int
    done: bool
    workloads: Mapping[str, Object]


@dataclass(slots=True)
class Wait:
    """Waits for the workloads of one namespace. Each method raises UserError of the API."""

    api: Api
    namespace: str
    progress: Progress
    _since_s: dict[tuple[str, str], float] = field(default_factory=dict)

    def until_ready(self, deployments: Sequence[str], timeout_s: float) -> None:
        """Return when every pod of `deployments` is ready and none of an older make is left.

        Raises UserError with the reason as soon as one cannot come up, or after `timeout_s`.
        """

        def look() -> Look:
            found = self._of("Deployment", deployments)
            done = all(map(_is_done, found.values())) and len(found) == len(deployments)
            return Look(*_count(found), done, found)

        self._until(look, "the replicas", timeout_s)

    def until_placed(self, job: str, timeout_s: float) -> tuple[Object, ...]:
        """Return the pods of an Indexed Job, in their order, when all of them are ready.

        Raises UserError like `until_ready`.
        """
        ready: list[Object] = []

        def look() -> Look:
            found = self._of("Job", [job])
            places = found[job]["spec"]["completions"] if found else 1
            pods = self.api.find("Pod", self.namespace, OURS)
            ready[:] = sorted(filter(pod_facts.is_ready, pods), key=pod_facts.place)
            return Look(len(ready), places, len(ready) == places, found)

        self._until(look, "the pods", timeout_s)
        return tuple(ready)

    def _until(self, look: Callable[[], Look], what: str, timeout_s: float) -> None:
        started_s = time.monotonic()
        with self.progress.step(f"waiting for {what} in namespace {self.namespace}") as step:
            while not (seen := look()).done:
                late = self.late_pods()
                troubles = self.troubles(seen.workloads, late)
                waited_s = time.monotonic() - started_s
                _tell(step, f"{seen.ready} of {seen.wanted} ready", troubles, late)
                for trouble in troubles:
                    if self._lasted_s(trouble) >= trouble.reason.patience_s:
                        raise UserError(str(trouble))
                if waited_s > timeout_s:
                    told = [str(trouble) for trouble in troubles[:2]]
                    told = told or [
                        f"{pod_facts.name(one)}: {pod_facts.doing(one)}" for one in late
                    ]
                    head = (
                        f"{what} in namespace {self.namespace} were not ready after {waited_s:.0f}"
                        f" s: {seen.ready} of {seen.wanted} are; --ready-timeout allows more"
                    )
                    raise UserError("\n".join([head, *told]))
                time.sleep(INTERVAL_S)

    def until_gone(self, timeout_s: float, labels: Mapping[str, str] = OURS) -> None:
        """Return when no pod with these labels is left: its GPU and memory are free then."""
        started_s = time.monotonic()
        with self.progress.step(f"waiting for pods to end in namespace {self.namespace}") as step:
            while left := self.api.find("Pod", self.namespace, labels):
                if time.monotonic() - started_s > timeout_s:
                    names = ", ".join(map(pod_facts.name, left))
                    raise UserError(
                        f"pods of namespace {self.namespace} did not end within {timeout_s:.0f} s: "
                        f"{names}"
                    )
                step.update(f"{len(left)} left, {pod_facts.name(left[0])} for one")
                time.sleep(INTERVAL_S)

    def late_pods(self) -> list[Object]:
        """The pods that are to be ready and are not."""
        return [
            pod
            for pod in self.api.find("Pod", self.namespace, OURS)
            if not pod_facts.is_ready(pod) and not pod_facts.leaving(pod)
        ]

    def troubles(self, workloads: Mapping[str, Object], late: Sequence[Object]) -> list[Trouble]:
        """What is known of the pods that are late, and of workloads without pods."""
        events = self._events()
        refused = [
            Trouble(name, reason)
            for name, one in workloads.items()
            if (reason := diagnose_workload(one, events.get(name, ())))
        ]
        return refused + [
            trouble for pod in late if (trouble := self.trouble(pod, events)) is not None
        ]

    def trouble(self, pod: Object, events: Mapping[str, Sequence[Object]]) -> Trouble | None:
        """Why a pod is not ready."""
        name = pod_facts.name(pod)
        told, log = events.get(name, ()), ""
        # What tells why a container has ended is the log of the one before.
        if _has_ended(pod):
            log = self.api.log(self.namespace, name, LOG_LINES)
            if pod_facts.restarts(pod):
                log = self.api.log(self.namespace, name, LOG_LINES, previous=True) or log
        reason = diagnose(pod, told, log)
        return None if reason is None else Trouble(name, reason, told, log)

    def _of(self, kind: str, names: Sequence[str]) -> dict[str, Object]:
        """Those of `names` that are there."""
        by_name = {pod_facts.name(one): one for one in self.api.find(kind, self.namespace, OURS)}
        return {name: by_name[name] for name in names if name in by_name}

    def _events(self) -> dict[str, list[Object]]:
        """The events of each object, the oldest first."""
        by_name: dict[str, list[Object]] = {}
        for event in sorted(self.api.find("Event", self.namespace), key=_at):
            by_name.setdefault(str(event["involvedObject"].get("name")), []).append(event)
        return by_name

    def _lasted_s(self, trouble: Trouble) -> float:
        """For how long this has been the trouble; kinds of reasons are told apart by patience."""
        key = (trouble.name, str(trouble.reason.patience_s))
        return time.monotonic() - self._since_s.setdefault(key, time.monotonic())


def _tell(step: Step, text: str, troubles: Sequence[Trouble], late: Sequence[Object]) -> None:
    if troubles:
        text = f"{text}; {troubles[0].name}: {troubles[0].reason.text}"
    elif late:
        text = f"{text}; {pod_facts.name(late[0])}: {pod_facts.doing(late[0])}"
    step.update(text)


def _is_done(deployment: Object) -> bool:
    """Whether all pods of a Deployment are ready, and made as it now says."""
    status, wanted = deployment.get("status") or {}, int(deployment["spec"].get("replicas", 1))
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    counts = {int(status.get(key) or 0) for key in ("replicas", "updatedReplicas", "readyReplicas")}
    return bool(seen) and counts == {wanted}


def _count(deployments: Mapping[str, Object]) -> tuple[int, int]:
    ready = sum(
        int((one.get("status") or {}).get("readyReplicas") or 0) for one in deployments.values()
    )
    return ready, sum(int(one["spec"].get("replicas", 1)) for one in deployments.values())


def _has_ended(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return any(
        "terminated" in (one.get("state") or {}) or "terminated" in (one.get("lastState") or {})
        for one in statuses
    )


def _at(event: Object) -> str:
    return str(
        event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def _told(event: Object) -> str:
    times = f" ({event['count']} times)" if (event.get("count") or 1) > 1 else ""
    told = " ".join(str(event.get("message") or "").split())
    return f"{event.get('type')} {event.get('reason')}: {told}{times}"
