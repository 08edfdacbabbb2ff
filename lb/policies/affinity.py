"""The home of a key, the replica that it prefers: weighted rendezvous hashing.

Every balancer computes the same home. When a replica is added or removed, only keys that move
to or from it get another home.

Schindelhauer and Schomaker, "Weighted distributed hash tables" (2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from zlib import crc32

from lb.replicas.replica import Replica

# 2^64 / golden ratio. Multiplied with it, keys are spread evenly over (0, 1). Multiplied with a
# replica's large `name_hash`, the fraction of that is as good as random for each replica.
_MULTIPLIER = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def key_of(*parts: bytes) -> int:
    """A hash of `parts`, 32 bits; a collision costs cache hits only."""
    key = 0
    for part in parts:
        key = crc32(part, crc32(b"%d:" % len(part), key))
    return key


def home(replicas: Sequence[Replica], key: int) -> int:
    """The index of the replica that `key` prefers; its share of all keys follows its capacity."""
    point = ((key + 1) * _MULTIPLIER & _MASK) / 2**64
    preferences = [
        log(1.0 - point * replica.name_hash % 1.0) / replica.capacity for replica in replicas
    ]
    return preferences.index(max(preferences))
