"""The answer to one client: passed on from a replica, refused, or broken off."""

from __future__ import annotations

from starlette.types import Send

from lb.apierror import ApiError
from lb.http1 import Header, end_to_end
from lb.upstream import Response

REPLICA_HEADER = b"x-lb-replica"


class Reply:
    """`replica` is the one that answers or was tried last, `model` what it was asked for;
    both are empty when no replica was. `status` is 0 until the head has been sent.
    """

    def __init__(self, send: Send) -> None:
        self.replica = ""
        self.model = ""
        self.status = 0
        self._send = send
        self._takes_events = False

    async def refuse(self, error: ApiError) -> None:
        """Answer with an error of the balancer's own."""
        body = error.body()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *error.headers,
        ]
        await self._start(error.status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def pass_on(self, response: Response) -> None:
        """Send on what comes, as it comes. Raises UpstreamError when it stops midway."""
        headers = [header for header in end_to_end(response.headers) if header[0] != REPLICA_HEADER]
        self._takes_events = _takes_events(headers)
        await self._start(response.status, headers)
        more = True
        while more:
            chunk = await response.read()
            more = not response.finished
            await self._send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def break_off(self, error: ApiError) -> None:
        """End an answer so that nobody takes it for complete.

        An event stream gets an error event and no [DONE]. Anything else is left
        unfinished, upon which the server closes the connection before the stated end.
        """
        if not self.status:
            await self.refuse(error)
        elif self._takes_events:
            await self._send({"type": "http.response.body", "body": error.event()})

    async def _start(self, status: int, headers: list[Header]) -> None:
        self.status = status
        if self.replica:
            headers = [*headers, (REPLICA_HEADER, self.replica.encode("ascii"))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


def _takes_events(headers: list[Header]) -> bool:
    """Whether an event can be appended: a stream of plain text and unstated length."""
    values = dict(headers)
    return (
        values.get(b"content-type", b"").startswith(b"text/event-stream")
        and b"content-length" not in values
        and b"content-encoding" not in values
    )
