"""One request as a tool recorded it, and the sample that becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.load.client.exchange import Failure
from bench.records import Instrument, PlannedRequest, Sample

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. `issued_ns` and `sent_ns` are of the tool's clock.

    `issued_ns` is when it was due by the tool's own account, `chunk_s` the seconds from
    `sent_ns` to each piece with content. Token counts are the server's; None if untold.
    """

    name: str
    issued_ns: int
    sent_ns: int
    chunk_s: tuple[float, ...]
    prompt_tokens: int | None
    output_tokens: int | None
    status: int | None = None
    failure: Failure | None = None

    def sample(self, planned: PlannedRequest, zero_ns: int, scheduled_s: float) -> Sample:
        """The sample of `planned`; its times count from `zero_ns`."""
        sent_s = (self.sent_ns - zero_ns) / _NS
        chunk_s = tuple(sent_s + after_s for after_s in self.chunk_s)
        return Sample(
            index=planned.index,
            model=planned.model,
            scheduled_s=scheduled_s,
            sent_s=sent_s,
            first_token_s=chunk_s[0] if chunk_s else None,
            last_token_s=chunk_s[-1] if chunk_s else None,
            chunk_s=chunk_s,
            wanted_prompt_tokens=planned.prompt_tokens,
            wanted_output_tokens=planned.output_tokens,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            replica=None,
            status=self.status,
            error=self.failure.kind if self.failure else None,
            detail=self.failure.detail if self.failure else None,
            tenant=planned.tenant,
        )


def elapsed_s(samples: Sequence[Sample]) -> float:
    """From the start to the last thing that is known to have happened."""
    return max(
        (at_s for one in samples for at_s in (one.sent_s, one.last_token_s) if at_s is not None),
        default=0.0,
    )


def instrument(samples: Sequence[Sample]) -> Instrument:
    """What can be said of a tool's own work from outside."""
    lags_s = [one.sent_s - one.scheduled_s for one in samples if one.sent_s is not None]
    return Instrument(
        dispatch_lag_p99_s=float(np.percentile(lags_s, 99)) if lags_s else 0.0,
        loop_lag_p99_s=None,
        cpu_share=None,
    )
