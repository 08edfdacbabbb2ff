"""Which replica is at home for a key: weighted rendezvous hashing.

Every balancer computes the same home without talking to the others. When a replica comes
or goes, only the keys that move to or from it change their home.

Schindelhauer and Schomaker, "Weighted distributed hash tables" (2005).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

from lb.replicas import Replica

# CRC is linear, so that on its own the order of replicas would hardly differ from key to
# key; a multiplication by an odd constant (2^64 / golden ratio) breaks that.
_ODD = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def key_of(*parts: bytes) -> int:
    """32 bits that stand for `parts`. Two keys in common cost cache hits, nothing else."""
    key = 0
    for part in parts:
        key = zlib.crc32(part, zlib.crc32(b"%d:" % len(part), key))
    return key


def by_preference(replicas: Sequence[Replica], key: int) -> list[Replica]:
    """All `replicas`, the home of `key` first. Homes are in proportion to capacity."""
    return sorted(replicas, key=lambda replica: _distance(replica, key))


def home(replicas: Sequence[Replica], key: int) -> Replica:
    """The first of `by_preference`."""
    return min(replicas, key=lambda replica: _distance(replica, key))


def _distance(replica: Replica, key: int) -> float:
    mixed = (zlib.crc32(replica.name_bytes, key) * _ODD) & _MASK
    return -math.log((mixed + 1) / 2.0**64) / replica.capacity
