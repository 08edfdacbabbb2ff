"""The ledger: a line of JSON for each run, appended when it ends, never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from bench.errors import UserError
from validation.evidence.plan import PlannedRun


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What came of a run: the primary metric's ratio treatment / control, and the verdict.

    `rule` is the version of the rule that judged it. `blocks` were judged, `set_aside` were
    measured and disturbed. `spread` is the standard deviation of the blocks' ln(ratio).
    `capacity_rps` is the lowest and the highest that the engines could serve meanwhile.
    """

    run: PlannedRun
    rule: int
    commit: str | None
    machine: str
    day: str
    took_s: float
    verdict: str
    ratio: float | None
    low: float | None
    high: float | None
    blocks: int
    set_aside: int
    spread: float | None
    capacity_rps: tuple[float, float] | None
    reasons: tuple[str, ...] = ()


_ENTRY = TypeAdapter(LedgerEntry)


def read_ledger(path: Path) -> list[LedgerEntry]:
    """All entries, in the order in which they were measured.

    Raises UserError, with the line, for what is no entry.
    """
    entries = []
    text = path.read_text("utf-8") if path.exists() else ""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entries.append(_ENTRY.validate_python(json.loads(line)))
        except ValueError as error:
            raise UserError(
                f"{path}:{number} is no entry of the ledger: {str(error).splitlines()[0]}; "
                "mend or remove the line"
            ) from None
    return entries


def append(path: Path, entry: LedgerEntry) -> None:
    """Add an entry; it is on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(entry), allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def missing(
    planned: Sequence[PlannedRun], entries: Sequence[LedgerEntry], rule: int
) -> list[PlannedRun]:
    """What has not been measured under this version of the rule."""
    done = {entry.run.key for entry in entries if entry.rule == rule}
    return [run for run in planned if run.key not in done]
