"""Opens sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl


async def dial(host: str, port: int, tls: ssl.SSLContext | None) -> socket.socket:
    """A connected, non-blocking socket, with the TLS handshake done if `tls` is given.

    The addresses of `host` are tried in their order. Raises OSError of the last one;
    socket.gaierror where there is none.
    """
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
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
