"""Tells at a glance the chunk that is like another but for its text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

_START = b"data: "
_END = b"\n\n"
# The text of a JSON string without escapes: it ends where it seems to.
_PLAIN = rb'[^"\\\x00-\x1f]+'
_PROBE = "another text"


def pattern_of(event: bytes) -> Callable[[bytes], object] | None:
    """What tells whether a piece is like `event`, a whole one; None where it is not that simple.

    The chunks of a stream have the same id, time, model and form, so that nearly all of
    an answer is read by comparing bytes: 0.3 µs for a chunk, an eighth of what parsing takes.
    Events that fit differ for a parser in the value of one string, the content of
    their only choice, and that is not empty.
    """
    text = _only_text(event)
    if text is None or not re.fullmatch(_PLAIN, text):
        return None
    quoted = b'"%s"' % text
    before, _, after = event.partition(quoted)
    # What looks like the text may be another value, and the text be written otherwise.
    probe = before + b'"%s"' % _PROBE.encode() + after
    if event.count(quoted) != 1 or _only_text(probe) != _PROBE.encode():
        return None
    return re.compile(b'%s"%s"%s' % (re.escape(before), _PLAIN, re.escape(after))).fullmatch


def _only_text(event: bytes) -> bytes | None:
    """The content of an event's only choice, if the event tells nothing else."""
    if not (event.startswith(_START) and event.endswith(_END)) or event.count(b"\n") != len(_END):
        return None
    try:
        chunk: dict[str, Any] = orjson.loads(event[len(_START) : -len(_END)])
        (choice,) = chunk["choices"]
        text: bytes = choice["delta"]["content"].encode()
        says_more = chunk.get("usage") or chunk.get("error") or choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return None if says_more else text
