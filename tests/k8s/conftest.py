"""Clusters: one in memory, and the real one that tests marked `cluster` need."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.config.topology import Arm, load_topology
from bench.environments.kubernetes.access import Access
from bench.environments.kubernetes.environment import KubernetesEnvironment
from bench.progress import PlainProgress
from tests.k8s.built import need_kubectl
from tests.k8s.scripted_api import kubeconfig
from tests.k8s.scripted_cluster import Cluster, scripted_cluster


@pytest.fixture(scope="session")
def real_cluster(request: pytest.FixtureRequest) -> Access:
    """The cluster of --kubeconfig or --context; without either, these tests are skipped."""
    file = request.config.getoption("--kubeconfig")
    context = request.config.getoption("--context")
    if file is None and context is None:
        pytest.skip("needs a cluster: pytest tests/k8s -m cluster --kubeconfig FILE")
    return Access.chosen(file, context, os.environ)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One in memory, for what builds manifests."""
    need_kubectl()
    with scripted_cluster(Cluster()) as up:
        yield up


@pytest.fixture
def access(cluster: Cluster, tmp_path: Path) -> Access:
    return Access(str(kubeconfig(tmp_path, {"lab": cluster.server}, "lab")))


@pytest.fixture
def said() -> io.StringIO:
    """What progress writes, where it is given this."""
    return io.StringIO()


@pytest.fixture
def environment(
    access: Access, said: io.StringIO, tmp_path: Path
) -> Iterator[Callable[..., KubernetesEnvironment]]:
    """Makes environments in that cluster, which are stopped at the end of the test."""
    made = []

    def make(*arms: Arm, load_pods: int = 1, keep: bool = False) -> KubernetesEnvironment:
        progress = PlainProgress(said)
        one = KubernetesEnvironment(
            access,
            arms,
            tmp_path,
            progress,
            topology=load_topology(),
            timeout_s=1800.0,
            load_pods=load_pods,
            keep=keep,
        )
        made.append(one)
        return one

    yield make
    for one in made:
        one.stop()
