"""Where each request of a schedule goes: to the arm's balancers in turn, or past them.

Both follow from the schedule alone, so that both arms of a block get the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle

import numpy as np

from bench.load.strata import stratified
from bench.records import Replica, Schedule


def bypassing(schedule: Schedule, share: float) -> frozenset[int]:
    """Indexes of the requests that go straight to a replica: a stratified `share` of each model's.

    Which these are is seeded by the schedule's hash.
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
    past: Collection[int],
    replicas: Mapping[str, Replica],
) -> tuple[str, ...]:
    """The base URL for each request.

    Those whose index is in `past` go to their model's one of `replicas`, the others to
    the `balancers` (base URLs) of their model in turn, as DNS or a balancer of connections
    would spread them. Models with the same balancers share the turns.
    """
    turns = {tuple(urls): cycle(urls) for urls in balancers.values()}
    by_model = {model: turns[tuple(urls)] for model, urls in balancers.items()}
    return tuple(
        replicas[request.model].url if request.index in past else next(by_model[request.model])
        for request in schedule.requests
    )
