"""Two clients as programs: `python -m validation.load_clients NAME URL STREAMS ...`.

STREAMS requests at a time, REQUESTS in all, of CHUNKS chunks each. NAME is `bench`, the suite's
own client, which starts, sends, reads what the answers say, and prints what it found; or `bare`,
which waits, reads, takes the time and keeps both. What was received is then neither parsed nor
judged: what the kernel takes for that is in every client's figure, so that none can be cheaper.
"""

from __future__ import annotations

import select
import socket
import sys
from time import monotonic
from urllib.parse import urlsplit

from bench.load.accuracy.answers import MODEL
from bench.load.client.client import Client
from bench.load.plan.schedule import plan_closed_loop
from bench.load.plan.workload import Fixed, Workload
from bench.load.run.drive import Load, run_load

PROMPT = "How much does a load generator cost, and how true is what it says? " * 2
# Longer than any run; a closed loop ends with its list of requests.
_AT_MOST_S = 3600.0
_READ_BYTES = 64 * 1024
_LAST = b"0\r\n\r\n"


def closed_load(url: str, streams: int, requests: int, chunks: int) -> Load:
    """`requests` of `chunks` each to `url`, `streams` at a time, until the list is used up."""
    schedule = plan_closed_loop(
        seed=1,
        models=(MODEL,),
        workload=Workload(prompt=Fixed(16), output=Fixed(chunks)),
        concurrency=streams,
        duration_s=_AT_MOST_S,
        count=requests,
    )
    return Load(schedule, [PROMPT] * requests, [url] * requests)


def run_bench(load: Load) -> int:
    """Send the requests with the suite's client; 1 if an answer lacks a chunk."""
    result = run_load(load, drain_timeout_s=load.schedule.duration_s)
    wanted = [request.output_tokens for request in load.schedule.requests]
    whole = [one for one in result.samples if one.ok and len(one.chunk_s) == wanted[one.index]]
    print(f"{len(whole)} of {len(wanted)} requests have all their chunks; {result.instrument}")
    return 0 if len(whole) == len(wanted) else 1


def run_bare(load: Load) -> int:
    """Receive the answers, a stream's next one as soon as its last one has ended."""
    url = load.urls[0]
    client = Client(url)
    waiting = [
        client.encode(request, prompt)
        for request, prompt in zip(load.schedule.requests, load.prompts, strict=True)
    ]
    address = (urlsplit(url).hostname, urlsplit(url).port)
    epoll, open_streams = select.epoll(), {}
    for _ in range(load.schedule.concurrency or 0):
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


def main(name: str, url: str, *sizes: str) -> int:
    """Run the client called `name`; its exit code."""
    load = closed_load(url, *map(int, sizes))
    return run_bench(load) if name == "bench" else run_bare(load)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
