"""The trials of a block, their order, and their load where that is searched for.

In a search, loads lie on a grid. A block's search ends between two neighbouring levels of
which the arm carries the lower and not the upper.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

from bench.analysis.blocks import order as balanced_order
from bench.records import Role

CONTROL: tuple[Role, ...] = ("control",)

# The step of the first block's search, in levels, when nothing is known yet.
FIRST_STRIDE = 4
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

RoleOrder = Callable[[int], tuple[Role, ...]]
"""The roles of a block's trials, in order, by the index of the block."""


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial's block, its position there from 0, and its role; in a search its level of load.

    `arms` is the number of arms in the block.
    """

    block: int
    position: int
    role: Role
    level: int | None = None
    arms: int = 2

    @property
    def half(self) -> int:
        """The half of its block: each arm has one trial in each half."""
        return self.position // self.arms

    @property
    def turn(self) -> int:
        """The index of the replica that the scenario slows or sends bypassing requests to.

        It is one replica in the first half of a block and the next one in the second half, the
        same for all arms, so that no policy profits from the order in which it prefers replicas.
        """
        return self.block + self.half

    def seed(self, run_seed: int, question: str) -> int:
        """The seed of the trial's schedule: 32 bits of a hash, the same on every machine.

        A block has two schedules, one for its first half and one for its second, so that each
        arm replays both: a second trial on the same schedule would tell little that is new. In a
        search there is one schedule for each level.
        """
        part = self.half if self.level is None else f"level {self.level}"
        text = f"{run_seed} {question} {self.block} {part}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def drawn_order(
    roles: Sequence[Role], run_seed: int, question: str, block: int
) -> tuple[Role, ...]:
    """A row of the square, drawn by a hash, for arms of which only one is up at a time."""
    text = f"{run_seed} {question} {block} order"
    return balanced_order(hashlib.sha256(text.encode()).digest()[0] % len(roles), roles)


def role_order(
    roles: Sequence[Role], run_seed: int, question: str, *, alternates: bool
) -> RoleOrder:
    """The order of roles, drawn where arms alternate; a control alone has one trial in a block."""
    if len(roles) < 2:
        return lambda _: tuple(roles)
    if alternates:
        return partial(drawn_order, roles, run_seed, question)
    return partial(balanced_order, roles=roles)


class TrialOrder:
    """Plans the trials of one block after the other, in the order of `roles`, all at one load.

    `exhausted` is true where the last block shows that further blocks cannot give a ratio.
    """

    exhausted = False

    def __init__(self, roles: RoleOrder) -> None:
        self._roles = roles

    def block(self, index: int) -> Iterator[PlannedTrial]:
        """The trials of a block. Each must be recorded before the next one is asked for."""
        roles = self._roles(index)
        for position, role in enumerate(roles):
            yield PlannedTrial(index, position, role, arms=_arms(roles))

    def record(self, trial: PlannedTrial, *, carried: bool) -> None:
        """Note whether the arm met its objectives in that trial."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Loads as shares of capacity: about 1 at level 0, each level is `step` times the one below.

    The search stays between the shares `lowest` and `highest`. The grid of every block is
    shifted by another fraction of a step: on one grid all blocks would round an arm's load
    alike, and the interval would be too narrow.
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
        """The load of a level in a block, as a share of capacity."""
        # Multiples of the golden ratio are spread evenly, whatever their number.
        return math.pow(self.step, level + block * _GOLDEN % 1.0 - 0.5)

    def level(self, load: float) -> int:
        """The level nearest to a load, within the grid."""
        nearest = round(math.log(load) / math.log(self.step))
        return min(max(nearest, self.bottom), self.top)

    @property
    def bottom(self) -> int:
        """The lowest level."""
        return math.ceil(math.log(self.lowest) / math.log(self.step) - 1e-9)

    @property
    def top(self) -> int:
        """The highest level."""
        return math.floor(math.log(self.highest) / math.log(self.step) + 1e-9)


class SearchOrder(TrialOrder):
    """Blocks in which the arms take turns, each at the level that its search tries next.

    The first block starts at `load`, a share of capacity. The order is exhausted once a block
    found no level that an arm carries, or none that it does not carry.
    """

    def __init__(self, roles: RoleOrder, grid: Grid, load: float) -> None:
        super().__init__(roles)
        self._grid = grid
        self._start: dict[Role, int] = dict.fromkeys(roles(0), grid.level(load))
        # By role and level: whether it was carried in this block.
        self._carried: dict[Role, dict[int, bool]] = {}

    def block(self, index: int) -> Iterator[PlannedTrial]:
        stride = 1 if index else FIRST_STRIDE
        roles = self._roles(index)
        self._carried = {role: {} for role in roles}
        searching, positions = list(self._carried), count()
        while searching:
            role = searching.pop(0)
            level = next_level(self._grid, self._carried[role], self._start[role], stride)
            if level is not None:
                yield PlannedTrial(index, next(positions), role, level, _arms(roles))
                searching.append(role)
        for role, levels in self._carried.items():
            self._start[role] = next_start(levels, index)
        self.exhausted = any(len(set(levels.values())) < 2 for levels in self._carried.values())

    def record(self, trial: PlannedTrial, *, carried: bool) -> None:
        assert trial.level is not None
        self._carried[trial.role][trial.level] = carried


def _arms(roles: Sequence[Role]) -> int:
    """The arms in the order of a block, of which a control alone is not halved."""
    return max(2, len(set(roles)))


def next_level(grid: Grid, carried: Mapping[int, bool], start: int, stride: int) -> int | None:
    """The level to try after those in `carried`; None when the search has ended.

    `carried` has the levels that were tried, and whether the arm carried each. From `start` the
    search goes up, or down, by `stride` until one level is carried and another is not, then it
    is a binary search between them.
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
    """The level at which the search of the block after `block` starts.

    It lies just below or just above the load that this block has found, alternately. A search
    from below tends to end too low, since any miss by chance ends it; one from above tends to
    end too high.
    """
    below = [level for level, is_carried in carried.items() if is_carried]
    above = [level for level, is_carried in carried.items() if not is_carried]
    if not below or not above:
        return max(below, default=min(above, default=0))
    return max(below) if block % 2 else min(above)
