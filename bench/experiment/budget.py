"""What a run may send: requests and tokens, counted, so that a paid endpoint costs no surprise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.errors import UserError
from bench.records import Sample, Schedule

# A run that may send more than either needs the user's consent, where endpoints are not its own.
LARGE_REQUESTS = 20_000
LARGE_TOKENS = 5_000_000


@dataclass(frozen=True, slots=True)
class Amount:
    """Requests, and the tokens of their prompts and answers together."""

    requests: int = 0
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.requests + other.requests, self.tokens + other.tokens)

    def __mul__(self, times: int) -> Amount:
        return Amount(self.requests * times, self.tokens * times)

    def __str__(self) -> str:
        return f"{self.requests:,} requests with {self.tokens:,} tokens"


def amount_of(schedule: Schedule) -> Amount:
    """What a schedule sends at most: a closed loop sends only the first part of its list."""
    tokens = sum(one.prompt_tokens + one.output_tokens for one in schedule.requests)
    return Amount(len(schedule.requests), tokens)


@dataclass(slots=True)
class Budget:
    """What may be sent, None without a limit, and what was `sent` so far.

    With `asks`, a run that may send a large amount is refused.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    asks: bool = False
    sent: Amount = Amount()

    def count(self, samples: Iterable[Sample]) -> None:
        """Count requests that were sent; tokens that a server does not count are as asked for."""
        for one in samples:
            prompt = one.wanted_prompt_tokens if one.prompt_tokens is None else one.prompt_tokens
            output = one.wanted_output_tokens if one.output_tokens is None else one.output_tokens
            self.sent += Amount(1, prompt + output)

    @property
    def is_limited(self) -> bool:
        """Whether anything that is sent may be too much."""
        return self.asks or self.max_requests is not None or self.max_tokens is not None

    def allows(self, amount: Amount) -> bool:
        """Whether `amount` is left."""
        wanted = self.sent + amount
        return (self.max_requests is None or wanted.requests <= self.max_requests) and (
            self.max_tokens is None or wanted.tokens <= self.max_tokens
        )

    def require(self, question: str, least: Amount, most: Amount) -> None:
        """Raise UserError unless `least`, which a first verdict needs, may be sent.

        `most` is what the question may send in all.
        """
        if not self.allows(least):
            raise UserError(
                f"{question} needs up to {least} for a first verdict; sent so far: {self.sent}; "
                f"raise --max-requests or --max-tokens, or offer less"
            )
        large = self.sent + most
        if self.asks and (large.requests > LARGE_REQUESTS or large.tokens > LARGE_TOKENS):
            raise UserError(
                f"{question} may send up to {most}; give --yes to send that, or --max-requests "
                "or --max-tokens, after which the run stops"
            )
