"""The summary at the end of a run: tables, then what is invalid, then notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench.analysis.factorial import Factorial, Interaction
from bench.analysis.judgement import Judgement, SloOutcome, Verdict
from bench.console import as_text
from reports import effects, wording
from reports.run import arms_of, short_title, title, with_new_roles
from reports.tables import FIGURES, Row, notes_of, rows_of, scraped_arms

_NARROWEST = 80
# Room for the labels of metrics; titles are wrapped where the other columns need it.
_LABELS = 20
# The widest values: `1,234 req/s`.
_VALUES = 11

# The terminal's own colours: they suit dark and light backgrounds alike.
_STYLES: dict[Verdict | SloOutcome | Interaction, str] = {
    Verdict.BETTER: "bold green",
    Verdict.WORSE: "bold red",
    Verdict.EQUIVALENT: "cyan",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.INVALID: "bold magenta",
    SloOutcome.MET: "green",
    SloOutcome.MISSED: "bold red",
    SloOutcome.UNDECIDED: "yellow",
    SloOutcome.UNSET: "dim",
    Interaction.SHOWN: "bold yellow",
    Interaction.EXCLUDED: "cyan",
    Interaction.UNDECIDED: "yellow",
    Interaction.INVALID: "bold magenta",
}


def summary_text(
    judgements: Sequence[Judgement],
    *,
    width: int,
    colour: bool,
    factorials: Sequence[Factorial] = (),
) -> str:
    """The whole summary, ready to print, at least 80 columns wide."""
    parts: list[Table | str] = ["nothing was measured"]
    if judgements:
        servers = [_server_table(judgements)] if any(map(scraped_arms, judgements)) else []
        found = [part for one in factorials for part in (_effects_table(one), _findings(one))]
        parts = [_table(judgements), *found, *servers, _remarks(judgements)]
    return as_text(parts, width=width, narrowest=_NARROWEST, colour=colour)


def _table(judgements: Sequence[Judgement]) -> Table:
    """A row for each scenario x models x metric, grouped under `scenario · models`."""
    arms = arms_of(judgements)
    table = Table(
        title=Text(arms.title, style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("scenario / metric", min_width=_LABELS, overflow="fold")
    for heading in arms.headings.values():
        # A long name is wrapped, at its hyphens if it can be; values are not.
        lines = Text("\n".join(wrap(heading, _VALUES)))
        table.add_column(lines, justify="right", overflow="fold", max_width=_VALUES)
    table.add_column(wording.ratio_heading(judgements), justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=12)
    for judgement in judgements:
        table.add_row(Text(short_title(judgement), style="bold"))
        for row in rows_of(judgement, arms):
            table.add_row(*_cells(row))
        table.add_row()
    return table


def _effects_table(one: Factorial) -> Table:
    """A row for each effect of a factor, and for the interaction."""
    table = Table(
        title=Text(effects.title(one), style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column(effects.heading(one), min_width=_LABELS)
    for heading in effects.LEVELS:
        table.add_column(Text(heading), justify="right", max_width=_VALUES)
    table.add_column(f"ratio [{wording.confidence(one)} CI]", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=12)
    for row in effects.rows_of(one):
        table.add_row(*_cells(row))
    return table


def _findings(one: Factorial) -> Table:
    grid = Table.grid()
    for sentence in (*effects.findings(one), *effects.notes_of(one), ""):
        grid.add_row(Text(sentence))
    return grid


def _server_table(judgements: Sequence[Judgement]) -> Table:
    """The replicas' own metrics: a row for each arm, under `scenario · models`."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    # Less room for labels, and all figures fit into 80 columns, also a mean queue of 0.00123.
    table.add_column("server's side", min_width=_LABELS - 6, overflow="fold")
    for short, _ in FIGURES:
        table.add_column(short.replace(" ", "\n"), justify="right", no_wrap=True)
    for judgement, headings in with_new_roles(judgements):
        scraped = scraped_arms(judgement)
        arms = {name: scraped[name] for name in headings.values() if name in scraped}
        if arms:
            table.add_row(Text(short_title(judgement), style="bold"))
        for name, server in arms.items():
            # A figure that is absent is not wider than the others.
            figures = (figure(server).replace(wording.NO_DATA, "-") for figure in FIGURES.values())
            table.add_row(Text(f"  {name}"), *map(Text, figures))
    table.add_row()
    return table


def _cells(row: Row) -> list[Text]:
    label = Text(f"{'*' if row.primary else ' '} {row.label}")
    verdict = Text("")
    if row.outcome is not None:
        verdict = Text(row.outcome.value, style=_STYLES[row.outcome])
    return [label, *(Text(value) for _, value in row.values), Text(row.ratio), verdict]


def _remarks(judgements: Sequence[Judgement]) -> Table:
    """The lines below the tables: load, SLOs, invalid measurements, notes."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for judgement in judgements:
        if headline := wording.headline(judgement):
            grid.add_row("load", Text(headline))
    if any(one.comparisons for one in judgements):
        grid.add_row("*", Text("primary metric: the one whose verdict counts"))
    for objectives, names in _objectives(judgements).items():
        grid.add_row("slo", Text(f"{objectives}: {', '.join(names)}"))
    for line in _merged((one, reason) for one in judgements for reason in one.invalid_reasons):
        grid.add_row(Text("invalid", style=_STYLES[Verdict.INVALID]), Text(line))
    for line in _merged((one, note) for one in judgements for note in notes_of(one)):
        grid.add_row("note", Text(line))
    return grid


def _merged(lines: Iterable[tuple[Judgement, str]]) -> Iterator[str]:
    """Lines with the titles of what they are about; once what is so for several treatments."""
    about: dict[tuple[str, str], list[Judgement]] = {}
    for judgement, text in lines:
        measured = title(replace(judgement, shared=1))
        about.setdefault((measured, text), []).append(judgement)
    for (measured, text), judgements in about.items():
        yield f"{title(judgements[0]) if len(judgements) == 1 else measured}: {text}"


def _objectives(judgements: Sequence[Judgement]) -> dict[str, list[str]]:
    """By objectives in words, who has them: `heavy-tail`, or `heavy-tail · tiny-qwen`."""
    scenarios: dict[str, dict[str, str]] = {}
    for judgement in judgements:
        texts = scenarios.setdefault(judgement.scenario.name, {})
        slos = judgement.scenario.slos
        texts |= {model: wording.objectives(slo) for model, slo in slos.items()}
    found: dict[str, list[str]] = {}
    for scenario, texts in scenarios.items():
        alike = len(set(texts.values())) == 1
        for model, text in texts.items():
            name = scenario if alike else f"{scenario} · {model}"
            if text and name not in found.setdefault(text, []):
                found[text].append(name)
    return found
