"""Prometheus text format, written from plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Metric:
    """What is exported under `name`. `bounds` are a histogram's upper ones, without +Inf."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()


def render(metrics: Iterable[Metric], values: Values) -> str:
    """The exposition of `metrics`; one without values is left out but for its help."""
    return "".join(line for metric in metrics for line in _lines(metric, values))


def _lines(metric: Metric, values: Values) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}\n"
    yield f"# TYPE {metric.name} {metric.kind}\n"
    edges = [f"{bound:g}" for bound in metric.bounds] + ["+Inf"]
    for labels, leaf in _leaves(values.get(metric.name, {}), metric.labels, ""):
        if isinstance(leaf, list):
            yield from _histogram(metric.name, labels, edges, leaf)
        else:
            yield f"{metric.name}{{{labels}}} {leaf:.15g}\n"


def _leaves(tree: Tree, names: Sequence[str], labels: str) -> Iterator[tuple[str, Tree]]:
    """Each leaf and its labels as text."""
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
