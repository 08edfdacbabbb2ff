"""The page of the study and its charts, made from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.analysis.judgement import Verdict
from reports import wording
from reports.charts.forest import Row, forest
from reports.charts.style import OUTCOME, Line
from validation.study.plan import CONTROL, POLICIES, SCENARIOS, Entry, Ratio

NONE = Ratio(None, None, None)
HEAD = """\
# Policies and peers beside managed

Measured by `make study`, which makes this page from [ledger.jsonl](ledger.jsonl); every
comparison that ended counts, the latest seed of each.

Each run measures `managed` as the control and the other arms as treatments, in the same blocks
and on the same engines. Ratios are arm / `managed` of the scenario's primary metric. **Beats
managed** and *loses to managed* are verdicts: the interval excludes 1 and the difference is 5 %
or more. *Alike* is within ±10 %. What has no sign is undecided. The arms of a run share an error
rate of 1 % (Bonferroni), so that all intervals of a row of one run hold together, also that of
the arm that looks best.
"""
LIMITS = """\
## What this cannot tell

- Engines are vLLM's CPU build, with tiny models of real architectures and random weights, on few
  cores. How much a policy gives follows from queues, lengths and caches, and these are real; how
  long a token takes is not that of a GPU. KVCached needs a GPU: here `managed` is its balancer
  alone.
- Peers run with the configuration in the topology file or that of the suite, which is meant to be
  their best for this use. Their own tuning may do better.
- Each scenario is one shape of load, relative to what the engines can carry. Others may rank arms
  otherwise.
- An undecided comparison is no evidence that two arms are alike.

## How to reproduce

```
make study
```

measures what is missing in the ledger, in several sittings if need be; with another `--seed`
everything anew. `python -m validation study --only heavy-tail --folder /tmp/study` measures one
scenario, into a ledger of its own.
"""
_SIGNS: Mapping[str, str] = {
    Verdict.BETTER: "**{} beats managed**",
    Verdict.WORSE: "{} *loses to managed*",
    Verdict.EQUIVALENT: "{} *alike*",
    Verdict.INCONCLUSIVE: "{}",
    Verdict.INVALID: "invalid",
}


def current(entries: Sequence[Entry], rule: int) -> list[Entry]:
    """The latest entry of each scenario and arm under this rule: that of the highest seed."""
    latest: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        key = entry.scenario, entry.arm
        if entry.rule == rule and (key not in latest or entry.seed >= latest[key].seed):
            latest[key] = entry
    order = {name: place for place, name in enumerate(SCENARIOS)}
    return sorted(latest.values(), key=lambda one: order.get(one.scenario, len(order)))


def page(entries: Sequence[Entry], rule: int) -> str:
    """The page: what was found in short, a table and a chart of each scenario, and the limits."""
    found = current(entries, rule)
    lines = [
        HEAD,
        *_facts(found),
        *_findings(found),
        *(line for name in _scenarios(found) for line in _scenario(name, found)),
        LIMITS,
        *_all_runs(entries),
    ]
    return "\n".join(lines) + "\n"


def charts(entries: Sequence[Entry], rule: int) -> Mapping[str, bytes]:
    """By file name: a chart (SVG) of the ratios in each scenario."""
    found = current(entries, rule)
    pictures = {}
    for name in _scenarios(found):
        rows = [_row(one) for one in _ranked(name, found)]
        title = f"{name}: {wording.metric(_ranked(name, found)[0].metric)}"
        lines = [Line(f"arm / {CONTROL}; grey band: equivalent")]
        caption = "vLLM on CPU, tiny models with random weights"
        pictures[f"{name}.svg"] = forest(title, lines, rows, caption, left_in=1.75).picture().svg
    return pictures


def _scenarios(found: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(one.scenario for one in found))


def _ranked(name: str, found: Sequence[Entry]) -> list[Entry]:
    """The entries of a scenario, the best arm first, those without a ratio last."""
    return sorted((one for one in found if one.scenario == name), key=_cost)


def _cost(entry: Entry) -> float:
    """The ratio such that lower is better; infinite where there is none."""
    ratio = entry.primary.ratio
    if not ratio or entry.verdict == Verdict.INVALID:
        return float("inf")
    return 1 / ratio if entry.higher_is_better else ratio


def is_peer(arm: str) -> bool:
    """Whether an arm is a program of others, and no policy of this project's balancer."""
    return arm not in POLICIES


def _facts(found: Sequence[Entry]) -> Iterator[str]:
    def all_of(values: Sequence[str]) -> str:
        return ", ".join(dict.fromkeys(values)) or "nothing yet"

    # All entries of a run have its whole time.
    runs = {(one.scenario, one.arms, one.seed): one.took_s for one in found}
    versions = {one.arm: one.version for one in found if one.version}
    yield f"- comparisons: {len(found)}, in {sum(runs.values()) / 3600:.1f} hours"
    yield f"- engines: {all_of([one.engine for one in found])}"
    yield f"- machine: {all_of([one.machine for one in found])}"
    yield f"- commits: {all_of([(one.commit or 'unknown')[:7] for one in found])}"
    if versions:
        yield "- peers: " + ", ".join(f"{arm} ({text})" for arm, text in versions.items())
    yield ""


def _findings(found: Sequence[Entry]) -> Iterator[str]:
    """Where managed does not win comes first."""
    yield from ("## In short", "")
    for title, chosen in (
        ("policies of this project", [one for one in found if not is_peer(one.arm)]),
        ("peers", [one for one in found if is_peer(one.arm)]),
    ):
        if not chosen:
            continue
        names = _scenarios(chosen)
        best = [_ranked(name, chosen)[0] for name in names]
        lost = [one for one in chosen if one.verdict == Verdict.BETTER]
        ahead = [one for one in best if one.verdict == Verdict.WORSE]
        yield (
            f"- Beside {title}, in {wording.count(len(names), 'scenario')}: managed is better than "
            f"the best of them in {len(ahead)}, and worse than one of them in "
            f"{len({one.scenario for one in lost})}."
        )
        yield from (
            f"  - {one.scenario}: {one.arm} beats managed, {wording.ratio(one.primary)}."
            for one in lost
        )
    yield ""


def _scenario(name: str, found: Sequence[Entry]) -> Iterator[str]:
    ranked = _ranked(name, found)
    first = ranked[0]
    yield from (f"## {name}", "", f"![Ratios of all arms]({name}.svg)", "")
    others = list(dict.fromkeys(metric for one in ranked for metric in one.others))
    titles = [wording.metric(first.metric), *map(wording.metric, others)]
    yield f"| arm | {' | '.join(titles)} | blocks |"
    yield f"|---|{'---|' * len(titles)}---|"
    for one in ranked:
        cells = [_SIGNS[one.verdict].format(wording.ratio(one.primary))]
        cells += [wording.ratio(one.others.get(metric, NONE)) for metric in others]
        yield f"| {one.arm} | {' | '.join(cells)} | {one.blocks} |"
    yield ""
    for one in ranked:
        yield from (f"- {one.arm} is invalid: {reason}" for reason in one.reasons)
    if any(one.reasons for one in ranked):
        yield ""


def _all_runs(entries: Sequence[Entry]) -> Iterator[str]:
    yield from ("## All comparisons", "")
    yield (
        "| scenario | arm | seed | verdict | ratio | managed | its value | blocks | rule | commit |"
        " day |"
    )
    yield f"|{'---|' * 11}"
    for one in entries:
        medians = (wording.quantity(value, one.unit) for value in (one.managed, one.value))
        cells = (one.scenario, one.arm, one.seed, one.verdict, wording.ratio(one.primary), *medians)
        of_run = (one.blocks, one.rule, (one.commit or "unknown")[:7], one.day)
        yield f"| {' | '.join(str(cell) for cell in (*cells, *of_run))} |"


def _row(entry: Entry) -> Row:
    return Row(
        label=entry.arm,
        result=f"{wording.ratio(entry.primary)}\n{entry.verdict}",
        colour=OUTCOME[Verdict(entry.verdict)],
        ratio=entry.primary.ratio,
        low=entry.primary.low,
        high=entry.primary.high,
    )
