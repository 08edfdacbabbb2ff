"""Everything that can be set, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from lb.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Settings:
    """How one balancer works. `seed` None: tie-breaks differ from start to start."""

    policy: str
    endpoints: tuple[Endpoint, ...]
    poll_interval_s: float = 1.0
    seed: int | None = None
    max_body_bytes: int = 64 * 1024 * 1024
