"""With a cluster: what is applied becomes ready or is diagnosed, and is gone afterwards.

Runs in a namespace of its own, with images that the cluster need not have.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator

import pytest

from bench.environments.kubernetes.access import Access, connect
from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.deploying import apply_one, teardown
from bench.environments.kubernetes.objects import OURS, Resource
from bench.environments.kubernetes.waiting import Wait
from bench.errors import UserError
from bench.progress import PlainProgress

pytestmark = pytest.mark.cluster
TIMEOUT_S = 300.0


@pytest.fixture(scope="module")
def api(real_cluster: Access) -> Api:
    return connect(real_cluster)


@pytest.fixture
def progress() -> PlainProgress:
    return PlainProgress(io.StringIO())


@pytest.fixture
def namespace(api: Api, progress: PlainProgress) -> Iterator[str]:
    name = f"llm-bench-test-{secrets.token_hex(3)}"
    apply_one(api, Resource(apiVersion="v1", kind="Namespace", metadata={"name": name}))
    try:
        yield name
    finally:
        api.delete("Namespace", None, name)


def deployment(namespace: str) -> Resource:
    """A Deployment of ours whose image no registry has."""
    labels = {**OURS, "llm-bench/test": "engine"}
    container = {"name": "vllm", "image": "registry.invalid/none:1"}
    return Resource(
        apiVersion="apps/v1",
        kind="Deployment",
        metadata={"name": "engine", "namespace": namespace, "labels": labels},
        spec={
            "replicas": 1,
            "selector": {"matchLabels": {"llm-bench/test": "engine"}},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    )


def test_what_does_not_come_up_is_diagnosed_and_taken_down_with_its_namespace(
    api: Api, namespace: str, progress: PlainProgress
) -> None:
    apply_one(api, deployment(namespace))
    with pytest.raises(UserError, match=r"engine-.*: image registry.invalid/none:1 cannot be pull"):
        Wait(api, namespace, progress, TIMEOUT_S).until_ready(("engine",))
    assert teardown(api, namespace, progress, TIMEOUT_S)
    assert api.get("Namespace", None, namespace) is None
    assert not teardown(api, namespace, progress, TIMEOUT_S)


def test_what_others_have_put_there_stays(
    api: Api, namespace: str, progress: PlainProgress
) -> None:
    secret = {"name": "hf-token", "namespace": namespace}
    api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": secret})
    apply_one(api, deployment(namespace))
    assert teardown(api, namespace, progress, TIMEOUT_S)
    assert api.get("Deployment", namespace, "engine") is None
    assert api.get("Secret", namespace, "hf-token") is not None
