"""The files of a run for Allure that its Python package does not write."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from bench.analysis.gates import Gate
from bench.analysis.judgement import Comparison, Judgement
from bench.analysis.metrics import metric
from bench.errors import writing
from reports import wording
from reports.run import Run, arms_of, title

# Names that Allure gives to files; others in the folder are somebody else's.
_OURS = re.compile(
    r".*-(result|container|globals|perf)\.json|.*-attachment(\..*)?"
    r"|(categories|executor)\.json|environment\.properties"
)
# What a properties file treats as more than a character of a name.
_SPECIAL = " :=#!"
_CATEGORIES = {
    Gate.DEAD_REPLICA: "Dead replica",
    Gate.INVALID: "Invalid: the instrument failed, not the system",
    Gate.SLO_MISSED: "SLO missed",
    Gate.WORSE: "Worse",
    Gate.NOT_BETTER: "Not better, where better was expected",
    Gate.INCONCLUSIVE: "Inconclusive: more blocks are needed",
    Gate.NOISE: "An arm differs from itself (A/A)",
}


def clear(folder: Path) -> None:
    """Remove the files of an earlier run: Allure would show its tests as retries.

    Raises UserError if that is not possible.
    """
    files = list(folder.iterdir()) if folder.is_dir() else []
    with writing():
        for file in files:
            if file.is_file() and _OURS.fullmatch(file.name):
                file.unlink()


def write_run(folder: Path, run: Run) -> None:
    """Write the environment, what made it, the categories and the numbers of the Metrics page."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = [entry for judgement in run.judgements for entry in _metrics(judgement)]
    (folder / "environment.properties").write_text(properties(run.facts), "utf-8")
    (folder / "categories.json").write_text(json.dumps(category_rules(), indent=1), "utf-8")
    executor = {"name": run.facts.get("Machine"), "buildName": run.facts.get("Run")}
    (folder / "executor.json").write_text(json.dumps(executor), "utf-8")
    (folder / "bench-perf.json").write_text(json.dumps(metrics, indent=1), "utf-8")


def category_rules() -> list[dict[str, Any]]:
    """Rules for Allure's Categories page: failing tests by the gate that did not hold.

    A rule takes the tests whose whole message matches it; the last one takes all others.
    """
    # pytest puts the exception's class first. Of several gates, one a line, the first
    # one decides.
    patterns = {
        name: rf"^(?:[\w.]+: )?{re.escape(gate)}: [\s\S]*$" for gate, name in _CATEGORIES.items()
    }
    patterns["Other errors"] = r"^[\s\S]*$"
    return [
        {"name": name, "messageRegex": pattern, "matchedStatuses": ["failed", "broken"]}
        for name, pattern in patterns.items()
    ]


def properties(facts: Mapping[str, str]) -> str:
    """The facts as a Java properties file."""
    lines = (f"{_escaped(name, _SPECIAL)}={_escaped(value)}\n" for name, value in facts.items())
    return "".join(lines)


def _escaped(text: str, special: str = "") -> str:
    escaped = "".join(f"\\{char}" if char in f"\\{special}" else char for char in text)
    return escaped.replace("\n", "\\n").replace("\r", "")


def comparisons_csv(judgements: Sequence[Judgement]) -> str:
    """A header, and a line for each comparison with unrounded values; an empty field is unknown.

    The last column is the round: 2 where a comparison that failed was measured once more.
    """
    text = io.StringIO()
    columns = [*(field.name for field in fields(Comparison)), "round"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for judgement in judgements:
        for one in judgement.comparisons:
            lists = {"models": ", ".join(one.models), "reasons": "; ".join(one.reasons)}
            writer.writerow(asdict(one) | lists | {"round": judgement.round})
    return text.getvalue()


def _metrics(judgement: Judgement) -> Iterator[dict[str, Any]]:
    """Ratios and values of the arms for Allure's Metrics page, which takes finite numbers only."""
    arms = arms_of([judgement])
    numbers = [
        (one.metric, arms.ratio, one.ratio, "")
        for one in judgement.comparisons
        if one.models == judgement.models and not one.tenant
    ]
    numbers += [
        (one.metric, arms.headings[one.role], one.value, one.unit) for one in judgement.summaries
    ]
    for name, of, value, unit in numbers:
        if value is None or not math.isfinite(value):
            continue
        # Allure shows three decimals only: seconds become milliseconds.
        factor, shown = (1000, "ms") if unit == "s" else (1, unit)
        key = f"{title(judgement)} · {name} · {of}"
        yield {
            "id": key,
            "key": key,
            "title": f"{wording.metric(name)}, {of}",
            "value": value * factor,
            "unit": shown,
            "better": metric(name).direction,
            "group": title(judgement),
            "groupTitle": title(judgement),
            # Allure asks for them and shows none.
            "start": 0,
            "stop": 0,
        }
