"""Which of the known programs are measured, and what is said of those that are absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.errors import UserError
from validation.sidebyside.rounds import N


def choose(known: Sequence[N], only: str | None) -> list[N]:
    """Those named in `only`, separated by commas, or all. Raises UserError."""
    if only is None:
        return list(known)
    chosen = [name.strip() for name in only.split(",")]
    names = [one.name for one in known]
    for name in chosen:
        if name not in names:
            raise UserError(f"--only: {name!r} is not one of {', '.join(names)}")
    return [one for one in known if one.name in chosen]


def absences(absent: Mapping[str, str]) -> list[str]:
    """A line for each program that is not installed; `absent` maps names to install lines."""
    return [f"{name} is absent; install it with: {line}" for name, line in absent.items()]
