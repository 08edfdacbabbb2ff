"""The clocks of programs that do not share one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from bench.errors import UserError
from bench.processes.program import Program

ASK = b"clock\n"
# The shortest way there and back of so many tells the most.
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Clock:
    """A program's monotonic clock beside this process's: `ahead_s`, by at most `bound_s` wrong."""

    ahead_s: float
    bound_s: float


def ask_clock(program: Program, timeout_s: float) -> Clock:
    """Compare clocks with a program that answers `clock` with the time of its own.

    Raises UserError when it does not.
    """
    return min((_ask(program, timeout_s) for _ in range(_ROUNDS)), key=lambda one: one.bound_s)


def apart_s(clocks: Sequence[Clock]) -> float:
    """How far apart at most the same instant is for two of them, told to each by its clock."""
    return sum(sorted((one.bound_s for one in clocks), reverse=True)[:2]) if clocks[1:] else 0.0


def _ask(program: Program, timeout_s: float) -> Clock:
    sent_s = monotonic()
    program.send(ASK)
    told = program.line(timeout_s)
    way_s = (monotonic() - sent_s) / 2
    try:
        return Clock(float(told) - sent_s - way_s, way_s)
    except ValueError:
        raise UserError(f"it said {told[:80]!r} where its time was due") from None
