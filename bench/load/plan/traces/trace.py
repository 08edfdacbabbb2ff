"""A recorded trace: times and lengths of requests, without their texts."""

from __future__ import annotations

from dataclasses import dataclass


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
