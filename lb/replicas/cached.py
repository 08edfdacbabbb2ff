"""Which beginnings of prompts a replica has in its cache, as far as this process has sent them.

A prompt is cut into blocks. The hash of a block is of all up to its end, so that a block is in
the cache only if those before it are. When the engine evicts a block is not known. If it has,
the prompt is sent where it will be cached again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

# Tokens of a block, as prompts are estimated.
BLOCK_TOKENS = 256
# What is remembered of a replica at most: a million tokens, more than most caches hold.
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
        while len(cached) > self.most:
            cached.popitem(last=False)

    def clear(self) -> None:
        """The engine is another one, or has lost its cache."""
        self._blocks.clear()
