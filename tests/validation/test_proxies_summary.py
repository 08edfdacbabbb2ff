"""From rounds to the table: order, medians, ratios, and what is said beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.accuracy.answers import CHUNKS
from bench.telemetry.cpu import Usage
from validation.figures import Figures, Round
from validation.harness import Program, Selection, alternate, busy_remarks
from validation.programs import Proxy
from validation.proxies import COMPARISON, OPEN_STREAMS, Measurement, Part, remarks_of
from validation.proxy_load import Load


def part(cpu_s: float, kernel_s: float, *, p50_s: float = 100e-6, p99_s: float = 200e-6) -> Part:
    """1000 answers in a tenth of a second, at so much CPU time each."""
    return Part(Load(1000, 0.1, p50_s, p99_s, {}), Usage(1000 * cpu_s, 1000 * kernel_s, 2**20))


PLAIN = Measurement(
    whole=part(50e-6, 20e-6, p50_s=0.005, p99_s=0.009),
    lone=part(50e-6, 20e-6),
    bursts=part(70e-6, 30e-6),
    streams=part(CHUNKS * 10e-6, CHUNKS * 8e-6),
    open_streams=OPEN_STREAMS,
    rss_bytes=20 * 2**20,
    errors={},
)


def rounds_of(**servers: Sequence[Measurement]) -> list[Round[Measurement]]:
    return [dict(zip(servers, one, strict=True)) for one in zip(*servers.values(), strict=True)]


def cpu(*seconds: float) -> list[Measurement]:
    return [replace(PLAIN, whole=part(one, 20e-6)) for one in seconds]


def lone(p50_s: float) -> Measurement:
    return replace(PLAIN, lone=part(50e-6, 20e-6, p50_s=p50_s))


def figures_of(rounds: Sequence[Round[Measurement]]) -> Figures:
    return COMPARISON.figures(rounds)


def shown(rounds: Sequence[Round[Measurement]], remarks: Sequence[str] = ()) -> str:
    lines = (*remarks, *remarks_of(rounds))
    return COMPARISON.text(figures_of(rounds), lines, width=80)


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
    source = [lone(one) for one in (100e-6, 500e-6, 100e-6)]
    lb = [lone(one) for one in (150e-6, 560e-6, 170e-6)]
    figures = figures_of(rounds_of(source=source, lb=lb))
    figure = figures["lb"]["added_p50_us"]
    assert (figure.median, figure.low, figure.high) == pytest.approx((60, 50, 70))
    assert "added_p50_us" not in figures["source"]


def test_of_nothing_added_nothing_is_a_multiple() -> None:
    rounds = rounds_of(source=[PLAIN], lb=[lone(150e-6)], nginx=[replace(PLAIN)])
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
    assert COMPARISON.note in text.replace("\n", " ")


def test_an_absent_proxy_is_named_with_the_line_that_installs_it() -> None:
    nginx: Proxy = Program("nginx", None, "apt install nginx", lambda _: "", lambda _: [])
    absent = Selection((), (nginx,)).remarks
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
