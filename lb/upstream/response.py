"""An answer as it comes in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httptools

from lb.upstream.errors import BadAnswerError, ConnectionLostError, UpstreamError

_MAX_HEAD_BYTES = 64 * 1024


class Response:
    """One answer: written to by its connection and parser, read by whoever asked.

    Header names are lower case, bodies are de-chunked. The reader reads until
    `finished`, or calls `close`. `abort` ends the connection, `resume` lets it go on
    after the reader has taken what was there.
    """

    def __init__(self, abort: Callable[[], None], resume: Callable[[], None]) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.touched = False  # any byte has come
        self.complete = False  # the last byte has come
        self.unread_bytes = 0
        self._chunks: list[bytes] = []
        self._error: UpstreamError | None = None
        self._news: asyncio.Future[None] | None = None
        self._abort = abort
        self._resume = resume
        self._parser = httptools.HttpResponseParser(self)
        self._head_complete = False
        self._head_bytes = 0
        self._keep_alive = False
        self._overrun = False  # another answer has begun

    # For the reader.

    @property
    def finished(self) -> bool:
        """The last byte has come and has been read."""
        return self.complete and not self._chunks

    async def begun(self) -> Response:
        """Wait for the first byte of the body, or the end of an answer without one.

        vLLM sends the head of a stream before the prompt is even scheduled: only the
        body says that the replica got to work. Raises UpstreamError.
        """
        try:
            while not (self._chunks or self.complete):
                await self._wait()
        except (UpstreamError, asyncio.CancelledError):
            self.close()
            raise
        return self

    async def read(self) -> bytes:
        """What has come since the last read, at least one byte; b"" at the end.

        Raises UpstreamError after the last byte of an answer that is not whole.
        """
        while not self._chunks:
            if self.complete:
                return b""
            await self._wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self.unread_bytes = 0
        if not self.complete:  # otherwise the connection may be another answer's by now
            self._resume()
        return data

    def close(self) -> None:
        """Stop caring: an unfinished answer ends its connection, which aborts the work."""
        if not self.complete:
            self._abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    # For the connection.

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request after this answer."""
        return self._keep_alive and not self._overrun

    @property
    def failed(self) -> bool:
        return self._error is not None

    def feed(self, data: bytes) -> None:
        """Take in what was received. An answer that is not HTTP fails."""
        self.touched = True
        if not self._head_complete:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._overrun = True
            self.fail(BadAnswerError(f"did not answer in HTTP/1.1 ({error})"))
            return
        if not self._head_complete and (self.status or self._head_bytes > _MAX_HEAD_BYTES):
            self.fail(BadAnswerError(f"sent an unusable head (status {self.status or 'unknown'})"))
        self._wake()

    def fail(self, error: UpstreamError) -> None:
        if not self.complete:
            self._error = error
            self._wake()

    def end_of_connection(self) -> None:
        """The replica closed the connection: the end of a body that states no length."""
        framed = any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)
        if self._head_complete and not framed:
            self.complete = True
            self._wake()
        else:
            self.fail(ConnectionLostError("closed the connection before the answer was complete"))

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # For the parser.

    def on_message_begin(self) -> None:
        self._overrun = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_complete:  # trailers come later, and end at this hop
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self.headers.clear()  # an interim answer, the real one follows
        else:
            self.status = status
            self._head_complete = 200 <= status <= 599
            self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if self._head_complete:
            self._chunks.append(data)
            self.unread_bytes += len(data)

    def on_message_complete(self) -> None:
        self.complete = self._head_complete
