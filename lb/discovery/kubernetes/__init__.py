"""Replicas as Kubernetes knows them: the EndpointSlices of a service, watched.

They come over httpx, since two requests are all that is needed of the API: a client for
all of it has 46 MB (kubernetes_asyncio) or waits in threads (kubernetes).
"""

from lb.discovery.kubernetes.service import Service, ServiceAccount, parse_service
from lb.discovery.kubernetes.watch import Pace, WatchedService

__all__ = ["Pace", "Service", "ServiceAccount", "WatchedService", "parse_service"]
