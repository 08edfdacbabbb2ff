"""One HTTP/1.1 connection that stamps every piece of an answer as it arrives."""

from __future__ import annotations

import asyncio
import socket
import ssl
from time import monotonic

from bench.load.eventloop import DirectSelector
from bench.load.exchange import Exchange, Failure
from bench.load.glance import READ_BYTES, glancing
from bench.load.response import Response
from bench.records import ErrorKind

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """Carries one exchange at a time over `sock`, which is connected and does not block.

    `reusable` says whether the next one may follow, `answered` whether the last one
    got at least a byte.
    """

    def __init__(self, sock: socket.socket, selector: DirectSelector) -> None:
        self.reusable = False
        self.answered = False
        self._open = True
        self._unsent = memoryview(b"")
        self._response: Response | None = None
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._selector = selector
        self._sock = sock
        self._glancing = False
        selector.watch(sock, self._read)

    async def carry(self, request: bytes, exchange: Exchange) -> None:
        """Send `request` and fill `exchange` until it has ended.

        `sent_s` is set only if it was None. When cancelled, what came so far is
        kept and the connection is closed.
        """
        self.answered = self.reusable = False
        if not self._open:
            exchange.failure = Failure(ErrorKind.DISCONNECT, "closed before the request was sent")
            return
        self._response = Response(exchange)
        self._ended.clear()
        if exchange.sent_s is None:
            exchange.sent_s = monotonic()
        self._unsent = memoryview(request)
        self._send()
        try:
            await self._ended.wait()
        finally:
            self._response = None
            if not self.reusable:
                self.close()

    def close(self) -> None:
        """Close at once, whatever is under way. Safe to repeat."""
        self.reusable = False
        if self._open:
            self._open = False
            self._loop.remove_writer(self._sock)
            self._selector.forget(self._sock)
            self._sock.close()

    def _send(self) -> None:
        """Send what there is room for, and go on when there is more."""
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except _NOT_NOW:
            pass
        except OSError:
            # An answer may have come before; if none has, reading finds out what is wrong.
            self._loop.remove_writer(self._sock)
            return
        if self._unsent:
            self._loop.add_writer(self._sock, self._send)
        else:
            self._loop.remove_writer(self._sock)

    def _read(self) -> bool:
        """Called when there are bytes, or no more to come; whether the loop has to go on."""
        try:
            data = self._sock.recv(READ_BYTES)
        except OSError as error:
            return self._fail(error)
        return self._take(monotonic(), data)

    def _fail(self, error: OSError) -> bool:
        return False if isinstance(error, _NOT_NOW) else self._lose(str(error))

    def _take(self, at_s: float, data: bytes) -> bool:
        """Take what was read: anything."""
        if not data:
            return self._lose(None)
        response = self._response
        if response is None:
            # Nothing was asked: most likely a notice that the idle time is over.
            self.close()
            return False
        self.answered = True
        try:
            response.feed(at_s, data)
        except ValueError as error:
            self.reusable = False
            return self._end(response, Failure(ErrorKind.PROTOCOL, str(error)))
        if response.complete:
            self.reusable = response.keep_alive and not self._unsent
            return self._end(response, None)
        self._glance(response)
        return False

    def _glance(self, response: Response) -> None:
        """Read at a glance from now on, or no longer, by where in the answer one is."""
        if response.between_chunks == self._glancing:
            return
        self._glancing = response.between_chunks
        reader = self._read
        if self._glancing:
            reader = glancing(self._sock.recv, response.exchange, self._fail, self._take)
        self._selector.change(self._sock, reader)

    def _lose(self, why: str | None) -> bool:
        """The connection is broken, or ended in good order (None)."""
        self.close()
        if self._response is None:
            return False
        if why is None:
            self._response.closed()
        when = "in the middle of" if self.answered else "before"
        lost = f"connection lost {when} the answer: {why or 'closed by the server'}"
        return self._end(self._response, Failure(ErrorKind.DISCONNECT, lost))

    def _end(self, response: Response, failure: Failure | None) -> bool:
        """End the exchange. What befalls a connection after the answer is no failure of it."""
        exchange = response.exchange
        if self._open and self._glancing:
            self._glancing = False
            self._selector.change(self._sock, self._read)
        exchange.complete = response.complete
        exchange.failure = None if response.complete else failure
        self._ended.set()
        return True
