"""Reads a trace from a file, or a part of one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from bench.errors import UserError
from bench.load.plan.traces.formats import TraceRequest, format_of


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order in which they came, the first one at 0.

    Each block of a request has `block_tokens`; the last one has the rest of the prompt.
    Left out of the file's `rows` are `empty` ones, without prompt or answer, and those
    `outside` the cut. `unordered` rows stood below a later one.
    """

    name: str
    requests: tuple[TraceRequest, ...]
    block_tokens: int = 0
    empty: int = 0
    outside: int = 0
    unordered: int = 0

    @property
    def rows(self) -> int:
        """How many rows the file has."""
        return len(self.requests) + self.empty + self.outside

    @property
    def span_s(self) -> float:
        """From the first request to the last one."""
        return self.requests[-1].at_s

    @property
    def rate_rps(self) -> float:
        """Requests per second on average."""
        return len(self.requests) / self.span_s


@dataclass(frozen=True, slots=True)
class Cut:
    """Seconds of a trace, counted from its earliest row: [`from_s`, `to_s`)."""

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


def read_trace(path: Path, cut: Cut = WHOLE) -> Trace:
    """The requests of a file within `cut`, in the order of time.

    Raises UserError, with the number of the line, for a line that cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, file, cut)
    except OSError as error:
        # A pipe cannot be read twice; its error has no strerror.
        raise UserError(f"cannot read trace {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(
            f"trace {path} is not text in UTF-8; unpack it if it is compressed"
        ) from None


def _read(path: Path, file: TextIO, cut: Cut) -> Trace:
    def lines() -> Iterator[tuple[int, str]]:
        file.seek(0)
        return ((number, line) for number, line in enumerate(file, start=1) if line.strip())

    _, first = next(lines(), (1, ""))
    try:
        format_, headed = format_of(first)
    except ValueError as error:
        raise UserError(f"trace {path} has {error}") from None

    def rows() -> Iterator[TraceRequest]:
        for number, line in itertools.islice(lines(), headed, None):
            try:
                yield format_.row(line)
            except (ValueError, TypeError) as error:
                shown = repr(line.strip()[:60])
                raise UserError(
                    f"trace {path}, line {number}: cannot read {shown}: {error}"
                ) from None

    window_s = (-math.inf, math.inf)
    if cut != WHOLE:
        # Rows may be in any order, so the earliest one must be known first; and a trace of months
        # may be larger than memory: the file is read twice.
        start_s = min((row.at_s for row in rows()), default=0.0)
        window_s = (start_s + cut.from_s, start_s + cut.to_s)
    return _trace(path, rows(), window_s, format_.block_tokens)


def _trace(
    path: Path, rows: Iterable[TraceRequest], window_s: tuple[float, float], block_tokens: int
) -> Trace:
    kept: list[TraceRequest] = []
    outside = empty = unordered = 0
    latest_s = -math.inf
    for row in rows:
        unordered += row.at_s < latest_s
        latest_s = max(latest_s, row.at_s)
        if not window_s[0] <= row.at_s < window_s[1]:
            outside += 1
        elif row.prompt_tokens and row.output_tokens:
            kept.append(row)
        else:
            empty += 1
    kept.sort(key=lambda row: row.at_s)
    if len(kept) < 2 or kept[0].at_s == kept[-1].at_s:
        raise UserError(
            f"trace {path} has {len(kept)} requests with prompt and answer ({empty} rows without,"
            f" {outside} outside the cut); two or more at different times are needed"
        )
    start_s = kept[0].at_s
    requests = tuple(replace(row, at_s=row.at_s - start_s) for row in kept)
    return Trace(path.name, requests, block_tokens, empty, outside, unordered)
