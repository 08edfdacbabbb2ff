"""What the factors of a factorial run give: the rows of its table, and what they say."""

from __future__ import annotations

from bench.analysis.factorial import Effect, Factor, Factorial, Interaction
from bench.analysis.judgement import Verdict
from reports import wording
from reports.tables import Row

# What the two values of a row are.
LEVELS = ("first level", "second level")


def title(one: Factorial) -> str:
    """`max_num_seqs x policy · heavy-tail · tiny-llama`, with `· again` for a second round."""
    parts = (one.interaction.factor, one.scenario, ", ".join(one.models))
    return " · ".join((*parts, "again") if one.round > 1 else parts)


def heading(one: Factorial) -> str:
    """The heading of the column with the labels of effects."""
    return f"effect on {wording.metric(one.metric)}"


def rows_of(one: Factorial) -> list[Row]:
    """Of each factor its main effect and those at each level of the other, then the interaction."""
    rows = []
    for place, (factor, main) in enumerate(zip(one.factors, one.main, strict=True)):
        other = one.factors[1 - place]
        rows.append(_row(f"{factor.name}: {_levels(factor)}", main))
        for at, effect in enumerate(one.simple[2 * place : 2 * place + 2]):
            # The places in `CELLS` of the factor's two levels, the other one at `at`.
            cells = (at, 2 + at) if place == 0 else (2 * at, 2 * at + 1)
            values = (wording.quantity(one.values[cell], one.unit) for cell in cells)
            rows.append(_row(f"  at {other.name} {effect.at}", effect, *values))
    rows.append(_row(f"interaction {one.interaction.factor}", one.interaction))
    return rows


def findings(one: Factorial) -> list[str]:
    """Sentences on each factor and on the interaction; why there are none where it is invalid."""
    if one.invalid_reasons:
        return [f"Nothing is concluded on {_why_not(one)}."]
    said = [_on_factor(one, place) for place in (0, 1)]
    return [*said, _on_interaction(one)]


def headline(one: Factorial) -> str:
    """The findings in one sentence, with the ratios of the main effects alone."""
    what = f"{wording.metric(one.metric)}, {one.scenario} · {', '.join(one.models)}"
    if one.invalid_reasons:
        return f"{what}: nothing is concluded on {_why_not(one)}."
    each = [
        f"{factor.name} {_compared(factor, main)} ({wording.ratio(main)})"
        for factor, main in zip(one.factors, one.main, strict=True)
    ]
    match one.interaction.verdict:
        case Interaction.SHOWN:
            depend = "the two depend on each other"
        case Interaction.EXCLUDED:
            depend = "the two do not depend on each other"
        case _:
            depend = "it is undecided whether the two depend on each other"
    return f"{what}: {', '.join(each)}, on average over the levels of the other; {depend}."


def notes_of(one: Factorial) -> list[str]:
    """Its notes, and why effects have no ratio or no verdict, equal reasons once."""
    effects = (*one.main, one.interaction, *one.simple)
    reasons = (reason for effect in effects for reason in effect.reasons)
    return list(dict.fromkeys((*one.notes, *reasons)))


def about(one: Factorial) -> str:
    """How its ratios are to be read."""
    return (
        f"Ratio of {wording.metric(one.metric)} ({one.direction} is better) at the second level of "
        "a factor / at its first: on average over the other factor, and at each of its levels. The "
        f"interaction is the ratio of these two. {wording.count(one.blocks, 'block')}; both main "
        "effects and the interaction share the error rate."
    )


def _why_not(one: Factorial) -> str:
    return f"{one.interaction.factor}: {one.invalid_reasons[0]}"


def _levels(factor: Factor) -> str:
    """`queue-aware / round-robin`."""
    first, second = factor.levels
    return f"{second} / {first}"


def _row(label: str, effect: Effect, *values: str) -> Row:
    low, ratio, high = effect.low, effect.ratio, effect.high
    shown = values or ("", "")
    return Row(
        label=label,
        values=tuple(zip(LEVELS, shown, strict=True)),
        ratio=wording.ratio(effect),
        outcome=effect.verdict,
        interval=None if low is None or ratio is None or high is None else (low, ratio, high),
    )


def _on_factor(one: Factorial, place: int) -> str:
    factor, main, other = one.factors[place], one.main[place], one.factors[1 - place]
    size = "has no ratio" if main.ratio is None else f"{wording.ratio(main)} times as high"
    sentence = f"{factor.name}: {_compared(factor, main)}, {wording.metric(one.metric)} {size}"
    if one.separable:
        return f"{sentence}, at either level of {other.name}."
    simple = one.simple[2 * place : 2 * place + 2]
    each = ", ".join(f"{wording.ratio(effect)} at {effect.at}" for effect in simple)
    return f"{sentence} on average over the levels of {other.name}: {each}."


def _compared(factor: Factor, effect: Effect) -> str:
    """`queue-aware is better than round-robin`."""
    first, second = factor.levels
    said = {
        Verdict.BETTER: f"{second} is better than {first}",
        Verdict.WORSE: f"{second} is worse than {first}",
        Verdict.EQUIVALENT: f"{second} is equivalent to {first}",
        Verdict.INCONCLUSIVE: f"undecided whether {second} is better than {first}",
    }
    assert isinstance(effect.verdict, Verdict)
    return said[effect.verdict]


def _on_interaction(one: Factorial) -> str:
    first, second = one.factors
    match one.interaction.verdict:
        case Interaction.EXCLUDED:
            start = "The factors do not depend on each other"
        case Interaction.SHOWN:
            start = "The factors depend on each other"
        case _:
            start = "It is undecided whether the factors depend on each other"
    if one.interaction.ratio is None:
        return f"{start}: the interaction has no ratio."
    return (
        f"{start}: the effect of {first.name} at {second.name} {second.levels[1]} is "
        f"{wording.ratio(one.interaction)} times that at {second.levels[0]}."
    )
