"""The page of the study and its charts, made from the ledger alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from bench.analysis.judgement import Verdict
from reports import wording
from reports.charts.forest import Row, forest
from reports.charts.style import OUTCOME, Line
from validation.study.plan import (
    CONTROL,
    LEAST_OUTPUT,
    POLICIES,
    SCENARIOS,
    Entry,
    Ratio,
    cost,
    holds_back,
)

NONE = Ratio(None, None, None)
LEAST = f"{100 * LEAST_OUTPUT:.0f} %"
SUMMARY = "anew.svg"
HEAD = f"""\
# Policies and peers beside managed

Measured by `make study`, which makes this page from [ledger.jsonl](ledger.jsonl); every
comparison that ended counts, the latest seed of each scenario.

`managed` is the control, the other arms are treatments, in the same blocks and on the same engines.
Ratios are arm / `managed` of the scenario's primary metric. All policies of this project, and then
all peers, are measured in four blocks. That finds the best of each, not by how much it is better:
of many arms the one with the best ratio owes some of it to chance. So the best policy and the best
peer are **measured anew**, with other schedules, in up to 16 blocks, and what is said in short is
from these. An arm that is ahead with less than {LEAST} of managed's output is not taken for the
best: it holds requests back, and the times of those that it lets through say little.

**Better** and *worse* than managed are verdicts: the interval excludes 1 and the difference is 5 %
or more. *Equivalent* is within ±10 %. What has no sign is inconclusive. The arms of a run share an
error rate of 1 % (Bonferroni), so that all intervals of a run hold together.
"""
LIMITS = """\
## What this cannot tell

- Engines are vLLM's CPU build, with tiny models of real architectures and random weights, on few
  cores. How much a policy gives follows from queues, lengths and caches, and these are real; how
  long a token takes is not that of a GPU. KVCached needs a GPU: here `managed` is its balancer
  alone.
- Peers run with the configuration in the topology file or that of the suite, which is meant to be
  their best for this use. Their own tuning may do better.
- Peers share the cores with engines and load, and some need most of one core at such rates: what
  they lose by that they would not lose on a machine of their own.
- Sittings were on machines whose speed differs, as managed's own values in the last table show. A
  slower one gets fewer requests in a trial, and ratios may be others there.
- The best arm of four blocks is not for certain the best one.
- Each scenario is one shape of load, relative to what the engines can carry. Others may rank arms
  otherwise.
- An inconclusive comparison is no evidence that two arms are equivalent.

## How to reproduce

```
make study
```

measures what is missing in the ledger at its latest seed, in several sittings if need be; with
another `--seed` everything anew. `python -m validation study --only heavy-tail --folder /tmp/study`
measures one scenario, into a ledger of its own.
"""
_SIGNS: Mapping[str, str] = {
    Verdict.BETTER: "**{} better**",
    Verdict.WORSE: "{} *worse*",
    Verdict.EQUIVALENT: "{} *equivalent*",
    Verdict.INCONCLUSIVE: "{}",
    Verdict.INVALID: "invalid",
}


def current(entries: Sequence[Entry], rule: int) -> list[Entry]:
    """Of each scenario those of the latest seed under this rule, an arm once."""
    under = [one for one in entries if one.rule == rule]
    latest: dict[str, int] = {}
    for entry in under:
        latest[entry.scenario] = max(latest.get(entry.scenario, 0), entry.study_seed)
    found = {
        (one.scenario, one.arm, one.confirms): one
        for one in under
        if one.study_seed == latest[one.scenario]
    }
    order = {name: place for place, name in enumerate(SCENARIOS)}
    return sorted(found.values(), key=lambda one: order.get(one.scenario, len(order)))


def page(entries: Sequence[Entry], rule: int) -> str:
    """The page: what was found in short, a table and a chart of each scenario, and the limits."""
    found = current(entries, rule)
    lines = [
        HEAD,
        *_facts(found),
        *_findings(found),
        *_not_won(found),
        *(line for name in _scenarios(found) for line in _scenario(name, found)),
        LIMITS,
        *_all_runs(entries),
    ]
    return "\n".join(lines) + "\n"


def charts(entries: Sequence[Entry], rule: int) -> Mapping[str, bytes]:
    """By file name: a chart (SVG) of the ratios in each scenario, and of all measured anew."""
    found = current(entries, rule)
    pictures = {
        f"{name}.svg": _chart(
            f"{name}: {_title(_ranked(name, found)[0])}",
            f"arm / {CONTROL}; grey band: equivalent",
            # In two lines: the longest names have no room for it beside them.
            [_row(one, _label(one, "\n"), one.primary) for one in _ranked(name, found)],
        )
        for name in _scenarios(found)
    }
    if anew := [one for one in found if one.confirms and not holds_back(one)]:
        pictures[SUMMARY] = _chart(
            "Best peer and best policy, measured anew",
            f"left of 1 they are ahead of {CONTROL}, right of it behind; grey band: equivalent",
            [_row(one, f"{one.scenario}\n{one.arm}", _lower_wins(one)) for one in anew],
        )
    return pictures


def _chart(title: str, line: str, rows: Sequence[Row]) -> bytes:
    caption = "vLLM on CPU, tiny models with random weights"
    return forest(title, [Line(line)], rows, caption, left_in=1.75).picture().svg


def _lower_wins(entry: Entry) -> Ratio:
    """Its ratio, inverted where higher is better: metrics of both kinds share an axis."""
    one = entry.primary
    if not entry.higher_is_better or not (one.ratio and one.low and one.high):
        return one
    return Ratio(1 / one.ratio, 1 / one.high, 1 / one.low)


def _scenarios(found: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(one.scenario for one in found))


def _ranked(name: str, found: Sequence[Entry]) -> list[Entry]:
    """The entries of a scenario: those measured anew, then the others; the best arm first."""
    return sorted(
        (one for one in found if one.scenario == name),
        key=lambda one: (not one.confirms, cost(one)),
    )


def _label(entry: Entry, gap: str = " ") -> str:
    return f"{entry.arm}{gap}(anew)" if entry.confirms else entry.arm


def is_peer(arm: str) -> bool:
    """Whether an arm is a program of others, and no policy of this project's balancer."""
    return arm not in POLICIES


def _facts(found: Sequence[Entry]) -> Iterator[str]:
    def all_of(values: Sequence[str]) -> str:
        return ", ".join(dict.fromkeys(values)) or "nothing yet"

    # All entries of a run have its whole time.
    runs = {(one.scenario, one.arms, one.seed): one.took_s for one in found}
    versions = {one.arm: one.version for one in found if one.version}
    hours = sum(runs.values()) / 3600
    yield f"- scenarios: {len(_scenarios(found))} of {len(SCENARIOS)}"
    yield f"- comparisons: {len(found)}, in {hours:.1f} hours"
    balancers = dict.fromkeys(one.balancer for one in found)
    for balancer in balancers:
        measured = all_of([one.scenario for one in found if one.balancer == balancer])
        where = f" in {measured}" if len(balancers) > 1 else ""
        yield f"- {CONTROL}: `--policy {balancer}`{where}"
    yield f"- engines: {all_of([one.engine for one in found])}"
    yield f"- machine: {all_of([one.machine for one in found])}"
    yield f"- commits: {all_of([(one.commit or 'unknown')[:7] for one in found])}"
    if versions:
        yield "- peers: " + ", ".join(f"{arm} ({text})" for arm, text in versions.items())
    yield ""


def _findings(found: Sequence[Entry]) -> Iterator[str]:
    """Beside the best of each group, measured anew: how often managed wins, and each result."""
    yield from ("## In short", "")
    anew = [one for one in found if one.confirms and not holds_back(one)]
    if not anew:
        yield from ("Nothing was measured anew yet.", "")
        return
    groups = (
        ("peer", {one.scenario: one for one in anew if is_peer(one.arm)}),
        ("policy of this project", {one.scenario: one for one in anew if not is_peer(one.arm)}),
    )
    for title, best in groups:
        verdicts = Counter(one.verdict for one in best.values())
        yield (
            f"- Beside the best {title}, in {wording.count(len(best), 'scenario')}: managed is "
            f"better in {verdicts[Verdict.WORSE]}, worse in {verdicts[Verdict.BETTER]}, "
            f"equivalent in {verdicts[Verdict.EQUIVALENT]}; "
            f"inconclusive in {verdicts[Verdict.INCONCLUSIVE]}, "
            f"invalid in {verdicts[Verdict.INVALID]}."
        )
    yield from ("", "| scenario | metric | best peer | best policy |", "|---|---|---|---|")
    for name in _scenarios(anew):
        cells = [
            f"{one.arm} {_result(one)}" if (one := best.get(name)) else "" for _, best in groups
        ]
        yield f"| {name} | {_title(_ranked(name, anew)[0])} | {' | '.join(cells)} |"
    yield from ("", f"![What was measured anew]({SUMMARY})", "")
    yield from ("In this chart ratios of metrics of which higher wins are inverted.", "")


def _not_won(found: Sequence[Entry]) -> Iterator[str]:
    """What was measured anew and did not lose to managed; nothing before any was."""
    anew = [one for one in found if one.confirms]
    if not anew:
        return
    yield from (f"## Where {CONTROL} does not win", "")
    titles = {
        Verdict.BETTER: f"Ahead of {CONTROL}",
        Verdict.EQUIVALENT: "Equivalent",
        Verdict.INCONCLUSIVE: "Inconclusive",
        Verdict.INVALID: "Invalid",
    }
    for verdict, title in titles.items():
        cells = [
            f"{one.scenario} {one.arm} {wording.ratio(one.primary)}"
            for one in anew
            if one.verdict == verdict and not holds_back(one)
        ]
        yield f"- {title}: {'; '.join(cells) or 'none'}."
    if held := [one for one in anew if holds_back(one)]:
        cells = [
            f"{one.scenario} {one.arm} {wording.ratio(one.primary)}, with an output of "
            f"{wording.ratio(one.others['output_tps'])}"
            for one in held
        ]
        yield f"- Ahead with less than {LEAST} of {CONTROL}'s output: {'; '.join(cells)}."
    yield ""


def _title(entry: Entry) -> str:
    """The name of the primary metric, and which way is better."""
    return f"{wording.metric(entry.metric)}, {'higher' if entry.higher_is_better else 'lower'} wins"


def _result(entry: Entry) -> str:
    return _SIGNS[entry.verdict].format(wording.ratio(entry.primary))


def _scenario(name: str, found: Sequence[Entry]) -> Iterator[str]:
    ranked = _ranked(name, found)
    first = ranked[0]
    yield from (f"## {name}", "", f"![Ratios of all arms]({name}.svg)", "")
    others = list(dict.fromkeys(metric for one in ranked for metric in one.others))
    titles = [_title(first), *map(wording.metric, others)]
    yield f"| arm | {' | '.join(titles)} | blocks |"
    yield f"|---|{'---|' * len(titles)}---|"
    for one in ranked:
        cells = [_result(one)]
        cells += [wording.ratio(one.others.get(metric, NONE)) for metric in others]
        yield f"| {_label(one)} | {' | '.join(cells)} | {one.blocks} |"
    yield ""
    for one in ranked:
        yield from (f"- {_label(one)} is invalid: {reason}" for reason in one.reasons)
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
        cells = (
            one.scenario,
            _label(one),
            one.seed,
            one.verdict,
            wording.ratio(one.primary),
            *medians,
        )
        of_run = (one.blocks, one.rule, (one.commit or "unknown")[:7], one.day)
        yield f"| {' | '.join(str(cell) for cell in (*cells, *of_run))} |"


def _row(entry: Entry, label: str, ratio: Ratio) -> Row:
    return Row(
        label=label,
        result=f"{wording.ratio(ratio)}\n{entry.verdict}",
        colour=OUTCOME[Verdict(entry.verdict)],
        ratio=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
    )
