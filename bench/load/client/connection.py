"""Opens HTTP/1.1 connections, which record the time of every piece of an answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import Any

from bench.load.client.eventloop import DirectSelector
from bench.load.client.exchange import Exchange, Failure
from bench.load.client.response import READ_BYTES, Response, whole_chunk_reader
from bench.records import ErrorKind

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
Addresses = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]]


class Destination:
    """The addresses of `host`, looked up once, when this is made.

    With a look-up for each connection the resolver would be part of what is measured: in a
    pod a look-up is ten questions to a server that shares the node. Only a name that had no
    address is looked up again for every connection.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self._port = port
        self._addresses: Addresses = []
        with contextlib.suppress(socket.gaierror):
            self._addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    async def addresses(self) -> Addresses:
        """What socket.getaddrinfo returns. Raises socket.gaierror when the name has no address."""
        if self._addresses:
            return self._addresses
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(self.host, self._port, type=socket.SOCK_STREAM)


async def connect(destination: Destination, tls: ssl.SSLContext | None) -> socket.socket:
    """A connected, non-blocking socket, with the TLS handshake done if `tls` is given.

    Tries the addresses in their order. Raises the OSError of the last one, or
    socket.gaierror when there is none.
    """
    host = destination.host
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await destination.addresses():
        sock = socket.socket(family, kind, protocol)
        try:
            return await _connected(sock, address, host, tls)
        except OSError as error:
            failure = error
    raise failure


async def _connected(
    sock: socket.socket, address: tuple[object, ...], host: str, tls: ssl.SSLContext | None
) -> socket.socket:
    """`sock`, connected; it is closed if that fails or is cancelled."""
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        await asyncio.get_running_loop().sock_connect(sock, address)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            await _handshake(sock)
    except BaseException:
        sock.close()
        raise
    return sock


async def _handshake(sock: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            watch, forget = loop.add_reader, loop.remove_reader
        except ssl.SSLWantWriteError:
            watch, forget = loop.add_writer, loop.remove_writer
        else:
            return
        ready = asyncio.Event()
        watch(sock, ready.set)
        try:
            await ready.wait()
        finally:
            forget(sock)


class Connection:
    """Sends one request at a time over `sock`, which is connected and does not block.

    `reusable`: whether another request may follow. `answered`: whether at least a byte of
    the last answer came.
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
        self._reads_whole_chunks = False
        selector.watch(sock, self._read)

    async def send(self, request: bytes, exchange: Exchange) -> None:
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
        self._write()
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

    def _write(self) -> None:
        """Write what the socket takes now, and the rest when it takes more."""
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except _NOT_NOW:
            pass
        except OSError:
            # An answer may have come before; if none has, reading finds out what is wrong.
            self._loop.remove_writer(self._sock)
            return
        if self._unsent:
            self._loop.add_writer(self._sock, self._write)
        else:
            self._loop.remove_writer(self._sock)

    def _read(self) -> bool:
        """Called when there are bytes, or the end. Returns whether the loop has work to do."""
        try:
            data = self._sock.recv(READ_BYTES)
        except OSError as error:
            return self._fail(error)
        return self._take(monotonic(), data)

    def _fail(self, error: OSError) -> bool:
        return False if isinstance(error, _NOT_NOW) else self._lose(str(error))

    def _take(self, at_s: float, data: bytes) -> bool:
        """Handle what was read at `at_s`: a part of the answer, or b"" for the end."""
        if not data:
            return self._lose(None)
        response = self._response
        if response is None:
            # No request is open: most likely the server says that it closes an idle connection.
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
        self._choose_reader(response)
        return False

    def _choose_reader(self, response: Response) -> None:
        """Read whole chunks without the parser while the answer is between two chunks."""
        if response.between_chunks == self._reads_whole_chunks:
            return
        self._reads_whole_chunks = response.between_chunks
        reader = self._read
        if self._reads_whole_chunks:
            reader = whole_chunk_reader(self._sock.recv, response.exchange, self._fail, self._take)
        self._selector.change(self._sock, reader)

    def _lose(self, why: str | None) -> bool:
        """Handle the end of the connection: `why` it broke, None if the server closed it."""
        self.close()
        if self._response is None:
            return False
        if why is None:
            self._response.closed()
        when = "in the middle of" if self.answered else "before"
        lost = f"connection lost {when} the answer: {why or 'closed by the server'}"
        return self._end(self._response, Failure(ErrorKind.DISCONNECT, lost))

    def _end(self, response: Response, failure: Failure | None) -> bool:
        """End the exchange. It has no failure if the answer was complete."""
        exchange = response.exchange
        if self._open and self._reads_whole_chunks:
            self._reads_whole_chunks = False
            self._selector.change(self._sock, self._read)
        exchange.complete = response.complete
        exchange.failure = None if response.complete else failure
        self._ended.set()
        return True
