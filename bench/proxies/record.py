"""What a run leaves on disk: every number, and what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.proxies.measurement import CONNECTIONS, OPEN_STREAMS
from bench.proxies.rounds import Round
from bench.proxies.summary import Figures
from bench.proxies.table import ONLY_PROXIES


def record_of(
    facts: Mapping[str, Any],
    versions: Mapping[str, str],
    absent: Mapping[str, str],
    rounds: Sequence[Round],
    figures: Figures,
) -> dict[str, Any]:
    """The whole run as JSON values; rounds in the order in which they were measured."""
    return {
        "note": ONLY_PROXIES,
        "connections": CONNECTIONS,
        "open_streams": OPEN_STREAMS,
        **facts,
        "versions": dict(versions),
        "absent": dict(absent),
        "figures": {
            name: {key: asdict(figure) for key, figure in row.items()}
            for name, row in figures.items()
        },
        "rounds": [{name: asdict(one) for name, one in measured.items()} for measured in rounds],
    }
