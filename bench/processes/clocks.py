"""How far the monotonic clock of a program is ahead of this process's: it may run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from bench.errors import UserError
from bench.processes.program import ASK_CLOCK, Program

# The question with the shortest way there and back is the most exact one.
_QUESTIONS = 8


@dataclass(frozen=True, slots=True)
class Clock:
    """How far a program's monotonic clock is ahead of this process's, to within `bound_s`."""

    ahead_s: float
    bound_s: float


def ask_clock(program: Program, timeout_s: float) -> Clock:
    """Compare this process's clock with that of a program, which answers `clock` with its time.

    Raises UserError when it does not answer so.
    """
    return min((_ask(program, timeout_s) for _ in range(_QUESTIONS)), key=lambda one: one.bound_s)


def _ask(program: Program, timeout_s: float) -> Clock:
    sent_s = monotonic()
    program.send(ASK_CLOCK)
    said = program.line(timeout_s)
    way_s = (monotonic() - sent_s) / 2
    try:
        return Clock(float(said) - sent_s - way_s, way_s)
    except ValueError:
        raise UserError(f"it said {said[:80]!r} where its time was due") from None
