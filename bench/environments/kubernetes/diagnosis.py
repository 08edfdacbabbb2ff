"""A reason, and when to believe it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.environments.kubernetes.engine_log import log_reason, telling_line
from bench.environments.kubernetes.objects import Object

# What the cluster tries again by itself may still come right in so many seconds.
AT_ONCE = 0.0
SOON = 30.0
# A node may come, or a pod that is ending may leave its place.
LATER = 90.0
NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not ready, in one line.

    It is given up once it has been so for `patience_s` seconds.
    """

    text: str
    patience_s: float = AT_ONCE


def one_line(text: object, limit: int = 300) -> str:
    """What the cluster or a program said, in one line of bounded length."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def diagnose_workload(workload: Object, events: Sequence[Object]) -> Reason | None:
    """Why pods of it are refused before they are there, a quota or an admission, or are over.

    `events` are those of objects of its name, the oldest first.
    """
    meta = workload["metadata"]
    for condition in (workload.get("status") or {}).get("conditions") or ():
        if condition.get("status") != "True":
            continue
        told = str(condition.get("message") or condition.get("reason"))
        if condition.get("type") == "ReplicaFailure":
            return _refused(str(meta["name"]), told)
        if condition.get("type") == "Failed":
            return Reason(f"{meta['name']}: the Job has failed: {one_line(told)}")
    # A Job has no condition for that. Events of one of the same name may be older.
    for event in reversed(events):
        if event.get("reason") == "FailedCreate" and _is_of(event, meta.get("uid")):
            return _refused(str(meta["name"]), str(event.get("message")))
    return None


def _is_of(event: Object, uid: str | None) -> bool:
    return bool((event.get("involvedObject") or {}).get("uid") == uid)


def _refused(name: str, message: str) -> Reason:
    told = one_line(message)
    if "violates PodSecurity" in message:
        return Reason(f"{name}: its pods are refused by the namespace's Pod Security: {told}")
    if "exceeded quota" in message or "failed quota" in message:
        # Where a pod has just been deleted, it counts for a moment.
        return Reason(f"{name}: its pods are refused by a quota: {told}", SOON)
    return Reason(f"{name}: its pods are refused: {told}", SOON)


_NO_IMAGE = {"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"}
_NO_CONTAINER = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_LACKS = re.compile(r"Insufficient ([\w./-]*\w)")
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*": ')
_SIGKILL = 137


def diagnose(pod: Object, events: Sequence[Object], log: str) -> Reason | None:
    """Why a pod is not ready; None if nothing is wrong, or nothing is known yet.

    `events` are those of the pod, the oldest first; `log` is the end of its container's log,
    that of the one before if it has been restarted.
    """
    status = pod.get("status") or {}
    for container in _containers(status):
        if reason := _waiting(container, events, log) or _terminated(container, events, log):
            return reason
    if reason := _unschedulable(status):
        return reason
    if status.get("phase") == "Failed":
        why = one_line(f"{status.get('reason') or ''} {status.get('message') or ''}")
        return Reason(f"the pod has failed: {why or 'the cluster does not say why'}")
    return _lost(status) or _mount(events) or _probe(events)


def _containers(status: Object) -> Iterator[Object]:
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _waiting(container: Object, events: Sequence[Object], log: str) -> Reason | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    why, told = waiting.get("reason"), one_line(waiting.get("message"))
    image = container.get("image")
    if why in _NO_IMAGE:
        told = _BACK_OFF.sub("", told)
        return Reason(f"image {image} cannot be pulled ({why}): {told}")
    if why == "ErrImagePull":
        return Reason(f"image {image} cannot be pulled ({why}): {told}", SOON)
    if why in _NO_CONTAINER:
        hint = ""
        if found := re.search(r'secret "([^"]+)" not found', told):
            hint = f"; create it: kubectl create secret generic {found[1]} --from-literal=KEY=..."
        return Reason(f"the container cannot be made ({why}): {told}{hint}")
    if why == "CrashLoopBackOff":
        last = (container.get("lastState") or {}).get("terminated") or {}
        return _ended(last, container, events, log)
    return None


def _terminated(container: Object, events: Sequence[Object], log: str) -> Reason | None:
    """A container that has ended: between two starts it is neither waiting nor running."""
    last = (container.get("state") or {}).get("terminated")
    before = (container.get("lastState") or {}).get("terminated") or {}
    if last is None and before.get("reason") == "OOMKilled":
        last = before  # it runs again, and will run into the same limit
    return _ended(last, container, events, log) if last else None


def _ended(last: Object, container: Object, events: Sequence[Object], log: str) -> Reason:
    restarts = container.get("restartCount") or 0
    ended = f"restarted {restarts} times" if restarts else "ended"
    if last.get("reason") == "OOMKilled":
        return Reason(
            "killed for want of memory (OOMKilled): it used more than its limit; "
            f"{ended}, raise the limit"
        )
    code = last.get("exitCode")
    if code == _SIGKILL:
        for event in reversed(events):
            if "failed liveness probe" in str(event.get("message")):
                return Reason(f"killed since its liveness probe failed, {ended}")
        # A container that is killed as soon as it starts is not always marked OOMKilled.
        return Reason(
            f"killed (exit code 137), {ended}: most likely it used more memory than its limit"
        )
    why = log_reason(log)
    line = telling_line(log)
    told = f"{why}. It said: {line}" if why else line or "its log is empty"
    return Reason(f"the container ended with exit code {code}, {ended}: {told}")


def _unschedulable(status: Object) -> Reason | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") != "PodScheduled" or condition.get("status") != "False":
            continue
        message = str(condition.get("message") or "")
        lacks = sorted(set(_LACKS.findall(message)))
        cause = f"no node has enough free {' and '.join(lacks)}" if lacks else "no node takes it"
        if not lacks and "taint" in message:
            cause = "no node takes it for the nodes' taints"
        return Reason(f"unschedulable, {cause}: {one_line(message)}", LATER)
    return None


def _lost(status: Object) -> Reason | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("reason") == "NodeNotReady":
            return Reason("its node does not answer (NodeNotReady)", LATER)
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return Reason(f"it is evicted: {one_line(condition.get('message'))}", SOON)
    return None


def _mount(events: Sequence[Object]) -> Reason | None:
    for event in reversed(events):
        if event.get("reason") in {"FailedMount", "FailedAttachVolume"}:
            told = one_line(event.get("message"))
            return Reason(f"a volume cannot be mounted: {told}", LATER)
        if event.get("reason") == "FailedCreatePodSandBox":
            return Reason(f"no sandbox for the pod: {one_line(event.get('message'))}", LATER)
        if event.get("reason") in {"Started", "Pulled", "Created"}:
            return None
    return None


def _probe(events: Sequence[Object]) -> Reason | None:
    """A probe that fails: usual while a model is loaded, so only time tells."""
    for event in reversed(events):
        if event.get("reason") == "Unhealthy":
            told = one_line(event.get("message"))
            count = event.get("count") or 1
            return Reason(f"not ready, {told} ({count} times)", NEVER)
    return None
