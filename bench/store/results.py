"""The JSON files of `results/`: the results of a run, and the noise of earlier comparisons."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.analysis.factorial import Factorial
from bench.analysis.gates import outcome_of, overall
from bench.analysis.judgement import Judgement
from bench.store.files import strict_json, write_whole

VERSION = 1
# Runs of each comparison that are remembered, the latest ones: engines and machines change.
KEPT = 10

Spreads = list[tuple[float, int]]
_FILE = TypeAdapter(dict[str, Spreads])


def write_latest(path: Path, judgements: Sequence[Judgement], run: Mapping[str, Any]) -> None:
    """Write `results_json`. Raises UserError when it cannot be written."""
    write_whole(path, results_json(path, judgements, run))


def results_json(
    path: Path,
    judgements: Sequence[Judgement],
    run: Mapping[str, Any],
    factorials: Sequence[Factorial] = (),
) -> bytes:
    """The results of a run, to be written to `path`. `run` has its facts, JSON values only.

    The effects of factors are there where the run has some. A number that is not finite becomes
    null, and its record's `reasons` name it. Raises UserError for facts that are no JSON.
    """
    written = {
        "version": VERSION,
        "run": dict(run),
        "outcome": overall(judgements),
        "scenarios": [_judgement(judgement) for judgement in judgements],
    }
    if factorials:
        written["factorials"] = [_factorial(one) for one in factorials]
    return strict_json(path, written)


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
        "comparisons": [_finite(asdict(one)) for one in judgement.comparisons],
        "slos": [_finite(asdict(one)) for one in judgement.slos],
        "summaries": [_finite(asdict(one)) for one in judgement.summaries],
        "servers": [asdict(one) for one in judgement.servers],
        **({"memory": [asdict(one) for one in judgement.memory]} if judgement.memory else {}),
    }


def _factorial(one: Factorial) -> dict[str, Any]:
    values = (None if value is None or math.isinf(value) else value for value in one.values)
    effects = {
        "main": [_finite(asdict(effect)) for effect in one.main],
        "interaction": _finite(asdict(one.interaction)),
        "simple": [_finite(asdict(effect)) for effect in one.simple],
    }
    return {**asdict(one), "values": list(values), **effects}


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """The record with null in place of what is not finite, and reasons that say so."""
    lost = [
        name
        for name, value in record.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if not lost:
        return record
    reasons = [*record.get("reasons", ()), *(f"{name} is {record[name]}" for name in lost)]
    return record | dict.fromkeys(lost) | {"reasons": reasons}


@dataclass(frozen=True, slots=True)
class NoiseStore:
    """A file with (spread, blocks) of the latest runs of each kind of comparison.

    A damaged file counts as an empty one: nothing is judged by it.
    """

    path: Path

    def known(self, kind: str) -> Spreads:
        """The spreads of a kind of comparison, the oldest run first."""
        return self._read().get(kind, [])

    def remember(self, kind: str, spread: float, blocks: int) -> None:
        """Add a run. Raises UserError when it cannot be written."""
        written = self._read()
        written[kind] = [*written.get(kind, []), (spread, blocks)][-KEPT:]
        write_whole(self.path, strict_json(self.path, written))

    def _read(self) -> dict[str, Spreads]:
        try:
            return _FILE.validate_python(json.loads(self.path.read_bytes()))
        except (OSError, ValueError, RecursionError):  # pydantic's error is a ValueError
            return {}
