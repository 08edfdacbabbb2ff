"""Tells at a glance the chunk that is like another but for its text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

import orjson

_START = b"data: "
_END = b"\n\n"
# The text of a JSON string without escapes: it ends where it seems to.
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]+')
_PROBE = "another text"


@dataclass(frozen=True, slots=True)
class Pattern:
    """What goes before and after the text of an event that says nothing but that text.

    The chunks of a stream have the same id, time, model and form, so that nearly all of
    an answer is read by comparing bytes: 0.4 µs for a chunk, a fifth of what parsing takes.
    """

    before: bytes
    after: bytes

    @classmethod
    def of(cls, event: bytes) -> Self | None:
        """The pattern of `event`, a whole one; None where it is not that simple.

        Events that fit it differ for a parser in the value of one string, the content of
        their only choice, and that is not empty.
        """
        text = _only_text(event)
        if text is None or not _PLAIN.fullmatch(text):
            return None
        quoted = b'"%s"' % text
        before, _, after = event.partition(quoted)
        # What looks like the text may be another value, and the text be written otherwise.
        probe = before + b'"%s"' % _PROBE.encode() + after
        if event.count(quoted) != 1 or _only_text(probe) != _PROBE.encode():
            return None
        return cls(before + b'"', b'"' + after)

    def fits(self, piece: bytes) -> bool:
        """Whether `piece` is such an event, with whatever text."""
        return (
            piece.startswith(self.before)
            and piece.endswith(self.after)
            and _PLAIN.fullmatch(piece, len(self.before), len(piece) - len(self.after)) is not None
        )


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
