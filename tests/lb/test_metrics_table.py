"""The documentation lists the metrics that there are."""

from __future__ import annotations

from pathlib import Path

from lb.observability.metrics import METRICS

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "balancer.md"


def test_the_table_in_the_documentation_is_what_is_exported() -> None:
    rows = [
        tuple(cell.strip() for cell in line.strip("|\n").split("|"))
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `lb_")
    ]
    assert rows == [
        (f"`{metric.name}`", metric.kind, ", ".join(metric.labels), metric.help)
        for metric in METRICS
    ]
