"""The cluster that tests marked `cluster` need, as pytest's options name it."""

from __future__ import annotations

import os

import pytest

from bench.environments.kubernetes.cluster import Access


@pytest.fixture(scope="session")
def real_cluster(request: pytest.FixtureRequest) -> Access:
    """The cluster of --kubeconfig or --context; nothing is tried on one that nobody named."""
    kubeconfig = request.config.getoption("--kubeconfig")
    context = request.config.getoption("--context")
    if kubeconfig is None and context is None:
        pytest.skip("needs a cluster: pytest tests/k8s -m cluster --kubeconfig FILE")
    return Access.chosen(kubeconfig, context, os.environ)
