"""One shard of some loads in a process of its own: `python -m bench.load.run.shard_process`.

    in:   {"index": 0, "count": 4, "drain_s": 30.0}    and a block: the loads, whole
    out:  ready
    in:   clock                any number of times
    out:  its monotonic clock, as a line
    in:   start INSTANT        of that clock
    out:  a block: the results, one for each load
    in:   end                  at any time: what was measured so far is the result

A program that gets `end` before its start has no result; one whose input is closed exits at
once.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from time import monotonic

from bench.errors import UserError
from bench.load.run.drive import run_together
from bench.load.run.shards import LOADS_JSON, RESULTS_JSON, shard
from bench.processes.program import (
    ASK_CLOCK,
    block,
    standard_input,
    take_block,
    watch_input,
)


def main() -> int:
    """Measure. Returns 2, after one line on stderr, if that is not possible."""
    # Whoever starts programs in the background leaves SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        order = json.loads(standard_input().readline())
        loads = LOADS_JSON.validate_json(take_block(standard_input()))
        parts = [shard(load, order["index"], order["count"]) for load in loads]
        results = run_together(parts, drain_timeout_s=order["drain_s"], start=_await_start)
    except (UserError, EOFError, ValueError) as error:
        print(str(error) or "the input ended before the start", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.buffer.write(block(RESULTS_JSON.dump_json(results)))
    sys.stdout.buffer.flush()
    return 0


def _await_start() -> float:
    """Say that everything is prepared. Returns the time at which to start."""
    print("ready", flush=True)
    source = standard_input()
    while (line := source.readline()) == ASK_CLOCK:
        print(repr(monotonic()), flush=True)
    match line.split():
        case [b"start", instant]:
            start_s = float(instant)
        case _:
            raise EOFError
    watch_input(_interrupt)
    return start_s


def _interrupt() -> None:
    """Do as Ctrl-C does: signal the main thread, which may be asleep."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
