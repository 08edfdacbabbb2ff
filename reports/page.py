"""The comparison page of a run: one HTML file that needs nothing else.

There is no script in it and no reference out of it, so that it shows the same as a
file, as an attachment of the Allure report, and on paper.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.analysis import verdict
from bench.records import Comparison, Role, SloOutcome, Verdict
from reports import palette, wording
from reports.case import Case, Run, arms_of, short_title, title
from reports.charts.forest import forest
from reports.charts.gallery import charts_of
from reports.charts.style import Chart
from reports.rows import notes_of, rows_of, slo_of

_TEMPLATES = Path(__file__).with_name("templates")
# A ratio of 4 or 1/4 lies on the edge of the small bar in a table row.
_BAR_EDGE = math.log(4)


def render_page(run: Run) -> str:
    """The page as HTML. Names, notes and provenance are escaped."""
    return _environment().get_template("comparison.html.j2").render(
        run=run,
        arms=arms_of(run.judgements),
        forest=_image(forest(run.judgements, run.setup)),
        verdicts=_count(run, Verdict),
        provenance=list(_flat(run.provenance)),
        rule=verdict,
    )


def render_case(case: Case, setup: str) -> str:
    """The part of the page on one case, as an HTML fragment with its own style."""
    return _environment().get_template("case.html.j2").render(
        case=case, setup=setup, arms=arms_of([case.judgement])
    )
