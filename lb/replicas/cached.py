"""Which beginnings of prompts a replica has in its cache, as far as this process has sent them.

A prompt is cut into blocks. The hash of a block is of all up to its end, so that a block is in
the cache only if those before it are. When the engine evicts a block is not known: it is taken to
keep what was sent last, as much as its cache holds. If it has not, the prompt is sent where it will
be cached again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

# Tokens of a block, as prompts are estimated.
BLOCK_TOKENS = 256
# What is remembered of a replica at most, also where it does not say how much it keeps: a million
# tokens.
_MOST_BLOCKS = 4096


@dataclass(slots=True)
class CachedBlocks:
    """The latest `most` blocks that were sent."""

    most: int = _MOST_BLOCKS
    # In the order of eviction.
    _blocks: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._blocks)

    def matching(self, blocks: Sequence[int]) -> int:
        """How many of the first `blocks` are cached."""
        cached = self._blocks
        for count, block in enumerate(blocks):
            if block not in cached:
                return count
        return len(blocks)

    def add(self, blocks: Sequence[int]) -> None:
        """A prompt with these blocks is sent. Its end is evicted before its beginning."""
        cached = self._blocks
        for block in reversed(blocks):
            cached[block] = None
            cached.move_to_end(block)
        self._evict()

    def resize(self, tokens: int | None) -> None:
        """The engine's cache holds so many tokens; None if that is not known."""
        self.most = _MOST_BLOCKS if tokens is None else min(_MOST_BLOCKS, tokens // BLOCK_TOKENS)
        self._evict()

    def clear(self) -> None:
        """The engine is another one, or has lost its cache."""
        self._blocks.clear()

    def _evict(self) -> None:
        while len(self._blocks) > self.most:
            self._blocks.popitem(last=False)
