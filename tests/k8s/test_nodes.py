"""Whether a cluster has room for all arms, computed from its nodes and pods."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.environments.kubernetes.nodes import (
    amount,
    fits,
    free_resources,
    pod_requests,
    requests_of,
)

GIB = 1024**3


def node(name: str, gpus: int, **spec: Any) -> dict[str, Any]:
    allocatable = {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": str(gpus)}
    return {"metadata": {"name": name}, "spec": spec, "status": {"allocatable": allocatable}}


def pod(namespace: str, on: str, gpus: int = 1, phase: str = "Running") -> dict[str, Any]:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"cpu": "500m"}}
    return {
        "metadata": {"namespace": namespace},
        "spec": {"nodeName": on, "containers": [{"resources": resources}]},
        "status": {"phase": phase},
    }


def engines(replicas: int) -> dict[str, Any]:
    template = {"spec": pod("", "")["spec"]}
    return {"kind": "Deployment", "spec": {"replicas": replicas, "template": template}}


@pytest.mark.parametrize(
    ("quantity", "value"),
    [("250m", 0.25), ("8Gi", 8 * GIB), ("2", 2.0), ("1k", 1000.0), ("129e6", 129e6), (3, 3.0)],
)
def test_quantities_are_read_as_kubernetes_writes_them(quantity: object, value: float) -> None:
    assert amount(quantity) == pytest.approx(value)


def test_a_limit_without_a_request_is_one() -> None:
    assert requests_of(pod("a", "n")["spec"]) == {"nvidia.com/gpu": 1.0, "cpu": 0.5, "memory": 0.0}


def test_pods_of_others_take_room_and_ours_and_ended_ones_do_not() -> None:
    pods = [pod("other", "n", 2), pod("baseline", "n", 4), pod("other", "n", 1, "Succeeded")]
    (left,) = free_resources(
        [node("n", 8), node("cordoned", 8, unschedulable=True)], pods, {"baseline"}
    )
    assert left["nvidia.com/gpu"] == 6
    assert left["cpu"] == 3.5


@pytest.mark.parametrize(("gpus", "fit"), [(12, True), (8, False)])
def test_two_arms_of_six_gpus_need_twelve(gpus: int, fit: bool) -> None:
    room = free_resources([node("a", gpus // 2), node("b", gpus // 2)], [], set())
    pods = pod_requests([engines(6), engines(6), {"kind": "Service"}])
    assert len(pods) == 12
    assert fits(room, pods) == fit


def test_a_job_needs_room_for_as_many_pods_as_run_at_once() -> None:
    template = {"spec": pod("", "")["spec"]}
    job = {"kind": "Job", "spec": {"parallelism": 3, "completions": 4, "template": template}}
    assert len(pod_requests([job])) == 3


@given(st.integers(0, 8), st.integers(0, 8))
def test_gpus_of_two_nodes_do_not_make_one_pod_with_more(first: int, second: int) -> None:
    room = free_resources([node("a", first), node("b", second)], [], set())
    large = [{"nvidia.com/gpu": float(max(first, second) + 1), "cpu": 0.0, "memory": 0.0}]
    assert not fits(room, large)
