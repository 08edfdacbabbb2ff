"""The order of trials: which arm runs when, on which schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from bench.analysis.compare import order
from bench.records import Role

BOTH: tuple[Role, ...] = ("control", "treatment")
CONTROL: tuple[Role, ...] = ("control",)


@dataclass(frozen=True, slots=True)
class Slot:
    """A trial's place: which arm runs, when."""

    block: int
    position: int
    role: Role

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
        repeat what its first has shown.
        """
        text = f"{run_seed} {question} {self.block} {self.position // 2}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def slots(blocks: int, roles: tuple[Role, ...]) -> Iterator[Slot]:
    """The trials of so many blocks in the order in which they run."""
    for block in range(blocks):
        for position, role in enumerate(order(block) if roles == BOTH else roles):
            yield Slot(block, position, role)


def trials_in(blocks: int, roles: tuple[Role, ...]) -> int:
    """How many trials so many blocks have."""
    return sum(1 for _ in slots(blocks, roles))
