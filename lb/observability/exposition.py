"""Values of metrics as plain data, and their exposition in Prometheus' text format.

The values of a metric are nested mappings: by the value of its first label, then of its second,
and so on. A leaf is a number, or for a histogram a list: the count of each bucket (not
cumulative, +Inf last), then the sum of all observations. Processes exchange them as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Tree = float | list[float] | dict[str, "Tree"]
Kind = Literal["counter", "gauge", "histogram"]
# By the metric's name.
Values = dict[str, Tree]

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric to export; `bounds` are the upper bounds of a histogram's buckets, without +Inf."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()


def merge(parts: Iterable[Values]) -> Values:
    """The values of several processes, added up leaf by leaf."""
    return reduce(_merged, parts, {})


def put(values: Values, path: Sequence[str], leaf: Tree) -> None:
    """Set a leaf; `path` is the name of its metric, then the values of its labels."""
    *branches, last = path
    for name in branches:
        subtree = values.setdefault(name, {})
        assert isinstance(subtree, dict)
        values = subtree
    values[last] = leaf


def render(metric: Metric, values: Values) -> Iterator[str]:
    """Yields the lines of `metric`, with their line feeds; HELP and TYPE only without values."""
    yield f"# HELP {metric.name} {metric.help}\n"
    yield f"# TYPE {metric.name} {metric.kind}\n"
    edges = [f"{bound:g}" for bound in metric.bounds] + ["+Inf"]
    for labels, leaf in _leaves(values.get(metric.name, {}), metric.labels, ""):
        if isinstance(leaf, list):
            yield from _histogram(metric.name, labels, edges, leaf)
        else:
            yield f"{metric.name}{{{labels}}} {leaf:.15g}\n"


def _leaves(tree: Tree, names: Sequence[str], labels: str) -> Iterator[tuple[str, Tree]]:
    """Yields the labels of each leaf as text, and the leaf."""
    if not isinstance(tree, dict):
        yield labels, tree
        return
    name, *others = names
    separator = "," if labels else ""
    for value, subtree in tree.items():
        label = f'{labels}{separator}{name}="{value.translate(_ESCAPES)}"'
        yield from _leaves(subtree, others, label)


def _histogram(name: str, labels: str, edges: Sequence[str], leaf: list[float]) -> Iterator[str]:
    *counts, total = leaf
    for edge, count in zip(edges, accumulate(counts), strict=True):
        yield f'{name}_bucket{{{labels},le="{edge}"}} {count:.15g}\n'
    yield f"{name}_sum{{{labels}}} {total:.15g}\n"
    yield f"{name}_count{{{labels}}} {sum(counts):.15g}\n"


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
