"""A trial as two files: facts as JSON, samples as a Parquet table."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from bench.records import Sample, Trial

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
    ]
)


def table_bytes(samples: tuple[Sample, ...]) -> bytes:
    """The samples as a Parquet file. Raises ValueError for text that is not Unicode."""
    columns = {
        name: pa.array([getattr(sample, name) for sample in samples], SAMPLES.field(name).type)
        for name in SAMPLES.names
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SAMPLES), sink, compression="zstd")
    return sink.getvalue()


def facts(trial: Trial, table: bytes) -> dict[str, Any]:
    """Everything but the samples, with the digest of their table."""
    written = dataclasses.asdict(dataclasses.replace(trial, samples=()))
    del written["samples"]
    return {"format": FORMAT, "samples_sha256": digest(table), **written}


def digest(table: bytes) -> str:
    return hashlib.sha256(table).hexdigest()


def trial(facts: dict[str, Any], table: bytes) -> Trial:
    """The trial that was stored. Raises ValueError for facts or a table of another shape."""
    samples = pq.read_table(io.BytesIO(table)).to_pylist()
    return TypeAdapter(Trial).validate_python(facts | {"samples": samples})
