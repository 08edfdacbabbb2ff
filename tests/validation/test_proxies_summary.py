"""From rounds to the table: order, medians, ratios, and what is said beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.proxies.columns import METRICS
from validation.proxies.measurement import OPEN_STREAMS, Measurement, Round
from validation.proxies.wording import ONLY_PROXIES, remarks_of
from validation.sidebyside.choice import absences
from validation.sidebyside.figures import Figures, summarize
from validation.sidebyside.machine import busy_remarks
from validation.sidebyside.rounds import alternate
from validation.sidebyside.table import render

PLAIN = Measurement(
    requests_per_s=10_000.0,
    p50_s=0.005,
    p99_s=0.009,
    lone_p50_s=100e-6,
    lone_p99_s=200e-6,
    request_cpu_s=50e-6,
    request_kernel_s=20e-6,
    core_share=0.9,
    burst_cpu_s=70e-6,
    burst_kernel_s=30e-6,
    chunk_cpu_s=10e-6,
    chunk_kernel_s=8e-6,
    open_streams=OPEN_STREAMS,
    rss_bytes=20 * 2**20,
    errors={},
)


def rounds_of(**servers: Sequence[Measurement]) -> list[Round]:
    return [dict(zip(servers, one, strict=True)) for one in zip(*servers.values(), strict=True)]


def cpu(*seconds: float) -> list[Measurement]:
    return [replace(PLAIN, request_cpu_s=one) for one in seconds]


def figures_of(rounds: Sequence[Round]) -> Figures:
    return summarize(rounds, METRICS, "nginx", incomparable={"source"})


def shown(rounds: Sequence[Round], remarks: Sequence[str] = ()) -> str:
    lines = (*remarks, *remarks_of(rounds))
    return render(figures_of(rounds), METRICS, "nginx", lines, width=80, colour=False)


@given(st.lists(st.integers(), unique=True), st.integers(0, 5))
def test_over_an_even_number_of_rounds_all_have_the_same_mean_place(
    items: list[int], pairs: int
) -> None:
    orders = alternate(items, 2 * pairs)
    places = {sum(order.index(item) for order in orders) for item in items}
    assert all(sorted(order) == sorted(items) for order in orders)
    assert len(places) <= 1


def test_rounds_alternate() -> None:
    assert ["".join(order) for order in alternate("ABC", 3)] == ["ABC", "CBA", "ABC"]


def test_a_figure_is_the_median_with_its_range() -> None:
    rounds = rounds_of(source=[PLAIN] * 3, lb=cpu(90e-6, 300e-6, 100e-6))
    figure = figures_of(rounds)["lb"]["request_cpu_us"]
    assert (figure.median, figure.low, figure.high) == pytest.approx((100, 90, 300))


def test_a_ratio_is_that_of_the_medians() -> None:
    rounds = rounds_of(
        source=[PLAIN] * 3, lb=cpu(90e-6, 300e-6, 100e-6), nginx=cpu(25e-6, 20e-6, 9e-6)
    )
    figures = figures_of(rounds)
    assert figures["lb"]["request_cpu_us"].ratio == pytest.approx(5.0)
    assert figures["nginx"]["request_cpu_us"].ratio == pytest.approx(1.0)
    assert figures["source"]["request_cpu_us"].ratio is None


def test_without_the_reference_there_is_no_ratio() -> None:
    figures = figures_of(rounds_of(source=[PLAIN], lb=[PLAIN]))
    assert all(figure.ratio is None for figure in figures["lb"].values())


def test_added_latency_is_taken_within_a_round() -> None:
    source = [replace(PLAIN, lone_p50_s=one) for one in (100e-6, 500e-6, 100e-6)]
    lb = [replace(PLAIN, lone_p50_s=one) for one in (150e-6, 560e-6, 170e-6)]
    figures = figures_of(rounds_of(source=source, lb=lb))
    figure = figures["lb"]["added_p50_us"]
    assert (figure.median, figure.low, figure.high) == pytest.approx((60, 50, 70))
    assert "added_p50_us" not in figures["source"]


def test_of_nothing_added_nothing_is_a_multiple() -> None:
    rounds = rounds_of(
        source=[PLAIN], lb=[replace(PLAIN, lone_p50_s=150e-6)], nginx=[replace(PLAIN)]
    )
    assert figures_of(rounds)["lb"]["added_p50_us"].ratio is None


def test_the_table_tells_figures_ranges_and_multiples() -> None:
    text = shown(
        rounds_of(source=[PLAIN] * 3, lb=cpu(90e-6, 300e-6, 100e-6), nginx=cpu(*[20e-6] * 3))
    )
    row, ranges, kernel, multiples = _lines_of(text, "lb")
    assert "100 " in row
    assert "90.0–300" in ranges
    assert kernel.split() == ["kernel", "20.0", "30.0", "8.00"]
    assert multiples.startswith("x nginx")
    assert "5.00" in multiples


def test_the_table_says_what_was_measured() -> None:
    text = shown(rounds_of(source=[PLAIN], lb=[PLAIN]))
    assert ONLY_PROXIES in text.replace("\n", " ")


def test_an_absent_proxy_is_named_with_the_line_that_installs_it() -> None:
    absent = absences({"nginx": "apt install nginx"})
    text = shown(rounds_of(source=[PLAIN], lb=[PLAIN]), absent)
    assert "nginx is absent; install it with: apt install nginx" in text
    assert "x nginx" not in text


def test_errors_are_told_with_their_kinds() -> None:
    failing = replace(PLAIN, errors={"status": 1200, "read": 3})
    text = shown(rounds_of(source=[PLAIN] * 2, lb=[PLAIN, failing]))
    assert "lb: 1,203 errors (read, status); its figures do not count" in text


def test_a_proxy_that_cannot_hold_the_streams_has_no_memory_figure() -> None:
    limited = replace(PLAIN, open_streams=1020, rss_bytes=None)
    rounds = rounds_of(source=[PLAIN], lb=[limited])
    assert "rss_mib" not in figures_of(rounds)["lb"]
    text = shown(rounds)
    assert f"lb: only 1,020 of {OPEN_STREAMS:,} streams could be held open" in text


@pytest.mark.parametrize(("before", "after"), [(40.0, 0.0), (0.0, 40.0)])
def test_a_machine_that_was_not_idle_is_told(before: float, after: float) -> None:
    assert any("not idle" in line for line in busy_remarks(before, after))
    assert not list(busy_remarks(2.0, 5.0))


def _lines_of(text: str, name: str) -> list[str]:
    lines = text.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith(f"{name} "))
    return lines[at : at + 4]
