"""`results/latest.json`: every comparison of a run with its numbers and verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.analysis.gates import outcome_of, overall
from bench.analysis.judgement import Judgement
from bench.store.files import strict_json, write_whole

VERSION = 1


def write_latest(path: Path, judgements: Sequence[Judgement], run: Mapping[str, Any]) -> None:
    """Write what was found. `run` holds the facts of the run, JSON values only.

    A number that is not finite becomes null, and its record's `reasons` say which.
    Raises UserError when the disk does not take it.
    """
    written = {
        "version": VERSION,
        "run": dict(run),
        "outcome": overall(judgements),
        "scenarios": [_judgement(judgement) for judgement in judgements],
    }
    write_whole(path, strict_json(path, written))


def _judgement(judgement: Judgement) -> dict[str, Any]:
    facts = judgement.scenario
    return {
        "scenario": facts.name,
        "description": facts.description,
        "models": judgement.models,
        "environment": judgement.environment,
        "control": judgement.control,
        "treatment": judgement.treatment,
        "expect": facts.expect,
        "round": judgement.round,
        "outcome": outcome_of(judgement),
        "blocks": judgement.blocks,
        "valid": not judgement.invalid_reasons,
        "invalid_reasons": judgement.invalid_reasons,
        "notes": judgement.notes,
        "comparisons": [_finite(dataclasses.asdict(one)) for one in judgement.comparisons],
        "slos": [_finite(dataclasses.asdict(one)) for one in judgement.slos],
        "summaries": [_finite(dataclasses.asdict(one)) for one in judgement.summaries],
        "servers": [dataclasses.asdict(one) for one in judgement.servers],
    }


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    odd = [name for name, value in record.items() if _not_finite(value)]
    if not odd:
        return record
    reasons = [*record.get("reasons", ()), *(f"{name} is {record[name]}" for name in odd)]
    return record | dict.fromkeys(odd) | {"reasons": reasons}


def _not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
