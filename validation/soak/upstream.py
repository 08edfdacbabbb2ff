"""A server in an engine's place: `python -m validation.soak.upstream PORT MODEL MODE SEED`.

With MODE `well` it answers like the synthetic source, which knows one model. With `garbage` it is
healthy and lists MODEL, and answers all else with what no engine should.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Mapping

import orjson

from bench.load.accuracy.answers import CHUNK, STREAM_HEAD, framed, whole
from bench.load.accuracy.source import Connection, Source, Wheel
from bench.processes.ports import LOOPBACK

CHUNK_EVERY_MS = 2
_SILENT_S = 3.0
_LENGTH = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_NONSENSE = framed(b'data: {"choices": 7}\n\ndata: [DONE]\n\n') + b"0\r\n\r\n"
GARBAGE: Mapping[str, bytes] = {
    "silence": b"",
    "half a head": b"HTTP/1.1 200 O",
    "a head without end": b"HTTP/1.1 200 OK\r\nx-a: " + b"y" * 200_000,
    "interim answers alone": b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    "another protocol": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nx",
    "less than stated": _LENGTH % 1000 + b"{}",
    "more than stated": _LENGTH % 2 + b"{}{}",
    "a stream that breaks": STREAM_HEAD + 3 * CHUNK,
    "chunks without sizes": STREAM_HEAD + CHUNK + b"zz\r\nno chunk",
    "a chunk without end": STREAM_HEAD + b"ffffffff\r\n" + b"x" * 100_000,
    "events that are none": STREAM_HEAD + _NONSENSE,
    "an error": whole(b'{"error": {"message": "broken"}}', status=b"500 Internal Server Error"),
    "no time": whole(b"{}", status=b"503 Service Unavailable"),
    "a status that is none": b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
}
"""What it answers. After it the connection ends, in whatever way."""


async def _serve_garbage(port: int, model: str, rng: random.Random) -> None:
    models = whole(orjson.dumps({"object": "list", "data": [{"id": model, "object": "model"}]}))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                healthy, lists = b"/health " in head, b"/v1/models " in head
                known = models if lists else whole(b"{}" if healthy else rng.randbytes(5000))
                writer.write(known)
            else:
                what = rng.choice([*GARBAGE, "bytes"])
                writer.write(GARBAGE.get(what) or rng.randbytes(rng.randrange(1, 5000)))
                await writer.drain()
                await asyncio.sleep(rng.choice([0.0, 0.1, _SILENT_S]))
        if rng.random() < 0.5:
            writer.transport.abort()
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, port) as server:
        await server.serve_forever()


async def _serve_well(port: int) -> None:
    loop = asyncio.get_running_loop()
    source = Source(Wheel(loop), CHUNK_EVERY_MS)
    async with await loop.create_server(lambda: Connection(source), LOOPBACK, port) as server:
        await server.serve_forever()


def main(port: str, model: str, mode: str, seed: str) -> None:
    """Run until killed."""
    if mode == "well":
        asyncio.run(_serve_well(int(port)))
    else:
        asyncio.run(_serve_garbage(int(port), model, random.Random(int(seed))))


if __name__ == "__main__":
    main(*sys.argv[1:])
