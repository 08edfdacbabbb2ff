"""Conversations of several turns, each of which sends again all that was said before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.load.workload import SEED_BOUND, Ask, Distribution
from bench.records import Prefix


@dataclass(frozen=True, slots=True)
class Conversations:
    """Many conversations under way at once, which take turns.

    A turn's prompt is the system prompt of `system_tokens`, everything of the turns before,
    and a message of the user. What is sent again as the assistant's part has the length of
    the answer that was asked for, but is a text of the schedule: both arms have to be sent
    the same. A conversation ends after a number of `turns`, or before its prompt and answer
    would have more than `most_tokens`. `parallel` ones take turns in random order, so
    that between two turns of one lie about as many requests of others.
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
        # Turns left and what was said so far, by conversation; who spoke last stands last.
        under_way: list[tuple[int, tuple[Prefix, ...]]] = []
        for turns, user, answer, seed, chance in lengths:
            fresh: tuple[int, tuple[Prefix, ...]] = (turns, (system,))
            left, said = fresh
            if len(under_way) >= self.parallel:
                # Any one of those that have waited longer.
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

    def mean_output(self) -> float:
        return self.answer.mean()

    @staticmethod
    def _tokens(said: tuple[Prefix, ...]) -> int:
        return sum(part.tokens for part in said)
