"""How often `python -m bench watch` is wrong, and how soon it finds a slow-down.

Histories are drawn, with replacement and a fixed seed, from the real runs of the ledger: their
values are measured, their order and number are not.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence

from bench.analysis.changes import FINDS, watch
from validation.evidence.ledger import AA_SCENARIOS, SLOWDOWNS, LedgerEntry

HISTORIES = 500
# After so many runs of a history, false alarms are counted.
RUNS = (10, 20, 30, 60)
# Alike runs before a slow-down.
BEFORE = 12
SLOWED = ("slowdown_20", "slowdown_40")
# Slowed runs after which a history is given up.
_MOST = 30


def watching(entries: Sequence[LedgerEntry]) -> Iterator[str]:
    """The lines of the docs about the watch; none where the ledger lacks a kind of run."""
    alike = {name: _ratios(entries, "aa", name) for name in AA_SCENARIOS}
    slowed = {kind: _ratios(entries, kind, "heavy-tail") for kind in SLOWED}
    if not all(map(len, (*alike.values(), *slowed.values()))):
        return
    draw = random.Random(1)
    yield "## How often `python -m bench watch` is right"
    yield ""
    yield (
        f"From the runs of an arm against itself, {HISTORIES} histories of {RUNS[-1]} runs are"
        " drawn for each scenario, with replacement. Nothing moves in them, and they are searched"
        " after each run, as if nightly. *In the order measured* are the runs themselves, of all"
        " models and of both arms."
    )
    yield ""
    lengths = " | ".join(f"*moved* within {runs} runs" for runs in RUNS)
    yield f"| scenario | runs | in the order measured | {lengths} | runs that are sufficient |"
    yield f"|---|---|---|{'---|' * len(RUNS)}---|"
    for name, ratios in alike.items():
        histories = [draw.choices(ratios, k=RUNS[-1]) for _ in range(HISTORIES)]
        shares = " | ".join(f"{_moved(histories, runs):.1%}" for runs in RUNS)
        more = watch(ratios).more
        enough = f"about {len(ratios) + more}" if more else f"{len(ratios)}, or fewer"
        yield f"| {name} | {len(ratios)} | {watch(ratios).state} | {shares} | {enough} |"
    yield ""
    yield (
        f"Then {BEFORE} such runs of heavy-tail are followed by runs whose treatment is slowed, and"
        f" searched after each of these, in {HISTORIES} histories each. *Data are insufficient*"
        f" until a move of {FINDS - 1:.0%} would be found in 90 % of cases."
    )
    yield ""
    yield "| what follows | median ratio | runs until it is found: median | in 90 % of histories |"
    yield "|---|---|---|---|"
    for kind, ratios in slowed.items():
        needed = sorted(_until_found(draw, alike["heavy-tail"], ratios) for _ in range(HISTORIES))
        yield (
            f"| replicas lose {SLOWDOWNS[kind]:.0%} of their core"
            f" | {statistics.median(ratios):.2f} | {statistics.median(needed):g}"
            f" | {needed[HISTORIES * 9 // 10]} |"
        )
    yield ""


def _ratios(entries: Sequence[LedgerEntry], kind: str, scenario: str) -> list[float]:
    return [
        entry.ratio
        for entry in entries
        if (entry.run.kind, entry.run.scenario) == (kind, scenario) and entry.ratio is not None
    ]


def _moved(histories: Sequence[Sequence[float]], runs: int) -> float:
    """The share of histories in which a move is found within so many runs."""
    return sum(bool(watch(one[:runs]).moves) for one in histories) / len(histories)


def _until_found(draw: random.Random, alike: Sequence[float], slowed: Sequence[float]) -> int:
    history = draw.choices(alike, k=BEFORE)
    for runs in range(1, _MOST):
        history.append(draw.choice(slowed))
        # Found where it is, or a run beside it: values of both kinds overlap.
        if any(abs(move.index - BEFORE) <= 1 for move in watch(history).moves):
            return runs
    return _MOST
