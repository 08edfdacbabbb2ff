"""Labels, steps and attachments of scenario tests and of a run, by Allure's own calls."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import allure
from allure_commons import plugin_manager
from allure_commons.model2 import Status, StatusDetails
from pluggy import HookimplMarker

from bench.analysis.factorial import Factorial
from bench.analysis.gates import gate_failures, gating
from bench.analysis.judgement import Case
from bench.records import Expectation
from reports.charts import pictures_of
from reports.charts.effects import picture_of
from reports.page import render_case, render_factors, render_page
from reports.result_files import comparisons_csv
from reports.run import Arms, Run, arms_of, title

hookimpl = HookimplMarker(plugin_manager.project_name)
# Of the end of each log: the report is one file.
_LOG_BYTES = 64_000


def label(
    scenario: str,
    models: tuple[str, ...],
    arms: Arms,
    expect: Expectation,
    details: Mapping[str, object],
) -> None:
    """Name the running test, and group it by arms, scenario and models.

    `details` become parameters that are excluded from the test's identity: it keeps its history
    when they change. A test is critical where the treatment is expected to be better.
    """
    allure.dynamic.title(f"{scenario} · {', '.join(models)}")
    allure.dynamic.epic(arms.title)
    allure.dynamic.feature(scenario)
    allure.dynamic.story(", ".join(models))
    critical = expect is Expectation.BETTER
    level = allure.severity_level.CRITICAL if critical else allure.severity_level.NORMAL
    allure.dynamic.severity(level)
    for name, value in details.items():
        allure.dynamic.parameter(name, value, excluded=True)


def step(text: str) -> AbstractContextManager[None]:
    """A step of the running test; it lasts as long as the `with` block."""
    entered: AbstractContextManager[None] = allure.step(text)
    return entered


def attach_cases(cases: Sequence[Case], setup: str, factorial: Factorial | None = None) -> None:
    """Show the rounds of a comparison in the running test, the last one first, and attach them.

    The effects of factors, which the comparison is a part of, follow.
    """
    fragments = []
    for case in reversed(cases):
        pictures = pictures_of(case, setup)
        fragments.append(render_case(case.judgement, pictures, titled=len(cases) > 1))
        number = f" (round {case.judgement.round})" if len(cases) > 1 else ""
        for picture in pictures:
            allure.attach(picture.svg, f"{picture.title}{number}", allure.attachment_type.SVG)
        if case.judgement.comparisons:
            table = comparisons_csv([case.judgement])
            allure.attach(table, f"Comparisons{number}", allure.attachment_type.CSV)
    if factorial is not None:
        fragments.append(render_factors(factorial, setup))
        picture = picture_of(factorial, setup)
        allure.attach(picture.svg, picture.title, allure.attachment_type.SVG)
    allure.dynamic.description_html("".join(fragments))


class WriteGuard:
    """Keeps the run going where Allure's plugin cannot write, as on a full disk.

    `error` is the first of its errors; pytest would end with a traceback at it.
    """

    def __init__(self) -> None:
        self.error: OSError | None = None
        plugin_manager.register(self)

    def remove(self) -> None:
        """Let Allure's plugin be as it was."""
        plugin_manager.unregister(self)

    @hookimpl(wrapper=True)
    def report_result(self) -> Generator[None, object, object]:
        """Around whatever Allure writes; it takes none of what that is given."""
        try:
            return (yield)
        except OSError as error:
            self.error = self.error or error
            return None

    report_container = report_attached_file = report_attached_data = report_result
    report_globals = report_result


def mark_interrupted(listener: Any) -> None:
    """Mark the running test of Allure's plugin as broken: upon Ctrl-C it would count as passed."""
    test = listener.allure_logger.get_test(None)
    if test is not None:
        test.status = Status.BROKEN
        test.statusDetails = StatusDetails(message="interrupted before it was decided")


def attach_run(run: Run, logs: Sequence[Path] = ()) -> None:
    """Attach the comparison page and the ends of logs to the run as a whole.

    Each comparison whose gates did not hold is an error of the run.
    """
    name = f"Comparison: {arms_of(run.judgements).title}"
    allure.global_attach(render_page(run), name, allure.attachment_type.HTML)
    for log in logs:
        end = log.read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace")
        allure.global_attach(end, f"Log: {log.stem}", allure.attachment_type.TEXT)
    for judgement in gating(run.judgements):
        if failures := gate_failures(judgement):
            allure.global_error("\n".join((title(judgement), *map(str, failures))))
