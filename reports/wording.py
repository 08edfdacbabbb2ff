"""Numbers and names as text for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from bench.analysis.factorial import Factorial
from bench.analysis.judgement import BLOCKS, Comparison, Judgement, SloResult
from bench.records import Slo

NO_DATA = "no data"
UNBOUNDED = "unbounded"
_LARGEST_FACTOR = 999

_ABBREVIATIONS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E", "slo": "SLO"}
_UNIT_SUFFIXES = {"s", "tps", "rps"}
_TITLES = {
    "output_tps": "Output throughput",
    "throughput_rps": "Request throughput",
    "carried_rps": "Load within the SLO",
}


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    # Rounded first: 9.996 has one digit less behind the point than it seems.
    rounded = float(f"{value:.3g}")
    if rounded == 0:
        return "0"
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def quantity(value: float | None, unit: str) -> str:
    """A value with its unit: `412 ms`, `1.24 s`, `331 tok/s`, `97.5 %`.

    `unit` is the record's; "s" becomes milliseconds below one, "share" percent.
    """
    if value is None or math.isnan(value):
        return NO_DATA
    if math.isinf(value):
        return UNBOUNDED
    if unit == "s":
        return duration(value)
    if unit == "share":
        return percent(value)
    return f"{number(value)} {unit}"


def plain(value: float | None) -> str:
    """A value without a unit."""
    return NO_DATA if value is None else number(value)


def whole(value: float | None) -> str:
    """A count: `12,345`."""
    return NO_DATA if value is None else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """`412 ms`, `1.24 s`."""
    # 0.9995 s would round to "1000 ms".
    if abs(seconds) < 0.9995:
        return f"{number(seconds * 1000)} ms"
    return f"{number(seconds)} s"


def percent(share: float | None, decimals: int = 1) -> str:
    """`97.5 %`."""
    if share is None or math.isnan(share):
        return NO_DATA
    return f"{share * 100:.{decimals}f} %"


def target(share: float) -> str:
    """A share as it was written: `90 %`, `99.9 %`."""
    return f"{share * 100:g} %"


class Interval(Protocol):
    """What has a ratio with its interval; None where there is none."""

    @property
    def ratio(self) -> float | None: ...

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...


def ratio(one: Interval) -> str:
    """`0.42 [0.31, 0.57]`, or which part of it there is not."""
    if one.ratio is None:
        return "no ratio"
    middle = factor(one.ratio)
    if one.low is None or one.high is None:
        return f"{middle} [no interval]"
    return f"{middle} [{factor(one.low)}, {factor(one.high)}]"


def bounds(low: float | None, high: float | None) -> str:
    """` [21.0, 24.5]`, to follow a value; empty where there is no interval."""
    return "" if low is None or high is None else f" [{number(low)}, {number(high)}]"


def headline(judgement: Judgement) -> str:
    """A sentence on the load that the treatment carries; empty for any other metric."""
    primary = judgement.primary
    if primary is None or primary.metric != "carried_rps" or primary.ratio is None:
        return ""
    models = ", ".join(judgement.models)
    return (
        f"{primary.treatment} carries {ratio(primary)} times the load of {primary.control} "
        f"within the SLO ({models}, {confidence(primary)} interval): {primary.verdict}."
    )


def factor(value: float) -> str:
    """A ratio: `0.42`, `12.3`, `> 999`."""
    if math.isinf(value):
        return UNBOUNDED
    if value > _LARGEST_FACTOR:
        return f"> {_LARGEST_FACTOR}"
    return f"{value:.2f}" if value < 10 else number(value)


def confidence(comparison: Comparison | Factorial) -> str:
    """The level of its interval: `99 %`."""
    return target(round(1 - comparison.alpha, 4))


def ratio_heading(judgements: Sequence[Judgement]) -> str:
    """`ratio [98 % CI]`; without the level where it differs, empty without comparisons."""
    levels = {confidence(one) for each in judgements for one in each.comparisons}
    if not levels:
        return ""
    return f"ratio [{levels.pop()} CI]" if len(levels) == 1 else "ratio [CI]"


def attained(result: SloResult) -> str:
    """`98.2 % [97.0 %, 99.1 %]`."""
    text = percent(result.attainment)
    if result.low is None or result.high is None:
        return text
    return f"{text} [{percent(result.low)}, {percent(result.high)}]"


def margin(result: SloResult) -> str:
    """How far the attained share is from its target: `+8.2 points`."""
    if result.attainment is None:
        return NO_DATA
    return f"{100 * (result.attainment - result.target):+.1f} points"


def metric(name: str) -> str:
    """`scheduled_ttft_p95_s` -> `Scheduled TTFT p95`, of a tenant if it names one."""
    name, _, tenant = name.partition("@")
    if tenant:
        return f"{metric(name)} of {tenant}"
    if name in _TITLES:
        return _TITLES[name]
    words = name.split("_")
    if len(words) > 1 and words[-1] in _UNIT_SUFFIXES:
        words = words[:-1]
    text = " ".join(_ABBREVIATIONS.get(word, word) for word in words)
    return text[:1].upper() + text[1:]


def objectives(slo: Slo) -> str:
    """`TTFT ≤ 2 s, TPOT ≤ 100 ms`."""
    limits = (("TTFT", slo.ttft_s), ("TPOT", slo.tpot_s), ("E2E", slo.e2e_s))
    # As written in the file: 2 s, not 2.00 s.
    return ", ".join(
        f"{name} ≤ {limit * 1000:g} ms" if limit < 1 else f"{name} ≤ {limit:g} s"
        for name, limit in limits
        if limit is not None
    )


def block(index: int, over: str = BLOCKS) -> str:
    """`block 0`, as notes and files name it; what another tool ran has no block: `run 1`."""
    if over == BLOCKS:
        return f"block {index}"
    return f"{over.split(maxsplit=1)[0].removesuffix('s')} {index + 1}"


def count(n: int, noun: str) -> str:
    """`1 request`, `40 requests`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
