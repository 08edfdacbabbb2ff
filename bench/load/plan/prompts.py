"""Makes prompts of an exact number of tokens, as the engine counts them."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol, Self

import orjson
from tokenizers import Tokenizer

from bench.errors import UserError
from bench.records import Prefix, Schedule

_SALT_WORDS = 4
_MAX_WORDS = 1024
_MIN_WORDS = 64
# Each attempt moves towards the count; more than one is needed only where tokens span words.
_ATTEMPTS = 64
# Markers of a word's beginning in byte-level (Ġ) and SentencePiece (▁) vocabularies.
_WORD = re.compile("[Ġ▁]?([a-z]{2,12})")
# Frequent English words, which most tokenizers know as one token each.
_WORDS_FILE = Path(__file__).with_name("words.txt")


class PromptMaker:
    """Makes prompts for one tokenizer.

    `overhead_tokens` is what the chat template adds. Measure it once: send any prompt of a
    maker without overhead, subtract its tokens from the server's usage, and continue with
    `with_overhead`.

    Raises UserError when the folder has no readable tokenizer.json, or its
    vocabulary too few plain words.
    """

    def __init__(self, tokenizer_folder: Path, overhead_tokens: int = 0) -> None:
        self._folder = tokenizer_folder
        self._overhead_tokens = overhead_tokens
        self._tokenizer = _load(tokenizer_folder)
        self._words = self._single_token_words()
        self._anchor = min(self._words, key=self.count)

    def with_overhead(self, overhead_tokens: int) -> Self:
        """The same maker for a chat template that adds so many tokens."""
        other = copy.copy(self)
        other._overhead_tokens = overhead_tokens
        return other

    def count(self, text: str) -> int:
        """Tokens of `text` alone, without template or special tokens.

        Raises UserError for a tokenizer that cannot read it, as one without its unknown token.
        """
        try:
            return len(self._tokenizer.encode(text, add_special_tokens=False).ids)
        except Exception as error:  # it raises nothing more precise
            raise UserError(
                f"the tokenizer in {self._folder} cannot read {text[:40]!r} "
                f"({' '.join(str(error).split())}); use the model's real tokenizer"
            ) from error

    def make(
        self, prompt_tokens: int, prompt_seed: int, salt: str, prefixes: Sequence[Prefix] = ()
    ) -> str:
        """A text that is a prompt of exactly `prompt_tokens`, template included.

        `salt` is the trial's id. It decides the first words: otherwise a schedule that is
        replayed in another trial would find its prompts in the engine's prefix cache, and the
        first trial would look slow. All prompts of a trial have the same salt, so that they
        can share `prefixes`: the same prefixes give the same first tokens.

        Raises UserError when the count is below the least possible or cannot be hit.
        """
        wanted = prompt_tokens - self._overhead_tokens
        least = self.count(self._between_anchors([]))
        if wanted < least:
            raise UserError(
                f"a prompt of {prompt_tokens} tokens is wanted, but the shortest with this "
                f"chat template has {self._overhead_tokens + least}; ask for longer prompts"
            )
        pick = random.Random(prompt_seed)
        front = _front(self._words, salt, prefixes)
        inner = (front + pick.choices(self._words, k=wanted))[: wanted - least]
        for _ in range(_ATTEMPTS):
            text = self._between_anchors(inner)
            missing = wanted - self.count(text)
            if missing == 0:
                return text
            inner = inner[:missing] if missing < 0 else inner + pick.choices(self._words, k=missing)
        raise UserError(
            f"no text of exactly {wanted} tokens was found with the tokenizer in {self._folder}; "
            "choose another prompt length"
        )

    def _between_anchors(self, words: Sequence[str]) -> str:
        """The words as a text that always begins and ends with the same word.

        The template's text beside it is then tokenised alike in every prompt, so that the
        template's overhead is constant.
        """
        return " ".join([self._anchor, *words, self._anchor])

    def _single_token_words(self) -> list[str]:
        """Plain words that add one token to a text, most frequent first."""
        vocabulary = self._tokenizer.get_vocab()
        spelled = map(_WORD.fullmatch, sorted(vocabulary, key=vocabulary.__getitem__))
        candidates = dict.fromkeys(match[1] for match in spelled if match)
        alone = self.count("a")
        single = (word for word in candidates if self.count(f"a {word}") == alone + 1)
        words = list(islice(single, _MAX_WORDS))
        if len(words) < _MIN_WORDS:
            raise UserError(
                f"the tokenizer in {self._folder} has {len(words)} plain words of one token, "
                f"{_MIN_WORDS} are needed to make prompts; use the model's real tokenizer"
            )
        return words


class WordPrompts:
    """Makes prompts of about a number of tokens, for a model without a tokenizer at hand.

    A prompt of n words is taken to have `overhead_tokens` + n x `tokens_per_word`; see `fit`.
    """

    def __init__(self, tokens_per_word: float = 1.0, overhead_tokens: float = 0.0) -> None:
        self._words = _WORDS_FILE.read_text(encoding="utf-8").split()
        self._tokens_per_word = tokens_per_word
        self._overhead_tokens = overhead_tokens

    @classmethod
    def fit(cls, short: tuple[int, int | None], long: tuple[int, int | None]) -> Self:
        """The maker for a server that counted two prompts; each is (words, tokens).

        Where it counts no tokens, a word is taken for one.
        """
        if short[1] is None or long[1] is None:
            return cls()
        per_word = max(0.1, (long[1] - short[1]) / (long[0] - short[0]))
        return cls(per_word, max(0.0, short[1] - per_word * short[0]))

    def make(
        self, prompt_tokens: int, prompt_seed: int, salt: str, prefixes: Sequence[Prefix] = ()
    ) -> str:
        """A text of about `prompt_tokens`, template included, as `PromptMaker.make` makes it."""
        count = max(1, round((prompt_tokens - self._overhead_tokens) / self._tokens_per_word))
        pick = random.Random(prompt_seed)
        words = _front(self._words, salt, prefixes) + pick.choices(self._words, k=count)
        return " ".join(words[:count])


class Prompts(Protocol):
    """What makes the prompts of a model."""

    def make(
        self, prompt_tokens: int, prompt_seed: int, salt: str, prefixes: Sequence[Prefix] = ()
    ) -> str: ...


def _front(words: Sequence[str], salt: str, prefixes: Sequence[Prefix]) -> list[str]:
    """The words that a prompt begins with: the trial's own, then those of its prefixes."""
    front = random.Random(salt).choices(words, k=_SALT_WORDS)
    for prefix in prefixes:
        front += random.Random(prefix.seed).choices(words, k=prefix.tokens)
    return front


def make_prompts(schedule: Schedule, makers: Mapping[str, Prompts], salt: str) -> tuple[str, ...]:
    """The prompt of every request of `schedule`, in its order. `makers` is by model."""
    return tuple(
        makers[request.model].make(
            request.prompt_tokens, request.prompt_seed, salt, request.prefixes
        )
        for request in schedule.requests
    )


def _load(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        text = path.read_text(encoding="utf-8")
        content = orjson.loads(text)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a folder with a tokenizer.json") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); download the tokenizer again") from None
    if not (isinstance(content, dict) and "model" in content):
        raise UserError(f"{path}: no tokenizer in it; download the tokenizer again")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # it raises nothing more precise
        why = " ".join(str(error).split())
        raise UserError(f"{path}: no tokenizer ({why}); download the tokenizer again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
