"""One request of a schedule that is being sent, and its sample."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.load.client.answer import read_answer
from bench.load.client.exchange import Exchange
from bench.records import PlannedRequest, Sample

REPLICA_HEADER = "x-lb-replica"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that was due at `scheduled_s` of time.monotonic(), whether sent or not."""

    planned: PlannedRequest
    scheduled_s: float
    exchange: Exchange = field(default_factory=Exchange)

    @property
    def lag_s(self) -> float | None:
        """Sent − scheduled; None if it was never sent."""
        sent_s = self.exchange.sent_s
        return None if sent_s is None else sent_s - self.scheduled_s

    def sample(self, start_s: float) -> Sample:
        """The sample of an attempt that has ended; its times count from `start_s`."""
        exchange, answer = self.exchange, read_answer(self.exchange)
        chunk_s = tuple([at_s - start_s for at_s in answer.chunk_s])
        return Sample(
            index=self.planned.index,
            model=self.planned.model,
            scheduled_s=self.scheduled_s - start_s,
            sent_s=None if exchange.sent_s is None else exchange.sent_s - start_s,
            first_token_s=chunk_s[0] if chunk_s else None,
            last_token_s=chunk_s[-1] if chunk_s else None,
            chunk_s=chunk_s,
            wanted_prompt_tokens=self.planned.prompt_tokens,
            wanted_output_tokens=self.planned.output_tokens,
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
            replica=exchange.headers.get(REPLICA_HEADER),
            status=exchange.status,
            error=answer.failure.kind if answer.failure else None,
            detail=answer.failure.detail if answer.failure else None,
            tenant=self.planned.tenant,
        )
