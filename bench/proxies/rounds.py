"""Rounds over all servers, in an order that lets a drift of the machine cancel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from bench.progress import Progress
from bench.proxies.measurement import Measurement
from bench.proxies.running import Target

_T = TypeVar("_T")

Round = Mapping[str, Measurement]
"""The measurements of one round by the server's name."""


def alternate(items: Sequence[_T], rounds: int) -> list[Sequence[_T]]:
    """ABC, CBA, ABC, ...: the order of `items` in each round."""
    return [items if index % 2 == 0 else items[::-1] for index in range(rounds)]


def run_rounds(
    targets: Sequence[Target],
    rounds: int,
    measure: Callable[[Target], Measurement],
    progress: Progress,
) -> list[Round]:
    """Measure every target once a round."""
    found: list[Round] = []
    for number, order in enumerate(alternate(targets, rounds), start=1):
        with progress.step(f"round {number} of {rounds}") as step:
            measured: dict[str, Measurement] = {}
            for target in order:
                step.update(target.name)
                measured[target.name] = measure(target)
            found.append(measured)
    return found
