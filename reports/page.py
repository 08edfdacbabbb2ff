"""The comparison page of a run: one HTML file without scripts and references."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from bench.analysis.factorial import Factorial
from bench.analysis.gates import gating
from bench.analysis.judgement import Case, Judgement, SloOutcome, SloResult, Verdict
from bench.analysis.verdict import ALIKE, MATERIAL
from bench.records import Expectation
from reports import effects, wording
from reports.charts import pictures_of, style
from reports.charts.effects import picture_of
from reports.charts.style import Picture
from reports.headline import headline
from reports.lanes import lanes_of
from reports.run import Arms, Run, arms_of, title, with_new_roles
from reports.tables import notes_of, rows_of, server_rows
from reports.tails import tails_of

_TEMPLATES = Path(__file__).with_name("templates")
_BAR_WIDTH = 150.0
# A ratio of 4, or 1/4, lies on the edge of the bar.
_BAR_EDGE = math.log(4)
# Charts that a case shows at once; the others are folded.
_SHOWN = 4
_NUMBER = re.compile(r"((?<![\w.,-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w-]))")
_MARKED = Markup('<span class="n">{}</span>')


def render_page(run: Run) -> str:
    """The page as HTML. Every name, note and value from outside is escaped."""
    judgements, arms = run.judgements, arms_of(run.judgements)
    return _template("comparison.html.j2").render(
        run=run,
        title=arms.title[:1].upper() + arms.title[1:],
        tallies=tallies(judgements),
        headline=headline(judgements, run.factorials),
        arms=arms,
        headings=list(arms.headings.values()),
        ratio_heading=wording.ratio_heading(judgements),
        chart=lanes_of(judgements),
        factors=[_factors(one, run.setup) for one in run.factorials],
        cases=[_case_of(place, one, arms, run.setup) for place, one in enumerate(run.cases)],
        objectives=objectives_of(judgements),
        material=wording.target(round(math.expm1(MATERIAL), 4)),
        alike=wording.target(round(math.expm1(ALIKE), 4)),
        provenance=list(_flat(run.provenance)),
    )


def render_case(
    judgement: Judgement, pictures: tuple[Picture, ...], *, titled: bool = False
) -> str:
    """One case as a fragment of HTML without a style sheet, with its title if `titled`."""
    arms = arms_of([judgement])
    return _template("case.html.j2").render(
        case=_case(judgement, arms, pictures),
        titled=titled,
        headings=list(arms.headings.values()),
        ratio_heading=wording.ratio_heading([judgement]),
    )


def render_factors(one: Factorial, setup: str) -> str:
    """The effects of factors as a fragment of HTML without a style sheet."""
    return _template("factors.html.j2").render(factors=_factors(one, setup))


def _factors(one: Factorial, setup: str) -> dict[str, Any]:
    """The values of the effects of factors for both templates."""
    return {
        "title": effects.title(one),
        "findings": effects.findings(one),
        "about": effects.about(one),
        "heading": effects.heading(one),
        "headings": effects.LEVELS,
        "ratio_heading": f"ratio [{wording.confidence(one)} CI]",
        "rows": effects.rows_of(one),
        "notes": effects.notes_of(one),
        "picture": picture_of(one, setup),
    }


def _template(name: str) -> Template:
    loader = FileSystemLoader(_TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.globals |= {
        "bar_of": bar_of,
        "palette": style,
        "verdicts": Verdict,
        "wording": wording,
    }
    environment.filters["numbers"] = numbers
    return environment.get_template(name)


def numbers(text: str) -> Markup:
    """The text, escaped, with each number in it as an element of class `n`.

    Such a number is a stored one, rounded as it is shown. Digits of a name (`p95`) are none.
    """
    # What is between numbers, and numbers, by turns.
    parts = enumerate(_NUMBER.split(text))
    return Markup("").join(_MARKED.format(part) if place % 2 else part for place, part in parts)


def _case_of(place: int, case: Case, arms: Arms, setup: str) -> dict[str, Any]:
    pictures = pictures_of(case, setup)
    return _case(case.judgement, arms, pictures) | {
        "key": f"case-{place}",
        "tails": tails_of(case, f"tail-{place}"),
        "shown": pictures[:_SHOWN],
        "folded": pictures[_SHOWN:],
    }


def _case(judgement: Judgement, arms: Arms, pictures: tuple[Picture, ...]) -> dict[str, Any]:
    """The values of a case for both templates."""
    return {
        "title": title(judgement),
        "description": judgement.scenario.description,
        "expectation": _expectation(judgement),
        "outcome": judgement.primary.verdict if judgement.primary else None,
        "big": _big_numbers(judgement),
        "rows": list(rows_of(judgement, arms)),
        "invalid": judgement.invalid_reasons,
        "notes": notes_of(judgement),
        "server": server_rows(judgement),
        "pictures": pictures,
    }


@dataclass(frozen=True, slots=True)
class Bar:
    """A ratio's interval as positions in a picture of width 150, where 75 is ratio 1."""

    x: float
    width: float
    middle: float
    band_x: float
    band_width: float


def bar_of(interval: tuple[float, float, float] | None) -> Bar | None:
    """The bar of an interval; its ends stay inside the picture."""
    if interval is None:
        return None
    low, middle, high = (_place(ratio) for ratio in interval)
    band = _place(math.exp(ALIKE)) - _BAR_WIDTH / 2
    # An interval too short to see still shows where it is.
    return Bar(low, max(high - low, 1.0), middle, _BAR_WIDTH / 2 - band, 2 * band)


def _place(ratio: float) -> float:
    share = math.log(ratio) / _BAR_EDGE if ratio > 0 else -1.0
    return round((1 + min(1.0, max(-1.0, share))) / 2 * _BAR_WIDTH, 1)


def tallies(judgements: Sequence[Judgement]) -> list[tuple[Verdict | SloOutcome, int, str]]:
    """Outcomes that occurred, with count and name: verdicts first, then SLOs of the judged arm."""
    counting = gating(judgements)
    verdicts = Counter(one.primary.verdict for one in counting if one.primary)
    judged = (one.slos_of("treatment") or one.slos_of("control") for one in counting)
    outcomes = Counter(one.outcome for slos in judged for one in slos)
    del outcomes[SloOutcome.UNSET]
    return [
        *((one, verdicts[one], one.value) for one in Verdict if verdicts[one]),
        *((one, outcomes[one], f"SLO {one.value}") for one in SloOutcome if outcomes[one]),
    ]


def objectives_of(judgements: Sequence[Judgement]) -> list[tuple[str, str, SloResult]]:
    """Each SLO that is set: its scenario, model and tenant; the arm's heading; the result."""
    return [
        (" · ".join(filter(None, (one.scenario, one.model, one.tenant))), heading, one)
        for judgement, headings in with_new_roles(judgements)
        for role, heading in headings.items()
        for one in judgement.slos_of(role)
        if one.outcome is not SloOutcome.UNSET
    ]


def _expectation(judgement: Judgement) -> str:
    """What is expected, as a sentence; empty where nothing is compared."""
    if judgement.primary is None or arms_of([judgement]).same:
        return ""
    wanted = "better" if judgement.scenario.expect is Expectation.BETTER else "not worse"
    return f"Expected: {judgement.treatment} {wanted} than {judgement.control}."


def _big_numbers(judgement: Judgement) -> Iterator[tuple[str, str, str]]:
    """The large numbers of a case: name, value, and the small text beside it."""
    primary = judgement.primary
    if primary is None:
        return
    intervals = {
        one.role: wording.bounds(one.low, one.high).strip()
        for one in judgement.summaries
        if one.metric == primary.metric
    }
    values = {"control": primary.control_value, "treatment": primary.treatment_value}
    for role, heading in arms_of([judgement]).headings.items():
        name = f"{wording.metric(primary.metric)}, {heading}"
        yield name, wording.quantity(values[role], primary.unit), intervals.get(role, "")
    middle, _, interval = wording.ratio(primary).partition(" [")
    yield f"ratio, {primary.direction} is better", middle, f"[{interval}" if interval else ""
    yield primary.over, str(primary.blocks), ""


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested JSON as lines: `engine.version`, `0.30.0`."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        yield name, ", ".join(map(str, value))
    else:
        yield name, str(value)
