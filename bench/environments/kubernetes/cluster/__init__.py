"""Access to a cluster's API: objects as JSON values, errors as one line."""

from bench.environments.kubernetes.cluster.access import Access, connect
from bench.environments.kubernetes.cluster.api import Api
from bench.environments.kubernetes.cluster.streams import Streams

__all__ = ["Access", "Api", "Streams", "connect"]
