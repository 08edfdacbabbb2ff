"""Readers of published traces. Which format a file has is seen from its first line.

- Azure LLM inference (2023 and 2024): CSV with TIMESTAMP, ContextTokens, GeneratedTokens.
- BurstGPT: CSV with Timestamp (seconds), Request tokens, Response tokens, and more.
- Mooncake: JSON lines with timestamp (milliseconds), input_length, output_length and
  hash_ids, each of which stands for 512 tokens of the prompt and all that is before them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import orjson

from bench.errors import UserError
from bench.load.traces.trace import Trace, TraceRequest

_MOONCAKE_BLOCK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Cut:
    """Seconds of a trace, counted from its first row: [`from_s`, `to_s`)."""

    from_s: float = 0.0
    to_s: float = math.inf


WHOLE = Cut()


def parse_cut(text: str) -> Cut:
    """`FROM:TO` in seconds, either of them may be left out. Raises UserError."""
    first, colon, last = text.partition(":")
    try:
        cut = Cut(float(first or 0), float(last or "inf"))
    except ValueError:
        cut = Cut(0.0, 0.0)
    if not colon or not 0 <= cut.from_s < cut.to_s:
        raise UserError(f"--traffic-cut {text!r} is not FROM:TO in seconds, like 3600:7200")
    return cut


@dataclass(frozen=True, slots=True)
class _Columns:
    """A CSV format: the columns for time, prompt and answer, and how a time is written."""

    at: str
    prompt: str
    output: str
    seconds: Callable[[str], float]

    @property
    def needed(self) -> tuple[str, str, str]:
        return self.at, self.prompt, self.output


def _seconds_of_date(text: str) -> float:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


_CSV_FORMATS = (
    _Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", _seconds_of_date),
    _Columns("Timestamp", "Request tokens", "Response tokens", float),
)


def read_trace(path: Path, cut: Cut = WHOLE) -> Trace:
    """What `cut` leaves of the trace in a file.

    Raises UserError, with the line, for what cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, file, cut)
    except OSError as error:
        raise UserError(f"cannot read trace {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"trace {path} is not text; unpack it if it is compressed") from None


def _read(path: Path, lines: Iterable[str], cut: Cut) -> Trace:
    numbered = enumerate(lines, start=1)
    _, first = next(numbered, (0, ""))
    header = [name.strip() for name in next(csv.reader([first]), [])]
    rest = ((number, line) for number, line in numbered if line.strip())
    if first.lstrip().startswith("{"):
        rows = _mooncake(path, chain([(1, first)], rest))
        return _trace(path, rows, cut, _MOONCAKE_BLOCK_TOKENS)
    for columns in _CSV_FORMATS:
        if set(columns.needed) <= set(header):
            places = [header.index(name) for name in columns.needed]
            return _trace(path, _csv(path, rest, places, columns.seconds), cut, 0)
    known = "; ".join(", ".join(columns.needed) for columns in _CSV_FORMATS)
    raise UserError(
        f"trace {path} has no known format: its first line is {first.strip()[:60]!r}; "
        f"known are CSV with columns {known}, and JSON lines with hash_ids (Mooncake)"
    )


def _csv(
    path: Path,
    lines: Iterable[tuple[int, str]],
    places: Sequence[int],
    seconds: Callable[[str], float],
) -> Iterator[TraceRequest]:
    for number, line in lines:
        row = next(csv.reader([line]))
        try:
            at, prompt, output = (row[place] for place in places)
            yield TraceRequest(seconds(at), _tokens(prompt), _tokens(output))
        except (ValueError, IndexError):
            raise _bad_line(path, number, line) from None


def _mooncake(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[TraceRequest]:
    for number, line in lines:
        try:
            fields = orjson.loads(line)
            yield TraceRequest(
                float(fields["timestamp"]) / 1e3,
                _tokens(fields["input_length"]),
                _tokens(fields["output_length"]),
                tuple(int(block) for block in fields["hash_ids"]),
            )
        except (ValueError, KeyError, TypeError):
            raise _bad_line(path, number, line) from None


def _tokens(value: str | float) -> int:
    tokens = float(value)
    if not (tokens >= 0 and tokens.is_integer()):
        raise ValueError(value)
    return int(tokens)


def _trace(path: Path, rows: Iterable[TraceRequest], cut: Cut, block_tokens: int) -> Trace:
    """The cut is taken row by row: a trace of months need not fit into memory."""
    kept: list[TraceRequest] = []
    left_out, first_s = 0, None
    for row in rows:
        if first_s is None:
            first_s = row.at_s
        if not cut.from_s <= row.at_s - first_s < cut.to_s:
            continue
        if row.prompt_tokens and row.output_tokens:
            kept.append(row)
        else:
            left_out += 1
    kept.sort(key=lambda row: row.at_s)
    if len(kept) < 2 or kept[0].at_s == kept[-1].at_s:
        part = "" if cut == WHOLE else f" between {cut.from_s:g} and {cut.to_s:g} s"
        raise UserError(
            f"trace {path} has {len(kept)} requests with prompt and answer{part}; "
            "two or more at different times are needed"
        )
    start_s = kept[0].at_s
    requests = tuple(replace(row, at_s=row.at_s - start_s) for row in kept)
    return Trace(path.name, requests, block_tokens, left_out)


def _bad_line(path: Path, number: int, line: str) -> UserError:
    return UserError(f"trace {path}, line {number}: cannot read {line.strip()[:60]!r}")
