"""Replicas as Kubernetes lists them: the ready endpoints in the EndpointSlices of a service."""

from lb.discovery.kubernetes.service import Service, ServiceAccount, parse_service
from lb.discovery.kubernetes.watch import Pace, WatchedService

__all__ = ["Pace", "Service", "ServiceAccount", "WatchedService", "parse_service"]
