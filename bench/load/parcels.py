"""What a shard is given and what it measures, as bytes: JSON."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from bench.load.drive import Load
from bench.load.outcome import DriveResult

_LOADS = TypeAdapter(tuple[Load, ...])
_RESULTS = TypeAdapter(tuple[DriveResult, ...])


def load_bytes(loads: Sequence[Load]) -> bytes:
    """Loads as bytes; `loads_of` gives equal ones back. Raises ValueError for surrogates."""
    return _LOADS.dump_json(tuple(loads))


def loads_of(data: bytes) -> tuple[Load, ...]:
    """The loads in some bytes. Raises ValueError for anything else."""
    return _LOADS.validate_json(data)


def result_bytes(results: Sequence[DriveResult]) -> bytes:
    """Results as bytes; `results_of` gives equal ones back, to the last bit of their times."""
    return _RESULTS.dump_json(tuple(results))


def results_of(data: bytes) -> tuple[DriveResult, ...]:
    """The results in some bytes. Raises ValueError for anything else."""
    return _RESULTS.validate_json(data)
