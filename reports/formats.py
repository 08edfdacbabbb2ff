"""A run for other programs: JUnit's XML, and Markdown for a comment on GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from bench.analysis.factorial import Factorial
from bench.analysis.gates import (
    Failure,
    Outcome,
    gate_failures,
    gating,
    outcome_of,
    outcome_of_gates,
    overall,
)
from bench.analysis.judgement import Case, Judgement
from reports import effects, wording
from reports.headline import headline
from reports.run import Arms, Run, arms_of, subject, title
from reports.tables import Row, notes_of, rows_of

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$])")


def properties(judgement: Judgement) -> Iterator[tuple[str, object]]:
    """What JUnit's XML says of a comparison."""
    yield "outcome", str(outcome_of(judgement))
    if (primary := judgement.primary) is not None:
        yield "verdict", str(primary.verdict)
        for name in ("control", "treatment", "metric", "ratio", "low", "high", "blocks"):
            yield name, getattr(primary, name)


def junit(run: Run, *, undecided_passes: bool = False) -> str:
    """JUnit's XML: a test case for each comparison that counts, as pytest writes it.

    `undecided_passes` makes no failure of a comparison that noise leaves undecided.
    """
    counting = gating(run.judgements)
    cases = [case for case in run.cases if case.judgement in counting]
    suite = Element("testsuite", name=_xml(arms_of(counting).title), errors="0", skipped="0")
    failed = [_add_test_case(suite, case, undecided_passes) for case in cases]
    suite.set("failures", str(sum(failed)))
    suite.set("tests", str(len(cases)))
    suite.set("time", f"{sum(map(_measured_s, cases)):.3f}")
    root = Element("testsuites")
    root.append(suite)
    indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, "unicode")}\n'


def _add_test_case(suite: Element, case: Case, undecided_passes: bool) -> bool:
    """Add the test case of a comparison; returns whether it failed."""
    judgement = case.judgement
    test = SubElement(
        suite,
        "testcase",
        classname=_xml(judgement.scenario.name),
        name=_xml(subject(judgement)),
        time=f"{_measured_s(case):.3f}",
    )
    listed = SubElement(test, "properties")
    for name, value in properties(judgement):
        SubElement(listed, "property", name=name, value=_xml(str(value)))
    failures = _failures(judgement, undecided_passes)
    if failures:
        text = _xml("\n".join(map(str, failures)))
        SubElement(test, "failure", type=failures[0].gate, message=text).text = text
    return bool(failures)


def _failures(judgement: Judgement, undecided_passes: bool) -> tuple[Failure, ...]:
    failures = gate_failures(judgement)
    outcome = outcome_of_gates(one.gate for one in failures)
    return () if undecided_passes and outcome is Outcome.UNDECIDED else failures


def _measured_s(case: Case) -> float:
    return sum(trial.elapsed_s for trial in case.trials)


def _xml(text: str) -> str:
    """The text with what XML cannot hold written as pytest does: `#x1B`."""
    return _NOT_XML.sub(lambda found: f"#x{ord(found[0]):02X}", text)


def markdown(run: Run) -> str:
    """The run for a comment on GitHub: outcome and headline, failed gates, tables, folded notes.

    The primary metric is bold. Names and notes from outside are escaped.
    """
    judgements = run.judgements
    arms = arms_of(judgements)
    counting = gating(judgements)
    failures = [(one, failure) for one in counting for failure in gate_failures(one)]
    notes = [(title(one), note) for one in judgements for note in notes_of(one)]
    parts = (
        [f"### {escaped(arms.title)}: {overall(judgements)}"],
        [escaped(sentence)] if (sentence := headline(judgements, run.factorials)) else [],
        _items((title(one), str(failure)) for one, failure in failures),
        *(_case_table(one, arms_of([one])) for one in judgements),
        *(part for one in run.factorials for part in _factors(one)),
        _folded(wording.count(len(notes), "note"), _items(notes)) if notes else [],
        _folded("What was measured", _items({"Measured": run.when, **run.facts}.items())),
    )
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _case_table(judgement: Judgement, arms: Arms) -> list[str]:
    """A table of a comparison: a row for each metric and each SLO."""
    names = map(escaped, (title(judgement), *arms.headings.values()))
    rows = [[*names, wording.ratio_heading([judgement]), "verdict"]]
    rows.append([":--", *("--:" for _ in rows[0][1:])])
    rows += [_cells(row) for row in rows_of(judgement, arms)]
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _factors(one: Factorial) -> Iterator[list[str]]:
    """A table of the effects of factors, and what it says."""
    names = map(escaped, (effects.title(one), *effects.LEVELS))
    rows = [[*names, f"ratio [{wording.confidence(one)} CI]", "verdict"]]
    rows.append([":--", *("--:" for _ in rows[0][1:])])
    rows += [_cells(row) for row in effects.rows_of(one)]
    yield [f"| {' | '.join(cells)} |" for cells in rows]
    yield [f"- {escaped(sentence)}" for sentence in effects.findings(one)]


def _cells(row: Row) -> list[str]:
    """The cells of a row: one of a part of the requests stands below those of them all."""
    label = f"{'&emsp;' if row.label.startswith(' ') else ''}{escaped(row.label)}"
    strong = "**" if row.primary else ""
    verdict = f"{strong}{row.outcome}{strong}" if row.outcome else ""
    return [f"{strong}{label}{strong}", *(value for _, value in row.values), row.ratio, verdict]


def _items(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"- {escaped(name)}: {escaped(text)}" for name, text in pairs]


def _folded(summary: str, lines: Iterable[str]) -> list[str]:
    return [f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]


def escaped(text: str) -> str:
    """The text on one line, with nothing in it that Markdown or HTML would read."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
