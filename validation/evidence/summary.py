"""Figures and the page of the docs, made from the ledger alone."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.analysis.judgement import Verdict
from validation.evidence.ledger import LedgerEntry, PlannedRun, planned_runs
from validation.evidence.watching import watching

# By kind: what it is, the verdicts that are wrong or right, and the share that is wanted of them.
TITLES: Mapping[str, str] = {
    "aa": "an arm against itself (heavy-tail, latency, throughput, burst, capacity)",
    "heavy_tail_quick": "managed against baseline, heavy-tail",
    "heavy_tail_quick_noisy": "the same, while somebody takes 15 % of the machine",
    "slowdown_10": "all replicas of the treatment lose 10 % of their core",
    "slowdown_20": "they lose 20 %",
    "slowdown_40": "they lose 40 %",
}
WANTED: Mapping[str, str] = {
    "aa": "better or worse in at most 5 %",
    "heavy_tail_quick": "better in 19 of 20",
    "heavy_tail_quick_noisy": "better in 18 of 20",
    "slowdown_10": "",
    "slowdown_20": "worse in 17 of 20",
    "slowdown_40": "worse in 19 of 20",
}


def summary(entries: Sequence[LedgerEntry], rule: int) -> dict[str, Any]:
    """How often which verdict, by kind, under this version of the rule and under earlier ones."""
    earlier = sorted({entry.rule for entry in entries} - {rule})
    return {
        "rule": rule,
        **_counts([entry for entry in entries if entry.rule == rule]),
        "earlier_rules": {
            str(one): _counts([entry for entry in entries if entry.rule == one]) for one in earlier
        },
    }


def _counts(entries: Sequence[LedgerEntry]) -> dict[str, dict[str, int]]:
    found = {}
    for kind in TITLES:
        seen = [entry for entry in entries if entry.run.kind == kind]
        verdicts = Counter(entry.verdict for entry in seen)
        found[kind] = {"runs": len(seen), **{one.value: verdicts[one.value] for one in Verdict}}
    return found


def page(entries: Sequence[LedgerEntry], rule: int) -> str:
    """The page of the docs: a table by kind, how often the watch is right, and all runs."""
    current = [entry for entry in entries if entry.rule == rule]
    parts = (_head(entries, rule, current), _kinds(current), watching(current), _runs(entries))
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(
    entries: Sequence[LedgerEntry], rule: int, current: Sequence[LedgerEntry]
) -> Iterator[str]:
    yield "# How often the rule is right"
    yield ""
    yield (
        "Measured on real vLLM engines (CPU build, tiny models with random weights) by"
        " `make evidence`, which makes this page from [ledger.jsonl](ledger.jsonl); every run that"
        " ended counts. Figures for programs are in [summary.json](summary.json)."
    )
    yield ""
    planned = len(list(planned_runs()))
    hours = sum(entry.took_s for entry in current) / 3600
    machines = ", ".join(dict.fromkeys(entry.machine for entry in current)) or "none yet"
    yield (
        f"Version {rule} of the rule: {len(current)} of {planned} planned runs, {hours:.1f} hours,"
        f" on {machines}."
    )
    if len(current) < len(entries):
        yield f"Under earlier versions: {len(entries) - len(current)} runs, below with the others."
    yield ""


def _kinds(current: Sequence[LedgerEntry]) -> Iterator[str]:
    yield f"| what | wanted | runs | {' | '.join(Verdict)} | median ratio | blocks | minutes |"
    yield f"|---|---|---|{'---|' * len(Verdict)}---|---|---|"
    for kind, counts in _counts(current).items():
        seen = [entry for entry in current if entry.run.kind == kind]
        numbers = " | ".join(str(counts[one.value]) for one in Verdict)
        yield (
            f"| {TITLES[kind]} | {WANTED[kind]} | {counts['runs']} | {numbers}"
            f" | {_median([one.ratio for one in seen], '.2f')}"
            f" | {_median([one.blocks for one in seen], 'g')}"
            f" | {_median([one.took_s / 60 for one in seen], '.1f')} |"
        )
    yield ""


def _runs(entries: Sequence[LedgerEntry]) -> Iterator[str]:
    yield "## All runs"
    yield ""
    yield (
        "The interval is that of the look that decided, or of the last one. *Spread* is the"
        " standard deviation of a block's ln(ratio), *capacity* what the engines could serve"
        " meanwhile."
    )
    yield ""
    yield (
        "| kind | scenario | model | arms | seed | verdict | ratio | blocks (set aside) | spread"
        " | capacity, req/s | minutes | rule | commit | day |"
    )
    yield f"|{'---|' * 14}"
    order = {kind: place for place, kind in enumerate(TITLES)}
    for entry in sorted(entries, key=lambda one: order.get(one.run.kind, len(order))):
        run = entry.run
        aside = f" ({entry.set_aside})" if entry.set_aside else ""
        yield (
            f"| {run.kind} | {run.scenario} | {run.model} | {_arms(run)} | {run.seed}"
            f" | {entry.verdict} | {_interval(entry)} | {entry.blocks}{aside}"
            f" | {_number(entry.spread, '.2f')} | {_range(entry.capacity_rps)}"
            f" | {entry.took_s / 60:.1f} | {entry.rule} | {(entry.commit or 'unknown')[:7]}"
            f" | {entry.day} |"
        )


def _arms(run: PlannedRun) -> str:
    slower = f" with {1 - run.slowed_by:.0%} of a core" if run.slowed_by else ""
    return f"{run.treatment}{slower} / {run.control}"


def _interval(entry: LedgerEntry) -> str:
    if entry.ratio is None or entry.low is None or entry.high is None:
        return "none"
    return f"{entry.ratio:.2f} [{entry.low:.2f}, {entry.high:.2f}]"


def _range(both: tuple[float, float] | None) -> str:
    return "" if both is None else f"{both[0]:.0f} to {both[1]:.0f}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _median(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return _number(statistics.median(known) if known else None, form)
