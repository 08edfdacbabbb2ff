"""A recorded trace: when requests came and how long they were, not what they said."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request: seconds from the first one on, tokens of prompt and answer.

    `blocks` stand for the prompt's text in pieces, as far as the trace tells: requests
    whose first blocks are the same begin with the same text.
    """

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order in which they came, the first one at 0.

    Each of a request's blocks has `block_tokens`, but for the last, which has what is
    left of the prompt. Of the file's `rows` those that are `empty`, without prompt or answer, and
    those `outside` the part that was asked for are left out. `unordered` rows stood below a
    later one.
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
