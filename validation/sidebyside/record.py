"""What a run leaves on disk: every number, and what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from validation.sidebyside.figures import Figures
from validation.sidebyside.rounds import Round


def record_of(
    note: str,
    facts: Mapping[str, Any],
    versions: Mapping[str, str],
    absent: Mapping[str, str],
    rounds: Sequence[Round[Any]],
    figures: Figures,
) -> dict[str, Any]:
    """The whole run as JSON values; rounds in the order in which they were measured.

    `rounds` hold dataclasses.
    """
    return {
        "note": note,
        **facts,
        "versions": dict(versions),
        "absent": dict(absent),
        "figures": {
            name: {key: asdict(figure) for key, figure in row.items()}
            for name, row in figures.items()
        },
        "rounds": [{name: asdict(one) for name, one in measured.items()} for measured in rounds],
    }
