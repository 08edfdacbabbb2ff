"""The client measured in about a second, before a run relies on it."""

from __future__ import annotations

from contextlib import closing

from bench.errors import UserError
from bench.load.accuracy import place
from bench.load.accuracy.level import Level
from bench.progress import Progress
from bench.records import Accuracy
from bench.sites.base import Site

# Some load, and far from what a client could notice: an error here is the client's nature.
LEVEL = Level(streams=16, first_ms=20, every_ms=20, chunks=10, turns=2)
# Beyond the time that the streams take: to start the source and the client, also when busy.
_PATIENCE_S = 90.0


def check_client(progress: Progress, site: Site, level: Level = LEVEL) -> Accuracy:
    """How far the client is off now, in place 0 of `site`, at a light load.

    Raises UserError when it loses what was sent, or when the source does not start.
    """
    wanted = place.LEVEL.dump_json(level).decode()
    try:
        with (
            progress.step("checking the load generator"),
            closing(site.start("bench.load.accuracy.place", [wanted], 0)) as program,
        ):
            told = program.line(level.duration_s + _PATIENCE_S)
    except UserError as error:
        raise UserError(f"the load generator does not measure right: {error}") from error
    accuracy = place.ACCURACY.validate_json(told)
    ttft, itl, e2e = accuracy.ttft, accuracy.itl, accuracy.e2e
    off = f"TTFT {_ms(ttft.p50_s)}, ITL {_ms(itl.p50_s)}, E2E {_ms(e2e.p50_s)} off (medians)"
    progress.note(f"load generator at {level}: {off}")
    return accuracy


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"
