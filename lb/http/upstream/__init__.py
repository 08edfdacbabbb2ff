"""The HTTP client towards the replicas, which knows nothing of models and policies."""

from lb.http.upstream.client import Upstream, client_context
from lb.http.upstream.connection import Connection, Receiver
from lb.http.upstream.errors import (
    BadAnswerError,
    ConnectFailedError,
    ConnectionLostError,
    IdleClosedError,
    OutOfDescriptorsError,
    TooSlowError,
    UpstreamError,
)

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
