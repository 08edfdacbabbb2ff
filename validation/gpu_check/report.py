"""The report of a run of gpu-check, from what is stored of it. Pure but for `load`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis.blocks import ROLES, Block
from bench.analysis.checks import DEFAULT_BOUNDS
from bench.analysis.estimates import log_ratio, ratio_of
from bench.analysis.kvcached import ArmEvidence, evidence_in
from bench.analysis.memory import memory_use
from bench.analysis.metrics import metric
from bench.analysis.server_side import server_summary
from bench.analysis.validity import arm_notes, invalid_reasons
from bench.errors import UserError
from bench.records import Role, Trial
from bench.store import TrialStore
from validation.gpu_check.measuring import RUN_FILE, read_run, trials_of
from validation.gpu_check.plan import ARMS, ORDER

REPORT_FILE = "report.md"
LIMITS = """\
- Engines were started anew for each turn: {starts}. What a start decides (where
  memory lies, which kernels are chosen, how warm the card is) is the same for all its requests, so
  a start is one observation of that. Two of an arm show how far two starts are apart, and give no
  interval: nothing here is a verdict, and a ratio that is no farther from 1 than the starts of an
  arm are from each other says nothing.
- Weights are random: lengths, memory and speed are real, texts are not. Greedy answers are only
  compared between arms.
- Peaks are as high as memory asks for. On a large card they may need more compute than it has:
  then both arms wait for that, and TTFT tells little of memory.
- One card, and one kind of requests. docs/how-to/kvcached.md says how arms are measured with
  intervals.
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A run with its trials, without those cut short."""

    run: Mapping[str, Any]
    trials: tuple[Trial, ...]


def load(folder: Path) -> Found:
    """The run that is stored in a folder. Raises UserError if there is none."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise UserError(f"{folder} has no run of gpu-check: measure first")
    run = read_run(path)
    return Found(run, tuple(trials_of(TrialStore(folder), run)))


def markdown(found: Found) -> str:
    """The whole report."""
    lines = [
        "# KVCached against a static split on one GPU",
        "",
        *_note(found.run),
        *_facts(found),
        *_proof(found),
        *(line for name in found.run["plan"]["requests"] for line in _load_part(found, name)),
        *_memory_part(found.trials),
        "## What this cannot tell",
        "",
        LIMITS.format(starts=_starts_text(found.trials)),
    ]
    return "\n".join(lines)


def starts(trials: Sequence[Trial]) -> Mapping[Role, int]:
    """How many times the engines of each arm were started to measure these trials."""
    return {role: len({one.engines for one in trials if one.role == role}) for role in ROLES}


def _starts_text(trials: Sequence[Trial]) -> str:
    counted = starts(trials)
    return ", ".join(f"{counted[role]} starts ({ARMS[role]})" for role in ROLES)


def _note(run: Mapping[str, Any]) -> Iterator[str]:
    if run["note"]:
        yield from (f"**{run['note']}**", "")


def _facts(found: Found) -> Iterator[str]:
    known = {name: value for name, value in found.run.items() if name not in ("plan", "note")}
    yield from (f"- {name.replace('_', ' ')}: {_value(value)}" for name, value in known.items())
    tokens = found.run["plan"]["static_tokens"]
    yield "- KV cache of each model in a static split: " + ", ".join(
        f"{model} {count:,} tokens" for model, count in tokens.items()
    )
    done = {(one.scenario.name, one.position) for one in found.trials}
    wanted = len(found.run["plan"]["requests"]) * len(ORDER)
    order = " ".join("AB"[role == "treatment"] for role in ORDER)
    named = f"A {ARMS['control']}, B {ARMS['treatment']}"
    yield f"- order {order} ({named}); {_starts_text(found.trials)}"
    if len(done) < wanted:
        yield (
            f"- **not complete: {len(done)} of {wanted} loads are measured**; the same command "
            "measures the rest"
        )
    yield ""


def _proof(found: Found) -> Iterator[str]:
    yield from ("## Whether KVCached was on", "")
    evidence = {one.position: seen for one in found.trials if (seen := evidence_in(one.provenance))}
    if not any(one.wanted for one in evidence.values()):
        yield from ("Nothing was asked: no engine here should have it.", "")
        return
    for turn, seen in sorted(evidence.items()):
        yield f"- turn {turn + 1} ({ARMS[ORDER[turn]]}): {_seen(seen)}"
    yield ""


def _seen(evidence: ArmEvidence) -> str:
    if not evidence.wanted:
        return f"{len(evidence.answers)} greedy answers to compare with"
    engines = [
        f"{one.engine} vLLM {one.vllm}, KVCached {one.kvcached}, {len(one.patched)} patches, "
        f"segment {'there' if one.segment else 'missing'}"
        for one in evidence.engines
    ]
    used = {gpu.uuid: gpu.used_gib for one in evidence.engines for gpu in one.gpus}
    return "; ".join([*engines, f"{sum(used.values()):.1f} GiB at idle"])


def _load_part(found: Found, name: str) -> Iterator[str]:
    trials = [one for one in found.trials if one.scenario.name == name]
    yield from (f"## {name}", "")
    if not trials:
        yield from ("Not measured.", "")
        return
    facts = trials[0].scenario
    counts = found.run["plan"]["requests"][name]
    asked = ", ".join(f"{model} {count}" for model, count in counts.items())
    yield from (f"{facts.description}. Requests: {asked}.", "")
    block = Block(0, tuple(trials))
    reasons = invalid_reasons([block], metric(facts.primary), DEFAULT_BOUNDS, [block])
    yield from (f"- **invalid**: {reason}" for reason in reasons)
    yield from (
        f"- {note}" for role in ROLES if block.of(role) for note in arm_notes(block.of(role))
    )
    yield ""
    turns = {role: [one for one in trials if one.role == role] for role in ROLES}
    heads = [f"{ARMS[role]}, turn {one.position + 1}" for role in ROLES for one in turns[role]]
    yield "| metric | " + " | ".join([*heads, "ratio"]) + " |"
    yield "|---" * (len(heads) + 2) + "|"
    for metric_name in facts.metrics:
        values = {role: [metric(metric_name).over([one]) for one in turns[role]] for role in ROLES}
        yield _row(metric_name, values)
    preempted = {
        role: [server_summary([one]).total.preemptions for one in turns[role]] for role in ROLES
    }
    yield _row("preemptions", preempted)
    yield ""


def _row(name: str, values: Mapping[Role, Sequence[float | None]]) -> str:
    """A line with the value of each turn, and the ratio of the arms' geometric means."""
    cells = [_number(value) for role in ROLES for value in values[role]]
    means = [_geometric(values[role]) for role in ROLES]
    effect = log_ratio(means[1], means[0])
    return (
        f"| {name} | "
        + " | ".join([*cells, _number(None if effect is None else ratio_of(effect))])
        + " |"
    )


def _geometric(values: Sequence[float | None]) -> float | None:
    """The geometric mean; None unless all are known, finite and above zero."""
    logs = [log_ratio(value, 1.0) for value in values]
    known = [one for one in logs if one is not None]
    return math.exp(math.fsum(known) / len(known)) if known and len(known) == len(logs) else None


def _memory_part(trials: Sequence[Trial]) -> Iterator[str]:
    """By turn: the memory of the GPU before a load and at most, and each engine's KV cache."""
    if not any(one.memory for one in trials):
        return
    yield from ("## Memory over time", "")
    yield "GiB; the readings of each second are in the trials."
    yield from (
        "",
        "| turn | load | before it | most | KV cache by engine: most |",
        "|---" * 5 + "|",
    )
    for one in sorted(trials, key=lambda one: one.position):
        if use := memory_use([one]):
            cells = (
                f"{one.position + 1} ({one.arm})",
                one.scenario.name,
                _number(use.idle_gib),
                _number(use.most_gib),
                ", ".join(f"{name} {gib:.1f}" for name, gib in use.kv_most_gib.items()) or "static",
            )
            yield f"| {' | '.join(cells)} |"
    yield ""


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return "∞" if math.isinf(value) else f"{value:.4g}"


def _value(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
