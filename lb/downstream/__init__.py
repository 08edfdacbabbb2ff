"""The HTTP server towards clients, which knows nothing of models and policies."""

from lb.downstream.connection import CLIENT_LEFT, ClientConnection, Exchange
from lb.downstream.incoming import Incoming
from lb.downstream.limits import BodyMemory, Limits

__all__ = ["CLIENT_LEFT", "BodyMemory", "ClientConnection", "Exchange", "Incoming", "Limits"]
