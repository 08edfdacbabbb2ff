"""Damaged copies of what is read, for tests that a reader fails in its own words and no others."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

# A whole number from 0 to below the given one.
Pick = Callable[[int], int]

# What tools and people write by mistake where another value belongs, and what parsers trip over.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 5e-324, 2**63, 10**400),
    *(math.nan, math.inf, -math.inf),
    *("", "0", "-1", "nan", "1e999", "\ud800", "\0", "a/../b", "\n", "ü" * 300),
    *([], {}, [[]], [None], {"": None}, [1, "a"], {"a": {"b": []}}),
)
_ODD_BYTES = (
    *(b"", b"\0", b"\xff", b"\xed\xa0\x80", b"\r", b"\n", b"\r\n\r\n", b" ", b"\t", b'"', b"'"),
    *(b"{", b"[", b"}", b"]", b":", b",", b";", b"-", b"#", b"&a", b"*a", b"!!x ", b"%", b"|"),
    *(b"9" * 400, b"9" * 5000, b"1e999", b"nan", b"[" * 2000, b'{"a":' * 2000, b"\\", b"=" * 300),
)
_WORD = re.compile(rb"[0-9]+|[A-Za-z_]+")


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each container in JSON values, and each key or index in it."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inside:
        yield tree, key
        if isinstance(value, dict | list):
            yield from places(value)


def damaged_tree(tree: Any, pick: Pick) -> Any:
    """A copy of JSON values with a few of them replaced, removed, doubled or exchanged."""
    tree = deepcopy(tree)
    for _ in range(1 + pick(3)):
        known = list(places(tree))
        if not known:
            break
        holder, key = known[pick(len(known))]
        what = pick(8)
        if what == 0:
            del holder[key]
        elif what == 1:
            other, place = known[pick(len(known))]
            holder[key] = deepcopy(other[place])
        elif what == 2 and isinstance(holder, list):
            holder.append(deepcopy(holder[key]))
        elif what == 3 and isinstance(holder[key], int | float):
            holder[key] = (-holder[key], holder[key] * 10**6, str(holder[key]))[pick(3)]
        else:
            holder[key] = deepcopy(ODD[pick(len(ODD))])
    return tree


def damaged_bytes(data: bytes, pick: Pick) -> bytes:
    """The data with a few of its parts cut off, removed, doubled, moved or replaced."""
    for _ in range(1 + pick(4)):
        at = pick(len(data) + 1)
        upto = min(len(data), at + 1 + pick(16) ** 2)
        what = pick(7)
        if what == 0:
            data = data[:at]
        elif what == 1:
            data = data[:at] + data[upto:]
        elif what == 2:
            data = data[:at] + data[at:upto] * (2 + pick(50)) + data[upto:]
        elif what == 3:
            to = pick(len(data) + 1)
            data = data[:to] + data[at:upto] + data[to:]
        elif what == 4 and (words := list(_WORD.finditer(data))):
            word = words[pick(len(words))]
            data = data[: word.start()] + _ODD_BYTES[pick(len(_ODD_BYTES))] + data[word.end() :]
        else:
            data = data[:at] + _ODD_BYTES[pick(len(_ODD_BYTES))] + data[at + pick(2) :]
    return data


@st.composite
def damaged(draw: st.DrawFn, data: bytes, *, of_json: bool = False) -> bytes:
    """Damaged copies of a file: of its bytes, or of the values in it if each line is JSON."""

    def pick(count: int) -> int:
        return draw(st.integers(0, count - 1))

    if of_json and pick(3):
        lines = data.splitlines()
        at = pick(len(lines))
        lines[at] = json.dumps(damaged_tree(json.loads(lines[at]), pick)).encode()
        return b"\n".join(lines)
    return damaged_bytes(data, pick)
