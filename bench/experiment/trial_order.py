"""A trial's place in a comparison, and the schedule that follows from it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from bench.analysis.compare import order
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


# How far the first block strides, when nothing is known yet.
FIRST_STRIDE = 4
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True)
class Grid:
    """Loads as shares of capacity: about 1 at level 0, at each level `step` times the one below.

    Nothing is tried far below `lowest` or above `highest`, which are shares as well. Every
    block has the grid at another place between its levels: on one and the same, all blocks
    would round an arm's load alike, and the interval be too narrow by that.
    """

    step: float = 1.1
    lowest: float = 0.2
    highest: float = 2.0

    def __post_init__(self) -> None:
        if not (self.step > 1.0 and 0.0 < self.lowest < self.highest):
            raise ValueError(
                f"step must be above 1 and 0 < lowest < highest, got {self.step:g}, "
                f"{self.lowest:g} and {self.highest:g}"
            )

    def load(self, level: int, block: int) -> float:
        # Multiples of the golden ratio: however many there are, they lie evenly.
        return math.pow(self.step, level + block * _GOLDEN % 1.0 - 0.5)

    def level(self, load: float) -> int:
        """The level nearest to a load, within the grid."""
        nearest = round(math.log(load) / math.log(self.step))
        return min(max(nearest, self.bottom), self.top)

    @property
    def bottom(self) -> int:
        return math.ceil(math.log(self.lowest) / math.log(self.step) - 1e-9)

    @property
    def top(self) -> int:
        return math.floor(math.log(self.highest) / math.log(self.step) + 1e-9)


def next_level(grid: Grid, carried: Mapping[int, bool], start: int, stride: int) -> int | None:
    """The level to try after those in `carried`; None when there is none left to try.

    From `start` it goes up, or down, by `stride` until one level is carried and another is
    not, then halves what is between them.
    """
    if not carried:
        return start
    low = max((level for level, is_carried in carried.items() if is_carried), default=None)
    high = min((level for level, is_carried in carried.items() if not is_carried), default=None)
    if low is None:
        assert high is not None
        return max(high - stride, grid.bottom) if high > grid.bottom else None
    if high is None:
        return min(low + stride, grid.top) if low < grid.top else None
    return (low + high) // 2 if high - low > 1 else None


def next_start(carried: Mapping[int, bool], block: int) -> int:
    """Where the next block's search begins: beside what this one's has found.

    By turns below and above it. A search that comes from below tends to end too low,
    since the first miss ends it, be it by chance, and one from above too high.
    """
    below = [level for level, is_carried in carried.items() if is_carried]
    above = [level for level, is_carried in carried.items() if not is_carried]
    if not below or not above:
        return max(below, default=min(above, default=0))
    return max(below) if block % 2 else min(above)
