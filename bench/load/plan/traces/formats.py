"""Reads the rows of published traces. The first line shows which format a file has; every row
is checked against that format.

- Azure LLM inference (2023 and 2024): CSV with TIMESTAMP, ContextTokens, GeneratedTokens.
- BurstGPT: CSV with Timestamp (seconds), Request tokens, Response tokens, and more.
- Mooncake: JSON lines with timestamp (milliseconds), input_length, output_length and
  hash_ids, each of which stands for 512 tokens of the prompt and all tokens before them.
- Qwen-Bailian: the same with chat_id, timestamp in seconds and 16 tokens for each hash id.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request: seconds since the first one, tokens of prompt and answer.

    `blocks` are ids of the pieces of the prompt's text, where the trace has them: requests
    whose first blocks are equal begin with the same text.
    """

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


def _seconds_of_date(text: str) -> float:
    # The standard library takes a bare number for a date, too.
    if "-" not in text:
        raise ValueError(f"{text!r} is not a date and time")
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, slots=True)
class Csv:
    """A CSV format: its columns of time, prompt and answer, and how a time is written.

    `header` has all columns of a file.
    """

    needed: tuple[str, str, str]
    seconds: Callable[[str], float]
    header: Sequence[str] = ()
    block_tokens: int = 0

    def row(self, line: str) -> TraceRequest:
        """See `format_of`."""
        cells = _cells(line)
        if len(cells) != len(self.header):
            raise ValueError(f"it has {len(cells)} columns, the header {len(self.header)}")
        at, prompt, output = (cells[self.header.index(name)] for name in self.needed)
        return TraceRequest(_finite(self.seconds(at)), _tokens(prompt), _tokens(output))


@dataclass(frozen=True, slots=True)
class Blocks:
    """A JSON format that describes a prompt by ids of its blocks of `block_tokens`."""

    name: str
    block_tokens: int
    seconds: Callable[[float], float]
    needed: Sequence[str]

    def row(self, line: str) -> TraceRequest:
        """See `format_of`."""
        fields = _fields(line)
        if missing := [name for name in self.needed if fields.get(name) is None]:
            raise ValueError(f"it lacks {', '.join(missing)}, which {self.name} has in each line")
        at, prompt, output, ids = (fields[name] for name in _BLOCK_FIELDS)
        if not isinstance(ids, list) or not all(type(one) is int for one in ids):
            raise ValueError("hash_ids is not a list of whole numbers")
        at_s = self.seconds(_finite(_number(at)))
        request = TraceRequest(at_s, _tokens(prompt), _tokens(output), tuple(ids))
        if len(ids) != math.ceil(request.prompt_tokens / self.block_tokens):
            raise ValueError(
                f"{len(ids)} hash_ids do not fit an input_length of {request.prompt_tokens}:"
                f" in {self.name} each stands for {self.block_tokens} tokens"
            )
        return request


def _seconds_of_whole_ms(at: float) -> float:
    if not float(at).is_integer():
        raise ValueError(f"timestamp {at} is no whole number of milliseconds, as in Mooncake")
    return at / 1e3


_CSV_FORMATS = (
    Csv(("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _seconds_of_date),
    Csv(("Timestamp", "Request tokens", "Response tokens"), float),
)
_BLOCK_FIELDS = ("timestamp", "input_length", "output_length", "hash_ids")
_MOONCAKE = Blocks("Mooncake", 512, _seconds_of_whole_ms, _BLOCK_FIELDS)
_BAILIAN = Blocks("Qwen-Bailian", 16, float, (*_BLOCK_FIELDS, "chat_id"))


def format_of(first: str) -> tuple[Csv | Blocks, bool]:
    """The format of a file by its first line, and whether that is a header.

    The `row` of a format is the request of a line, at the time that the file has; it raises
    ValueError or TypeError, with what is wrong, for a line of another form. `block_tokens` are the
    tokens of each of a request's blocks, 0 where the format has none.

    Raises ValueError, with the formats that are known, for another one.
    """
    if first.lstrip().startswith("{"):
        return (_BAILIAN if '"chat_id"' in first else _MOONCAKE), False
    try:
        header = [name.strip() for name in _cells(first)]
    except ValueError:
        header = []
    for one in _CSV_FORMATS:
        if all(header.count(name) == 1 for name in one.needed):
            return replace(one, header=header), True
    known = "; ".join(", ".join(one.needed) for one in _CSV_FORMATS)
    raise ValueError(
        f"no known format: its first line is {first.strip()[:60]!r}; known are CSV with columns"
        f" {known}, and JSON lines with {', '.join(_BLOCK_FIELDS)} (Mooncake, Qwen-Bailian)"
    )


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line], skipinitialspace=True), [])
    except csv.Error as error:
        raise ValueError(f"it is not CSV: {error}") from None


def _fields(line: str) -> Mapping[str, Any]:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError("it is not JSON") from None
    if not isinstance(fields, dict):
        raise TypeError("it is not a JSON object")
    return fields


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"the time is {value}")
    return value


def _tokens(value: object) -> int:
    tokens = float(value) if isinstance(value, str) else _number(value)
    if not (tokens >= 0 and float(tokens).is_integer()):
        raise ValueError(f"{value} is not a number of tokens")
    return int(tokens)
