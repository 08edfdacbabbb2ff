"""The pages of the dashboard, as Streamlit's own test runner sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.blocks import order
from bench.cli.dashboard import command
from bench.cli.review import review
from bench.records import roles_for
from bench.store import TrialStore
from reports import wording
from reports.run import title
from tests.bench.dashboards import (
    AIPERF,
    FIRST,
    NEEDS_STREAMLIT,
    SECOND,
    save,
    trials_of,
    two_runs,
)
from tests.reports.cases import searched_case

pytestmark = NEEDS_STREAMLIT
SCRIPT = Path(command.__file__).with_name("app.py")
Opened = Callable[..., Any]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens the page of some folders."""

    def open_page(*folders: Path) -> Any:
        monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, folders)])
        testing = import_module("streamlit.testing.v1")
        page = testing.AppTest.from_file(str(SCRIPT), default_timeout=60).run()
        assert not page.exception
        return page

    return open_page


def choose(page: Any, label: str, value: str) -> None:
    (radio,) = (one for one in page.sidebar.radio if one.label == label)
    radio.set_value(value).run()
    assert not page.exception


def pick(page: Any, *runs: str) -> None:
    page.sidebar.multiselect(key="run").set_value(list(runs)).run()
    assert not page.exception


def cells(page: Any) -> set[str]:
    """All that is in tables, as it is shown."""
    return {
        str(text).replace("\\", "")
        for one in page.table
        for row in one.value.values.tolist()
        for text in row
    }


def test_an_empty_folder_says_how_to_make_the_first_run(opened: Opened, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        page = opened(folder)
        assert str(folder) in page.info[0].value
        assert "make bench" in page.info[0].value


def test_the_latest_run_is_shown_and_no_other_one_is_read_until_it_is_picked(
    opened: Opened, tmp_path: Path
) -> None:
    for table in two_runs(tmp_path).rglob(f"{FIRST}/**/*.parquet"):
        table.write_bytes(b"")
    page = opened(tmp_path)
    assert page.sidebar.multiselect(key="run").value == [SECOND]
    assert [one.value for one in page.header] == ["2 environments"]
    assert not page.error
    assert not page.info
    pick(page, FIRST)
    assert "is damaged" in page.error[0].value.replace("\\", "")
    pick(page)
    assert [one.value for one in page.header] == ["2 runs"]


def test_of_a_run_in_progress_the_latest_complete_one_is_shown_before_it(
    opened: Opened, tmp_path: Path
) -> None:
    save(tmp_path, trials_of(FIRST))
    trials = sorted(trials_of(SECOND), key=lambda one: (one.block, one.position))
    for count, one in enumerate(trials, start=1):
        save(tmp_path, [one])
        if count in (1, 4, 15, 16):
            page = opened(tmp_path)
            newest = SECOND if count == 16 else FIRST
            assert page.sidebar.multiselect(key="run").value == [newest]
            said = [text.value.replace("\\", "") for text in page.info]
            assert [f"The latest run, {SECOND}, is not complete" in one for one in said] == (
                [] if count == 16 else [True]
            )
    assert FIRST not in " ".join(cells(page))


def test_without_a_complete_run_the_latest_is_shown(opened: Opened, tmp_path: Path) -> None:
    save(tmp_path, trials_of(FIRST)[:3])
    page = opened(tmp_path)
    assert page.sidebar.multiselect(key="run").value == [FIRST]
    assert not page.info


def test_the_figures_of_a_run_are_those_of_its_judgement(opened: Opened, tmp_path: Path) -> None:
    page = opened(two_runs(tmp_path))
    pick(page, FIRST)
    shown = cells(page)
    (case,) = review(TrialStore(tmp_path), FIRST)
    primary = case.judgement.primary
    assert primary is not None
    assert title(case.judgement) in shown
    assert wording.metric(primary.metric) in shown
    assert f"managed / baseline {wording.ratio(primary)}" in shown
    throughput = [one for one in case.judgement.summaries if one.metric == "output_tps"]
    assert {wording.quantity(one.value, one.unit) for one in throughput} <= shown


@pytest.mark.parametrize("view", ["single environment", "side by side", "overlay"])
def test_each_view_shows_the_arms(opened: Opened, tmp_path: Path, view: str) -> None:
    page = opened(two_runs(tmp_path))
    pick(page, FIRST, SECOND)
    choose(page, "View", view)
    shown = cells(page)
    arms = {f"{run} · {arm}" for run in (FIRST, SECOND) for arm in ("baseline", "managed")}
    assert len(arms & shown) == (1 if view == "single environment" else 4)
    if view == "single environment":
        (chosen,) = (one for one in page.sidebar.selectbox if one.label == "Environment")
        chosen.set_value(f"{SECOND} · managed").run()
        assert arms & cells(page) == {f"{SECOND} · managed"}


def test_a_benchmark_can_be_chosen(opened: Opened, tmp_path: Path) -> None:
    page = opened(two_runs(tmp_path), AIPERF)
    for benchmark, count in (("built-in", 1), ("aiperf", 6), ("genai-perf", 0), ("both", 7)):
        choose(page, "Benchmark", benchmark)
        assert len(page.sidebar.multiselect(key="run").options) == count
    pick(page, FIRST, "aiperf-0.13.0/A/1")
    assert {"built-in", "aiperf"} <= cells(page)
    choose(page, "Benchmark", "built-in")
    assert "aiperf" not in cells(page)


def test_the_reference_run_has_a_star_and_others_are_set_against_it(
    opened: Opened, tmp_path: Path
) -> None:
    page = opened(two_runs(tmp_path))
    page.sidebar.selectbox(key="reference").set_value(FIRST).run()
    pick(page, SECOND)
    assert f"★ {FIRST} · baseline" in cells(page)
    assert "1.00 x" in cells(page)
    assert any("no comparison" in one.value for one in page.caption)


def test_scenarios_are_filtered(opened: Opened, tmp_path: Path) -> None:
    trials = trials_of(FIRST)
    save(tmp_path, trials)
    save(tmp_path, [replace(one, scenario=replace(one.scenario, name="burst")) for one in trials])
    page = opened(tmp_path)
    pick(page, FIRST)
    (filtered,) = (one for one in page.sidebar.multiselect if one.label == "Scenarios")
    assert filtered.value == ["burst · tiny-llama", "heavy-tail · tiny-llama"]
    first = page.table[0].value.values.tolist()
    filtered.set_value(["burst · tiny-llama"]).run()
    assert len(page.table[0].value.values.tolist()) == len(first) // 2


def test_a_search_that_goes_on_is_no_fault_of_the_run_in_progress(
    opened: Opened, tmp_path: Path
) -> None:
    trials = [replace(one, run_id=FIRST) for one in searched_case().trials]
    for count, one in enumerate(trials, start=1):
        save(tmp_path, [one])
        if count in (1, 3, 4, 5, 14, 16):
            page = opened(tmp_path)
            choose(page, "Show", "the run in progress")
            assert not page.exception
            assert not any("search" in text.value or "load" in text.value for text in page.warning)


def test_nor_is_that_of_another_treatment(opened: Opened, tmp_path: Path) -> None:
    """The search for the loads of control and treatment has ended, that of a third arm has not."""
    roles = order(0, roles_for(3))
    trials = [replace(one, run_id=FIRST, due=roles) for one in searched_case().trials]
    third = [
        replace(one, role="treatment-2", arm="cache-aware", position=one.position + 2)
        for one in trials
        if one.role == "treatment"
    ]
    save(tmp_path, [*third[:-1], *trials])
    page = opened(tmp_path)
    choose(page, "Show", "the run in progress")
    assert not page.exception
    assert not any("search" in text.value or "load" in text.value for text in page.warning)


def test_the_run_in_progress_shows_what_is_stored_so_far(opened: Opened, tmp_path: Path) -> None:
    page = opened(tmp_path)
    choose(page, "Show", "the run in progress")
    assert "No trial is stored yet" in page.info[0].value
    trials = trials_of(FIRST)
    for count, one in enumerate(trials, start=1):
        save(tmp_path, [one])
        if count in (1, 4, 16):
            page.run()
            assert not page.exception
            assert any(wording.count(count, "stored trial") in text.value for text in page.markdown)
            assert len(page.table[0].value) == min(count, 8)
