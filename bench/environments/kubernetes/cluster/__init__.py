"""A cluster's API, as far as it is needed: objects as JSON values, mistakes as one line."""

from bench.environments.kubernetes.cluster.access import Access, connect
from bench.environments.kubernetes.cluster.api import Api

__all__ = ["Access", "Api", "connect"]
