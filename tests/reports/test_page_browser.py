"""The comparison page in a real browser: Chromium of the system, driven by Playwright."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from matplotlib.image import imread
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from bench.analysis.judgement import Case, Verdict
from bench.store import results_json
from reports import wording
from reports.page import render_page
from reports.run import Run
from tests.browsing import CHROMIUM, NEEDS_BROWSER, axe_findings, described
from tests.reports.cases import (
    better_case,
    failing_case,
    invalid_case,
    run_with,
    scraped_case,
    searched_case,
    tenants_case,
)

pytestmark = [pytest.mark.slow, NEEDS_BROWSER]
WIDE, NARROW = (1200, 900), (360, 800)
Scheme = Literal["light", "dark"]


def undecided_case() -> Case:
    case = better_case("latency")
    primary, *others = case.judgement.comparisons
    primary = replace(primary, verdict=Verdict.INCONCLUSIVE, ratio=0.97, low=0.8, high=1.2)
    judgement = replace(case.judgement, comparisons=(primary, *others))
    return replace(case, judgement=judgement)


RUN = run_with(
    scraped_case(),
    undecided_case(),
    invalid_case("the client was too slow"),
    searched_case(),
    failing_case(),
    tenants_case(),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Containers and root have no sandbox; the only page that is opened is ours.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(RUN, tmp_path_factory.mktemp("page"))


def written(run: Run, folder: Path) -> Path:
    path = folder / "comparison.html"
    path.write_text(render_page(run), "utf-8")
    return path


def opened(
    browser: Browser, file: Path, size: tuple[int, int] = WIDE, scheme: Scheme = "light"
) -> Page:
    width, height = size
    viewport: Any = {"width": width, "height": height}
    context: BrowserContext = browser.new_context(
        viewport=viewport, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    page.goto(file.as_uri())
    return page


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")


def test_it_opens_without_a_word_on_the_console_and_asks_nobody(
    browser: Browser, file: Path
) -> None:
    page = browser.new_context().new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri(), wait_until="networkidle")
    unfold(page)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    broken = "[...document.images].filter(one => !one.complete || !one.naturalWidth).length"
    assert page.locator("img").count() > 10
    assert page.evaluate(broken) == 0


def test_sentence_and_chart_are_seen_before_anything_is_scrolled(
    browser: Browser, tmp_path: Path
) -> None:
    one = written(run_with(better_case()), tmp_path)
    for size in (WIDE, NARROW):
        page = opened(browser, one, size)
        for part in (".headline", ".lanes"):
            box = page.locator(part).bounding_box()
            assert box is not None
            assert box["y"] + box["height"] < size[1]
        # Interval of the ratio in the sentence and in the chart, and few numbers else.
        assert page.locator("header:not(.case header) .n").count() <= 10


def test_undecided_and_invalid_are_as_large_as_better(browser: Browser, file: Path) -> None:
    page = opened(browser, file)
    sizes = {}
    for verdict in ("better", "inconclusive", "invalid"):
        lane = page.locator(f".lane.{verdict}").first
        badge, svg = lane.locator(".badge").bounding_box(), lane.locator("> svg").bounding_box()
        assert lane.locator(".badge").inner_text() == verdict
        assert badge is not None
        assert svg is not None
        sizes[verdict] = (badge["height"], svg["width"], svg["height"])
    assert len(set(sizes.values())) == 1
    assert "the client was too slow" in page.locator(".lane.invalid").first.inner_text()


def test_it_shows_the_numbers_of_the_json(browser: Browser, file: Path) -> None:
    latest = json.loads(results_json(Path("latest.json"), RUN.judgements, dict(RUN.facts)))
    rows = opened(browser, file).locator("section:first-of-type table.stack tbody tr").all()
    shown = [tuple(row.locator("th, td").all_inner_texts()) for row in rows]
    seen = 0
    for scenario in latest["scenarios"]:
        for one in scenario["comparisons"]:
            if any("is inf" in reason for reason in one["reasons"]):
                continue  # JSON has no such number
            values = [
                wording.quantity(one[f"{role}_value"], one["unit"])
                for role in ("control", "treatment")
            ]
            label = wording.metric(one["metric"])
            found = [row for row in shown if (row[0], *row[1:3]) == (label, *values)]
            assert found, (label, values)
            bounds = [wording.factor(one[name]) for name in ("ratio", "low", "high") if one[name]]
            assert any(all(bound in row[3] for bound in bounds) for row in found)
            assert any(row[5] == one["verdict"] for row in found)
            seen += 1
    assert seen >= 6


@pytest.mark.parametrize("width", [360, 320])
def test_a_narrow_page_is_not_scrolled_sideways(browser: Browser, file: Path, width: int) -> None:
    page = opened(browser, file, (width, 800))
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_dot_leads_to_the_time_line_of_its_request(browser: Browser, file: Path) -> None:
    page = opened(browser, file)
    for place, act in enumerate(("click", "key")):
        dot = page.locator(".tails a").nth(place)
        target = page.locator(dot.get_attribute("href") or "")
        assert not target.is_visible()
        if act == "click":
            dot.click()
        else:
            dot.focus()
            page.keyboard.press("Enter")
        target.wait_for(state="visible")
        assert "to the first token" in target.inner_text()
        assert target.locator("> svg").count() == 2


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    browser: Browser, file: Path, scheme: Scheme, size: tuple[int, int]
) -> None:
    page = opened(browser, file, size, scheme)
    unfold(page)
    assert axe_findings(page) == []


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_screen_reader_is_told_the_verdict_first_and_the_values_of_each_chart(
    browser: Browser, file: Path, size: tuple[int, int]
) -> None:
    page = opened(browser, file, size)
    unfold(page)
    heading, verdict, *_ = page.locator("main").aria_snapshot().splitlines()[1:]
    assert heading.strip() == '- heading "Managed against baseline" [level=1]'
    assert verdict.strip().startswith("- paragraph: managed is better than baseline in ")
    levels = [
        int(one) for one in re.findall(r"\[level=(\d)\]", page.locator("main").aria_snapshot())
    ]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    told = described(page)
    charts = [(name, values) for role, name, values in told if role == "image"]
    assert len(charts) == page.locator("figure img, .lanes svg[role=img]").count() > 15
    assert all(name and values for name, values in charts)
    for title, values in (
        ("Scheduled TTFT: distribution", "baseline: p50 505 ms, p95 520 ms, n 320"),
        ("Requests per replica", "tiny-llama-1, managed: 160"),
        ("Queues in the replicas, block 0", "baseline, tiny-llama-0: at most 3 waiting"),
        ("Load within the SLO", "managed at 20.0 requests/s: 100 % of requests met"),
    ):
        assert any(name == title and values in text for name, text in charts), title


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_tables_have_a_caption_and_headers_of_rows_and_columns(
    browser: Browser, file: Path, size: tuple[int, int]
) -> None:
    page = opened(browser, file, size)
    unfold(page)
    captions = page.locator("table").count()
    assert page.get_by_role("table", name=re.compile(r"\w+")).count() == captions >= 4
    for table in page.get_by_role("table").all():
        columns = table.get_by_role("columnheader").all_inner_texts()
        assert len(columns) >= 2
        assert all(columns)
        rows = table.locator("tbody tr").count()
        assert table.get_by_role("rowheader").count() == rows


def test_pictures_of_it_are_light_and_dark_and_paper_is_white(
    browser: Browser, file: Path, tmp_path: Path
) -> None:
    corners = {}
    for scheme in ("light", "dark"):
        for name, size in (("wide", WIDE), ("narrow", NARROW)):
            page = opened(browser, file, size, scheme)
            path = tmp_path / f"{name}-{scheme}.png"
            page.screenshot(path=path, full_page=True)
            pixels = imread(path)
            assert pixels.shape[1] == size[0]
            assert pixels[..., :3].std() > 0.05
            corners[name, scheme] = pixels[2, 2, :3].mean()
        # The width of A4 between its margins.
        page.set_viewport_size({"width": 718, "height": 1000})
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= 718
        page.screenshot(path=tmp_path / f"print-{scheme}.png")
        corners["print", scheme] = imread(tmp_path / f"print-{scheme}.png")[2, 2, :3].mean()
    assert {name for name, white in corners.items() if white < 0.2} == {
        ("wide", "dark"),
        ("narrow", "dark"),
    }
    assert page.pdf().startswith(b"%PDF")
