"""One shard of a load in a process of its own:

`python -m bench.load.shard_process LOAD INDEX COUNT DRAIN_S GATE RESULT`

reads the load from a file, sends part INDEX of COUNT from the instant that the gate tells,
and writes its result to a file. SIGTERM is what Ctrl-C is to one process: what was
measured so far is the result.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.load.drive import run_load
from bench.load.gate import pass_gate
from bench.load.shard_files import load_of, result_bytes
from bench.load.shards import shard


def main(arguments: Sequence[str]) -> int:
    """Measure; 2 after one line on stderr if that is not possible."""
    load, index, count, drain_s, gate, result = arguments
    # Whoever starts programs in the background leaves SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    part = shard(load_of(Path(load).read_bytes()), int(index), int(count))
    try:
        measured = run_load(
            part, drain_timeout_s=float(drain_s), start=lambda: pass_gate(Path(gate))
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    unfinished = Path(result).with_suffix(".part")
    unfinished.write_bytes(result_bytes(measured))
    unfinished.rename(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
