"""How an arm loaded its replicas: what is counted, what is averaged, what stays unknown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.judge import judge
from bench.analysis.server_side import ServerLoad, ServerSummary, server_notes, server_summary
from bench.errors import UserError
from bench.records import Replica, Sample, ServerReading, ServerSeries, Trial
from tests.bench.making import REPLICAS, answered, failed, paired, trial, with_readings

NAMES = [replica.name for replica in REPLICAS]


def split(*counts: int) -> list[Sample]:
    """So many requests answered by each replica."""
    names = [name for name, count in zip(NAMES, counts, strict=True) for _ in range(count)]
    return [answered(index, 0.1, replica=name) for index, name in enumerate(names)]


def control(samples: Sequence[Sample], position: int = 0) -> Trial:
    return trial("control", 0, position, samples)


def of(*trials: Trial) -> ServerSummary:
    return server_summary(trials)


@pytest.mark.parametrize(
    ("counts", "imbalance"), [((8, 8), 1.0), ((12, 4), 1.5), ((16, 0), 2.0), ((0, 16), 2.0)]
)
def test_imbalance_is_the_busiest_replica_against_the_mean(
    counts: tuple[int, int], imbalance: float
) -> None:
    summary = of(control(split(*counts)))
    assert summary.imbalance == imbalance
    assert summary.share(NAMES[0]) == counts[0] / 16


def test_imbalances_that_change_sides_do_not_cancel() -> None:
    summary = of(control(split(16, 0)), control(split(0, 16), 3))
    assert summary.imbalance == 2.0
    assert summary.share(NAMES[0]) == 0.5


def test_replicas_are_compared_within_their_model() -> None:
    replicas = tuple(
        Replica(model, f"{model}-{index}", f"http://127.0.0.1:{port}")
        for port, (model, index) in enumerate([("a", 0), ("a", 1), ("b", 0)], 1)
    )
    to = ["a-0"] * 3 + ["a-1"] + ["b-0"] * 40
    samples = [answered(i, 0.1, model=name[0], replica=name) for i, name in enumerate(to)]
    made = replace(control(samples), replicas=replicas, models=("a", "b"))
    assert of(made).imbalance == 1.5
    assert of(made).share("b-0") == 1.0
    assert of(replace(made, models=("b",))).imbalance == 1.0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=4))
def test_imbalance_lies_between_1_and_the_number_of_replicas(
    counts: list[tuple[int, int]],
) -> None:
    summary = of(*(control(split(*each)) for each in counts))
    if summary.imbalance is not None:
        assert 1 <= summary.imbalance <= 2
    shares = [summary.share(name) for name in NAMES]
    assert sum(share or 0 for share in shares) in (pytest.approx(1), 0)


def test_failed_requests_count_where_they_were_sent() -> None:
    samples = [answered(0, 0.1, replica=NAMES[0]), failed(1, replica=NAMES[1])]
    assert of(control(samples)).imbalance == 1.0


def unnamed(trial: Trial) -> Trial:
    """The same, through a balancer that does not name replicas."""
    return replace(trial, samples=tuple(replace(one, replica=None) for one in trial.samples))


def test_where_answers_name_no_replica_its_own_count_tells() -> None:
    made = with_readings(unnamed(control(split(8, 8))), {"finished": (6, 2)})
    assert of(made).imbalance == 1.5
    past = replace(made, bypassed=tuple(split(4, 0)))
    assert of(past).imbalance == 1.0


def test_without_names_and_counts_nothing_is_known() -> None:
    summary = of(unnamed(control(split(8, 8))))
    assert (summary.imbalance, summary.share(NAMES[0])) == (None, None)


def test_counts_are_sums_and_levels_are_means_and_maxima() -> None:
    one = with_readings(control(split(8, 8)), {"waiting": (2, 4), "preemptions": (1, 0)})
    two = with_readings(control(split(8, 8), 3), {"waiting": (0, 6), "preemptions": (0, 5)})
    total = of(one, two).total
    assert (total.waiting_mean, total.waiting_max, total.preemptions) == (3, 6, 6)
    second = of(one, two).replica(NAMES[1])
    assert (second.waiting_mean, second.waiting_max, second.preemptions) == (5, 6, 5)


def test_the_hit_rate_is_of_all_tokens_that_were_looked_up() -> None:
    read = {"prefix_queries": (100, 300), "prefix_hits": (0, 100)}
    total = of(with_readings(control(split(8, 8)), read)).total
    assert total.prefix_hit_rate == 0.25
    idle = of(with_readings(control(split(8, 8)), dict.fromkeys(read, (0, 0)))).total
    assert idle.prefix_hit_rate is None


def test_what_one_replica_does_not_tell_is_unknown_of_the_arm_and_not_0() -> None:
    made = with_readings(control(split(8, 8)), {"waiting": (2, 4), "generation_tokens": (40, 40)})
    lost = ServerSeries(NAMES[1], (ServerReading(-0.1, -0.1, error="connection refused"),))
    summary = of(replace(made, server=(made.server[0], lost)))
    assert summary.replica(NAMES[0]).generation_tokens == 40
    assert summary.replica(NAMES[1]).generation_tokens is None
    assert (summary.total.generation_tokens, summary.total.waiting_max) == (None, None)
    assert summary.imbalance == 1.0
    (note,) = server_notes(summary)
    assert note == (
        "control baseline: 1 of 1 scrapes of tiny-llama-1 failed (connection refused);"
        " its readings are missing"
    )


def test_replicas_that_cannot_be_read_do_not_make_a_comparison_invalid() -> None:
    blind = tuple(
        ServerSeries(name, (ServerReading(-0.1, 4.9, error="timed out"),)) for name in NAMES
    )
    seen = judge([replace(one, server=blind) for one in paired((0.5,) * 4, (0.2,) * 4)])
    assert seen.invalid_reasons == ()
    assert len([note for note in seen.notes if "timed out" in note]) == 4
    assert seen.server("treatment").total.waiting_mean is None
    assert seen.server("treatment").imbalance == 1.0


def test_lateness_is_that_of_answers() -> None:
    readings = (
        ServerReading(0.0, 0.01, waiting=1.0),
        ServerReading(0.25, 5.25, error="timed out"),
    )
    made = replace(control(split(8, 8)), server=(ServerSeries(NAMES[0], readings),))
    one, _ = of(made).replicas
    assert (one.scrapes, one.failed) == (2, 1)
    assert one.late_p95_s == pytest.approx(0.01)


def test_an_arm_that_was_not_run_has_no_server_side() -> None:
    alone = judge([one for one in paired((0.5,) * 4, (0.5,) * 4) if one.role == "control"])
    assert alone.server("control").arm == "baseline"
    with pytest.raises(UserError, match="nothing is known of the treatment of heavy-tail"):
        alone.server("treatment")


def test_replicas_that_are_others_in_each_trial_are_all_told() -> None:
    """As in a cluster where arms come by turns."""
    swapped = [replace(one, name=f"{one.name}-x") for one in REPLICAS]
    first = control(split(12, 4))
    second = control([replace(one, replica=f"{one.replica}-x") for one in split(4, 4)], position=3)
    summary = of(first, replace(second, replicas=tuple(swapped)))
    assert [one.replica for one in summary.replicas] == [*NAMES, *(one.name for one in swapped)]
    assert [one.load.requests for one in summary.replicas] == [12, 4, 4, 4]
    assert summary.imbalance == (1.5 + 1.0) / 2


def test_every_figure_is_described_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "server-side.md").read_text()
    table = text[text.index("| figure |") :].partition("\n\n")[0]
    described = set(re.findall(r"`([a-z_]+)`", table))
    assert {field.name for field in fields(ServerLoad)} | {"prefix_hit_rate"} <= described
