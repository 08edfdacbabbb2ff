"""The HTTP server towards clients, which knows nothing of models and policies."""

from lb.downstream.connection import CLIENT_LEFT, ClientConnection, Exchange, Limits
from lb.downstream.incoming import Incoming

__all__ = ["CLIENT_LEFT", "ClientConnection", "Exchange", "Incoming", "Limits"]
