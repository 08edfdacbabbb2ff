"""Reports of a run with several treatments: each is named, and the control is there once."""

from __future__ import annotations

from xml.etree.ElementTree import fromstring

from reports.formats import junit, markdown
from reports.headline import headline
from reports.llmd import llmd_reports
from reports.page import objectives_of, render_page
from reports.terminal import summary_text
from tests.reports.cases import run_with, several_cases

CASES = several_cases()
JUDGEMENTS = [one.judgement for one in CASES]


def test_the_table_names_the_treatment_of_each_comparison() -> None:
    text = summary_text(JUDGEMENTS, width=120, colour=False)
    assert "managed, arm-2 against baseline" in text
    for name, verdict in (("managed", "better"), ("arm-2", "equivalent")):
        rows = text.split(f"heavy-tail · tiny-llama · {name}\n", 1)[1].splitlines()
        assert verdict in next(row for row in rows if "Scheduled TTFT p95" in row)
    server = text.split("server's side")[1].split("primary metric")[0]
    assert [server.count(f"\n  {name} ") for name in ("baseline", "managed", "arm-2")] == [1, 1, 1]


def test_what_is_so_for_all_treatments_is_said_once() -> None:
    text = summary_text(JUDGEMENTS, width=160, colour=False)
    assert text.count("2 comparisons share the error rate of 1 %: 0.5 % each") == 1
    assert "note heavy-tail · tiny-llama: 2 comparisons" in text


def test_the_headline_has_a_sentence_on_each_treatment() -> None:
    text = headline(JUDGEMENTS)
    assert text.startswith("managed is better than baseline: ")
    assert " arm-2 is equivalent to baseline: " in text


def test_the_page_has_each_comparison_and_each_objective_once() -> None:
    page = render_page(run_with(*CASES))
    assert page.count("<h3>heavy-tail · tiny-llama · managed</h3>") == 1
    assert page.count("<h3>heavy-tail · tiny-llama · arm-2</h3>") == 1
    assert [arm for _, arm, _ in objectives_of(JUDGEMENTS)] == ["baseline", "managed", "arm-2"]


def test_programs_get_each_comparison_under_a_name_of_its_own() -> None:
    run = run_with(*CASES)
    names = [one.get("name") for one in fromstring(junit(run)).iter("testcase")]
    assert names == ["tiny-llama · managed", "tiny-llama · arm-2"]
    headings = [line for line in markdown(run).splitlines() if line.startswith("| heavy-tail")]
    assert [one.split(" | ")[1:3] for one in headings] == [
        ["baseline", "managed"],
        ["baseline", "arm-2"],
    ]
    assert {path.partition("/")[0] for path in llmd_reports(run)} == {
        *("baseline", "managed", "arm-2")
    }
