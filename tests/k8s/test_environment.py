"""Arms in a cluster: all at once where there is room, else one namespace at a time."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from bench.config.topology import load_topology
from bench.environments.kubernetes.access import Access
from bench.environments.kubernetes.environment import KubernetesEnvironment
from bench.environments.kubernetes.operations import KubernetesOperations
from bench.errors import UserError
from bench.progress import PlainProgress
from tests.k8s.scripted_cluster import Cluster

TOPOLOGY = load_topology()
MODEL = TOPOLOGY.models["tiny-llama"]
BASELINE, SIMPLE, MANAGED = (TOPOLOGY.arm(name) for name in ("baseline", "simple", "managed"))


Make = Callable[..., KubernetesEnvironment]


def engines(cluster: Cluster, namespace: str) -> set[str]:
    return {
        path.rpartition("/")[2]
        for path in cluster.objects
        if path.startswith(f"/api/v1/namespaces/{namespace}/pods/engine-")
    }


def test_where_there_is_room_both_arms_are_up_and_nothing_is_left(
    cluster: Cluster, environment: Make
) -> None:
    one = environment(BASELINE, MANAGED)
    one.start((MODEL,))
    assert not one.alternates
    for arm in (BASELINE, MANAGED, BASELINE):
        one.arm_routes(arm, 1, [MODEL.name])
    assert [one.engines(arm) for arm in (BASELINE, MANAGED)] == ["baseline 1", "managed 1"]
    assert {len(engines(cluster, name)) for name in ("baseline", "managed")} == {2}
    one.stop()
    assert not cluster.objects


def test_where_there_is_not_one_is_up_at_a_time(cluster: Cluster, environment: Make) -> None:
    cluster.cores = 1
    one = environment(BASELINE, MANAGED)
    one.start((MODEL,))
    assert one.alternates
    seen, started = [], []
    for arm, namespace, other in (
        (BASELINE, "baseline", "managed"),
        (MANAGED, "managed", "baseline"),
        (MANAGED, "managed", "baseline"),
        (BASELINE, "baseline", "managed"),
    ):
        one.arm_routes(arm, 1, [MODEL.name])
        assert not engines(cluster, other)
        seen.append({replica.name for replica in one.replicas(arm)})
        assert seen[-1] == engines(cluster, namespace)
        assert not one.dead_replicas()
        started.append(one.engines(arm))
    assert started == ["baseline 1", "managed 1", "managed 1", "baseline 2"]
    first, second, third, fourth = seen
    assert second == third, "engines that are up are left alone"
    assert not first & fourth


def test_arms_with_alike_engines_share_them(cluster: Cluster, environment: Make) -> None:
    cluster.cores = 1
    one = environment(BASELINE, SIMPLE)
    one.start((MODEL,))
    assert not one.alternates
    before = engines(cluster, "baseline")
    assert one.arm_routes(BASELINE, 1, [MODEL.name]) != one.arm_routes(SIMPLE, 1, [MODEL.name])
    assert one.replicas(BASELINE) == one.replicas(SIMPLE)
    assert one.engines(BASELINE) == one.engines(SIMPLE) == ""
    assert {replica.name for replica in one.replicas(SIMPLE)} == engines(cluster, "baseline")
    assert len(before) == 2


def test_a_replica_that_is_gone_is_dead(cluster: Cluster, environment: Make) -> None:
    one = environment(BASELINE)
    one.start((MODEL,))
    gone = min(engines(cluster, "baseline"))
    del cluster.objects[f"/api/v1/namespaces/baseline/pods/{gone}"]
    assert one.dead_replicas() == (f"{gone} in namespace baseline is gone",)


def operations(access: Access, said: io.StringIO, timeout_s: float = 10.0) -> KubernetesOperations:
    return KubernetesOperations(access, TOPOLOGY, PlainProgress(said), timeout_s)


def test_what_does_not_come_up_is_taken_down_again(
    cluster: Cluster, access: Access, said: io.StringIO
) -> None:
    cluster.come_up = False
    with pytest.raises(UserError, match="0 of 2 are"):
        operations(access, said, 0.1).deploy([BASELINE, MANAGED], [MODEL], keep=False)
    assert not cluster.objects


def test_what_was_up_before_stays_when_another_arm_does_not_come_up(
    cluster: Cluster, access: Access, said: io.StringIO
) -> None:
    operations(access, said).deploy([BASELINE], [MODEL], keep=False)
    cluster.come_up = False
    with pytest.raises(UserError, match="are; --ready-timeout allows more"):
        operations(access, said, 0.1).deploy([SIMPLE], [MODEL], keep=False)
    assert len(engines(cluster, "baseline")) == 2
    assert "namespace baseline has replicas: they stay" in said.getvalue()


def test_a_command_in_a_pod_gives_its_output(cluster: Cluster, environment: Make) -> None:
    one = environment(BASELINE)
    one.start((MODEL,))
    pod = min(engines(cluster, "baseline"))
    (console,) = [each for each in one._consoles("baseline") if each.engine == pod]
    assert (console.model, console.ipc, console.port) == (MODEL.name, pod, 8000)

    def said(code: str) -> str:
        return console.run(["python", "-c", code])

    assert said("import sys; print(len(sys.stdin.read())); print('!', file=sys.stderr)") == "0\n"
    with pytest.raises(UserError, match=r"it ended with 3: not here"):
        said("import sys; print('not here', file=sys.stderr); sys.exit(3)")
    cluster.log = "[kvcached] Applying\n"
    assert list(console.log()) == ["[kvcached] Applying"]


def test_engines_on_cpus_are_not_looked_at(cluster: Cluster, environment: Make) -> None:
    one = environment(BASELINE, MANAGED)
    one.start((MODEL,))
    assert one.arm_facts(MANAGED) == {}
