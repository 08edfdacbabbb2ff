"""YAML's aliases, by which a few lines may stand for a value of any size, or for one in itself."""

from __future__ import annotations

import math

import yaml

_MOST_VALUES = 1_000_000


def check_aliases(document: yaml.Node) -> None:
    """Raise yaml.YAMLError where aliases make a document much larger than it is written."""
    if (size := _size(document, {})) > max(_MOST_VALUES, 2 * (document.end_mark.index or 0)):
        many = "endlessly many" if math.isinf(size) else f"{size:,.0f}"
        raise yaml.YAMLError(f"its aliases make {many} values; write it without them")


def _size(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """How many values a node has, where each alias counts like what it stands for."""
    if node not in known:
        known[node] = math.inf  # what is inside itself
        inside = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [part for one in inside for part in (one if isinstance(one, tuple) else (one,))]
        known[node] = 1.0 + sum(_size(part, known) for part in parts)
    return known[node]
