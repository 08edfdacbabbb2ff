"""The base URL of each request: the arm's balancers in turn, or a replica directly (bypass).

This follows from the schedule alone, so that both arms of a block get the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle

import numpy as np

from bench.load.plan.workload import stratified
from bench.records import Replica, Schedule


def bypassing(schedule: Schedule, share: float) -> frozenset[int]:
    """Indexes of the requests that bypass the balancers: a stratified `share` of each model's.

    They are drawn with the schedule's hash as seed.
    """
    rng = np.random.default_rng(int(schedule.sha256, base=16))
    by_model: dict[str, list[int]] = {}
    for request in schedule.requests:
        by_model.setdefault(request.model, []).append(request.index)
    return frozenset(
        index
        for indexes in by_model.values()
        for index, drawn in zip(indexes, stratified(len(indexes), rng).tolist(), strict=True)
        if drawn < share
    )


def routes(
    schedule: Schedule,
    balancers: Mapping[str, Sequence[str]],
    bypass: Collection[int],
    replicas: Mapping[str, Replica],
) -> tuple[str, ...]:
    """The base URL for each request.

    Requests whose index is in `bypass` go to the replica of their model in `replicas`. The
    others go to the `balancers` (base URLs) of their model in turn, as DNS would spread them;
    models with the same balancers share one sequence of turns.
    """
    turns = {tuple(urls): cycle(urls) for urls in balancers.values()}
    by_model = {model: turns[tuple(urls)] for model, urls in balancers.items()}
    return tuple(
        replicas[request.model].url if request.index in bypass else next(by_model[request.model])
        for request in schedule.requests
    )
