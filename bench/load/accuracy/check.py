"""Checks the client in about a second, before a run relies on it.

`check_client` runs this module in the place from which loads are sent:
`python -m bench.load.accuracy.check LEVEL`. LEVEL is a `Level` as JSON; the output is one line
of JSON, the `Accuracy`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pydantic import TypeAdapter

from bench.errors import UserError
from bench.load.accuracy.measurement import Level, measure
from bench.load.accuracy.running import running_source
from bench.processes.program import Site, watch_input
from bench.progress import Progress
from bench.records import Accuracy

# A light load: an error here comes from the client itself, not from the load.
LEVEL = Level(streams=16, first_ms=20, every_ms=20, chunks=10, turns=2)
# Added to the time of the streams: to start the source and the client on a busy machine.
_TIMEOUT_S = 90.0
_LEVEL = TypeAdapter(Level)
_ACCURACY = TypeAdapter(Accuracy)


def check_client(progress: Progress, site: Site, level: Level = LEVEL) -> Accuracy:
    """The client's error now, in place 0 of `site`, at a light load.

    Raises UserError when the client loses chunks, or when the source does not start.
    """
    arguments = [_LEVEL.dump_json(level).decode()]
    try:
        with (
            progress.step("checking the load generator"),
            closing(site.start("bench.load.accuracy.check", arguments, 0)) as program,
        ):
            line = program.line(level.duration_s + _TIMEOUT_S)
    except UserError as error:
        raise UserError(f"the load generator does not measure right: {error}") from error
    accuracy = _ACCURACY.validate_json(line)
    ttft, itl, e2e = accuracy.ttft, accuracy.itl, accuracy.e2e
    off = f"TTFT {_ms(ttft.p50_s)}, ITL {_ms(itl.p50_s)}, E2E {_ms(e2e.p50_s)} off (medians)"
    progress.note(f"load generator at {level}: {off}")
    return accuracy


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


def main(arguments: Sequence[str]) -> int:
    """Measure here. Returns 2, after one line on stderr, if that is not possible."""
    watch_input(lambda: os._exit(1))  # nothing is worth keeping
    level = _LEVEL.validate_json(arguments[0])
    try:
        with (
            tempfile.TemporaryDirectory(prefix="llm-bench-") as folder,
            running_source(Path(folder) / "source.log") as source,
        ):
            accuracy = measure(level, source.url, os.sched_getaffinity(0)).accuracy
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(_ACCURACY.dump_json(accuracy).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
