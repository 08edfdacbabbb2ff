"""The client measured where loads are sent from: `python -m bench.load.accuracy.place LEVEL`.

LEVEL is a `Level` as JSON; one line of JSON comes out, the `Accuracy`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pydantic import TypeAdapter

from bench.errors import UserError
from bench.load.accuracy.level import Level, measure
from bench.load.accuracy.running import running_source
from bench.records import Accuracy
from bench.sites.inside import heed_input

LEVEL = TypeAdapter(Level)
ACCURACY = TypeAdapter(Accuracy)


def main(arguments: Sequence[str]) -> int:
    """Measure; 2 after one line on stderr if that is not possible."""
    heed_input(lambda: os._exit(1))  # nothing is worth keeping
    level = LEVEL.validate_json(arguments[0])
    try:
        with running_source() as url:
            accuracy = measure(level, url, os.sched_getaffinity(0)).accuracy
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(ACCURACY.dump_json(accuracy).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
