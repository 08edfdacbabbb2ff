"""A cluster that one run holds: who waits, who is refused, and what a run does that has lost it."""

from __future__ import annotations

import io
import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Lock, Thread

import pytest

from bench.config.topology import load_topology
from bench.environments.kubernetes import holding
from bench.environments.kubernetes.access import Access, connect
from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.environment import KubernetesEnvironment
from bench.environments.kubernetes.holding import HeldCluster, hold_cluster
from bench.environments.kubernetes.load_pods import load_objects
from bench.environments.kubernetes.operations import KubernetesOperations
from bench.errors import UserError
from bench.processes.machine import user_name
from bench.progress import PlainProgress
from tests.k8s.scripted_cluster import Cluster

MODEL = load_topology().models["tiny-llama"]
BASELINE = load_topology().arm("baseline")
NAMESPACE = "/api/v1/namespaces/llm-bench"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/llm-bench/leases/run"
FIRST = "run 1 (baseline, managed) (user ann, process 7 on host-a)"
SINCE = "2026-01-31T23:59:59.000000Z"
PATIENCE_S = 60.0

Make = Callable[..., KubernetesEnvironment]


@dataclass
class Time:
    """The clock of the one who waits. `meanwhile` is what happens whenever that one sleeps."""

    now_s: float = 1000.0
    meanwhile: Callable[[], None] = lambda: None
    slept_s: float = field(default=0.0)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.slept_s += seconds
        self.meanwhile()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(holding, "sleep", made.sleep)
    monkeypatch.setattr(holding, "monotonic", lambda: made.now_s)
    return made


@pytest.fixture
def api(access: Access) -> Api:
    return connect(access)


def lease_of(cluster: Cluster, holder: str = FIRST) -> None:
    """Write the lease as another run does when it takes or renews it."""
    cluster.objects.setdefault(
        NAMESPACE, {"kind": "Namespace", "metadata": {"name": "llm-bench", "uid": "1"}}
    )
    number = cluster.next_version()
    cluster.objects[LEASE] = {
        "kind": "Lease",
        "metadata": {"name": "run", "namespace": "llm-bench", "resourceVersion": number},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 40,
            "acquireTime": SINCE,
            "renewTime": number,
        },
    }


def held(
    api: Api, said: io.StringIO, timeout_s: float = 0.0
) -> AbstractContextManager[HeldCluster]:
    (namespace,) = (one for one in load_objects(1) if one["kind"] == "Namespace")
    return hold_cluster(api, namespace, "run 2 (x, y)", PlainProgress(said), timeout_s)


def test_whoever_holds_it_is_named_in_the_cluster_and_leaves_nothing(
    cluster: Cluster, api: Api, said: io.StringIO
) -> None:
    with held(api, said) as one:
        spec = cluster.objects[LEASE]["spec"]
        user, host = user_name(os.getuid()), platform.node()
        whose = f"run 2 (x, y) (user {user}, process {os.getpid()} on {host})"
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == (whose, 40)
        assert one.lost is None
    assert LEASE not in cluster.objects
    assert said.getvalue() == ""


def test_a_run_that_lives_is_named_to_whoever_does_not_wait(
    cluster: Cluster, api: Api, said: io.StringIO, time: Time
) -> None:
    lease_of(cluster)
    time.meanwhile = lambda: lease_of(cluster)
    with pytest.raises(UserError) as caught, held(api, said):
        pass
    assert str(caught.value) == (
        f"cluster lab is in use by {FIRST}, since {SINCE}; waited for 0 s, --wait-for-run S allows "
        "more; let it end, or end it: the lease of a run that was killed expires within 40 s"
    )
    assert cluster.objects[LEASE]["spec"]["holderIdentity"] == FIRST
    assert f"cluster lab is in use by {FIRST}, since {SINCE}\n" in said.getvalue()


def test_a_run_that_lives_is_waited_for_as_long_as_is_wanted(
    cluster: Cluster, api: Api, said: io.StringIO, time: Time
) -> None:
    lease_of(cluster)
    time.meanwhile = lambda: lease_of(cluster)
    with pytest.raises(UserError, match="waited for 600 s"), held(api, said, 600.0):
        pass
    assert 600 <= time.slept_s < 610


def test_a_run_that_was_killed_is_followed_when_its_lease_has_expired_also_without_waiting(
    cluster: Cluster, api: Api, said: io.StringIO, time: Time
) -> None:
    lease_of(cluster)
    with held(api, said) as one:
        assert 40 <= time.slept_s < 45
        assert one.lost is None
        assert cluster.objects[LEASE]["spec"]["leaseTransitions"] == 1


def test_it_goes_on_when_the_first_run_ends(
    cluster: Cluster, api: Api, said: io.StringIO, time: Time
) -> None:
    lease_of(cluster)

    def end() -> None:
        del cluster.objects[LEASE]

    time.meanwhile = end
    with held(api, said, 600.0):
        assert time.slept_s < 10


def test_it_goes_on_when_the_first_run_has_taken_the_namespace_down(
    cluster: Cluster, api: Api, said: io.StringIO, time: Time
) -> None:
    lease_of(cluster)
    cluster.objects[NAMESPACE]["metadata"]["deletionTimestamp"] = SINCE
    ending = [LEASE, None, NAMESPACE]

    def go_on() -> None:
        if (gone := ending.pop(0)) is not None:
            del cluster.objects[gone]

    time.meanwhile = go_on
    with held(api, said, 600.0):
        assert not ending
        assert "deletionTimestamp" not in cluster.objects[NAMESPACE]["metadata"]
    assert "is in use by a run that is ending" in said.getvalue()


def test_the_next_holder_is_named_as_well(
    cluster: Cluster, api: Api, said: io.StringIO, time: Time
) -> None:
    lease_of(cluster)
    time.meanwhile = lambda: lease_of(cluster, "run 3")
    with pytest.raises(UserError, match="in use by run 3, "), held(api, said, 60.0):
        pass
    assert said.getvalue().count("cluster lab is in use by ") == 2


def test_of_many_runs_at_once_one_holds_it_at_a_time(
    cluster: Cluster, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "POLL_S", 0.02)
    (namespace,) = (one for one in load_objects(1) if one["kind"] == "Namespace")
    inside, order = Lock(), []

    def run(number: int) -> None:
        progress = PlainProgress(io.StringIO())
        with hold_cluster(connect(access), namespace, f"run {number}", progress, PATIENCE_S):
            assert inside.acquire(blocking=False)
            order.append(number)
            inside.release()

    threads = [Thread(target=run, args=(number,)) for number in range(5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_its_lease_is_renewed_until_the_end(
    cluster: Cluster, api: Api, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "RENEW_EVERY_S", 0.01)
    with held(api, said) as one:
        seen: set[str] = set()
        while len(seen) < 3:
            seen.add(cluster.objects[LEASE]["spec"]["renewTime"])
        assert one.lost is None


def test_a_run_that_another_one_has_replaced_is_told_by_whom(
    cluster: Cluster, api: Api, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "RENEW_EVERY_S", 0.01)
    with held(api, said) as one:
        lease_of(cluster)
        one._thread.join(PATIENCE_S)
        with pytest.raises(UserError) as caught:
            one.require()
    assert str(caught.value) == (
        f"this run ends: its lease on the cluster was lost: {FIRST}, since {SINCE} has it now"
    )
    assert cluster.objects[LEASE]["spec"]["holderIdentity"] == FIRST, "it is not given back"


def test_a_run_that_cannot_renew_its_lease_ends_before_another_one_begins(
    cluster: Cluster, api: Api, said: io.StringIO, time: Time
) -> None:
    with held(api, said) as one:
        time.now_s += 29
        assert one.lost is None
        time.now_s += 1
        with pytest.raises(UserError, match="was not renewed for 30 s: the API server did not"):
            one.require()


def test_a_run_that_has_lost_the_cluster_touches_nothing_there(
    cluster: Cluster, environment: Make, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "RENEW_EVERY_S", 0.01)
    one = environment(BASELINE)
    with one.hold("run 2 (x, y)", PlainProgress(said), 0.0):
        one.site()
        one.start((MODEL,))
        lease_of(cluster)
        assert one._held is not None
        one._held._thread.join(PATIENCE_S)
        before = dict(cluster.objects)
        with pytest.raises(UserError, match="this run ends: its lease on the cluster was lost"):
            one.dead_replicas()
        one.stop()
    assert cluster.objects == before
    for namespace in ("baseline", "llm-bench"):
        assert f"namespace {namespace} is left as it is: its lease" in said.getvalue()


def test_a_whole_run_leaves_nothing_and_the_next_one_may_begin(
    cluster: Cluster, environment: Make, said: io.StringIO
) -> None:
    for _ in range(2):
        one = environment(BASELINE)
        with one.hold("run 2 (x, y)", PlainProgress(said), 0.0):
            one.site()
            one.start((MODEL,))
            assert one.dead_replicas() == ()
            one.stop()
        assert not cluster.objects


def test_an_arm_is_neither_deployed_nor_taken_down_under_a_run(
    cluster: Cluster, access: Access, said: io.StringIO, time: Time
) -> None:
    lease_of(cluster)
    time.meanwhile = lambda: lease_of(cluster)
    operations = KubernetesOperations(access, load_topology(), PlainProgress(said), 10.0)
    with pytest.raises(UserError) as caught, operations.hold("x", PlainProgress(said), 1800.0):
        pytest.fail("the cluster is in use")
    assert str(caught.value) == (
        f"cluster lab is in use by {FIRST}, since {SINCE}; let it end, or end it: the lease of "
        "a run that was killed expires within 40 s"
    )


def test_what_a_killed_run_has_left_is_taken_down_when_its_lease_has_expired(
    cluster: Cluster, access: Access, environment: Make, said: io.StringIO, time: Time
) -> None:
    killed = environment(BASELINE)
    killed.site()
    killed.start((MODEL,))
    lease_of(cluster)
    operations = KubernetesOperations(access, load_topology(), PlainProgress(said), 10.0)
    with operations.hold("x", PlainProgress(said), 0.0):
        assert operations.teardown([BASELINE])
    assert 40 <= time.slept_s < 45
    assert not cluster.objects
    assert f"looking whether {FIRST}, since {SINCE} still uses cluster lab" in said.getvalue()


def test_a_namespace_that_the_next_run_has_made_anew_is_not_waited_for(
    cluster: Cluster, environment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = cluster._delete

    def delete_and_go_on(path: str) -> None:
        delete(path)
        if path == NAMESPACE:
            lease_of(cluster)

    monkeypatch.setattr(cluster, "_delete", delete_and_go_on)
    one = environment(BASELINE)
    one._timeout_s = 0.0
    one.site()
    one.stop()
    assert set(cluster.objects) == {NAMESPACE, LEASE}
