"""The script that Streamlit runs for each page: what is chosen at the left, what is shown of it.

Its arguments are the folders. Charts and tables are made in `reports.dashboard`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path

import streamlit as st

from bench.analysis.verdict import LOOKS
from bench.cli.dashboard.history import Entry, benchmarks, history, is_complete
from bench.cli.dashboard.live import show_live
from bench.cli.dashboard.loading import Loaded, load
from bench.cli.dashboard.showing import drawn, show_chart, show_table
from bench.errors import UserError
from reports import wording
from reports.charts import charts_of
from reports.dashboard import charts, figures
from reports.dashboard.figures import STAR, Series
from reports.run import setup_of, title

BOTH = "both"
SINGLE, BESIDE, OVERLAY = VIEWS = ("single environment", "side by side", "overlay")
STORED, LIVE = SHOWN = ("stored runs", "the run in progress")
_BESIDE, _ABREAST = 3, 2
FIRST_RUN = """No stored run was found in {}.

Make the first one, in five minutes on two cores and without a GPU, and look here again:

```
make bench ARGS="-k 'heavy_tail and tiny-llama' --models tiny-llama"
```

Results that are somewhere else, also those of aiperf and genai-perf:
`python -m bench dashboard FOLDER`.
"""
INCOMPLETE = (
    "The latest run, {}, is not complete: a comparison in it has fewer than {} blocks so far."
    " This is the latest complete one."
)


def main(folders: Sequence[Path]) -> None:
    """The whole page."""
    st.set_page_config("Runs of LLM serving", layout="wide")
    if _choice("Show", SHOWN, "show") == LIVE:
        show_live(folders)
        return
    entries = history(folders)
    if not entries:
        st.info(FIRST_RUN.format(", ".join(f"`{folder}`" for folder in folders)))
        return
    benchmark = _choice("Benchmark", (BOTH, *benchmarks(entries)), "benchmark")
    offered = [one for one in entries if benchmark in (BOTH, one.benchmark)]
    picked, reference = _picked(offered)
    if not picked:
        _show_history(offered, benchmark)
        return
    loaded = _loaded(picked)
    series = [
        figures.marked(one, reference=entry.run == reference)
        for entry, found in loaded
        for one in found.series
    ]
    if series:
        _show_figures(series)
        _show_comparisons(loaded)


def _choice(label: str, options: Sequence[str], key: str, first: int = 0) -> str:
    """One of several, kept in the page's address; `first` is the place of the default."""
    chosen: str = st.sidebar.radio(label, options, first, key=key, bind="query-params")
    return chosen


def _picked(offered: Sequence[Entry]) -> tuple[list[Entry], str | None]:
    """The runs that were picked, the reference run first, and its name."""
    labels = {one.run: one.label for one in offered}
    runs = list(labels)
    reference: str | None = st.sidebar.selectbox(
        f"Reference run {STAR}",
        runs,
        index=None,
        format_func=labels.get,
        key="reference",
        bind="query-params",
        placeholder="none",
        help="Shown beside all runs that are picked, which are set against it.",
    )

    def label(run: str) -> str:
        return f"{STAR if run == reference else ''}{labels[run]}"

    first = [one.run for one in islice(chain(filter(is_complete, offered), offered), 1)]
    chosen = st.sidebar.multiselect(
        *("Runs", runs, first),
        format_func=label,
        key="run",
        bind="query-params",
        select_all=False,
    )
    if chosen == first != runs[:1]:
        st.info(figures.plain(INCOMPLETE.format(runs[0], LOOKS[0])))
    names = dict.fromkeys(filter(None, (reference, *chosen)))
    by_run = {one.run: one for one in offered}
    return [by_run[run] for run in names], reference


def _show_history(offered: Sequence[Entry], benchmark: str) -> None:
    st.header(wording.count(len(offered), "run"))
    if offered:
        st.write("Pick one or several at the left.")
        st.dataframe([one.row for one in offered], hide_index=True)
    else:
        st.info(f"No run was measured with {benchmark}; choose another benchmark at the left.")


def _loaded(picked: Sequence[Entry]) -> list[tuple[Entry, Loaded]]:
    """What could be read; what is damaged is said in one line."""
    found = []
    for entry in picked:
        try:
            with st.spinner(f"reading {entry.run}"):
                found.append((entry, load(entry)))
        except UserError as error:
            st.error(figures.plain(str(error)))
        except OSError as error:
            st.error(figures.plain(f"cannot read {error.filename}: {error.strerror}"))
    return found


def _show_figures(series: Sequence[Series]) -> None:
    view = _choice("View", VIEWS, "view", VIEWS.index(OVERLAY))
    all_cases = figures.cases_of(series)
    cases = st.sidebar.multiselect("Scenarios", all_cases, default=all_cases) or all_cases
    latency = st.sidebar.selectbox(
        "Latency", figures.known_latencies(series), format_func=figures.quantity, key="latency"
    )
    if view == SINGLE:
        names = [one.name for one in series]
        name = st.sidebar.selectbox("Environment", names)
        one = series[names.index(name)]
        st.header(figures.plain(one.name))
        _show_panel([one], cases, latency, [one], abreast=_ABREAST)
    elif view == BESIDE:
        for place in range(0, len(series), _BESIDE):
            row = series[place : place + _BESIDE]
            for column, one in zip(st.columns(max(2, len(row))), row, strict=False):
                with column:
                    st.subheader(figures.plain(one.name))
                    _show_panel([one], cases, latency, series, abreast=1)
    else:
        st.header(wording.count(len(series), "environment"))
        _show_panel(series, cases, latency, series, abreast=_ABREAST)
    if compared := figures.ratios(series, cases, latency or "ttft"):
        st.subheader(f"Against the reference run {STAR}")
        st.caption(
            "Figures / those of the same arm in the reference run. Runs at different times are no"
            " comparison: the machine may have changed."
        )
        show_table(compared, "ratios to the reference run")
    name = "figures.csv"
    st.sidebar.download_button(
        "Download CSV", figures.figures_csv(series, cases), name, "text/csv", on_click="ignore"
    )


def _show_panel(
    series: Sequence[Series],
    cases: Sequence[str],
    latency: str | None,
    beside: Sequence[Series],
    *,
    abreast: int,
) -> None:
    """Table and charts of some series; `beside` are all whose charts share their axes."""
    chosen = latency or "ttft"
    rows = figures.table(series, cases, chosen)
    # A narrow column takes a table that stands on its side.
    show_table(figures.on_its_side(rows) if abreast == 1 else rows, "figures")
    own = [case for case in cases if any(case in one.cases for one in series)]
    draws = [
        partial(charts.bars, name, series, own, beside) for name in figures.shown_metrics(chosen)
    ]
    if latency:
        draws += [partial(charts.percentiles, latency, series, case, beside) for case in own]
    for first in range(0, len(draws), abreast):
        # A row each, so that their order holds where the page is narrow.
        for place, column in enumerate(st.columns(abreast), start=first):
            if place < len(draws):
                with column:
                    show_chart(drawn(draws[place]), f"{series[0].name}-{len(series)}-{place}")


def _show_comparisons(loaded: Sequence[tuple[Entry, Loaded]]) -> None:
    """Ratios to the reference run; verdicts and charts of the comparisons of each run."""
    rows = [
        row
        for entry, found in loaded
        for row in figures.verdicts(entry.run, [case.judgement for case in found.cases])
    ]
    if rows:
        st.subheader("Verdicts")
        show_table(rows, "verdicts")
    with_charts = [(entry, case) for entry, found in loaded for case in found.cases]
    if with_charts and st.toggle("Charts of each comparison"):
        for entry, case in with_charts:
            st.subheader(figures.plain(entry.run))
            of_case = drawn(charts_of, case, setup_of(case.trials[0]))
            for place, chart in enumerate(of_case):
                show_chart(chart, f"{title(case.judgement)}-{entry.run}-{place}")


if __name__ == "__main__":
    main([Path(one) for one in sys.argv[1:]])
