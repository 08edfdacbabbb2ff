"""Why a pod is not ready, or a Deployment or Job gets no pods. Pure functions.

What is known of the logs of engines is in engine_errors.yaml.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.environments.kubernetes.objects import Object, Resource, one_line
from bench.processes.guarded import of_ended_engine

# For how many seconds what the cluster retries by itself may still succeed.
AT_ONCE = 0.0
SOON = 30.0
# A node may be added, or a pod that is ending may free its node.
LATER = 90.0
NEVER = math.inf

_NO_IMAGE = {
    "ImagePullBackOff": AT_ONCE,
    "ErrImageNeverPull": AT_ONCE,
    "InvalidImageName": AT_ONCE,
    "ErrImagePull": SOON,
}
_NO_CONTAINER = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_LACKS = re.compile(r"Insufficient ([\w./-]*\w)")
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*": ')
_SIGKILL = 137

_ENGINE_ERRORS = yaml.safe_load(
    Path(__file__).with_name("engine_errors.yaml").read_text(encoding="utf-8")
)
_REPOSITORY = re.compile(r"https://huggingface\.co/(?:api/models/)?([\w.-]+/[\w.-]+)")
# `ValueError: ...`, also after vLLM's prefix: `(EngineCore pid=42) ERROR ... [core.py:9]`.
_EXCEPTION = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception|Exit): .*)")
# The last line of a shell or of Python that could not start a program.
_NOT_STARTED = re.compile(
    r"error: |cannot |fatal|panic: |No module named|No such file", re.IGNORECASE
)
# Only points to another line, which has the reason.
_REFERS_ELSEWHERE = re.compile(
    r"Engine core initialization failed|See (?:root cause|stack trace) above|process .* died|"
    r"For more information check"
)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not ready, in one line.

    Waiting is given up once the reason has lasted for `patience_s` seconds.
    """

    text: str
    patience_s: float = AT_ONCE


def diagnose(pod: Resource, events: Sequence[Object], log: str) -> Reason | None:
    """Why a pod is not ready; None if nothing is wrong, or nothing is known yet.

    `events` are those of the pod, the oldest first. `log` is the end of its container's log; after
    a restart, that of the container before.
    """
    status = pod.status
    for container in (*(status.get("initContainerStatuses") or ()), *pod.container_statuses):
        if reason := _waiting(container, events, log) or _terminated(container, events, log):
            return reason
    if reason := _unschedulable(pod):
        return reason
    if status.get("phase") == "Failed":
        why = one_line(f"{status.get('reason') or ''} {status.get('message') or ''}")
        return Reason(f"the pod has failed: {why or 'the cluster does not say why'}")
    return _lost(pod) or _mount(events) or _probe(events)


def diagnose_workload(workload: Resource, events: Sequence[Object]) -> Reason | None:
    """Why a Deployment or Job gets no pods, or has failed; None if neither is known.

    `events` are those of objects of its name, the oldest first.
    """
    name, uid = workload.name, workload["metadata"].get("uid")
    messages = workload.true_conditions
    if "ReplicaFailure" in messages:
        return _refused(name, messages["ReplicaFailure"])
    if "Failed" in messages:
        return Reason(f"{name}: the Job has failed: {one_line(messages['Failed'])}")
    # A Job has no condition for refused pods. Events may be of an older object of the same name.
    for event in reversed(events):
        same = (event.get("involvedObject") or {}).get("uid") == uid
        if event.get("reason") == "FailedCreate" and same:
            return _refused(name, str(event.get("message")))
    return None


def _refused(name: str, message: str) -> Reason:
    line = one_line(message)
    if "violates PodSecurity" in message:
        return Reason(f"{name}: its pods are refused by the namespace's Pod Security: {line}")
    if "exceeded quota" in message or "failed quota" in message:
        # A pod that has just been deleted still counts for a moment.
        return Reason(f"{name}: its pods are refused by a quota: {line}", SOON)
    return Reason(f"{name}: its pods are refused: {line}", SOON)


def _waiting(container: Object, events: Sequence[Object], log: str) -> Reason | None:
    """A container that has not started, or is not restarted yet."""
    waiting = (container.get("state") or {}).get("waiting") or {}
    why, message = waiting.get("reason"), one_line(waiting.get("message"))
    image = container.get("image")
    if why in _NO_IMAGE:
        message = _BACK_OFF.sub("", message)
        return Reason(f"image {image} cannot be pulled ({why}): {message}", _NO_IMAGE[why])
    if why in _NO_CONTAINER:
        hint = ""
        if found := re.search(r'secret "([^"]+)" not found', message):
            hint = f"; create it: kubectl create secret generic {found[1]} --from-literal=KEY=..."
        return Reason(f"the container cannot be made ({why}): {message}{hint}")
    if why == "CrashLoopBackOff":
        last = (container.get("lastState") or {}).get("terminated") or {}
        return _ended(last, container, events, log)
    return None


def _terminated(container: Object, events: Sequence[Object], log: str) -> Reason | None:
    """A container that has ended: between two starts it is neither waiting nor running."""
    last = (container.get("state") or {}).get("terminated")
    before = (container.get("lastState") or {}).get("terminated") or {}
    if last is None and before.get("reason") == "OOMKilled":
        last = before  # it runs again, and will reach the same limit
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
    who, own = of_ended_engine(log)
    if code == _SIGKILL:
        if any("failed liveness probe" in str(event.get("message")) for event in events):
            return Reason(f"killed since its liveness probe failed, {ended}")
        # A container that is killed as soon as it starts is not always marked OOMKilled.
        return Reason(
            f"{who}killed (exit code 137), {ended}: most likely it used more memory than its limit"
        )
    line = error_line(own)
    if why := log_reason(own):
        line = f"{why}. Its log says: {line}"
    return Reason(
        f"the container ended with exit code {code}, {ended}: {who}{line or 'its log is empty'}"
    )


def _unschedulable(pod: Resource) -> Reason | None:
    scheduled = pod.conditions.get("PodScheduled", {})
    if scheduled.get("status") != "False":
        return None
    message = str(scheduled.get("message") or "")
    if lacks := sorted(set(_LACKS.findall(message))):
        cause = f"no node has enough free {' and '.join(lacks)}"
    elif "taint" in message:
        cause = "no node takes it for the nodes' taints"
    else:
        cause = "no node takes it"
    return Reason(f"unschedulable, {cause}: {one_line(message)}", LATER)


def _lost(pod: Resource) -> Reason | None:
    if pod.conditions.get("Ready", {}).get("reason") == "NodeNotReady":
        return Reason("its node does not answer (NodeNotReady)", LATER)
    if (message := pod.true_conditions.get("DisruptionTarget")) is not None:
        return Reason(f"it is evicted: {one_line(message)}", SOON)
    return None


def _mount(events: Sequence[Object]) -> Reason | None:
    for event in reversed(events):
        message = one_line(event.get("message"))
        if event.get("reason") in {"FailedMount", "FailedAttachVolume"}:
            return Reason(f"a volume cannot be mounted: {message}", LATER)
        if event.get("reason") == "FailedCreatePodSandBox":
            return Reason(f"no sandbox for the pod: {message}", LATER)
        if event.get("reason") in {"Started", "Pulled", "Created"}:
            return None
    return None


def _probe(events: Sequence[Object]) -> Reason | None:
    """A probe that fails. This is usual while a model is loaded, so waiting goes on."""
    for event in reversed(events):
        if event.get("reason") == "Unhealthy":
            message, count = one_line(event.get("message")), event.get("count") or 1
            return Reason(f"not ready, {message} ({count} times)", NEVER)
    return None


def log_reason(log: str) -> str | None:
    """What is wrong and what to do, for texts of engines that are known; else None."""
    for known in _ENGINE_ERRORS:
        if re.search(known["log"], log, re.IGNORECASE):
            found = _REPOSITORY.search(log)
            repository = found[1].rstrip(".") if found else "the model"
            return str(known["meaning"]).format(repository=repository)
    return None


def error_line(log: str) -> str:
    """The line of a log that best says what went wrong; empty if the log is empty."""
    lines = [line for line in map(str.strip, log.splitlines()) if line]
    errors = [found[1] for line in lines if (found := _EXCEPTION.search(line))]
    reasons = [error for error in errors if not _REFERS_ELSEWHERE.search(error)]
    not_started = [line for line in lines if _NOT_STARTED.search(line)]
    for candidates in (reasons, errors, not_started, lines):
        if candidates:
            return one_line(candidates[-1])
    return ""
