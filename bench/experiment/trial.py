"""Which replica is singled out, and which one served what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from bench.records import Replica, Sample


def singled_out(replicas: Sequence[Replica], turn: int) -> dict[str, Replica]:
    """One replica of each model, by model: another one at each turn."""
    by_model: dict[str, list[Replica]] = {}
    for replica in replicas:
        by_model.setdefault(replica.model, []).append(replica)
    return {model: each[turn % len(each)] for model, each in by_model.items()}


def named(samples: Sequence[Sample], replicas: Sequence[Replica]) -> tuple[Sample, ...]:
    """The samples with the names of replicas, which balancers tell by address."""
    names = {urlsplit(replica.url).netloc: replica.name for replica in replicas}
    return tuple(
        replace(sample, replica=names.get(sample.replica, sample.replica))
        if sample.replica
        else sample
        for sample in samples
    )


def apart(
    samples: Sequence[Sample], past: Collection[int], replicas: Mapping[str, Replica]
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """The arm's own samples, and those whose index is in `past`, which `replicas` served."""
    own = tuple(sample for sample in samples if sample.index not in past)
    bypassed = tuple(
        replace(sample, replica=replicas[sample.model].name)
        for sample in samples
        if sample.index in past
    )
    return own, bypassed
