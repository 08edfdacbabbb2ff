"""A client's request as a value, and its leaving as the end of a block."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType

from starlette.types import Receive, Scope

from lb.apierror import body_too_large


class ClientLeftError(Exception):
    """The client left before its request was complete."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it came in. `target` is path and query, header names are lower case."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


async def read_request(scope: Scope, receive: Receive, max_body_bytes: int) -> Incoming:
    """The whole request. Raises ClientLeftError, or ApiError 413 as soon as it is too large."""
    target = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    return Incoming(target, scope["headers"], await _read_body(receive, max_body_bytes))


async def _read_body(receive: Receive, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientLeftError
        chunks.append(event["body"])
        size += len(event["body"])
        if size > limit_bytes:
            raise body_too_large(limit_bytes)
        if not event["more_body"]:
            return b"".join(chunks)


class UntilClientLeaves:
    """A block that is cancelled when the client disconnects; `left` then says so.

    To be entered after the body has been read. The cancellation stays inside: the code
    after the block runs on.
    """

    def __init__(self, receive: Receive) -> None:
        self.left = False
        self._receive = receive
        self._open = True
        self._block: asyncio.Task[object]
        self._watch: asyncio.Task[None]

    async def __aenter__(self) -> UntilClientLeaves:
        block = asyncio.current_task()
        assert block is not None
        self._block = block
        self._watch = asyncio.create_task(self._cancel_when_client_leaves())
        return self

    async def _cancel_when_client_leaves(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._open:  # a complete answer is reported as a disconnect, too
            self.left = True
            self._block.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._open = False
        self._watch.cancel()
        if not self.left:
            return False
        nobody_else = self._block.uncancel() == 0
        return nobody_else and kind is asyncio.CancelledError
