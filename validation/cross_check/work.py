"""The work that every tool does: so many requests of one length, so many at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.load.drive import Load
from bench.load.schedule import plan_closed_loop
from bench.load.workload import Fixed, Workload
from bench.records import Schedule

# A closed loop of a number of requests is over when they are; its window only bounds it.
WINDOW_S = 300.0


@dataclass(frozen=True, slots=True)
class Work:
    """`requests` of `prompt_tokens`, template included, and `output_tokens`."""

    model: str
    concurrency: int
    requests: int
    prompt_tokens: int
    output_tokens: int

    def schedule(self, seed: int) -> Schedule:
        """The requests of a round; every tool gets the same."""
        return plan_closed_loop(
            seed=seed,
            models=(self.model,),
            workload=Workload(Fixed(self.prompt_tokens), Fixed(self.output_tokens)),
            concurrency=self.concurrency,
            duration_s=WINDOW_S,
            count=self.requests,
        )

    def load(
        self, seed: int, salt: str, prompts: Callable[[Schedule, str], tuple[str, ...]], url: str
    ) -> Load:
        """A round for one tool. `salt` differs between tools: none finds the prompts of another
        in the engine's prefix cache."""
        schedule = self.schedule(seed)
        return Load(schedule, prompts(schedule, salt), (url,) * len(schedule.requests))
