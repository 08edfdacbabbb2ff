"""Server-sent events, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.sse import Event, events

VALUES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)
NEWLINES = st.sampled_from(["\n", "\r\n"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[tuple[str, str]], bytes]:
    """Events as (name, data), and a stream of them with comments in between."""
    wanted, lines = [], []
    for lines_of_data in draw(st.lists(st.lists(VALUES, min_size=1, max_size=3), max_size=8)):
        name = draw(st.sampled_from(["message", "error"]))
        newline = draw(NEWLINES)
        fields = [f"data: {value}" for value in lines_of_data]
        if name != "message":
            fields.insert(draw(st.integers(0, len(fields))), f"event: {name}")
        if draw(st.booleans()):
            fields.insert(draw(st.integers(0, len(fields))), ": a comment")
        lines += [field + newline for field in [*fields, ""]]
        wanted.append((name, "\n".join(lines_of_data)))
    return wanted, "".join(lines).encode()


@st.composite
def cuts(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    edges = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    starts, ends = [0, *edges], [*edges, len(stream)]
    return [stream[start:end] for start, end in zip(starts, ends, strict=True)]


@given(streams(), st.data())
def test_events_do_not_depend_on_how_the_bytes_are_cut(
    stream: tuple[list[tuple[str, str]], bytes], data: st.DataObject
) -> None:
    wanted, encoded = stream
    pieces = [(float(index), cut) for index, cut in enumerate(data.draw(cuts(encoded)))]
    assert [(event.name, event.data) for event in events(pieces)] == wanted


@given(streams(), st.data())
def test_an_event_has_the_time_of_the_piece_that_completed_it(
    stream: tuple[list[tuple[str, str]], bytes], data: st.DataObject
) -> None:
    _, encoded = stream
    pieces = [(float(index), cut) for index, cut in enumerate(data.draw(cuts(encoded)))]
    for number, event in enumerate(events(pieces)):
        before = [piece for piece in pieces if piece[0] < event.at_s]
        until = [piece for piece in pieces if piece[0] <= event.at_s]
        assert len(list(events(before))) <= number < len(list(events(until)))


def test_an_event_that_no_blank_line_ended_is_dropped() -> None:
    assert list(events([(1.0, b"data: a\n\ndata: b\n")])) == [Event(1.0, "message", "a")]


@pytest.mark.parametrize(
    "stream", [b"", b"\n\n\n", b": ping\n\n", b"id: 7\nretry: 5\n\n", b"hi\n\n"]
)
def test_what_carries_no_data_is_no_event(stream: bytes) -> None:
    assert list(events([(1.0, stream)])) == []


def test_the_space_after_the_colon_is_optional_and_only_one_is_dropped() -> None:
    found = events([(1.0, b"data:a\n\ndata:  b\n\n")])
    assert [event.data for event in found] == ["a", " b"]
