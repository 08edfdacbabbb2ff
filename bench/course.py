"""The order of trials: which arm runs when, and where the load is searched for, at which."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

from bench.analysis.compare import order
from bench.records import Role
from bench.search import FIRST_STRIDE, Grid, next_level, next_start
from bench.slots import BOTH, Slot

Order = Callable[[int], tuple[Role, ...]]


class Course(Protocol):
    """Hands out the trials of one block after the other, whose number is not fixed ahead."""

    def block(self, index: int) -> Iterator[Slot]:
        """The trials of a block, the next when what came of the last one is noted."""
        ...

    @property
    def stuck(self) -> bool:
        """Whether the last block shows that no other one will say more."""
        ...

    def note(self, slot: Slot, *, carried: bool) -> None:
        """Whether the arm met its objectives in that trial."""
        ...


def drawn_order(run_seed: int, question: str, block: int) -> tuple[Role, ...]:
    """ABBA or BAAB, drawn for each block: where arms come up by turns, nothing else may.

    Both are mirrored, so that a drift cancels. Drawn by a hash, the same everywhere.
    """
    text = f"{run_seed} {question} {block} order"
    return order(hashlib.sha256(text.encode()).digest()[0] % 2)


class MirroredCourse:
    """Blocks of ABBA or BAAB at one load; of one arm, a trial a block.

    `order` tells which: by default they take turns.
    """

    stuck = False

    def __init__(self, roles: tuple[Role, ...], order: Order = order) -> None:
        self._both = order
        self._roles = roles

    def block(self, index: int) -> Iterator[Slot]:
        for position, role in enumerate(self._order(index)):
            yield Slot(index, position, role)

    def note(self, slot: Slot, *, carried: bool) -> None:
        """Nothing follows from it."""

    def _order(self, block: int) -> tuple[Role, ...]:
        return self._both(block) if self._roles == BOTH else self._roles


class SearchCourse:
    """In each block, the arms by turns, at whatever load each has to try next.

    It is stuck where a block found no load that separates: there would be no ratio.
    """

    def __init__(
        self,
        roles: tuple[Role, ...],
        grid: Grid,
        load: float,
        order: Order = order,
    ) -> None:
        self._both = order
        self._roles = roles
        self._grid = grid
        self._start = dict.fromkeys(roles, grid.level(load))
        # By role and level: whether it was carried in this block.
        self._carried: dict[Role, dict[int, bool]] = {}

    @property
    def stuck(self) -> bool:
        return any(len(set(levels.values())) < 2 for levels in self._carried.values())

    def block(self, index: int) -> Iterator[Slot]:
        self._carried = {role: {} for role in self._roles}
        for position, (role, level) in enumerate(self._turns(index)):
            yield Slot(index, position, role, level)
        for role, levels in self._carried.items():
            self._start[role] = next_start(levels, index)

    def note(self, slot: Slot, *, carried: bool) -> None:
        assert slot.level is not None
        self._carried[slot.role][slot.level] = carried

    def _turns(self, block: int) -> Iterator[tuple[Role, int]]:
        stride = 1 if block else FIRST_STRIDE
        first = dict.fromkeys(self._both(block))
        waiting = [role for role in first if role in self._roles]
        while waiting:
            role = waiting.pop(0)
            level = next_level(self._grid, self._carried[role], self._start[role], stride)
            if level is not None:
                yield role, level
                waiting.append(role)
