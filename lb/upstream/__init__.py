"""The HTTP client towards the replicas, which knows nothing of models and policies."""

from lb.upstream.client import Upstream
from lb.upstream.errors import (
    BadAnswerError,
    ConnectFailedError,
    ConnectionLostError,
    UpstreamError,
)
from lb.upstream.response import Response

__all__ = [
    "BadAnswerError",
    "ConnectFailedError",
    "ConnectionLostError",
    "Response",
    "Upstream",
    "UpstreamError",
]
