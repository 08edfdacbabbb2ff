"""Several tenants at once, each with traffic of its own."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np

from bench.load.plan.arrivals import OpenLoop
from bench.load.plan.workload import Ask, Asks, stratified


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant. The load of `arrival` is a share of the whole capacity."""

    name: str
    arrival: OpenLoop
    workload: Asks


@dataclass(frozen=True, slots=True)
class Mixture:
    """The traffic of some tenants, merged. Their requests carry their names."""

    tenants: tuple[Tenant, ...]

    def __post_init__(self) -> None:
        names = [tenant.name for tenant in self.tenants]
        if not all(names) or len(set(names)) < max(1, len(names)):
            raise ValueError(f"tenants need names of their own, got {names}")

    @property
    def load(self) -> float:
        return sum(tenant.arrival.load for tenant in self.tenants)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(tenant.name for tenant in self.tenants)

    def stream(
        self, rate_rps: float, duration_s: float, rng: np.random.Generator
    ) -> Iterator[tuple[float, Ask]]:
        """Times in [0, `duration_s`) and requests of all tenants, in the order of time."""
        sent = []
        for tenant, own in zip(self.tenants, rng.spawn(len(self.tenants)), strict=True):
            share = tenant.arrival.load / self.load
            times_s = tenant.arrival.times(rate_rps * share, duration_s, own).tolist()
            asks = tenant.workload.draw(len(times_s), own)
            named = [replace(ask, tenant=tenant.name) for ask in asks]
            sent.append(list(zip(times_s, named, strict=True)))
        return heapq.merge(*sent, key=itemgetter(0))

    def draw(self, count: int, rng: np.random.Generator) -> Iterator[Ask]:
        """`count` requests, whose tenants are drawn by their shares of the load."""
        ends = np.cumsum([tenant.arrival.load for tenant in self.tenants]) / self.load
        whose = np.searchsorted(ends[:-1], stratified(count, rng), side="right")
        drawn = [
            iter(tenant.workload.draw(int((whose == index).sum()), own))
            for index, (tenant, own) in enumerate(
                zip(self.tenants, rng.spawn(len(self.tenants)), strict=True)
            )
        ]
        return (replace(next(drawn[index]), tenant=self.names[index]) for index in whose.tolist())
