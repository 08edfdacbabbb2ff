"""A trial as two files: facts as JSON, samples as a Parquet table."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from bench.records import Trial

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
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SAMPLES.append(BYPASSED)), sink, compression="zstd")
    return sink.getvalue()


def facts(trial: Trial, table: bytes) -> dict[str, Any]:
    """Everything but the samples, with the digest of their table."""
    written = dataclasses.asdict(dataclasses.replace(trial, samples=(), bypassed=()))
    del written["samples"], written["bypassed"]
    return {"format": FORMAT, "samples_sha256": digest(table), **written}


def digest(table: bytes) -> str:
    return hashlib.sha256(table).hexdigest()


def trial(facts: dict[str, Any], table: bytes) -> Trial:
    """The trial that was stored. Raises ValueError for facts or a table of another shape."""
    samples: dict[bool, list[Any]] = {False: [], True: []}
    for row in pq.read_table(io.BytesIO(table)).to_pylist():
        # Trials stored before any request could bypass an arm lack the column.
        samples[row.pop("bypassed", False)].append(row)
    return TypeAdapter(Trial).validate_python(
        facts | {"samples": samples[False], "bypassed": samples[True]}
    )
