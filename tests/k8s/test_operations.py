"""Arms in a cluster as the commands see them: rows, what pods answer, logs, and the end."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from bench.cli.health import check_all
from bench.config.topology import load_topology
from bench.environments.kubernetes.access import Access
from bench.environments.kubernetes.operations import KubernetesOperations
from bench.errors import UserError
from bench.progress import PlainProgress
from tests.bench.operating import PATCHED, balancer_answers
from tests.k8s.scripted_cluster import READY, Cluster

TOPOLOGY = load_topology()
MODEL, GPU_MODEL = TOPOLOGY.models["tiny-llama"], TOPOLOGY.models["llama-3.1-8b"]
BASELINE, SIMPLE, RANDOM, MANAGED = map(TOPOLOGY.arm, ("baseline", "simple", "random", "managed"))


@pytest.fixture
def operations(access: Access, said: io.StringIO) -> KubernetesOperations:
    return KubernetesOperations(access, TOPOLOGY, PlainProgress(said), timeout_s=10.0)


def test_every_pod_is_a_row_and_an_arm_that_is_gone_has_none(
    cluster: Cluster, operations: KubernetesOperations
) -> None:
    assert operations.services(None) == ()
    operations.deploy([BASELINE, MANAGED], [MODEL], keep=False)
    rows = [(one.kind, one.arm, one.model, one.place) for one in operations.services(None)]
    assert rows == [
        *[("engine", "", "tiny-llama", "node1")] * 2,
        *[("balancer", "managed", "", "node1")] * 2,
        *[("engine", "managed", "tiny-llama", "node1")] * 2,
    ]
    engine = operations.services([BASELINE])[0]
    assert re.fullmatch(r"baseline/engine-tiny-llama-[\w-]+", engine.name)
    assert engine.log == f"kubectl -n {engine.name.replace('/', ' logs ')}"
    assert (engine.ready, engine.state, engine.kvcached) == (True, "running", False)
    assert operations.teardown([BASELINE])
    assert operations.services([BASELINE]) == ()
    assert not operations.teardown([BASELINE])
    assert operations.teardown(None)
    assert not cluster.objects


def test_a_balancer_belongs_to_the_arm_that_has_its_policy(
    cluster: Cluster, operations: KubernetesOperations
) -> None:
    for arm in (SIMPLE, RANDOM):
        operations.deploy([BASELINE, arm], [MODEL], keep=False)
        found = [one for one in operations.services(None) if one.kind == "balancer"]
        assert {one.arm for one in found} == {arm.name}


def test_arms_of_which_one_is_up_at_a_time_are_not_deployed_together(
    cluster: Cluster, operations: KubernetesOperations
) -> None:
    with pytest.raises(UserError, match="simple and random share namespace baseline"):
        operations.deploy([SIMPLE, RANDOM], [MODEL], keep=False)
    assert not cluster.objects


def test_engines_want_kvcached_where_the_arm_has_it_and_there_are_gpus(
    cluster: Cluster, operations: KubernetesOperations
) -> None:
    operations.deploy([BASELINE, MANAGED], [GPU_MODEL], keep=False)
    engines = [one for one in operations.services(None) if one.kind == "engine"]
    assert {(one.name.partition("/")[0], one.kvcached) for one in engines} == {
        ("baseline", False),
        ("managed", True),
    }


def test_pods_are_asked_through_the_api_server(
    cluster: Cluster, operations: KubernetesOperations
) -> None:
    cluster.log = f"starting\n{PATCHED}\nserving"
    cluster.served = {
        **balancer_answers(),
        "/v1/models": '{"data": [{"id": "tiny-llama"}]}',
        "/version": '{"version": "0.30.0"}',
    }
    operations.deploy([MANAGED], [MODEL], keep=False)
    services = operations.services(None)
    found = check_all(operations, [*services, replace(services[-1], kvcached=True)])
    assert [one.problem for one in found] == [None] * 5
    assert [one.version for one in found] == ["0.1.0", "0.1.0", "0.30.0", "0.30.0", "0.30.0"]
    assert found[-1].kvcached == "active"
    cluster.served = {}
    problem = str(check_all(operations, services)[-1].problem)
    assert problem.startswith("cannot get /health of Pod engine-tiny-llama-")
    assert problem.endswith("through the API server: error trying to reach service (503)")


@pytest.mark.parametrize("follow", [False, True])
def test_the_lines_of_a_log_come_whole(
    cluster: Cluster, operations: KubernetesOperations, follow: bool
) -> None:
    operations.deploy([MANAGED], [MODEL], keep=False)
    engine = operations.services(None)[-1]
    assert list(operations.logs(engine, None, follow=follow)) == []
    cluster.log = "one\n\ntwo \u2713\nthree"
    assert list(operations.logs(engine, None, follow=follow)) == ["one", "", "two \u2713", "three"]
    assert list(operations.logs(engine, 2, follow=follow)) == ["two \u2713", "three"]
    assert next(operations.logs(engine, None, follow=follow)) == "one"


def test_pods_that_are_late_are_rows_with_the_reason(
    cluster: Cluster, operations: KubernetesOperations
) -> None:
    cluster.come_up = False
    with pytest.raises(UserError, match="0 of 2 are"):
        KubernetesOperations(
            operations._access, TOPOLOGY, PlainProgress(io.StringIO()), timeout_s=0.1
        ).deploy([BASELINE], [MODEL], keep=True)
    rows = {(one.ready, one.state, one.uptime_s) for one in operations.services(None)}
    assert rows == {(False, "pending", None)}


def test_uptime_counts_from_the_last_start_of_the_container(
    cluster: Cluster, operations: KubernetesOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"running": {"startedAt": "2020-01-01T00:00:00Z"}}
    container = {"name": "vllm", "image": "", "imageID": "", "state": state, "restartCount": 3}
    monkeypatch.setitem(READY, "containerStatuses", [container])
    operations.deploy([BASELINE], [MODEL], keep=False)
    for one in operations.services(None):
        assert (one.uptime_s or 0) > 1e8
        assert one.restarts == 3
