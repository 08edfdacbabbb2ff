"""The ways in which a replica fails to answer."""

from __future__ import annotations

from typing import ClassVar


class UpstreamError(Exception):
    """A replica did not give a whole answer. The message continues "replica x ..."."""

    kind: ClassVar[str]


class ConnectFailedError(UpstreamError):
    """There is no connection to be had."""

    kind = "connect"


class ConnectionLostError(UpstreamError):
    """The connection ended before the answer did."""

    kind = "lost"


class IdleClosedError(ConnectionLostError):
    """A connection that was idle ended as the request was sent, without a byte.

    The replica was closing it at that moment, and most likely has never seen the request.
    """

    kind = "idle"


class BadAnswerError(UpstreamError):
    """What came is not HTTP/1.1, or no answer to the request.

    `status` is that of an answer which is merely not the one that was wanted, else 0.
    """

    kind = "bad-answer"

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class TooSlowError(UpstreamError):
    """The answer, or more of it, did not come in the time allowed."""

    kind = "slow"


class OutOfDescriptorsError(UpstreamError):
    """This process cannot open a connection, wherever to: the replica has no part in it.

    The message is what the system says.
    """

    kind = "descriptors"
