"""What a shard is given and what it leaves, as bytes for files: JSON."""

from __future__ import annotations

from pydantic import TypeAdapter

from bench.load.drive import Load
from bench.load.outcome import DriveResult

_LOAD = TypeAdapter(Load)
_RESULT = TypeAdapter(DriveResult)


def load_bytes(load: Load) -> bytes:
    """A load as a file; `load_of` gives an equal one back. Raises ValueError for surrogates."""
    return _LOAD.dump_json(load)


def load_of(data: bytes) -> Load:
    """The load in a file. Raises ValueError for anything else."""
    return _LOAD.validate_json(data)


def result_bytes(result: DriveResult) -> bytes:
    """A result as a file; `result_of` gives an equal one back, to the last bit of its times."""
    return _RESULT.dump_json(result)


def result_of(data: bytes) -> DriveResult:
    """The result in a file. Raises ValueError for anything else."""
    return _RESULT.validate_json(data)
