"""The text format, as Prometheus' own parser reads it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lb.observability.exposition import Metric, Tree, render
from tests.lb.scrape import families

GAUGE = Metric("lb_gauge", "gauge", ("replica", "model"), "A gauge.")
COUNTER = Metric("lb_events_total", "counter", ("replica",), "A counter.")
HISTOGRAM = Metric("lb_seconds", "histogram", ("replica",), "A histogram.", (0.001, 0.5, 10.0))

# The parser splits lines as Python does, Prometheus only at line feeds.
label_values = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]) | st.just("\n"))
finite = st.floats(allow_nan=False, allow_infinity=False)


def test_a_family_has_its_help_and_type_even_without_values() -> None:
    lines = [*render(GAUGE, {}), *render(COUNTER, {})]
    assert "".join(lines) == (
        "# HELP lb_gauge A gauge.\n# TYPE lb_gauge gauge\n"
        "# HELP lb_events_total A counter.\n# TYPE lb_events_total counter\n"
    )


@given(st.dictionaries(label_values, st.dictionaries(label_values, finite)))
def test_labels_and_values_come_out_as_they_went_in(
    values: dict[str, dict[str, float]],
) -> None:
    tree: Tree = {replica: dict(models) for replica, models in values.items()}
    (family,) = families("".join(render(GAUGE, {"lb_gauge": tree}))).values()
    found: dict[str, dict[str, float]] = {}
    for sample in family.samples:
        found.setdefault(sample.labels["replica"], {})[sample.labels["model"]] = sample.value
    expected = {
        replica: {model: float(f"{number:.15g}") for model, number in models.items()}
        for replica, models in values.items()
        if models
    }
    assert found == expected


def test_a_histogram_is_cumulative_and_ends_with_all() -> None:
    lines = render(HISTOGRAM, {"lb_seconds": {"r": [3, 0, 2, 1, 21.5]}})
    (family,) = families("".join(lines)).values()
    assert (family.type, family.documentation) == ("histogram", "A histogram.")
    assert [(s.name, s.labels.get("le"), s.value) for s in family.samples] == [
        ("lb_seconds_bucket", "0.001", 3),
        ("lb_seconds_bucket", "0.5", 3),
        ("lb_seconds_bucket", "10", 5),
        ("lb_seconds_bucket", "+Inf", 6),
        ("lb_seconds_sum", None, 21.5),
        ("lb_seconds_count", None, 6),
    ]
