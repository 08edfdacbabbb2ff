"""A run in one sentence: what won, by how much, how sure that is, and on what it rests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.analysis.factorial import Factorial
from bench.analysis.gates import gating, overall
from bench.analysis.judgement import Comparison, Judgement, Verdict
from reports import effects, wording
from reports.run import arms_of


def headline(judgements: Sequence[Judgement], factorials: Sequence[Factorial] = ()) -> str:
    """One or two sentences on each treatment, or one on the factors of each scenario.

    Of a comparison it is the round that counts. Scenarios whose factors have no effects, for they
    ended too soon, have sentences on their treatments.
    """
    latest = {(one.scenario, one.models): one for one in factorials}
    rest = [one for one in gating(judgements) if (one.scenario.name, one.models) not in latest]
    return " ".join(filter(None, (*map(effects.headline, latest.values()), _on_arms(rest))))


def _on_arms(counting: Sequence[Judgement]) -> str:
    arms = arms_of(counting)
    compared = [one for one in counting if one.primary is not None]
    if not compared:
        alone = arms.treatment or arms.control
        return f"{alone} was measured alone: {overall(counting)}." if alone else ""
    treatments = dict.fromkeys(one.treatment for one in compared)
    return " ".join(
        _of_treatment([one for one in compared if one.treatment == treatment], brief=arms.several)
        for treatment in treatments
    )


def _of_treatment(compared: Sequence[Judgement], *, brief: bool) -> str:
    if len(compared) == 1:
        return wording.headline(compared[0]) or _of_one(compared[0], brief=brief)
    return _of_several([one.primary for one in compared if one.primary is not None])


def _of_one(judgement: Judgement, *, brief: bool) -> str:
    primary = judgement.primary
    assert primary is not None
    control, treatment = primary.control, primary.treatment
    if primary.verdict is Verdict.INVALID:
        reason = (*judgement.invalid_reasons, *primary.reasons, "the instrument failed")[0]
        return f"No verdict on {treatment} against {control}: {reason}."
    other = "itself" if control == treatment else control
    said = {
        Verdict.BETTER: f"{treatment} is better than {other}",
        Verdict.WORSE: f"{treatment} is worse than {other}",
        Verdict.EQUIVALENT: f"{treatment} is equivalent to {other}",
        Verdict.INCONCLUSIVE: f"Undecided whether {treatment} is better than {other}",
    }
    brief_size = f"{wording.metric(primary.metric)} {wording.ratio(primary)}"
    return f"{said[primary.verdict]}: {brief_size if brief else _size(primary)}."


def _size(one: Comparison) -> str:
    """How large the difference is, and how sure that is."""
    name = wording.metric(one.metric)
    if one.ratio is None:
        return f"{name} has no ratio"
    times = f"{name} is {wording.factor(one.ratio)} times as high"
    over = wording.count(one.blocks, one.over.removesuffix("s"))
    if one.low is None or one.high is None:
        return f"{times}, without an interval ({over})"
    low, high = wording.factor(one.low), wording.factor(one.high)
    return f"{times} ({wording.confidence(one)} interval {low} to {high}, {over})"


def _of_several(primaries: Sequence[Comparison]) -> str:
    """How many comparisons have which verdict; the range of ratios where it has a meaning."""
    counts = Counter(one.verdict for one in primaries)
    control, treatment = primaries[0].control, primaries[0].treatment
    other = "itself" if control == treatment else control
    better = counts.pop(Verdict.BETTER, 0) or "none"
    rest = [f"{n} {'is' if n == 1 else 'are'} {one}" for one in Verdict if (n := counts[one])]
    parts = (
        f"{treatment} is better than {other} in {better} of {len(primaries)} comparisons",
        ", ".join(rest),
    )
    sentence = f"{'; '.join(filter(None, parts))}."
    for verdict in (Verdict.BETTER, Verdict.WORSE):
        ones = [one for one in primaries if one.verdict is verdict]
        ratios = [one.ratio for one in ones if one.ratio is not None]
        if ratios and len({one.metric for one in ones}) == 1:
            low, high = wording.factor(min(ratios)), wording.factor(max(ratios))
            size = low if low == high else f"{low} to {high}"
            name = wording.metric(ones[0].metric)
            sentence += f" Where it is {verdict}, {name} is {size} times as high."
    return sentence
