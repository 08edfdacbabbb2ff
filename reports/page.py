"""The comparison page of a run: one HTML file that needs nothing else.

There is no script in it and no reference out of it, so that it shows the same as a
file, as an attachment of the Allure report, and on paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from bench.analysis.judgement import Judgement
from bench.analysis.verdict import ALIKE, MATERIAL
from bench.records import Verdict
from reports import palette, wording
from reports.case import Arms, Run, arms_of, title
from reports.charts.forest import forest
from reports.charts.gallery import pictures_of
from reports.charts.style import Picture
from reports.tables import ServerRow, notes_of, server_rows
from reports.view import (
    Line,
    Objective,
    Tally,
    big_numbers,
    expectation,
    lines_of,
    objectives_of,
    tallies,
)

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class _CaseView:
    title: str
    description: str
    expectation: str
    outcome: Verdict | None
    big: tuple[tuple[str, str, str], ...]
    lines: tuple[Line, ...]
    invalid: tuple[str, ...]
    notes: tuple[str, ...]
    server: tuple[ServerRow, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class _Page:
    title: str
    setup: str
    when: str
    tallies: tuple[Tally, ...]
    headlines: tuple[str, ...]
    facts: Mapping[str, str]
    headings: tuple[str, ...]
    ratio_heading: str
    forest: Picture | None
    cases: tuple[_CaseView, ...]
    objectives: tuple[Objective, ...]
    material: str
    alike: str
    provenance: tuple[tuple[str, str], ...]


def render_page(run: Run) -> str:
    """The page as HTML. Every name, note and value from outside is escaped."""
    return _template("comparison.html.j2").render(
        page=_page(run), palette=palette, verdicts=Verdict
    )


def render_case(
    judgement: Judgement, pictures: tuple[Picture, ...], *, titled: bool = False
) -> str:
    """One case as a fragment of HTML without a style sheet: its table and its charts.

    With its title where it stands among others.
    """
    arms = arms_of([judgement])
    return _template("case.html.j2").render(
        case=_case_view(judgement, arms, pictures),
        titled=titled,
        headings=_headings(arms),
        ratio_heading=wording.ratio_heading([judgement]),
        palette=palette,
    )


def _template(name: str) -> Template:
    loader = FileSystemLoader(_TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template(name)


def _headings(arms: Arms) -> tuple[str, ...]:
    return tuple(heading for heading in arms.headings if heading is not None)


def _page(run: Run) -> _Page:
    arms = arms_of(run.judgements)
    compared = any(one.primary for one in run.judgements)
    return _Page(
        title=arms.title[:1].upper() + arms.title[1:],
        setup=run.setup,
        when=run.when,
        tallies=tallies(run.judgements),
        headlines=tuple(filter(None, map(wording.headline, run.judgements))),
        facts=run.facts,
        headings=_headings(arms),
        ratio_heading=wording.ratio_heading(run.judgements),
        forest=forest(run.judgements, run.setup).picture() if compared else None,
        cases=tuple(
            _case_view(case.judgement, arms, pictures_of(case, run.setup)) for case in run.cases
        ),
        objectives=objectives_of(run.judgements),
        material=wording.target(round(math.expm1(MATERIAL), 4)),
        alike=wording.target(round(math.expm1(ALIKE), 4)),
        provenance=tuple(_flat(run.provenance)),
    )


def _case_view(judgement: Judgement, arms: Arms, pictures: tuple[Picture, ...]) -> _CaseView:
    return _CaseView(
        title=title(judgement),
        description=judgement.scenario.description,
        expectation=expectation(judgement),
        outcome=judgement.primary.verdict if judgement.primary else None,
        big=big_numbers(judgement),
        lines=lines_of(judgement, arms),
        invalid=judgement.invalid_reasons,
        notes=notes_of(judgement),
        server=server_rows(judgement),
        pictures=pictures,
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested JSON as lines: `engine.version`, `0.30.0`."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        yield name, ", ".join(map(str, value))
    else:
        yield name, str(value)
