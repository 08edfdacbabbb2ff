"""Values of metrics as plain data, which JSON can carry from one process to another.

The values of a metric are a mapping from the values of its first label to one from those
of its second, and so on. A leaf is a number or, of a histogram, the counts of its buckets
(not cumulated; the last one is that of +Inf) and then the sum of what was observed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

Tree = float | list[float] | dict[str, "Tree"]
# By the metric's name.
Values = dict[str, Tree]


def merge(parts: Iterable[Values]) -> Values:
    """What one process would have counted that saw everything: leaves are added."""
    return reduce(_merged, parts, {})


def put(values: Values, path: Sequence[str], leaf: Tree) -> None:
    """Set the leaf of a metric and its labels' values: `path` is its name, then those."""
    *branches, last = path
    for name in branches:
        subtree = values.setdefault(name, {})
        assert isinstance(subtree, dict)
        values = subtree
    values[last] = leaf


def _merged(one: Values, other: Values) -> Values:
    return one | {key: _sum(one[key], tree) if key in one else tree for key, tree in other.items()}


def _sum(one: Tree, other: Tree) -> Tree:
    if isinstance(one, dict) and isinstance(other, dict):
        return _merged(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    assert isinstance(one, int | float)
    assert isinstance(other, int | float)
    return one + other
