"""The run in progress: its trials, queues, and a forest plot that grows, read every two seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import streamlit as st

from bench.analysis.blocks import group_blocks
from bench.analysis.judge import cases
from bench.analysis.judgement import Case, Judgement
from bench.cli.dashboard.history import Entry, history
from bench.cli.dashboard.loading import (
    Version,
    cases_of,
    latest_case,
    latest_trials,
    versions,
)
from bench.cli.dashboard.showing import drawn, show_chart, show_table
from bench.errors import UserError
from bench.processes.machine import machine_holder
from reports import wording
from reports.charts.forest import blocks
from reports.charts.over_time import queues
from reports.charts.style import Chart
from reports.dashboard import figures
from reports.run import setup_of, short_title

EVERY_S = 2.0
_LATEST = 8
NO_RUN = "No run measures on this machine now. This is the latest that is stored."


def show_live(folders: Sequence[Path]) -> None:
    """The latest stored run, again and again."""

    def look() -> None:
        holder = machine_holder()
        st.write(figures.plain(f"In progress: {holder}" if holder else NO_RUN))
        entry = next((one for one in history(folders) if one.report is None), None)
        if entry is None:
            st.info("No trial is stored yet; the first one of a run will be here.")
            return
        try:
            _show(entry)
        except UserError as error:
            st.error(figures.plain(str(error)))

    st.fragment(look, run_every=EVERY_S)()


def _show(entry: Entry) -> None:
    files = versions(entry)
    case = latest_case(cases_of(files), files)
    st.header(figures.plain(entry.label))
    count = len({one.block for one in case.trials})
    latest = f"{short_title(case.judgement)}, block {count}"
    st.write(figures.plain(f"{wording.count(len(files), 'stored trial')}; the latest: {latest}."))
    so_far = _so_far(files)
    for reason in so_far.invalid_reasons if so_far else ():
        st.warning(figures.plain(f"If the run ended now, this would be invalid: {reason}"))
    show_table(figures.trials_table(case.trials[-_LATEST:]), "the latest trials")
    found = drawn(_charts, files)
    for column, chart in zip(st.columns(2), found, strict=False):
        with column:
            show_chart(chart, f"live-{found.index(chart)}")


@lru_cache(maxsize=2)
def _so_far(files: tuple[Version, ...]) -> Judgement | None:
    """The latest comparison without a block whose search goes on; None before its first block."""
    judgement = latest_case(cases_of(files), files).judgement
    *before, last = group_blocks(latest_trials(files))
    if not last.searched or last.complete:
        return judgement
    found = cases([one for block in before for one in block.trials]) if before else ()
    alike = (one.judgement for one in found if one.judgement.treatment == judgement.treatment)
    return next(alike, None)


@lru_cache(maxsize=2)
def _charts(files: tuple[Version, ...]) -> tuple[Chart, ...]:
    """The ratios of all blocks of the latest comparison so far, and the queues during its last one.

    They are kept until there is another trial: drawing takes time of a machine that measures.
    """
    case = latest_case(cases_of(files), files)
    so_far, setup = _so_far(files), setup_of(case.trials[0])
    plots = (blocks(so_far, setup),) if so_far and so_far.effects else ()
    return (*plots, queues(_last_block(case), setup))


def _last_block(case: Case) -> Case:
    """The case with only the trials of its last block, judged or not."""
    block = case.trials[-1].block
    trials = tuple(one for one in case.trials if one.block == block)
    return Case(replace(case.judgement, ratios={}), trials)
