"""A trial as files: facts as JSON, samples as a Parquet table, and one of server readings.

The columns of the tables are the fields of the records.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Sequence
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from bench.records import Sample, ServerReading, Trial

FORMAT = 1

_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}


def table_bytes(trial: Trial) -> bytes:
    """All samples as a Parquet file. Raises ValueError for text that is not Unicode."""
    bypassed = [False] * len(trial.samples) + [True] * len(trial.bypassed)
    return _parquet(Sample, trial.samples + trial.bypassed, "bypassed", bypassed, pa.bool_())


def server_bytes(trial: Trial) -> bytes:
    """All server readings as a Parquet file, those of a replica one after the other."""
    readings = [reading for one in trial.server for reading in one.readings]
    replicas = [one.replica for one in trial.server for _ in one.readings]
    return _parquet(ServerReading, readings, "replica", replicas, pa.string())


def facts(trial: Trial, table: bytes, server: bytes) -> dict[str, Any]:
    """Everything but samples and readings, with the digests of their tables."""
    bare = dataclasses.replace(trial, samples=(), bypassed=(), server=())
    written = dataclasses.asdict(bare)
    del written["samples"], written["bypassed"], written["server"]
    digests = {"samples_sha256": digest(table), "server_sha256": digest(server)}
    return {"format": FORMAT, **digests, **written}


def digest(table: bytes) -> str:
    """The SHA-256 by which a trial's JSON file names a table."""
    return hashlib.sha256(table).hexdigest()


def trial(facts: dict[str, Any], table: bytes, server: bytes | None) -> Trial:
    """The trial that was stored, `server` None before readings were.

    Raises ValueError for facts or a table of another shape.
    """
    samples: dict[bool, list[Any]] = {False: [], True: []}
    for row in _rows(table):
        # Trials stored before any request could bypass an arm lack the column.
        samples[row.pop("bypassed", False)].append(row)
    readings: dict[str, list[Any]] = {}
    for row in _rows(server) if server is not None else ():
        readings.setdefault(row.pop("replica"), []).append(row)
    series = [{"replica": name, "readings": rows} for name, rows in readings.items()]
    tables = {"samples": samples[False], "bypassed": samples[True], "server": series}
    return TypeAdapter(Trial).validate_python(facts | tables)


def schema(record: type) -> pa.Schema:
    """The columns that hold the fields of a record."""
    return pa.schema([(name, _column(kind)) for name, kind in get_type_hints(record).items()])


def _column(kind: Any) -> pa.DataType:
    """Arrow's type for a field: numbers, text, either or None, a tuple of one of them."""
    if get_origin(kind) is tuple:
        return pa.list_(_column(get_args(kind)[0]))
    (kind,) = (one for one in get_args(kind) or (kind,) if one is not NoneType)
    return _TYPES[str if issubclass(kind, StrEnum) else kind]


def _parquet(
    record: type, rows: Sequence[Any], extra: str, values: Sequence[Any], kind: pa.DataType
) -> bytes:
    """A table of records, with one column more that tells whose they are."""
    columns = {
        field.name: pa.array([getattr(row, field.name) for row in rows], field.type)
        for field in schema(record)
    }
    columns[extra] = pa.array(values, kind)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _rows(table: bytes) -> list[dict[str, Any]]:
    # On threads of Arrow's own, 2 of 100 processes were aborted at their end by its destructors.
    read = pq.ParquetFile(io.BytesIO(table), pre_buffer=False).read(use_threads=False)
    rows: list[dict[str, Any]] = read.to_pylist()
    return rows
