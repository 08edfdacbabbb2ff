"""Where a proxy is to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Site:
    """The ports a proxy may use on loopback, what is behind it, and a folder for its files.

    `metrics_port` is for proxies that insist on one; `replicas` are `host:port` each.
    """

    port: int
    metrics_port: int
    replicas: tuple[str, ...]
    folder: Path
