"""The table of a cross-check, and why its lines differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench.console import as_text
from validation.cross_check.figures import METRICS, Figure
from validation.cross_check.work import Work

_TITLES = {
    "ttft_p50_s": "TTFT p50\nms",
    "ttft_p95_s": "TTFT p95\nms",
    "tpot_p50_s": "TPOT p50\nms",
    "e2e_p50_s": "E2E p50\nms",
    "output_tps": "output\ntok/s",
    "throughput_rps": "requests\nreq/s",
}
_NARROWEST = 110
CALM = 1.1

WHY = {
    "builtin": "the reference: sent when written, TTFT and E2E by the first and last chunk with"
    " content, TPOT by the server's count of tokens, on bytes that are read after the run.",
    "openai": "the same definitions on what the SDK hands out, counted from the call. It parses"
    " every chunk before it takes the next, with CPU that an engine on the same cores lacks.",
    "aiperf": "the same definitions on the times in aiperf's records. Its TTFT and E2E begin before"
    " a connection is made. Its pace between requests and its CPU beside the engine decide the"
    " throughput.",
    "aiperf, own report": "the same run in aiperf's words. Told to use the server's token counts;"
    " by default it encodes the answers again, and then TPOT and tok/s differ. Throughput counts"
    " from its first request to its last answer.",
    "vllm bench": "TTFT ends with the first chunk of any kind, also one with a role and no text;"
    " so its TPOT begins earlier as well. E2E ends with the chunk of the finish reason."
    " Percentiles are interpolated alike.",
}


def render(
    figures: Mapping[str, Mapping[str, Figure]],
    work: Work,
    rounds: int,
    *,
    width: int,
    colour: bool,
) -> str:
    """The table with medians, ranges and ratios, then a line for each tool."""
    done = (
        f"{rounds} rounds of {work.requests} requests of {work.prompt_tokens} + "
        f"{work.output_tokens} tokens, {work.concurrency} at once, to one vLLM engine with "
        f"{work.model}; medians of the rounds, ranges, and ratios to builtin within a round."
    )
    lines = (done, *_unrest(figures), *(f"{name}: {reason}" for name, reason in WHY.items()))
    parts: list[Table | Text] = [_table(figures), *map(Text, lines)]
    return as_text(parts, width=width, narrowest=_NARROWEST, colour=colour)


def _unrest(figures: Mapping[str, Mapping[str, Figure]]) -> Iterator[str]:
    """A line where the reference itself differed from round to round."""
    one = next(iter(figures.values()))["e2e_p50_s"]
    if one.high > one.low * CALM:
        yield (
            f"The reference's own E2E p50 differed {one.high / one.low:.2f}-fold between rounds:"
            " something else ran here, and smaller differences between tools say nothing."
        )


def _table(figures: Mapping[str, Mapping[str, Figure]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("tool", no_wrap=True)
    for name in METRICS:
        table.add_column(_TITLES[name], justify="right", no_wrap=True)
    for tool, row in figures.items():
        table.add_row(Text(tool, style="bold"), *(_median(name, row) for name in METRICS))
        table.add_row("  range", *(_range(name, row) for name in METRICS), style="dim")
        table.add_row("  x builtin", *(_ratio(name, row) for name in METRICS), style="dim")
    return table


def _median(name: str, row: Mapping[str, Figure]) -> str:
    return _number(name, row[name].median) if name in row else "-"


def _range(name: str, row: Mapping[str, Figure]) -> str:
    if name not in row:
        return "-"
    return f"{_number(name, row[name].low)}–{_number(name, row[name].high)}"


def _ratio(name: str, row: Mapping[str, Figure]) -> str:
    return f"{row[name].ratio:.3f}" if name in row else "-"


def _number(name: str, value: float) -> str:
    scaled = value * 1000 if name.endswith("_s") else value
    return f"{scaled:.0f}" if scaled >= 99.95 else f"{scaled:.2f}"
