"""The comparison page."""

from __future__ import annotations

import base64
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis import timings
from bench.analysis.judgement import Case, SloOutcome
from bench.store import results_json
from reports import wording
from reports.page import bar_of, render_case, render_page
from tests.bench.making import paired
from tests.reports.cases import (
    better_case,
    failing_case,
    invalid_case,
    judged,
    memory_case,
    one_arm_case,
    run_with,
    same_arm_case,
    scraped_case,
    unreadable_case,
    with_slo,
)

NASTY = "<script>alert('x')</script>"
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Reader(HTMLParser):
    """Collects tags, text and addresses, and complains about tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def spaced(html: str) -> str:
    """Its text, with a space after each cell of a table."""
    return read(re.sub("(</t[dh]>)", r" \1", html)).text


def test_it_needs_nothing_but_itself() -> None:
    html = render_page(run_with(better_case()))
    page = read(html)
    assert "script" not in page.tags
    assert page.addresses
    assert all(one.startswith(("data:image/svg+xml;base64,", "#tail-")) for one in page.addresses)
    assert not re.search(r"url\(|@import|\son\w+=", html)


def test_its_charts_are_pictures_and_not_inline_svg_with_use() -> None:
    html = render_page(run_with(better_case()))
    # The Allure report's sanitiser takes <use> out, and with it every marker.
    assert "use" not in read(html).tags
    for address in filter(re.compile("data:").match, read(html).addresses):
        ET.fromstring(base64.b64decode(address.partition(",")[2]))


def test_it_tells_what_was_compared_when_on_what_and_the_numbers() -> None:
    text = read(render_page(run_with(better_case("heavy-tail"), better_case("burst")))).text
    for words in (
        "Managed against baseline",
        "Measured 31 January 2026, 14:02 on vLLM 0.30.0 on CPU, random weights.",
        "baseline is the control, managed the treatment.",
        "heavy-tail · tiny-llama",
        "burst · tiny-llama",
        "What burst asks.",
        "0.41 [0.36, 0.46]",
        "Expected: managed better than baseline.",
        "TTFT ≤ 1 s",
        "suite.commit",
        "abc123",
        "--enforce-eager, -x",
    ):
        assert words in text


def test_the_servers_side_of_both_arms_stands_side_by_side() -> None:
    case = scraped_case()
    for html in (render_page(run_with(case)), render_case(case.judgement, ())):
        text = re.sub(r"\s+", " ", spaced(html))
        assert "server's side" in text
        for words in (
            "Imbalance (busiest replica / mean) 1.00 1.00",
            "Queue depth of a replica, mean 2.00 1.00",
            "Queue depth of a replica, max 3 1",
            "KV cache usage, max 50.0 % 50.0 %",
            "Preemptions 16 16",
            "Prefix cache hit rate 25.0 % 25.0 %",
            "Generation tokens 1,600 1,600",
            "tiny-llama-0: requests, mean queue 50.0 %, 3.00 50.0 %, 1.00",
            "752, p95 2.00 ms late",
        ):
            assert words in text


def test_the_page_has_the_memory_of_gpus_only_where_it_was_read() -> None:
    case = memory_case()
    text = re.sub(r"\s+", " ", spaced(render_page(run_with(case))))
    for words in (
        "Memory of all GPUs before load 60.0 GiB 30.0 GiB",
        "Memory of all GPUs, most 61.0 GiB 55.0 GiB",
        "KV cache of an engine with KVCached, most no data 24.5 GiB",
        "Memory of the GPUs, block",
        "8 of 32 readings of GPU memory failed (nvidia-smi failed)",
    ):
        assert words in text
    assert "GPU" not in render_page(run_with(scraped_case()))


def test_what_could_not_be_read_is_no_data_and_told() -> None:
    text = read(render_page(run_with(unreadable_case()))).text
    assert "8 of 8 scrapes of tiny-llama-1 failed (connection refused)" in text
    row = text[text.index("Preemptions") :][:60]
    assert "no data" in row


def test_replicas_that_only_one_arm_has_stand_beside_no_data() -> None:
    """As in a cluster, where each arm has pods of its own."""
    case = scraped_case()
    control, treatment = case.judgement.servers
    others = tuple(replace(one, replica=f"{one.replica}-x") for one in treatment.replicas)
    servers = (control, replace(treatment, replicas=others))
    html = render_case(replace(case.judgement, servers=servers), ())
    text = re.sub(r"\s+", " ", spaced(html))
    assert "tiny-llama-0: requests, mean queue 50.0 %, 3.00 no data" in text
    assert "tiny-llama-0-x: requests, mean queue no data 50.0 %, 1.00" in text


def test_unlike_shares_of_failed_requests_are_in_the_table() -> None:
    case = failing_case()
    for html in (render_page(run_with(case)), render_case(case.judgement, ())):
        text = re.sub(r"\s+", " ", spaced(html))
        assert "failed requests 25.00 % 100.00 %" in text


def test_without_readings_there_is_no_servers_side() -> None:
    page = read(render_page(run_with(better_case())))
    assert "The server's side\n" not in page.text
    assert "Preemptions" not in page.text


def test_the_headline_counts_verdicts_and_slos() -> None:
    missed = with_slo(better_case().judgement, SloOutcome.MISSED, 0.5)
    run = run_with(better_case(), replace(better_case("burst"), judgement=missed))
    text = re.sub(r"\s+", " ", read(render_page(run)).text)
    assert "2 better 1 SLO met 1 SLO missed" in text


def test_reasons_for_invalidity_and_notes_are_on_the_page() -> None:
    text = read(render_page(run_with(invalid_case("the client was too slow")))).text
    assert "the client was too slow" in text
    assert "1 invalid" in text


@pytest.mark.parametrize("case", [same_arm_case(), one_arm_case(), failing_case()])
def test_unusual_runs_have_a_page(case: Case) -> None:
    assert read(render_page(run_with(case))).text


def test_a_run_without_cases_says_that_nothing_was_measured() -> None:
    assert "Nothing was measured" in read(render_page(run_with())).text


def test_whatever_comes_from_outside_is_escaped() -> None:
    case = better_case(NASTY, (NASTY,))
    judgement = replace(case.judgement, notes=(NASTY,), invalid_reasons=(NASTY,), control=NASTY)
    run = run_with(
        replace(case, judgement=judgement),
        facts={NASTY: NASTY},
        provenance={NASTY: [NASTY]},
        when=NASTY,
        setup=NASTY,
    )
    for html in (render_page(run), render_case(judgement, ())):
        assert "script" not in read(html).tags
        assert NASTY in read(html).text


def test_a_case_alone_keeps_its_style_in_its_elements() -> None:
    reader = read(render_case(better_case().judgement, ()))
    # The Allure report's sanitiser drops style sheets from descriptions.
    assert "style" not in reader.tags
    assert "0.41 [0.36, 0.46]" in reader.text


def test_bars_stay_in_their_picture_and_show_on_which_side_of_1_they_are() -> None:
    wide, better, worse = bar_of((0.0, 1.0, 1e9)), bar_of((0.4, 0.5, 0.6)), bar_of((1.5, 2, 3))
    assert wide is not None
    assert (wide.x, wide.width) == (0, 150)
    assert better is not None
    assert better.x + better.width < 75
    assert worse is not None
    assert worse.x > 75
    assert bar_of(None) is None


def number_texts(html: str) -> list[str]:
    """The texts of all elements that hold a number."""
    return re.findall(r'class="n">([^<]*)<', html)


def roundings(value: float) -> set[str]:
    """All ways in which the page may write a number: as it is, of 100, or in thousandths."""
    return {
        text
        for scaled in (value, 100 * value, 1000 * value)
        for text in (
            *(f"{scaled:.{decimals}f}" for decimals in range(3)),
            *(f"{scaled:g}", f"{scaled:,.0f}", wording.number(abs(scaled))),
        )
    }


def stored_numbers(value: object) -> Iterator[float]:
    """All numbers in JSON."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from stored_numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


TIMES = st.lists(st.floats(0.001, 30), min_size=4, max_size=4)


@given(TIMES, TIMES)
def test_every_number_on_the_page_is_a_stored_one(
    control_s: list[float], treatment_s: list[float]
) -> None:
    case = judged(paired(control_s, treatment_s))
    # Charts and requests come from trials, which are in no JSON.
    run = run_with(replace(case, trials=()))
    latest = json.loads(results_json(Path("latest.json"), run.judgements, {}))
    stored = [*stored_numbers(latest), *(1 - one.alpha for one in case.judgement.comparisons)]
    # One comparison with one verdict, and an arm whose SLO has one outcome.
    stored.append(1)
    written = set().union(*map(roundings, stored)) | {wording.factor(math.inf), "999"}
    shown = number_texts(render_page(run))
    assert len(shown) > 20
    assert set(shown) <= written


def test_every_number_of_the_slowest_requests_is_one_of_a_stored_request() -> None:
    case = better_case()
    page = render_page(run_with(case))
    tails = page[page.index('class="tails"') : page.index("How to read a verdict")]
    written = {str(sample.index) for one in case.trials for sample in one.samples}
    written |= {str(one.block) for one in case.trials} | {"5"}
    for one in case.trials:
        for sample in one.samples:
            for seconds in (timings.scheduled_ttft_s(sample), timings.scheduled_e2e_s(sample)):
                written |= {wording.duration(seconds).split()[0]}
    shown = number_texts(tails)
    assert len(shown) > 50
    assert set(shown) <= written
