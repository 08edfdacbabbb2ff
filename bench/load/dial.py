"""Looks names up and opens sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Any

Addresses = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]]


class Destination:
    """Where connections to `host` go. Its name is looked up once, when this is made.

    Looked up for each connection, the resolver would be part of what is measured: in a pod
    a lookup is ten questions to a server that shares the node. A name that has no address
    then is looked up again for every connection.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self._port = port
        self._addresses: Addresses = []
        with contextlib.suppress(socket.gaierror):
            self._addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    async def addresses(self) -> Addresses:
        """What socket.getaddrinfo tells. Raises socket.gaierror where there is none."""
        if self._addresses:
            return self._addresses
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(self.host, self._port, type=socket.SOCK_STREAM)


async def dial(destination: Destination, tls: ssl.SSLContext | None) -> socket.socket:
    """A connected, non-blocking socket, with the TLS handshake done if `tls` is given.

    The addresses are tried in their order. Raises OSError of the last one; socket.gaierror
    where there is none.
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
            await _shake_hands(sock)
    except BaseException:
        sock.close()
        raise
    return sock


async def _shake_hands(sock: ssl.SSLSocket) -> None:
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
