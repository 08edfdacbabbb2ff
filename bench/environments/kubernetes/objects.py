"""Kubernetes objects as the API has them."""

from __future__ import annotations

from typing import Any

from bench.environments.kubernetes.manifests.names import PART_OF

Object = dict[str, Any]
"""An object, or a part of one, as JSON values."""


# All that the suite applies has these labels.
OURS = {"app.kubernetes.io/part-of": PART_OF, "app.kubernetes.io/managed-by": PART_OF}
# A namespace that the suite has made: one that was there before is never deleted.
MADE = "llm-bench/made-by"
# What a namespace has by itself, or what follows from other objects.
_BY_ITSELF = {
    ("", "serviceaccounts", "default"),
    ("", "configmaps", "kube-root-ca.crt"),
    ("", "configmaps", "openshift-service-ca.crt"),
}
_FOLLOWS = {
    ("", "events"),
    ("events.k8s.io", "events"),
    ("", "endpoints"),
    ("discovery.k8s.io", "endpointslices"),
    ("metrics.k8s.io", "pods"),
}


def marked(namespace: Object) -> Object:
    """The namespace with the mark that the suite has made it."""
    meta = namespace["metadata"]
    annotations = {**(meta.get("annotations") or {}), MADE: PART_OF}
    return {**namespace, "metadata": {**meta, "annotations": annotations}}


def made_by_us(namespace: Object) -> bool:
    annotations = namespace["metadata"].get("annotations") or {}
    return bool(annotations.get(MADE) == PART_OF)


def is_ours(one: Object) -> bool:
    """Whether the suite has applied the object."""
    labels = one["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in OURS.items())


def follows_from_others(group: str, plural: str, one: Object) -> bool:
    """Whether an object goes away by itself with what it belongs to."""
    meta = one["metadata"]
    return (
        (group, plural) in _FOLLOWS
        or (group, plural, meta["name"]) in _BY_ITSELF
        or bool(meta.get("ownerReferences"))
    )
