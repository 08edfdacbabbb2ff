"""What no client can be cheaper than: `python -m validation.load_generators.bare`, with arguments as `ours`.

It waits, reads, takes the time and keeps both, and does nothing else: what was received is
neither parsed nor judged. What the kernel takes for that is in every client's figure.
"""

from __future__ import annotations

import select
import socket
import sys
from time import monotonic
from urllib.parse import urlsplit

from bench.load.client import Client
from validation.load_generators.loads import closed_load

_READ_BYTES = 64 * 1024
_LAST = b"0\r\n\r\n"


def main(url: str, streams: int, requests: int, chunks: int) -> int:
    """Receive the answers, a stream's next one as soon as its last one has ended."""
    planned = closed_load(url, streams=streams, requests=requests, chunks=chunks)
    client = Client(url)
    waiting = [
        client.encode(request, prompt)
        for request, prompt in zip(planned.schedule.requests, planned.prompts, strict=True)
    ]
    address = (urlsplit(url).hostname, urlsplit(url).port)
    epoll, open_streams = select.epoll(), {}
    for _ in range(streams):
        stream = socket.create_connection(address)
        stream.sendall(waiting.pop())
        epoll.register(stream, select.EPOLLIN)
        open_streams[stream.fileno()] = stream
    received: list[tuple[float, bytes]] = []
    while open_streams:
        for number, _ in epoll.poll():
            data = open_streams[number].recv(_READ_BYTES)
            received.append((monotonic(), data))
            if not data.endswith(_LAST):
                continue
            if waiting:
                open_streams[number].sendall(waiting.pop())
            else:
                epoll.unregister(number)
                open_streams.pop(number).close()
    print(f"{len(received)} reads")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
