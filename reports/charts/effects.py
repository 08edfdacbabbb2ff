"""The effects of two factors, one by one, over one axis. It is no chart of a case."""

from __future__ import annotations

from bench.analysis.factorial import Factorial
from reports import effects, wording
from reports.charts.forest import Row, forest
from reports.charts.style import OUTCOME, Line, Picture


def picture_of(one: Factorial, setup: str) -> Picture:
    """The seven effects with their intervals. `setup` goes into its caption."""
    lines = [Line("second level / first level of a factor; grey band: within ±10 %")]
    rows = []
    for row in effects.rows_of(one):
        assert row.outcome is not None
        low, ratio, high = row.interval or (None, None, None)
        rows.append(
            Row(
                label=row.label,
                result=f"{row.ratio}\n{row.outcome}",
                colour=OUTCOME[row.outcome],
                ratio=ratio,
                low=low,
                high=high,
            )
        )
    title = f"Effects on {wording.metric(one.metric)}"
    widest = max(len(row.label) for row in rows)
    caption = f"{one.scenario} · {', '.join(one.models)} · {setup}"
    return forest(title, lines, rows, caption, left_in=0.35 + 0.062 * widest).picture()
