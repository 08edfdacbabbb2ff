"""Diagnosis: real objects of a real cluster, real log texts, and any nonsense besides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.environments.kubernetes.diagnosis import (
    AT_ONCE,
    LATER,
    NEVER,
    SOON,
    diagnose,
    diagnose_workload,
    error_line,
    log_reason,
)
from bench.environments.kubernetes.objects import Resource

DATA = Path(__file__).with_name("data")

# Each was provoked on a cluster (Kubernetes 1.32) and captured there.
SEEN = [
    ("no-image", "image ghcr.io/ovg-project/none:1 cannot be pulled (ImagePullBackOff): ", AT_ONCE),
    (
        "no-secret",
        'the container cannot be made (CreateContainerConfigError): secret "hf-token" not found; '
        "create it: kubectl create secret generic hf-token",
        AT_ONCE,
    ),
    ("no-gpu", "unschedulable, no node has enough free nvidia.com/gpu: 0/1 nodes", LATER),
    ("no-memory", "unschedulable, no node has enough free memory: 0/1 nodes", LATER),
    ("out-of-memory", "killed (exit code 137), restarted 4 times: most likely", AT_ONCE),
    (
        "crashes",
        "the container ended with exit code 1, restarted 4 times: ValueError: no such model",
        AT_ONCE,
    ),
    ("not-ready", "not ready, Readiness probe failed: Get ", NEVER),
    ("no-folder", "a volume cannot be mounted: MountVolume.SetUp failed", LATER),
]
REFUSED = [
    ("refused", "refused: its pods are refused by the namespace's Pod Security: pods ", AT_ONCE),
    ("over-quota", "over-quota: its pods are refused by a quota: pods ", SOON),
]


def captured(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize(("name", "begins", "patience_s"), SEEN)
def test_the_reason_why_a_pod_is_not_ready_is_one_line(
    name: str, begins: str, patience_s: float
) -> None:
    seen = captured(name)
    reason = diagnose(Resource(seen["pod"]), seen["events"], seen["log"])
    assert reason is not None
    assert reason.text.startswith(begins)
    assert "\n" not in reason.text
    assert reason.patience_s == patience_s


@pytest.mark.parametrize(("name", "begins", "patience_s"), REFUSED)
def test_refused_pods_are_found_in_the_conditions_of_their_deployment(
    name: str, begins: str, patience_s: float
) -> None:
    reason = diagnose_workload(Resource(captured(name)["deployment"]), ())
    assert reason is not None
    assert reason.text.startswith(begins)
    assert reason.patience_s == patience_s


def test_refused_pods_of_a_job_are_found_in_its_own_events() -> None:
    message = 'Error creating: pods "load-0-" is forbidden: exceeded quota: small'
    job = Resource(metadata={"name": "load", "uid": "new"})
    event = {"reason": "FailedCreate", "message": message, "involvedObject": {"uid": "new"}}
    reason = diagnose_workload(job, [event])
    assert reason is not None
    assert reason.text == f"load: its pods are refused by a quota: {message}"
    assert diagnose_workload(job, [{**event, "involvedObject": {"uid": "old"}}]) is None


def test_a_job_that_has_failed_says_why() -> None:
    failed = {"type": "Failed", "status": "True", "message": "Job was active too long"}
    job = Resource(metadata={"name": "load"}, status={"conditions": [failed]})
    reason = diagnose_workload(job, [])
    assert reason is not None
    assert reason.text == "load: the Job has failed: Job was active too long"


def pod(**status: Any) -> Resource:
    return Resource(metadata={}, status=status)


def container(**state: Any) -> Resource:
    return pod(containerStatuses=[{"image": "vllm:1", "restartCount": 1, **state}])


def ended(**terminated: Any) -> Resource:
    return container(
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        lastState={"terminated": terminated},
    )


def test_a_container_over_its_memory_limit_is_named_also_while_it_runs_again() -> None:
    killed = {"reason": "OOMKilled", "exitCode": 137}
    runs_again = container(state={"running": {}}, lastState={"terminated": killed})
    for one in (ended(**killed), container(state={"terminated": killed}), runs_again):
        reason = diagnose(one, [], "")
        assert reason is not None
        assert "killed for want of memory (OOMKilled)" in reason.text


def test_a_kill_after_a_failed_liveness_probe_is_not_taken_for_want_of_memory() -> None:
    message = "Container vllm failed liveness probe, will be restarted"
    reason = diagnose(ended(exitCode=137), [{"reason": "Killing", "message": message}], "")
    assert reason is not None
    assert reason.text == "killed since its liveness probe failed, restarted 1 times"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, "the container ended with exit code 1, restarted 1 times: b: ValueError: no room"),
        (137, "b: killed (exit code 137), restarted 1 times: most likely it used more memory"),
    ],
)
def test_of_several_engines_in_a_container_the_one_that_ended_first_is_named(
    code: int, said: str
) -> None:
    log = (
        "[b] ValueError: no room\n[a] RuntimeError: is ended\n"
        f"[launcher] b ended with exit code {code}, so all are; above: its last lines\n"
    )
    reason = diagnose(ended(exitCode=code), [], log)
    assert reason is not None
    assert reason.text.startswith(said)


def test_taints_and_lost_nodes_are_named() -> None:
    message = "0/2 nodes are available: 2 node(s) had untolerated taint {gpu: yes}."
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    reason = diagnose(pod(conditions=[condition]), [], "")
    assert reason is not None
    assert reason.text.startswith("unschedulable, no node takes it for the nodes' taints: 0/2")
    lost = {"type": "Ready", "status": "False", "reason": "NodeNotReady"}
    reason = diagnose(pod(conditions=[lost]), [], "")
    assert reason is not None
    assert reason.text == "its node does not answer (NodeNotReady)"


# As huggingface_hub, transformers and vLLM write them.
GATED_401 = (DATA / "gated-401.log").read_text(encoding="utf-8")
GATED_403 = (DATA / "gated-403.log").read_text(encoding="utf-8")
UNAUTHORIZED = (
    "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: "
    "https://huggingface.co/Qwen/Qwen2.5-7B-Instruct/resolve/main/config.json"
)
GPU_HELD = (
    "(EngineCore pid=42) ValueError: Free memory on device cuda:0 (3.27/22.05 GiB) on startup is "
    "less than desired GPU memory utilization (0.9, 19.84 GiB)."
)
NO_CACHE = (
    "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens "
    "that can be stored in KV cache (24480)."
)


@pytest.mark.parametrize(
    ("log", "begins"),
    [
        (GATED_401, "Hugging Face refuses meta-llama/Llama-3.1-8B-Instruct (401): it is gated"),
        (GATED_403, "Hugging Face refuses mistralai/Mistral-7B-Instruct-v0.3 (403): the account"),
        (UNAUTHORIZED, "Hugging Face refuses Qwen/Qwen2.5-7B-Instruct (401): HF_TOKEN"),
        (GPU_HELD, "the GPU's memory is held by something else"),
        (NO_CACHE, "the GPU's memory does not suffice for the KV cache"),
        ("OSError: [Errno 28] No space left on device", "the disk or a memory volume is full"),
    ],
)
def test_known_texts_of_engines_are_given_a_meaning(log: str, begins: str) -> None:
    assert (log_reason(log) or "").startswith(begins)
    reason = diagnose(ended(exitCode=1), [], log)
    assert reason is not None
    assert begins in reason.text


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", ""),
        ("loading\nready\n", "ready"),
        ("Traceback ...\nValueError: no such model\nloading", "ValueError: no such model"),
        (
            "(EngineCore pid=9) ERROR [core.py:1] KeyError: 'rope'\n"
            "RuntimeError: Engine core initialization failed. See root cause above.",
            "KeyError: 'rope'",
        ),
        ("usage: serve\napi_server.py: error: unrecognized arguments: --x\n", None),
    ],
)
def test_the_error_line_is_the_last_exception_that_gives_a_reason(
    log: str, line: str | None
) -> None:
    assert error_line(log) == (line if line is not None else log.strip().splitlines()[-1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
STATES = st.fixed_dictionaries(
    {},
    optional={
        "waiting": st.fixed_dictionaries({"reason": st.text(), "message": st.text()}),
        "terminated": st.fixed_dictionaries({"reason": st.text(), "exitCode": st.integers()}),
        "running": st.just({}),
    },
)
PODS = st.fixed_dictionaries(
    {
        "status": st.fixed_dictionaries(
            {"phase": st.text()},
            optional={
                "reason": st.text(),
                "containerStatuses": st.lists(
                    st.fixed_dictionaries({"state": STATES, "lastState": STATES, "x": JSON})
                ),
                "conditions": st.lists(st.dictionaries(st.text(), st.text())),
            },
        )
    }
)
EVENTS = st.lists(st.fixed_dictionaries({"reason": st.text(), "message": st.text()}))


@given(PODS, EVENTS, st.text())
def test_whatever_a_cluster_answers_the_reason_is_one_line_or_none(
    found: dict[str, Any], events: list[dict[str, Any]], log: str
) -> None:
    reason = diagnose(Resource(found), events, log)
    assert reason is None or (reason.text and len(reason.text.splitlines()) == 1)
