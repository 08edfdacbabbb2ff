"""With a cluster that has the suite's images: an arm of real engines under load loses nothing.

Uses the namespaces `managed` and that of the load, so that no measurement may be under way.
"""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from bench.config.topology import load_topology
from bench.environments.kubernetes.access import Access, connect
from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.environment import KubernetesEnvironment
from bench.environments.kubernetes.load_pods import PodSite
from bench.environments.kubernetes.objects import ENGINES
from bench.environments.kubernetes.waiting import Wait
from bench.load.plan.arrivals import Constant
from bench.load.plan.schedule import plan_open_loop
from bench.load.plan.workload import Fixed, Workload
from bench.load.run.drive import Load
from bench.load.run.processes import run_spread
from bench.progress import PlainProgress
from bench.records import Sample

pytestmark = pytest.mark.cluster
NAMESPACE = "managed"
MODEL, ENGINE = "tiny-llama", "engine-tiny-llama"
RATE_RPS = 4.0
# Of the load, before anything is done to what serves it.
HEADSTART_S = 5.0
# To pull down, load a tiny model on a small machine, and become ready.
TIMEOUT_S = 600.0
BALANCERS = {"app.kubernetes.io/component": "balancer"}
TOPOLOGY = load_topology()


@dataclass(frozen=True, slots=True)
class Cluster:
    """An arm that is up, and the pods that load is sent from."""

    access: Access
    api: Api
    environment: KubernetesEnvironment
    site: PodSite
    wait: Wait

    def engines(self) -> set[str]:
        """The names of the replicas that are ready."""
        return {one.name for one in self.environment.replicas(TOPOLOGY.arm("managed"))}

    def pods(self, labels: dict[str, str]) -> list[str]:
        found = self.api.find("Pod", NAMESPACE, labels)
        return [one.name for one in found if not one.is_terminating]

    def settled(self, deployment: str) -> None:
        """Return when a Deployment has all its pods, and none that leaves."""
        self.wait.until_ready((deployment,))
        deadline_s = time.monotonic() + TIMEOUT_S
        while any(pod.is_terminating for pod in self.api.find("Pod", NAMESPACE)):
            assert time.monotonic() < deadline_s
            time.sleep(1.0)


@pytest.fixture(scope="module")
def cluster(real_cluster: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    progress, cache = PlainProgress(io.StringIO()), tmp_path_factory.mktemp("cache")
    arm = TOPOLOGY.arm("managed")
    environment = KubernetesEnvironment(
        real_cluster, (arm,), cache, progress, topology=TOPOLOGY, timeout_s=TIMEOUT_S
    )
    try:
        site = environment.site()
        environment.start((TOPOLOGY.models[MODEL],))
        api = connect(real_cluster)
        yield Cluster(
            real_cluster, api, environment, site, Wait(api, NAMESPACE, progress, TIMEOUT_S)
        )
    finally:
        environment.stop()
    for namespace in (NAMESPACE, "llm-bench"):
        assert connect(real_cluster).get("Namespace", None, namespace) is None


def answers(cluster: Cluster, seconds: float) -> tuple[Sample, ...]:
    """What becomes of the requests of so many seconds, sent through the arm's balancers."""
    schedule = plan_open_loop(
        seed=int(seconds),
        rates_rps={MODEL: RATE_RPS},
        workload=Workload(prompt=Fixed(16), output=Fixed(16)),
        arrival=Constant(load=0.5),
        duration_s=seconds,
    )
    routes = cluster.environment.arm_routes(TOPOLOGY.arm("managed"), 1, [MODEL])
    count = len(schedule.requests)
    load = Load(schedule, [f"Tell me of {n}." for n in range(count)], list(routes[MODEL]) * count)
    (result,) = run_spread([load], cluster.site, processes=1, drain_timeout_s=60.0)
    return result.samples


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something in the middle of what the context does; what it raises is raised."""

    def later() -> None:
        time.sleep(HEADSTART_S)
        act()

    with ThreadPoolExecutor(1) as threads:
        acting = threads.submit(later)
        yield
        acting.result()


def require_all(samples: Sequence[Sample]) -> None:
    lost = [(round(one.scheduled_s, 1), one.error, one.detail) for one in samples if not one.ok]
    assert not lost


def test_both_replicas_serve_through_the_balancers(cluster: Cluster) -> None:
    samples = answers(cluster, 10.0)
    require_all(samples)
    assert {one.replica for one in samples} == cluster.engines()


def test_a_pod_that_is_deleted_under_load_loses_no_request(cluster: Cluster) -> None:
    before = cluster.engines()
    gone = min(before)
    with meanwhile(lambda: cluster.api.delete("Pod", NAMESPACE, gone)):
        require_all(answers(cluster, 40.0))
    cluster.settled(ENGINE)
    after = cluster.engines()
    assert gone not in after
    assert len(after) == len(before)
    samples = answers(cluster, 10.0)
    require_all(samples)
    assert {one.replica for one in samples} == after


def test_engines_that_come_and_go_under_load_lose_no_request(cluster: Cluster) -> None:
    before = cluster.engines()

    def scale() -> None:
        cluster.api.scale(NAMESPACE, ENGINE, 1)
        cluster.wait.until_ready((ENGINE,))
        cluster.api.scale(NAMESPACE, ENGINE, len(before))

    with meanwhile(scale):
        require_all(answers(cluster, 40.0))
    cluster.settled(ENGINE)


@pytest.mark.parametrize("deployment", ["balancer", ENGINE])
def test_a_rolling_update_under_load_loses_no_request(cluster: Cluster, deployment: str) -> None:
    labels = BALANCERS if deployment == "balancer" else dict(ENGINES)
    before = set(cluster.pods(labels))
    command = ["kubectl", "--kubeconfig", cluster.access.kubeconfig, "-n", NAMESPACE]

    def roll() -> None:
        restart = [*command, "rollout", "restart", f"deployment/{deployment}"]
        subprocess.run(restart, check=True, capture_output=True)

    with meanwhile(roll):
        require_all(answers(cluster, 90.0))
    cluster.settled(deployment)
    after = set(cluster.pods(labels))
    assert not before & after
    samples = answers(cluster, 10.0)
    require_all(samples)
    assert {one.replica for one in samples} == cluster.engines()
