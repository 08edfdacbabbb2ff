"""Everything that can be set, checked before anything starts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from lb.discovery.sources import Source
from lb.downstream import Limits
from lb.exchange import Patience
from lb.router import Admission

# What is under way gets so long to end after SIGTERM or SIGINT.
GRACE_S = 5.0
# A replica that comes up has cold caches, and nothing in flight for policies to go by.
SLOW_START_S = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How one balancer works. `seed` None: tie-breaks differ from start to start.

    A replica that comes up gets its full share after `slow_start_s`. When asked to stop,
    the balancer lets clients in for `drain_delay_s` more, then lets what is under way end
    within `grace_s`.

    `access_log` is a path, or "-" for stdout. With `api_keys`, a file, clients need one of
    those; with `replica_key` replicas get that in place of what clients have. `trusted` is
    whose certificates of https replicas hold, None for those of the system's CAs.
    """

    policy: str
    source: Source
    poll_interval_s: float = 1.0
    seed: int | None = None
    limits: Limits = field(default_factory=Limits)
    admission: Admission = field(default_factory=Admission)
    patience: Patience = field(default_factory=Patience)
    slow_start_s: float = SLOW_START_S
    drain_delay_s: float = 0.0
    grace_s: float = GRACE_S
    access_log: str | None = None
    api_keys: Path | None = None
    replica_key: str | None = field(default=None, repr=False)
    trusted: ssl.SSLContext | None = None
