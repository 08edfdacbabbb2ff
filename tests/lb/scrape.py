"""What a Prometheus server makes of the balancer's metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


def families(text: str) -> dict[str, Metric]:
    """By the name that the family has in the text."""
    parsed: Iterable[Metric] = text_string_to_metric_families(text)
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in parsed
    }


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the samples that have these labels; 0 if there is none."""
    return sum(
        sample.value
        for family in families(text).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
