"""Chunks that are read by comparing bytes say what a parser would find in them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.client.answer import Answer, pattern_of, read_answer
from bench.load.client.exchange import Exchange
from tests.bench.load_source import DONE, STOP, delta, event, usage

# Texts that are cut, quoted, escaped, or look like other parts of a chunk.
TEXTS = st.one_of(st.text(max_size=4), st.sampled_from(["", '"', "\\", "\n", "role", "x", "0"]))
KEYS = st.sampled_from(["content", "reasoning", "role", "text"])


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """An event as servers write it, with escapes or without, with one choice or others."""
    choice = {
        "index": 0,
        "delta": draw(st.dictionaries(KEYS, TEXTS, max_size=2)),
        "finish_reason": draw(st.sampled_from([None, None, None, "length"])),
    }
    counts = st.builds(lambda n: {"prompt_tokens": 7, "completion_tokens": n}, st.integers(0, 2))
    content = {
        "id": draw(st.sampled_from(["x", "0"])),
        "choices": draw(st.sampled_from([[choice], [choice], [choice, choice], []])),
        "usage": draw(st.one_of(st.none(), st.none(), counts)),
    }
    ascii_only, indent = draw(st.booleans()), draw(st.sampled_from([None, None, None, 1]))
    return (
        b"data: " + json.dumps(content, ensure_ascii=ascii_only, indent=indent).encode() + b"\n\n"
    )


def exchange(pieces: list[bytes]) -> Exchange:
    made = Exchange(status=200, headers={"content-type": "text/event-stream"}, complete=True)
    for number, piece in enumerate(pieces):
        made.add(float(number), piece)
    return made


def read_slowly(events: list[bytes]) -> Answer:
    """Each event comes in two pieces, so that none can be compared."""
    answer = read_answer(exchange([half for one in events for half in (one[:3], one[3:])]))
    answer.chunk_s = [at_s // 2 for at_s in answer.chunk_s]
    return answer


@given(st.lists(chunks(), max_size=8))
def test_comparing_finds_what_parsing_finds(events: list[bytes]) -> None:
    whole = [*events, STOP, DONE]
    assert read_answer(exchange(whole)) == read_slowly(whole)


@given(chunks(), chunks())
def test_what_fits_tells_one_text_and_nothing_else(first: bytes, second: bytes) -> None:
    fits = pattern_of(first)
    if fits is not None and fits(second):
        found = read_slowly([second])
        assert (found.chunk_s, found.finish_reason, found.output_tokens) == ([0.0], None, None)


def test_a_chunk_with_another_text_fits() -> None:
    fits = pattern_of(delta(content="one "))
    assert fits is not None
    assert fits(delta(content="two"))


@pytest.mark.parametrize(
    "other",
    [
        delta(content=""),
        delta(content='say "hi"'),
        delta(content="x", finish_reason="length"),
        delta(content="x") + delta(content="x"),
        delta(content="x")[:-1],
        delta(reasoning="x"),
        event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 2}),
        DONE,
        b"",
    ],
)
def test_a_chunk_that_says_more_or_less_does_not_fit(other: bytes) -> None:
    fits = pattern_of(delta(content="one"))
    assert fits is not None
    assert not fits(other)


@pytest.mark.parametrize(
    "first",
    [
        delta(content=""),
        delta(content="x", finish_reason="length"),
        delta(content="index"),
        event(choices=[{"delta": {"content": "x"}}] * 2),
        event(choices=[{"delta": {"content": "x"}}], usage={"completion_tokens": 1}),
        b'data: {"id": "x", "choices": [{"delta": {"content": "\\u0078"}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "x"}}],\ndata: "id": 1}\n\n',
        b": ping\n\n" + delta(content="x"),
        usage(7, 2),
        DONE,
    ],
)
def test_no_pattern_is_made_of_what_is_not_that_simple(first: bytes) -> None:
    assert pattern_of(first) is None
