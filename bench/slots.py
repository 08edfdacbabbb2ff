"""A trial's place in a comparison, and the schedule that follows from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from bench.records import Role

BOTH: tuple[Role, ...] = ("control", "treatment")
CONTROL: tuple[Role, ...] = ("control",)


@dataclass(frozen=True, slots=True)
class Slot:
    """A trial's place: which arm runs, when, and in a search at which level of load."""

    block: int
    position: int
    role: Role
    level: int | None = None

    @property
    def turn(self) -> int:
        """Whose turn it is where a scenario singles one replica out.

        Each arm meets one in the first half of a block and the next one in the second, so
        that no policy profits from the order in which it prefers replicas.
        """
        return self.block + self.position // 2

    def seed(self, run_seed: int, question: str) -> int:
        """The seed of the trial's schedule: 32 bits of a hash, the same everywhere.

        A block has two schedules, one for its first two trials and one for its last two;
        so each arm replays both. On one schedule alone, an arm's second trial would
        repeat what its first has shown. In a search it has one for each level.
        """
        part = self.position // 2 if self.level is None else f"level {self.level}"
        text = f"{run_seed} {question} {self.block} {part}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
