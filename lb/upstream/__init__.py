"""The HTTP client towards the replicas, which knows nothing of models and policies."""

from lb.upstream.client import Upstream
from lb.upstream.connection import Connection, Receiver
from lb.upstream.errors import (
    BadAnswerError,
    ConnectFailedError,
    ConnectionLostError,
    TooSlowError,
    UpstreamError,
)

__all__ = [
    "BadAnswerError",
    "ConnectFailedError",
    "Connection",
    "ConnectionLostError",
    "Receiver",
    "TooSlowError",
    "Upstream",
    "UpstreamError",
]
