"""The versions of Kubernetes that are supported."""

from __future__ import annotations

# Every object is checked against the schemas of each (tests/k8s/). The oldest is bounded by
# `preStop: sleep`, which is in every cluster from 1.30 on.
SUPPORTED_VERSIONS = ("1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
