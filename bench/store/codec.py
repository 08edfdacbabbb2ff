"""A trial as files: facts as JSON, samples as a Parquet table, and one of server readings."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from bench.records import ServerReading, Trial

FORMAT = 1

SAMPLES = pa.schema(
    [
        ("index", pa.int64()),
        ("model", pa.string()),
        ("scheduled_s", pa.float64()),
        ("sent_s", pa.float64()),
        ("first_token_s", pa.float64()),
        ("last_token_s", pa.float64()),
        ("chunk_s", pa.list_(pa.float64())),
        ("wanted_prompt_tokens", pa.int64()),
        ("wanted_output_tokens", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("replica", pa.string()),
        ("status", pa.int64()),
        ("error", pa.string()),
        ("detail", pa.string()),
        ("tenant", pa.string()),
    ]
)
BYPASSED = pa.field("bypassed", pa.bool_())

READINGS = pa.schema(
    [
        *((one.name, pa.float64()) for one in dataclasses.fields(ServerReading)[:-1]),
        ("error", pa.string()),
    ]
)
REPLICA = pa.field("replica", pa.string())


def table_bytes(trial: Trial) -> bytes:
    """All samples as a Parquet file. Raises ValueError for text that is not Unicode."""
    samples = trial.samples + trial.bypassed
    columns = {
        field.name: pa.array([getattr(sample, field.name) for sample in samples], field.type)
        for field in SAMPLES
    }
    columns["bypassed"] = pa.array(
        [False] * len(trial.samples) + [True] * len(trial.bypassed), BYPASSED.type
    )
    return _parquet(pa.table(columns, schema=SAMPLES.append(BYPASSED)))


def server_bytes(trial: Trial) -> bytes:
    """All server readings as a Parquet file, those of a replica one after the other."""
    rows = [(one.replica, reading) for one in trial.server for reading in one.readings]
    columns = {
        field.name: pa.array([getattr(reading, field.name) for _, reading in rows], field.type)
        for field in READINGS
    }
    columns["replica"] = pa.array([replica for replica, _ in rows], REPLICA.type)
    return _parquet(pa.table(columns, schema=READINGS.append(REPLICA)))


def facts(trial: Trial, table: bytes, server: bytes) -> dict[str, Any]:
    """Everything but samples and readings, with the digests of their tables."""
    bare = dataclasses.replace(trial, samples=(), bypassed=(), server=())
    written = dataclasses.asdict(bare)
    del written["samples"], written["bypassed"], written["server"]
    digests = {"samples_sha256": digest(table), "server_sha256": digest(server)}
    return {"format": FORMAT, **digests, **written}


def digest(table: bytes) -> str:
    return hashlib.sha256(table).hexdigest()


def trial(facts: dict[str, Any], table: bytes, server: bytes | None) -> Trial:
    """The trial that was stored, `server` None before readings were.

    Raises ValueError for facts or a table of another shape.
    """
    samples: dict[bool, list[Any]] = {False: [], True: []}
    for row in _rows(table):
        # Trials stored before any request could bypass an arm lack the column.
        samples[row.pop("bypassed", False)].append(row)
    return TypeAdapter(Trial).validate_python(
        facts
        | {
            "samples": samples[False],
            "bypassed": samples[True],
            "server": [] if server is None else _series(server),
        }
    )


def _series(server: bytes) -> list[dict[str, Any]]:
    readings: dict[str, list[Any]] = {}
    for row in _rows(server):
        readings.setdefault(row.pop("replica"), []).append(row)
    return [{"replica": name, "readings": rows} for name, rows in readings.items()]


def _rows(table: bytes) -> list[dict[str, Any]]:
    # On threads of Arrow's own, 2 of 100 processes were aborted at their end by its destructors.
    read = pq.read_table(io.BytesIO(table), use_threads=False, pre_buffer=False)
    rows: list[dict[str, Any]] = read.to_pylist()
    return rows


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
