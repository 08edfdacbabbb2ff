"""One HTTP/1.1 response out of the bytes of a connection."""

from __future__ import annotations

import httptools

from bench.load.exchange import Exchange

_SWITCHING = 101  # to another protocol, which nobody has asked for


class Response:
    """Fills `exchange` with head and body as bytes are fed.

    Every read is parsed at once, so that the end of an answer is always known exactly.
    `complete` says that it has been seen, `keep_alive` whether the connection may be used
    again then. While it is `between_chunks`, whole chunks may be left out: the parser need
    not know of them.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.complete = False
        self.keep_alive = False
        self.exchange = exchange
        self.between_chunks = False
        self._chunk_ended = False
        self._until_close = False
        # The parser calls it for each piece of the body: a method of our own would cost
        # as much as all the rest of a read.
        self.on_body = exchange.body.append
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, at_s: float, data: bytes) -> None:
        """Take what arrived at `at_s`. Raises ValueError where it is not HTTP."""
        exchange = self.exchange
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
