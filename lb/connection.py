"""One HTTP/1.1 connection to a replica, and the answer that comes in on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar

import httptools

# Undelivered bytes of an answer at which its replica is not read from any further.
_HIGH_WATER_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 64 * 1024

Headers = list[tuple[bytes, bytes]]


class UpstreamError(Exception):
    """A replica did not give a whole answer. The message continues "Replica x ..."."""

    kind: ClassVar[str]


class ConnectFailed(UpstreamError):
    """There is no connection to be had."""

    kind = "connect"


class ConnectionLost(UpstreamError):
    """The connection ended before the answer did."""

    kind = "lost"


class BadAnswer(UpstreamError):
    """What came is not HTTP/1.1, or no answer to the request."""

    kind = "bad-answer"


class Response:
    """An answer as it comes in. Header names are lower case, bodies are de-chunked.

    Whoever gets one reads it until `finished` or closes it. The `on_` methods are
    called by the parser.
    """

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: Headers = []
        self.touched = False  # any byte has come
        self.complete = False  # the last byte has come
        self.overrun = False  # more than one answer has come
        self.unread_bytes = 0
        self._head_complete = False
        self._chunks: list[bytes] = []
        self._error: UpstreamError | None = None
        self._news: asyncio.Future[None] | None = None
        self._connection = connection
        self._parser = httptools.HttpResponseParser(self)
        self._head_bytes = 0

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
            return self
        finally:
            if not (self._chunks or self.complete):
                self.close()

    async def read(self) -> bytes:
        """What has come since the last read, at least one byte; b"" once finished.

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
            self._connection.resume_reading()
        return data

    def close(self) -> None:
        """Stop caring: an unfinished answer ends its connection, which aborts the work."""
        if not self.complete:
            self._connection.abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    def feed(self, data: bytes) -> None:
        """Take in what the connection received. Raises BadAnswer."""
        self.touched = True
        self._head_bytes += 0 if self._head_complete else len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise BadAnswer(f"did not answer in HTTP/1.1 ({error})") from None
        if not self._head_complete and self._head_bytes > _MAX_HEAD_BYTES:
            raise BadAnswer(f"sent a head of more than {_MAX_HEAD_BYTES} bytes")
        if self.status and not self._head_complete:
            raise BadAnswer(f"answered with status {self.status}")

    def fail(self, error: UpstreamError) -> None:
        if not self.complete:
            self._error = error
            self.wake()

    def wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request after this answer."""
        return bool(self._parser.should_keep_alive()) and not self.overrun

    def end_of_connection(self) -> None:
        """The replica closed the connection: the end of a body that states no length."""
        framed = any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)
        if self._head_complete and not framed:
            self.complete = True
            self.wake()
        else:
            self.fail(ConnectionLost("closed the connection before the answer was complete"))

    def on_message_begin(self) -> None:
        self.overrun = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_complete:  # trailers come later, and are hop-by-hop here
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 102 <= status < 200 or status == 100:
            self.headers.clear()  # an interim answer, the real one follows
        else:
            self.status = status
            self._head_complete = 200 <= status <= 599

    def on_body(self, data: bytes) -> None:
        if self._head_complete:
            self._chunks.append(data)
            self.unread_bytes += len(data)

    def on_message_complete(self) -> None:
        self.complete = self._head_complete


class Connection(asyncio.Protocol):
    """A connection that carries one exchange at a time."""

    def __init__(self, on_free: Callable[[Connection], None]) -> None:
        self.idle_since_s = 0.0
        self._on_free = on_free
        self._transport: asyncio.Transport
        self._response: Response | None = None
        self._paused = False

    @property
    def closing(self) -> bool:
        return self._transport.is_closing()

    def exchange(self, message: Sequence[bytes]) -> Response:
        """Send a whole request; the answer can be waited for at once."""
        self._response = response = Response(self)
        if self.closing:
            response.fail(ConnectionLost("closed the connection before the request was sent"))
        else:
            self._transport.writelines(message)
        return response

    def abort(self) -> None:
        self._transport.abort()

    def resume_reading(self) -> None:
        if self._paused and not self.closing:
            self._transport.resume_reading()
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self.abort()  # nobody asked
            return
        try:
            response.feed(data)
        except BadAnswer as error:
            response.fail(error)
            self.abort()
            return
        response.wake()
        if response.complete:
            self._finish(response)
        elif response.unread_bytes > _HIGH_WATER_BYTES:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        if error is None:
            response.end_of_connection()
        else:
            response.fail(ConnectionLost(f"broke the connection ({error})"))

    def _finish(self, response: Response) -> None:
        self._response = None
        if response.reusable and not self.closing:
            self._on_free(self)
        else:
            self._transport.close()
