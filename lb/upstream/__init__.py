"""The HTTP client towards the replicas, which knows nothing of models and policies."""

from lb.upstream.client import Upstream
from lb.upstream.connection import Connection, Receiver
from lb.upstream.errors import (
    BadAnswerError,
    ConnectFailedError,
    ConnectionLostError,
    IdleClosedError,
    OutOfDescriptorsError,
    TooSlowError,
    UpstreamError,
)
from lb.upstream.tls import client_context

__all__ = [
    "BadAnswerError",
    "ConnectFailedError",
    "Connection",
    "ConnectionLostError",
    "IdleClosedError",
    "OutOfDescriptorsError",
    "Receiver",
    "TooSlowError",
    "Upstream",
    "UpstreamError",
    "client_context",
]
