"""The ways in which a replica fails to answer."""

from __future__ import annotations

from typing import ClassVar


class UpstreamError(Exception):
    """A replica did not give a whole answer. The message continues "replica x ..."."""

    kind: ClassVar[str]


class ConnectFailedError(UpstreamError):
    """No connection could be made."""

    kind = "connect"


class ConnectionLostError(UpstreamError):
    """The connection ended before the answer did."""

    kind = "lost"


class IdleClosedError(ConnectionLostError):
    """An idle connection was closed as the request was sent: most likely it was not read."""

    kind = "idle"


class BadAnswerError(UpstreamError):
    """The answer is not HTTP/1.1, or has another status than is needed: then `status`, else 0."""

    kind = "bad-answer"

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class TooSlowError(UpstreamError):
    """The answer, or its next part, did not come in time."""

    kind = "slow"


class OutOfDescriptorsError(UpstreamError):
    """This process cannot open any connection; the message is the system's."""

    kind = "descriptors"
