"""What is deployed and how it is, as tables and as JSON. Pure functions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from bench.cli.health import Health
from bench.console import as_text
from bench.environments.operations import Service

# Names and addresses stay whole, to be copied. Lists of models and the last column, which has
# words, may take several lines.
_MOST = defaultdict(lambda: 1000, models=24)
_LEAST_OF_LAST = 24
_GAP = 2
STATUS_COLUMNS = ("arm", "name", "URL", "on", "ready", "restarts", "uptime", "state")
HEALTH_COLUMNS = (
    *("arm", "name", "URL", "models", "version", "running", "waiting", "KVCached", "uptime"),
    "health",
)


def status_table(services: Sequence[Service], *, width: int, colour: bool) -> str:
    """A row for each service: where it is, and its state. Columns without a value are left out."""
    rows = [
        (
            one.arm or "shared",
            one.name,
            one.url,
            one.place,
            "yes" if one.ready else "no",
            str(one.restarts) if one.restarts else "",
            duration_text(one.uptime_s),
            one.state,
        )
        for one in services
    ]
    return _table(STATUS_COLUMNS, rows, width=width, colour=colour)


def health_table(found: Sequence[Health], *, width: int, colour: bool) -> str:
    """A row for each service: what it says of itself, and what is wrong."""
    rows = [
        (
            one.service.arm or "shared",
            one.service.name,
            one.service.url,
            ", ".join(one.models),
            one.version or "",
            "" if one.running is None else str(one.running),
            "" if one.waiting is None else str(one.waiting),
            one.kvcached if one.service.kind == "engine" else "",
            duration_text(one.service.uptime_s),
            one.problem or "ok",
        )
        for one in found
    ]
    return _table(HEALTH_COLUMNS, rows, width=width, colour=colour)


def status_json(environment: str, services: Sequence[Service]) -> dict[str, Any]:
    """What `status --format json` prints."""
    return {"environment": environment, "services": list(map(_service_values, services))}


def health_json(environment: str, found: Sequence[Health]) -> dict[str, Any]:
    """What `health --format json` prints: the services of `status`, and more of each."""
    services = [
        {
            **_service_values(one.service),
            "models": list(one.models),
            "version": one.version,
            "running": one.running,
            "waiting": one.waiting,
            "kvcached": one.kvcached,
            "problem": one.problem,
        }
        for one in found
    ]
    return {"environment": environment, "healthy": is_healthy(found), "services": services}


def json_text(values: dict[str, Any], *, one_line: bool) -> str:
    """JSON for people, or in one line for a stream of them."""
    return json.dumps(values, indent=None if one_line else 2)


def is_healthy(found: Sequence[Health]) -> bool:
    """Whether something is deployed, and nothing is wrong with any of it."""
    return bool(found) and all(one.problem is None for one in found)


def duration_text(seconds: float | None) -> str:
    """`42 s`, `12 min`, `3 h 20 min`, `2 d 4 h`; empty for None."""
    if seconds is None:
        return ""
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min"
    if not days:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def _service_values(one: Service) -> dict[str, Any]:
    values = asdict(one)
    values["kvcached_wanted"] = values.pop("kvcached")
    return values


def _table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, width: int, colour: bool
) -> str:
    used = [index for index in range(len(titles)) if any(row[index] for row in rows)]
    widths = [
        min(max(map(len, (titles[index], *(row[index] for row in rows)))), _MOST[titles[index]])
        for index in used
    ]
    left = width - sum(widths[:-1]) - _GAP * (len(used) - 1)
    widths[-1] = min(widths[-1], max(left, _LEAST_OF_LAST))
    table = Table(box=None, pad_edge=False)
    for index, one in zip(used, widths, strict=True):
        table.add_column(titles[index], overflow="fold", width=one)
    for row in rows:
        table.add_row(*(row[index] or "-" for index in used))
    narrowest = sum(widths) + _GAP * len(widths)
    return as_text([table], width=width, narrowest=narrowest, colour=colour).rstrip("\n")
