"""A cluster's API, as far as it is needed: objects as JSON values, mistakes as one line."""

from bench.environments.kubernetes.cluster.access import Access, connect
from bench.environments.kubernetes.cluster.api import Api
from bench.environments.kubernetes.cluster.streams import Streams

__all__ = ["Access", "Api", "Streams", "connect"]
