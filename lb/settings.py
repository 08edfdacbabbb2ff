"""Everything that can be set for a balancer."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from lb.discovery.sources import Source
from lb.downstream import Limits
from lb.exchange import Patience
from lb.router import Admission

# After SIGTERM or SIGINT, requests get so long to end.
GRACE_S = 5.0
# A replica that has just started has cold caches, and nothing in flight that policies could use.
SLOW_START_S = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How one balancer works. With `seed` None, random choices differ from start to start.

    A new replica gets its full share of requests after `slow_start_s`. After a signal to stop,
    the balancer accepts clients for `drain_delay_s` more, and then requests get `grace_s` to end.

    `access_log` is a path, or "-" for stdout. With `api_keys`, a file, clients need a key that
    is listed there. Replicas get `replica_key`, if there is one, instead of the client's key.
    `trusted` has the CAs of https replicas, None for those of the system.
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
