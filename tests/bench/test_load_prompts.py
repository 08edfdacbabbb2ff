"""Prompts: exact under any tokenizer, seeded, and never the same in two trials."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from bench.errors import UserError
from bench.load.plan.prompts import PromptMaker, make_prompts
from bench.records import PlannedRequest, Prefix, Schedule

TEMPLATE = "<|begin|>user\n{}\n<|begin|>assistant\n"
SPECIAL = ["<unk>", "<|begin|>", "<|end|>"]
SEEDS = st.integers(0, 2**53)


def corpus() -> list[str]:
    """Lines of made-up words, frequent ones first, with some code-like noise."""
    rng = random.Random(1)
    syllables = ["ba", "de", "ki", "lo", "mu", "ra", "se", "ti", "no", "pha"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(300)]
    weights = [1 / rank for rank in range(1, 301)]
    return [
        " ".join(rng.choices(words, weights, k=12)) + rng.choice(["\n", ".\n", "()\n", " 12\n"])
        for _ in range(800)
    ]


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def sentencepiece_bpe() -> Tokenizer:
    """As Llama 2 and Mistral have it: no pre-tokenizer, a begin token on encoding."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 1)]
    )
    tokenizer.enable_truncation(16)
    return tokenizer


def superwords() -> Tokenizer:
    """Tokens that span words, so that a text has fewer tokens than words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


FAMILIES = {"byte-level": byte_level, "unigram": unigram, "sentencepiece": sentencepiece_bpe}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    FAMILIES[request.param]().save(str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def maker(folder: Path) -> PromptMaker:
    return PromptMaker(folder)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    """The family's tokenizer as the engine would use it."""
    loaded = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded.no_truncation()
    return loaded


@given(st.integers(2, 400), SEEDS, st.text())
def test_a_prompt_has_exactly_the_tokens_asked_for(
    maker: PromptMaker, tokenizer: Tokenizer, tokens: int, seed: int, salt: str
) -> None:
    text = maker.make(tokens, seed, salt)
    assert len(tokenizer.encode(text, add_special_tokens=False)) == tokens


@pytest.fixture(scope="module")
def superword_maker(tmp_path_factory: pytest.TempPathFactory) -> PromptMaker:
    path = tmp_path_factory.mktemp("superwords")
    superwords().save(str(path / "tokenizer.json"))
    return PromptMaker(path)


@given(st.integers(2, 400), SEEDS)
def test_a_prompt_is_exact_also_where_tokens_span_words(
    superword_maker: PromptMaker, tokens: int, seed: int
) -> None:
    text = superword_maker.make(tokens, seed, "trial")
    assert superword_maker.count(text) == tokens


@given(st.integers(2, 100), SEEDS)
def test_inside_a_chat_template_the_count_is_exact_too(
    maker: PromptMaker, tokenizer: Tokenizer, tokens: int, seed: int
) -> None:
    def served(text: str) -> int:
        return len(tokenizer.encode(TEMPLATE.format(text), add_special_tokens=False))

    overhead = served(maker.make(8, 0, "probe")) - 8
    text = maker.with_overhead(overhead).make(overhead + tokens, seed, "trial")
    assert served(text) == overhead + tokens


@given(SEEDS)
def test_the_same_seed_and_salt_give_the_same_text(maker: PromptMaker, seed: int) -> None:
    assert maker.make(32, seed, "trial-1") == maker.make(32, seed, "trial-1")


@given(SEEDS)
def test_another_seed_gives_another_text(maker: PromptMaker, seed: int) -> None:
    assert maker.make(32, seed, "trial-1") != maker.make(32, seed + 1, "trial-1")


@given(SEEDS)
def test_another_trial_differs_within_the_first_words_and_not_after(
    maker: PromptMaker, seed: int
) -> None:
    first, second = (maker.make(32, seed, salt).split(" ") for salt in ("trial-1", "trial-2"))
    assert first[:5] != second[:5]
    assert first[5:] == second[5:]


@given(st.integers(1, 200), st.integers(20, 100), SEEDS, SEEDS)
def test_prompts_with_the_same_prefix_share_its_tokens(
    maker: PromptMaker, tokenizer: Tokenizer, shared: int, own: int, one: int, other: int
) -> None:
    first, second = (
        tokenizer.encode(maker.make(shared + own, seed, "trial", [Prefix(shared, 7)])).ids
        for seed in (one, other)
    )
    assert first[:shared] == second[:shared]
    assert (first == second) is (one == other)


@given(st.integers(1, 200), st.integers(20, 100), SEEDS, st.sampled_from(["trial-1", "trial-2"]))
def test_a_prompt_with_a_prefix_is_exact_too(
    maker: PromptMaker, shared: int, own: int, seed: int, salt: str
) -> None:
    assert maker.count(maker.make(shared + own, seed, salt, [Prefix(shared, 7)])) == shared + own


def test_another_prefix_or_trial_shares_no_more_than_prompts_without(maker: PromptMaker) -> None:
    def words(salt: str, prefix: int) -> list[str]:
        return maker.make(400, 1, salt, [Prefix(300, prefix)]).split(" ")

    # The anchor and the four words of the salt begin all prompts of a trial.
    assert words("trial-1", 0)[:5] == words("trial-1", 1)[:5]
    assert words("trial-1", 0)[:20] != words("trial-1", 1)[:20]
    assert words("trial-1", 0)[:5] != words("trial-2", 0)[:5]


def test_prompts_follow_the_schedule_with_each_models_own_maker(maker: PromptMaker) -> None:
    requests = (
        PlannedRequest(0, 0.0, "a", 20, 2, 11),
        PlannedRequest(1, 0.0, "b", 20, 2, 12),
    )
    schedule = Schedule(requests, 1.0, 2.0, None, "")
    prompts = make_prompts(schedule, {"a": maker, "b": maker.with_overhead(5)}, "trial")
    assert [maker.count(prompt) for prompt in prompts] == [20, 15]


def test_a_prompt_shorter_than_the_template_is_refused_with_the_least_length(
    maker: PromptMaker,
) -> None:
    with pytest.raises(UserError, match=r"a prompt of 13 tokens is wanted.* has 14"):
        maker.with_overhead(12).make(13, 1, "trial")


def test_a_vocabulary_without_words_is_refused(tmp_path: Path) -> None:
    letters = {letter: index for index, letter in enumerate("abcdefgh ")}
    Tokenizer(models.BPE(letters, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="has 0 plain words of one token"):
        PromptMaker(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("version https://git-lfs.github.com/spec/v1", "not JSON"),
        ("[]", "no tokenizer in it"),
        ("{}", "no tokenizer in it"),
        ('{"model": 3}', "no tokenizer \\("),
        ('{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}', "no tokenizer \\("),
    ],
)
def test_a_folder_without_a_tokenizer_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=message):
        PromptMaker(tmp_path)
