"""A run for other programs: JUnit's XML and Markdown."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from xml.etree import ElementTree

from markdown_it import MarkdownIt

from bench.analysis.gates import gate_failures
from bench.analysis.judgement import Case, SloOutcome, Verdict
from bench.records import ScenarioFacts
from reports.formats import junit, markdown, properties
from reports.run import Run
from tests.reports.cases import (
    better_case,
    failing_case,
    invalid_case,
    judged,
    one_arm_case,
    run_with,
    same_arm_case,
    with_slo,
)

NASTY = "a|b `c` <script>alert(1)</script> *d* [e](f) ~~g~~ \\| &amp;\n# h"
LINE = " ".join(NASTY.split())


def case_named(name: str) -> Case:
    """A case whose scenario, models, arms and notes have that name, in which a gate fails."""
    case = better_case()
    facts: ScenarioFacts = replace(case.judgement.scenario, name=name)
    comparisons = tuple(
        replace(one, verdict=Verdict.WORSE, control=name, treatment=name, reasons=(name,))
        for one in case.judgement.comparisons
    )
    judgement = replace(
        case.judgement,
        scenario=facts,
        models=(name,),
        comparisons=comparisons,
        control=name,
        treatment=f"{name} too",
        notes=(name,),
    )
    return Case(judgement, case.trials)


def parsed(run: Run, *, undecided_passes: bool = False) -> ElementTree.Element:
    """The only test suite of the run's XML."""
    text = junit(run, undecided_passes=undecided_passes)
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites"
    (suite,) = root
    return suite


def rendered(run: Run) -> str:
    page: str = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown(run))
    return page


def cells(rendered_html: str) -> list[list[str]]:
    """The rows of all tables as text."""
    rows = re.findall(r"<tr>(.*?)</tr>", rendered_html, re.DOTALL)
    return [
        [text_of(cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def text_of(element: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", element))


def test_junit_has_a_test_case_for_each_comparison_and_counts_those_that_fail() -> None:
    worse = replace(better_case("burst").judgement, invalid_reasons=())
    missed = Case(with_slo(worse, SloOutcome.MISSED, 0.5), ())
    suite = parsed(run_with(better_case(), missed, invalid_case("client CPU 97 %")))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "2", "0")
    tests = {test.get("classname"): test for test in suite}
    assert tests["heavy-tail"].find("failure") is None
    assert [test.get("name") for test in suite] == ["tiny-llama"] * 3


def test_junit_says_why_a_gate_fails_one_line_for_each() -> None:
    case = failing_case()
    (test,) = parsed(run_with(case))
    failure = test.find("failure")
    assert failure is not None
    lines = "\n".join(map(str, gate_failures(case.judgement)))
    assert (failure.text, failure.get("message")) == (lines, lines)
    assert failure.get("type") == gate_failures(case.judgement)[0].gate
    assert lines


def test_junit_has_the_properties_that_pytest_gives_a_test() -> None:
    case = better_case()
    (test,) = parsed(run_with(case))
    told = {one.get("name"): one.get("value") for one in test.iter("property")}
    assert told == {name: str(value) for name, value in properties(case.judgement)}
    assert (told["outcome"], told["verdict"]) == ("held", "better")


def test_junit_has_only_the_round_that_counts() -> None:
    first = failing_case()
    again = Case(replace(better_case().judgement, round=2), better_case().trials)
    suite = parsed(run_with(first, again))
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")


def test_junit_passes_an_undecided_comparison_if_that_is_asked_for() -> None:
    judgement = better_case().judgement
    primary = replace(judgement.comparisons[0], verdict=Verdict.INCONCLUSIVE)
    run = run_with(Case(replace(judgement, comparisons=(primary,)), ()))
    assert parsed(run).get("failures") == "1"
    assert parsed(run, undecided_passes=True).get("failures") == "0"
    assert parsed(run_with(failing_case()), undecided_passes=True).get("failures") == "1"


def test_junit_can_be_read_whatever_names_and_notes_are() -> None:
    (test,) = parsed(run_with(case_named("\x1b[31m]]> \ud800 " + NASTY)))
    assert test.get("classname") == "#x1B[31m]]> #xD800 " + NASTY
    failure = test.find("failure")
    assert failure is not None
    assert NASTY in (failure.text or "")


def test_junit_of_cases_without_trials_has_no_time() -> None:
    case = better_case()
    assert parsed(run_with(case)).get("time") == "184.000"
    assert parsed(run_with(Case(case.judgement, ()))).get("time") == "0.000"


def test_markdown_begins_with_the_outcome_and_has_a_table_of_ratios() -> None:
    text = markdown(run_with(better_case()))
    assert text.startswith("### managed against baseline: held\n")
    assert cells(rendered(run_with(better_case())))[:2] == [
        ["heavy-tail · tiny-llama", "baseline", "managed", "ratio [99 % CI]", "verdict"],
        ["Scheduled TTFT p95", "505 ms", "205 ms", "0.41 [0.36, 0.46]", "better"],
    ]


def test_markdown_says_why_gates_fail_before_the_tables() -> None:
    case = failing_case()
    before, _, _ = rendered(run_with(case)).partition("<table>")
    for failure in gate_failures(case.judgement):
        assert f"heavy-tail · tiny-llama: {failure}" in text_of(before)


def test_markdown_folds_notes_and_what_was_measured() -> None:
    case = better_case()
    noted = Case(replace(case.judgement, notes=("one", "two")), case.trials)
    _, notes, facts = rendered(run_with(noted)).split("<details>")
    assert "<summary>2 notes</summary>" in notes
    assert "<li>heavy-tail · tiny-llama: two</li>" in notes
    assert "<li>Engine: vLLM 0.30.0</li>" in facts


def test_markdown_shows_names_and_notes_as_they_are() -> None:
    run = run_with(case_named(NASTY), facts={NASTY: NASTY}, when=NASTY)
    page = rendered(run)
    heading, *rows = cells(page)
    assert heading[0] == f"{LINE} · {LINE}"
    assert {len(row) for row in (heading, *rows)} == {5}
    assert text_of(page).count(LINE) > 10
    for tag in ("<script", "<em>", "<a ", "<code>", "<s>", "<h1>"):
        assert tag not in page


def test_markdown_of_an_arm_alone_and_of_an_arm_against_itself() -> None:
    assert cells(rendered(run_with(one_arm_case())))[:2] == [
        ["heavy-tail · tiny-llama", "baseline", "", "verdict"],
        ["Scheduled TTFT p95", "505 ms", "", ""],
    ]
    heading, *_ = cells(rendered(run_with(same_arm_case())))
    assert heading[1:3] == ["baseline", "again"]


def test_markdown_marks_the_rows_of_a_part_of_the_requests() -> None:
    case = better_case("multi-tenant", ("tiny-llama", "tiny-qwen"))
    labels = [row[0] for row in cells(rendered(run_with(judged(case.trials))))]
    assert "\u2003of tiny-llama" in labels
