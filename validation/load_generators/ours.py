"""Our client as a program: `python -m validation.load_generators.ours URL STREAMS REQUESTS CHUNKS`.

Like the others it starts, sends, reads what the answers say, and prints what it found.
"""

from __future__ import annotations

import sys

from bench.load.drive import run_load
from validation.load_generators.loads import closed_load


def main(url: str, streams: int, requests: int, chunks: int) -> int:
    """Send the requests; 1 if one of them failed."""
    load = closed_load(url, streams=streams, requests=requests, chunks=chunks)
    result = run_load(load, drain_timeout_s=load.schedule.duration_s)
    good = [sample for sample in result.samples if sample.ok and len(sample.chunk_s) == chunks]
    print(f"{len(good)} of {requests} requests have all their chunks; {result.instrument}")
    return 0 if len(good) == requests else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
