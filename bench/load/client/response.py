"""Reads one HTTP/1.1 response from the bytes of a connection."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import httptools

from bench.load.client.exchange import Exchange

_SWITCHING = 101  # to another protocol, which was not asked for
# More than the largest record of TLS, so that none of it is left where epoll cannot see it.
READ_BYTES = 64 * 1024
# Far more than the longest answer: a server that sends without an end must not fill the memory.
# One that does so in small chunks is ended by the time that a trial has.
MOST_BYTES = 256 * 1024 * 1024
_CRLF = b"\r\n"
_KNOWN = 4096


def _whole_chunks() -> list[tuple[bytes, slice]]:
    """By the length of a read that is one whole chunk: its first line, and where its body is."""
    shapes = [(b"not a chunk", slice(0))] * _KNOWN
    for size in range(1, _KNOWN):
        line = b"%x\r\n" % size
        if (length := len(line) + size + len(_CRLF)) < _KNOWN:
            shapes[length] = (line, slice(len(line), -len(_CRLF)))
    return shapes


_WHOLE_CHUNKS = _whole_chunks()


class Response:
    """Fills `exchange` with head and body as bytes are fed.

    Every read is parsed at once, so that the end of an answer is always known exactly:
    `complete` is then true, and `keep_alive` says whether the connection may be used again.
    While `between_chunks`, whole chunks need not be fed: see `whole_chunk_reader`.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.complete = False
        self.keep_alive = False
        self.exchange = exchange
        self.between_chunks = False
        self._chunk_ended = False
        self._until_close = False
        self._bytes = 0
        # The parser calls it for each piece of the body: a method of our own would cost
        # as much as all the rest of a read.
        self.on_body = exchange.body.append
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, at_s: float, data: bytes) -> None:
        """Take what arrived at `at_s`. Raises ValueError where it is not HTTP, or does not end."""
        exchange = self.exchange
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            raise ValueError(f"the answer is longer than {MOST_BYTES >> 20} MiB")
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise ValueError(f"not HTTP: {error}") from error
        finally:
            while len(exchange.body_s) < len(exchange.body):
                exchange.body_s.append(at_s)
        # A size line that has only begun does not end like that.
        self.between_chunks = self._chunk_ended and data.endswith(b"\r\n")

    def closed(self) -> None:
        """The connection has ended in good order, and with it a body of no stated length."""
        self.complete = self.complete or self._until_close

    # Called by the parser.

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.exchange.status is not None:
            return  # a trailer
        key, headers = name.decode("latin-1").lower(), self.exchange.headers
        said = [headers[key]] if key in headers else []
        headers[key] = ", ".join([*said, value.decode("latin-1")])

    def on_headers_complete(self) -> None:
        headers, status = self.exchange.headers, self._parser.get_status_code()
        if 100 <= status < 200 and status != _SWITCHING:
            headers.clear()  # an interim answer, the real one follows
            return
        self.exchange.status = status
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._until_close = not chunked and "content-length" not in headers

    def on_chunk_header(self) -> None:
        self._chunk_ended = False

    def on_chunk_complete(self) -> None:
        self._chunk_ended = True

    def on_message_complete(self) -> None:
        if self.exchange.status is None:
            return  # an interim answer
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive()


def whole_chunk_reader(
    receive: Callable[[int], bytes],
    exchange: Exchange,
    failed: Callable[[OSError], bool],
    otherwise: Callable[[float, bytes], bool],
) -> Callable[[], bool]:
    """A function that reads a socket for `exchange`; use it only between two chunks.

    What `receive` returns is one whole chunk if its length fits its first line: that needs
    no parser. Anything else goes to `otherwise`, with its time. This is a closure because it
    runs for every token that is measured, where attributes cost as much as the work.
    """
    add, stamp = exchange.body.append, exchange.body_s.append
    shapes, known, crlf = _WHOLE_CHUNKS, _KNOWN, _CRLF

    def read() -> bool:
        try:
            data = receive(READ_BYTES)
        except OSError as error:
            return failed(error)
        at_s = monotonic()
        if (length := len(data)) < known:
            line, body = shapes[length]
            if data.startswith(line) and data.endswith(crlf):
                add(data[body])
                stamp(at_s)
                return False
        return otherwise(at_s, data)

    return read
