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


class BadAnswerError(UpstreamError):
    """What came is not HTTP/1.1, or no answer to the request."""

    kind = "bad-answer"


class TooSlowError(UpstreamError):
    """The answer, or more of it, did not come in the time allowed."""

    kind = "slow"
