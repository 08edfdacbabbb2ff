"""The dashboard in a real browser: the command as a process, and Chromium of the system."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from bench.analysis.metrics import metric
from bench.processes.ports import free_ports, is_free
from bench.records import Trial
from reports import wording
from reports.charts.style import DARK
from tests.bench.dashboards import (
    FIRST,
    NEEDS_STREAMLIT,
    SECOND,
    older_reports,
    save,
    trials_of,
    two_runs,
)
from tests.browsing import CHROMIUM, NEEDS_BROWSER, axe_findings, described

pytestmark = [NEEDS_STREAMLIT, NEEDS_BROWSER, pytest.mark.slow, pytest.mark.serial]
ROOT = Path(__file__).parents[2]
WIDE, NARROW = 1200, 360
# The command in a process that may speak with this machine only.
ALONE = """
import os, sys
def alone(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", "localhost"):
        print("asked", host, file=sys.stderr, flush=True)
        os._exit(99)
sys.addaudithook(alone)
from bench.cli.commands import main
sys.exit(main(sys.argv[1:]))
"""


class Server:
    """`python -m bench dashboard` over folders."""

    def __init__(self, home: Path, *folders: Path) -> None:
        self.home = home
        self.port = next(free_ports(18500, ()))
        first, *others = map(str, folders)
        typed = ["dashboard", *others, "--results", first, "--port", str(self.port)]
        home.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ALONE, *typed],
            cwd=ROOT,
            env={**os.environ, "HOME": str(home), "MPLCONFIGDIR": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if self.url in line:
                break
        else:
            pytest.fail("".join(said))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> int:
        """Ctrl-C, when nobody reads what it says any more; returns the exit code."""
        self._close()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def kill(self) -> None:
        """End it whatever it does; safe to repeat."""
        self._close()
        self.process.kill()
        self.process.wait()

    def _close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return two_runs(tmp_path / "results")


@pytest.fixture
def server(tmp_path: Path, results: Path) -> Iterator[Server]:
    made = Server(tmp_path / "home", results, older_reports(tmp_path))
    yield made
    made.kill()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_playwright() as started:
        # Pages that a test answers in place of the network may not call this machine otherwise.
        local = "--disable-features=LocalNetworkAccessChecks"
        arguments = ["--no-sandbox", "--disable-gpu", local]
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page that fails its test for a request to anybody else, or an error in the console."""
    made, wrong = chromium.new_page(viewport={"width": WIDE, "height": 1000}), []
    made.set_default_timeout(60_000)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)

    def answer(route: Any) -> None:
        """Chromium breaks its own requests off when networks of the machine come and go."""
        to = urlsplit(route.request.url)
        if to.hostname == "127.0.0.1":
            route.fulfill(response=route.fetch())
        else:
            wrong.append(route.request.url)
            route.abort()

    made.route("**/*", answer)
    yield made
    made.unroute_all(behavior="ignoreErrors")
    made.close()
    assert wrong == []


def settled(page: Any) -> None:
    """Wait until Streamlit has nothing left to do."""
    app = page.locator("[data-testid=stApp][data-test-script-state=notRunning]")
    app.wait_for(state="attached")
    page.wait_for_function("!document.querySelector('[data-stale=true]')")


def show(page: Any, server: Server, *runs: str) -> None:
    """Open the page with some runs, or with what it shows by itself."""
    page.goto(f"{server.url}/?{urlencode([('run', run) for run in runs])}")
    page.locator("img[alt='requests/s']").first.wait_for()
    settled(page)


def pick(page: Any, *runs: str) -> None:
    for run in runs:
        page.get_by_role("combobox", name="Runs").fill(run)
        page.get_by_role("option", name=re.compile(re.escape(run))).click()
        page.keyboard.press("Escape")
    page.locator("table").first.wait_for()
    page.get_by_role("heading").first.click()  # the list of runs takes the first click elsewhere
    settled(page)


def choose(page: Any, text: str) -> None:
    page.locator("[data-testid=stSidebar]").get_by_text(text, exact=True).click()
    settled(page)


def cells(page: Any) -> list[str]:
    texts: list[str] = page.locator("td").all_inner_texts()
    return [" ".join(text.split()) for text in texts]


def measured(trials: list[Trial]) -> set[str]:
    """Each metric of each arm as text, from the trials: the median over blocks."""
    found = set()
    arms = sorted(trials, key=lambda one: (one.role, one.block))
    for _, of_role in groupby(arms, key=lambda one: one.role):
        blocks = [list(block) for _, block in groupby(of_role, key=lambda one: one.block)]
        for name in ("throughput_rps", "output_tps", "error_rate", *LATENCIES):
            values = [metric(name).over(block) for block in blocks]
            known = median(value for value in values if value is not None)
            found.add(wording.quantity(known, metric(name).unit))
            if name == "error_rate":
                found.add(wording.quantity(1 - known, "share"))
    return found


LATENCIES = [
    f"{latency}_{kind}_s" for latency in ("ttft", "e2e") for kind in ("mean", "p50", "p95", "p99")
]
# What axe finds in Streamlit's own elements: the box in which a wide table scrolls has no place in
# the order of the Tab key. Browsers give it one themselves.
OF_STREAMLIT = ("scrollable-region-focusable",)
NUMBER = re.compile(r"[\d.]+ (ms|s|req/s|tok/s|%)")


def test_every_number_of_a_run_is_in_its_trials(server: Server, page: Any) -> None:
    show(page, server, FIRST)
    expected = measured(trials_of(FIRST))
    for latency in ("TTFT", "E2E"):
        page.get_by_role("combobox", name="Latency").click()
        page.get_by_role("option", name=latency, exact=True).click()
        page.get_by_role("cell", name=f"{latency} P95").or_(
            page.get_by_role("columnheader", name=f"{latency} P95")
        ).first.wait_for()
        settled(page)
        numbers = {text for text in cells(page) if NUMBER.fullmatch(text)}
        assert len(numbers) >= 6
        assert numbers <= expected


def test_views_benchmarks_and_the_reference_are_switched(server: Server, page: Any) -> None:
    show(page, server)
    assert {f"{SECOND} · {arm}" for arm in ("baseline", "managed")} <= set(cells(page))
    pick(page, FIRST)
    page.get_by_role("heading", name="4 environments").wait_for()
    settled(page)
    overlay = page.locator("img[alt='requests/s']").count()
    choose(page, "side by side")
    page.get_by_role("heading", name=f"{SECOND} · managed").wait_for()
    settled(page)
    assert (overlay, page.locator("img[alt='requests/s']").count()) == (1, 4)
    choose(page, "single environment")
    page.get_by_role("heading", name=f"{SECOND} · baseline").wait_for()
    choose(page, "overlay")
    page.get_by_role("combobox", name="Reference run").fill(FIRST)
    page.get_by_role("option", name=re.compile(FIRST)).click()
    page.get_by_role("heading", name="Against the reference run").wait_for()
    settled(page)
    assert f"★ {FIRST} · baseline" in cells(page)
    # The address has all that was chosen.
    before = cells(page)
    page.goto(page.url)
    page.locator("td").nth(len(before) - 1).wait_for()
    settled(page)
    assert cells(page) == before
    choose(page, "genai-perf")
    page.get_by_role("heading", name="0 runs").wait_for()


def test_figures_and_charts_are_downloaded(server: Server, page: Any, tmp_path: Path) -> None:
    show(page, server, FIRST)
    with page.expect_download() as started:
        page.get_by_role("button", name="Download CSV").click()
    text = Path(started.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    shown = set(cells(page))
    throughput = [float(row["value"]) for row in rows if row["metric"] == "output_tps"]
    assert {wording.quantity(value, "tok/s") for value in throughput} <= shown
    with page.expect_download() as started:
        page.get_by_role("button", name="PNG").first.click()
    assert started.value.suggested_filename == "requests-s.png"
    assert Path(started.value.path()).read_bytes().startswith(b"\x89PNG")


def test_the_run_in_progress_grows_by_itself(server: Server, page: Any, results: Path) -> None:
    show(page, server)
    choose(page, "the run in progress")
    later = "20260131-140000-dddd"
    trials = trials_of(later)
    save(results, trials[:5])
    page.get_by_text("5 stored trials").wait_for()
    # The ratios of blocks are drawn before the queues of the last block.
    page.locator("img[alt='Queues in the replicas, block 1']").wait_for()
    ratios = page.locator("img[alt$='blocks one by one']")
    before = ratios.get_attribute("src")
    save(results, trials[5:])
    page.get_by_text("16 stored trials").wait_for()
    page.locator("img[alt='Queues in the replicas, block 3']").wait_for()
    assert ratios.get_attribute("src") != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_nothing_is_wider_than_the_page(
    server: Server, page: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    page.emulate_media(color_scheme=scheme)
    show(page, server)
    page.screenshot(path=tmp_path / f"{scheme}-{width}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("what", ["stored runs", "the run in progress"])
def test_axe_finds_nothing(server: Server, page: Any, width: int, scheme: str, what: str) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{server.url}/?show={quote(what)}")
    page.locator("img").first.wait_for()
    settled(page)
    assert axe_findings(page, OF_STREAMLIT) == []


def test_a_screen_reader_is_told_the_values_of_each_chart(server: Server, page: Any) -> None:
    show(page, server, FIRST)
    charts = {name: values for role, name, values in described(page) if role == "image"}
    assert len(charts) == page.locator("img").count() == 8
    throughput = [text for text in cells(page) if text.endswith("tok/s")]
    assert len(throughput) == 2
    assert all(f": {one}" in charts["tokens/s"] for one in throughput)
    assert charts["TTFT: percentiles"].count(", P99: ") == 2


def test_charts_follow_the_theme_at_the_next_change_of_what_is_shown(
    server: Server, page: Any
) -> None:
    page.emulate_media(color_scheme="dark")
    show(page, server, FIRST)
    filters = "[...document.images].map(one => getComputedStyle(one).filter)"
    assert set(page.evaluate(filters)) == {DARK}
    page.emulate_media(color_scheme="light")
    choose(page, "side by side")
    page.wait_for_function(f"{filters}.every(one => one === 'none')")


def test_an_empty_folder_says_how_to_begin(page: Any, tmp_path: Path) -> None:
    empty = Server(tmp_path / "home", tmp_path / "nothing")
    try:
        page.goto(empty.url)
        page.get_by_text("No stored run was found").wait_for()
        assert "make bench" in page.locator("pre").inner_text()
        page.goto("about:blank")
    finally:
        empty.kill()


def test_ctrl_c_ends_it_and_it_leaves_nothing(server: Server, page: Any) -> None:
    show(page, server)
    page.goto("about:blank")
    assert server.stop() == 0
    assert is_free(server.port)
    assert [one.name for one in server.home.iterdir() if not one.name.startswith("fontlist")] == []
