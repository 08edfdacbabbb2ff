"""The HTTP server towards clients."""

from lb.http.downstream.connection import CLIENT_LEFT, ClientConnection, Handler
from lb.http.downstream.incoming import BodyMemory, Incoming, Limits

__all__ = ["CLIENT_LEFT", "BodyMemory", "ClientConnection", "Handler", "Incoming", "Limits"]
