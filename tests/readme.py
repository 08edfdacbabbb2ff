"""The tables of README.md that follow from the code: `python -m tests.readme` writes them.

tests/test_readme.py fails while one differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.cli.scenarios import measured_scenarios
from lb.policies import POLICIES
from reports import wording

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"


def page() -> str:
    """README.md with its tables as they should be. Raises ValueError if a table has no marks."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in (("scenarios", scenario_table()), ("policies", policy_table())):
        begin, end = f"<!-- {name}: made by `make docs` -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"README.md lacks {begin!r} or {end!r}")
        text = "".join((before, begin, "\n", *(f"{line}\n" for line in lines), "\n", end, after))
    return text


def scenario_table() -> Iterator[str]:
    """The lines of the table of scenarios; those that every model is measured in come first."""
    yield "| scenario | what it does | models | primary metric | expected of the treatment |"
    yield "|---|---|---|---|---|"
    for one in measured_scenarios():
        metric = wording.metric(one.scenario.primary)
        expected = one.scenario.expect.replace("-", " ")
        yield f"| {one.scenario.name} | {one.summary} | {one.models} | {metric} | {expected} |"


def policy_table() -> Iterator[str]:
    """The lines of the table of policies, by port."""
    yield "| policy | port | rule |"
    yield "|---|---|---|"
    for name, entry in sorted(POLICIES.items(), key=lambda one: one[1].default_port):
        yield f"| {name} | {entry.default_port} | {entry.summary} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
