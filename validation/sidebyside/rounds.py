"""Rounds over all programs, in an order that lets a drift of the machine cancel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from bench.progress import Progress
from validation.sidebyside.figures import M

_T = TypeVar("_T")

Round = Mapping[str, M]
"""What was measured in one round by the program's name."""


class Named(Protocol):
    """What can be measured."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def alternate(items: Sequence[_T], rounds: int) -> list[Sequence[_T]]:
    """ABC, CBA, ABC, ...: the order of `items` in each round."""
    return [items if index % 2 == 0 else items[::-1] for index in range(rounds)]


def run_rounds(
    targets: Sequence[N],
    rounds: int,
    measure: Callable[[N], M],
    progress: Progress,
) -> list[Round[M]]:
    """Measure every target once a round; what was found by name, round by round."""
    found: list[Round[M]] = []
    for number, order in enumerate(alternate(targets, rounds), start=1):
        with progress.step(f"round {number} of {rounds}") as step:
            measured: dict[str, M] = {}
            for target in order:
                step.update(target.name)
                measured[target.name] = measure(target)
            found.append(measured)
    return found
