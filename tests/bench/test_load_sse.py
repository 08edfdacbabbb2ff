"""Server-sent events, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.client.sse import Event, EventReader

VALUES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
NEWLINES = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[tuple[str, str]], bytes]:
    """Events as (name, data), and a stream of them with comments in between.

    Events may be without data, and a byte order mark may come before all.
    """
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
    mark = draw(st.sampled_from(["", "\ufeff"]))
    return wanted, (mark + "".join(lines)).encode()


@st.composite
def cuts(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    edges = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    starts, ends = [0, *edges], [*edges, len(stream)]
    return [stream[start:end] for start, end in zip(starts, ends, strict=True)]


def read(*pieces: bytes) -> list[Event]:
    """All events of a stream that comes in these pieces."""
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)]


@given(streams(), st.data())
def test_events_do_not_depend_on_how_the_bytes_are_cut(
    stream: tuple[list[tuple[str, str]], bytes], data: st.DataObject
) -> None:
    wanted, encoded = stream
    assert read(*data.draw(cuts(encoded))) == wanted


@given(streams(), st.data())
def test_an_event_is_told_as_soon_as_its_last_byte_has_come(
    stream: tuple[list[tuple[str, str]], bytes], data: st.DataObject
) -> None:
    _, encoded = stream
    reader, fed = EventReader(), b""
    for piece in data.draw(cuts(encoded)):
        already = len(read(fed))
        fed += piece
        assert len(reader.feed(piece)) == len(read(fed)) - already


@given(streams(), st.data())
def test_between_events_nothing_is_left_of_the_one_before(
    stream: tuple[list[tuple[str, str]], bytes], data: st.DataObject
) -> None:
    _, encoded = stream
    reader = EventReader()
    for piece in data.draw(cuts(encoded)):
        reader.feed(piece)
        if reader.between_events:
            assert EventReader().feed(b"data: x\n\n") == reader.feed(b"data: x\n\n")


def test_an_event_that_no_blank_line_ended_is_dropped() -> None:
    assert read(b"data: a\n\ndata: b\n") == [Event("message", "a")]


def test_only_one_byte_order_mark_is_no_part_of_the_stream() -> None:
    assert read(b"\xef\xbb\xbfdata: a\n\n") == [Event("message", "a")]
    assert read(b"\xef", b"\xbb\xbf", b"data: a\r\rdata: b\r", b"\r") == [
        Event("message", "a"),
        Event("message", "b"),
    ]
    assert read(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n") == [Event("message", "b")]
    assert read(b"data: a\n\n\xef\xbb\xbfdata: b\n\n") == [Event("message", "a")]


@pytest.mark.parametrize(
    "stream", [b"", b"\n\n\n", b": ping\n\n", b"id: 7\nretry: 5\n\n", b"hi\n\n"]
)
def test_what_carries_no_data_is_no_event(stream: bytes) -> None:
    assert read(stream) == []


def test_the_space_after_the_colon_is_optional_and_only_one_is_dropped() -> None:
    found = read(b"data:a\n\ndata:  b\n\n")
    assert [event.data for event in found] == ["a", " b"]
