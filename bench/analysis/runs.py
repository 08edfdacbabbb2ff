"""From the figures of single runs, which other tools measured, to a judgement.

A run is one observation, whatever its number of requests: requests of one run are correlated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.blocks import ROLES
from bench.analysis.checks import DEFAULT_BOUNDS
from bench.analysis.conclude import held_back
from bench.analysis.estimates import log_ratio, median, ratio_of
from bench.analysis.judgement import Comparison, Judgement, Summary, Verdict
from bench.analysis.metrics import METRICS, Metric, metric
from bench.analysis.verdict import decide_runs, runs_to_decide
from bench.records import Role, ScenarioFacts

# The primary metric is the first of these that all runs have, with enough requests.
PRIMARY = (
    *("scheduled_ttft_p95_s", "scheduled_ttft_p90_s", "scheduled_ttft_p50_s"),
    *("ttft_p95_s", "ttft_p90_s", "ttft_p99_s", "ttft_p50_s", "ttft_mean_s"),
    *("e2e_p95_s", "e2e_p90_s", "e2e_p99_s", "e2e_p50_s", "e2e_mean_s"),
    *("tpot_p50_s", "tpot_mean_s", "output_tps", "throughput_rps"),
)
# A typical value and one of the tail, each the first of these that all runs have.
_SHOWN = (("p50", "mean"), ("p95", "p90", "p99"))
_QUANTITIES = ("scheduled_ttft", "ttft", "scheduled_e2e", "e2e", "tpot", "itl")
_RATES = ("output_tps", "throughput_rps", "goodput_rps")


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The metrics of one run by name, and how many of its requests were answered or failed.

    `failed` is None where the tool does not report it. `gaps` is the number of gaps between
    tokens.
    """

    values: Mapping[str, float]
    answered: int
    failed: int | None = None
    gaps: int = 0

    def n(self, name: str) -> int:
        """How many values a metric rests on."""
        return self.gaps if name.startswith("itl_") else self.answered


Runs = Mapping[Role, Sequence[RunFigures]]


def common_metrics(runs: Runs, primary: str | None) -> tuple[str, ...]:
    """The metrics that are compared, the primary one first; none if all runs have none in common.

    Of those that all runs have: a typical value and one of the tail of each latency, and rates.
    """
    everyone = [one for role in ROLES for one in runs[role]]
    common = {name for name in everyone[0].values if all(name in one.values for one in everyone)}
    fit = {name for name in common if name in METRICS and not _too_few(metric(name), runs)}

    def best(names: Iterable[str]) -> str:
        return next((name for known in (fit, common) for name in names if name in known), "")

    # What counts from the schedule has the time that the same request counts from sending.
    hidden = [one for one in _QUANTITIES if f"scheduled_{one}_mean_s" in common]
    rest = [
        best([f"{quantity}_{one}_s" for one in kind])
        for quantity in _QUANTITIES
        if quantity not in hidden
        for kind in _SHOWN
    ]
    rates = [name for name in _RATES if name in common]
    return tuple(dict.fromkeys(name for name in (primary or best(PRIMARY), *rest, *rates) if name))


def judge_runs(
    facts: ScenarioFacts,
    models: tuple[str, ...],
    arms: Mapping[Role, str],
    runs: Runs,
    *,
    paired: bool,
    notes: tuple[str, ...] = (),
) -> Judgement:
    """Judge the runs of both arms, all of the same load. In `paired` ones the places are pairs.

    Every run has all metrics of `facts`. Raises UserError for an unknown metric.
    """
    metrics = [metric(name) for name in facts.metrics]
    few = (f"{facts.primary}: {line}" for line in _too_few(metrics[0], runs))
    invalid = (*_failures(arms, runs), *few)
    comparisons = tuple(
        _compare(one, facts, models, arms, runs, paired=paired, invalid=invalid) for one in metrics
    )
    pairs = zip(*(runs[role] for role in ROLES), strict=True) if paired else ()
    effects = [log_ratio(b.values[facts.primary], a.values[facts.primary]) for a, b in pairs]
    first = comparisons[0]
    undecided = first.verdict is Verdict.INCONCLUSIVE and first.low is not None
    control, treatment = ([one.values[facts.primary] for one in runs[role]] for role in ROLES)
    needed = runs_to_decide(control, treatment, facts.alpha, paired=paired) if undecided else None
    if needed:
        notes += (f"undecided: if runs go on alike, about {needed} a side would decide",)
    return Judgement(
        scenario=facts,
        models=models,
        environment="external",
        control=arms["control"],
        treatment=arms["treatment"],
        ratios={
            index: None if effect is None else ratio_of(effect)
            for index, effect in enumerate(effects)
        },
        comparisons=comparisons,
        summaries=tuple(
            Summary(
                role=role,
                arm=arms[role],
                metric=one.name,
                unit=one.unit,
                value=median([run.values[one.name] for run in runs[role]]),
                n=sum(run.n(one.name) for run in runs[role]),
            )
            for role in ROLES
            for one in metrics
        ),
        invalid_reasons=invalid,
        notes=(*notes, *held_back(comparisons)),
    )


def _compare(
    one: Metric,
    facts: ScenarioFacts,
    models: tuple[str, ...],
    arms: Mapping[Role, str],
    runs: Runs,
    *,
    paired: bool,
    invalid: tuple[str, ...],
) -> Comparison:
    control, treatment = ([run.values[one.name] for run in runs[role]] for role in ROLES)
    decision = decide_runs(control, treatment, one.direction, facts.alpha, paired=paired)
    unsure = _too_few(one, runs)
    verdict = Verdict.INCONCLUSIVE if unsure else decision.verdict
    primary = one.name == facts.primary
    failed = {role: _failed_share(runs[role]) for role in ROLES}
    reasons = dict.fromkeys((*invalid, *unsure, *decision.reasons))
    if primary and failed["control"] != failed["treatment"]:
        reasons |= dict.fromkeys(("the arms failed different shares of their requests",))
    return Comparison(
        scenario=facts.name,
        models=models,
        metric=one.name,
        unit=one.unit,
        direction=one.direction,
        primary=primary,
        control=arms["control"],
        treatment=arms["treatment"],
        control_value=median(control),
        treatment_value=median(treatment),
        ratio=decision.ratio,
        low=decision.low,
        high=decision.high,
        blocks=min(len(control), len(treatment)),
        alpha=facts.alpha,
        verdict=Verdict.INVALID if invalid else verdict,
        reasons=tuple(reasons),
        control_failed=failed["control"],
        treatment_failed=failed["treatment"],
        over="pairs of runs" if paired else "runs a side",
    )


def _too_few(one: Metric, runs: Runs) -> tuple[str, ...]:
    """A line when the metric rests on too few values in some run."""
    fewest = min(run.n(one.name) for role in ROLES for run in runs[role])
    if fewest >= one.minimum_n:
        return ()
    return (
        f"a run has {fewest} values of it, and {one.minimum_n} are needed: give longer runs, or"
        " another --metric",
    )


def _failed_share(runs: Sequence[RunFigures]) -> float | None:
    """Failed requests / all attempted; None where a run does not report them."""
    failed = [one.failed for one in runs if one.failed is not None]
    attempted = sum(failed) + sum(one.answered for one in runs)
    return sum(failed) / attempted if len(failed) == len(runs) and attempted else None


def _failures(arms: Mapping[Role, str], runs: Runs) -> Iterator[str]:
    """A line for an arm of whose requests too many failed."""
    bound = DEFAULT_BOUNDS.error_rate
    for role in ROLES:
        share = _failed_share(runs[role])
        if share is not None and share > bound:
            yield (
                f"{role} {arms[role]}: {share:.1%} of its requests failed, bound {bound:.1%}:"
                " latencies of those that are left do not compare"
            )
