"""Conversations of several turns; each turn sends all earlier ones again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.load.plan.workload import SEED_BOUND, Ask, Distribution
from bench.records import Prefix


@dataclass(frozen=True, slots=True)
class Conversations:
    """Many conversations at the same time, which take turns.

    The prompt of a turn is the system prompt of `system_tokens`, all earlier turns, and a
    message of the user. The assistant's earlier answers have the length that was asked for,
    but their text is the schedule's: both arms must be sent the same. A conversation ends
    after a number of `turns`, or before prompt and answer would have more than `most_tokens`.
    `parallel` conversations take turns in random order, so that about as many requests of
    others lie between two turns of one.
    """

    turns: Distribution
    user: Distribution
    answer: Distribution
    system_tokens: int
    most_tokens: int
    parallel: int

    def __post_init__(self) -> None:
        if self.parallel < 1 or self.system_tokens < 1:
            raise ValueError(
                f"parallel and system_tokens must be at least 1, got {self.parallel} and "
                f"{self.system_tokens}"
            )

    def draw(self, count: int, rng: np.random.Generator) -> Iterator[Ask]:
        """`count` turns in the order in which they are sent. Raises ValueError if none fits."""
        system = Prefix(self.system_tokens, 0)
        lengths = zip(
            self.turns.sample(count, rng).tolist(),
            self.user.sample(count, rng).tolist(),
            self.answer.sample(count, rng).tolist(),
            rng.integers(1, SEED_BOUND, size=count).tolist(),
            rng.random(count).tolist(),
            strict=True,
        )
        # Of each conversation: turns left, and the text so far; the latest one stands last.
        under_way: list[tuple[int, tuple[Prefix, ...]]] = []
        for turns, user, answer, seed, chance in lengths:
            fresh: tuple[int, tuple[Prefix, ...]] = (turns, (system,))
            left, said = fresh
            if len(under_way) >= self.parallel:
                # One of the half that has waited longer.
                left, said = under_way.pop(int(chance * (len(under_way) + 1) / 2))
                if self._tokens(said) + user + answer > self.most_tokens:
                    left, said = fresh
            prompt = self._tokens(said) + user
            if prompt + answer > self.most_tokens:
                raise ValueError(
                    f"a first turn of {prompt + answer} tokens is more than {self.most_tokens}"
                )
            yield Ask(prompt, answer, seed, said)
            if left > 1:
                # The same seed: the message is the beginning of what is sent again.
                under_way.append((left - 1, (*said, Prefix(user + answer, seed))))

    @staticmethod
    def _tokens(said: tuple[Prefix, ...]) -> int:
        return sum(part.tokens for part in said)
