"""How many tokens of KV cache engines on a GPU have room for: arithmetic alone.

Without KVCached each engine that shares a GPU has a fixed part of its memory (a static split). With
KVCached all share what weights leave, so that one may have it all while the others are idle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.config.topology import Model

GIB = 2**30
# Shares are rounded down to so many parts: rounded up they would be more than there is.
_PARTS = 1000


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: its memory, the share that engines may take, and what each needs besides.

    `reserve_gib` is what an engine takes for activations, CUDA graphs and CUDA itself.
    """

    memory_gib: float
    utilization: float
    reserve_gib: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """What an engine takes of each of its GPUs: GiB of weights, and bytes of each token."""

    weights_gib: float
    token_bytes: float

    @classmethod
    def of(cls, model: Model) -> Footprint:
        """That of a model on GPUs. What is not known of it counts as nothing."""
        token_bytes = 0 if model.kv is None else model.kv.token_bytes
        return cls((model.weights_gib or 0.0) / model.gpus, token_bytes / model.gpus)

    def need_gib(self, gpu: Gpu, tokens: int) -> float:
        """What it needs to have room for `tokens`."""
        return self.weights_gib + gpu.reserve_gib + tokens * self.token_bytes / GIB

    def tokens_in(self, kv_gib: float) -> int:
        """How many tokens have room in `kv_gib`; 0 if that is negative, or a token's size unknown.

        Sizes that differ by less than a billionth count as equal: sums of floats are not exact.
        """
        if kv_gib <= 0 or not self.token_bytes:
            return 0
        return math.floor(kv_gib * GIB / self.token_bytes * (1 + 1e-9))


@dataclass(frozen=True, slots=True)
class Room:
    """Tokens of KV cache that an engine has beside its peers on a GPU.

    `static_tokens` in a static split. `elastic_tokens` at most with KVCached, while its peers are
    idle; KVCached keeps some pages of idle engines in reserve, which are not taken off.
    """

    static_tokens: int
    elastic_tokens: int

    def requests(self, length: int, most: int) -> tuple[int, int]:
        """How many requests of `length` tokens run at once: statically, and elastically.

        `most` is what the engine runs at once (max_num_seqs).
        """
        static, elastic = self.static_tokens // length, self.elastic_tokens // length
        return min(most, static), min(most, elastic)

    def may_gain(self, length: int, most: int) -> bool:
        """Whether KVCached lets the engine run more requests of `length` tokens at once."""
        static, elastic = self.requests(length, most)
        return elastic > static


def equal_share(utilization: float, engines: int) -> float:
    """The share of a GPU's memory that each of so many engines has in a static split.

    Rounded down to thousandths, so that all of them together have no more than `utilization`.
    """
    return math.floor(utilization / engines * _PARTS + 1e-9) / _PARTS


def rooms(gpu: Gpu, engines: Sequence[Footprint]) -> tuple[Room, ...]:
    """What each of `engines` has room for if all of them share a GPU."""
    share_gib = gpu.memory_gib * equal_share(gpu.utilization, len(engines))
    idle_gib = sum(one.need_gib(gpu, 0) for one in engines)
    pool_gib = gpu.memory_gib * gpu.utilization - idle_gib
    return tuple(
        Room(one.tokens_in(share_gib - one.need_gib(gpu, 0)), one.tokens_in(pool_gib))
        for one in engines
    )


def room_text(name: str, room: Room, length: int, most: int) -> str:
    """Where a model may gain by KVCached, and where not, for requests of `length` tokens."""
    static, elastic = room.requests(length, most)
    counted = (
        f"{name}: KV cache for {room.static_tokens:,} tokens in a static split, for "
        f"{room.elastic_tokens:,} with KVCached while its peers are idle"
    )
    if not room.may_gain(length, most):
        return (
            f"{counted}; {static} requests of {length:,} tokens at once either way "
            f"(max_num_seqs {most}): no gain is possible"
        )
    return (
        f"{counted}; requests of {length:,} tokens at once: {static} and {elastic}. Below "
        f"{static}, or with all peaks together, no gain is to be expected"
    )
