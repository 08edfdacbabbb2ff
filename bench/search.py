"""The search for the highest load that an arm carries: which one to try next.

Loads lie on a grid, each a `step` above the one below. A block's search ends between two
neighbours of which the lower is carried and the upper is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

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
