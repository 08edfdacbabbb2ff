"""Asking a running source what it has streamed."""

from __future__ import annotations

import httpx

from validation.sidebyside.answers import TALLY
from validation.sidebyside.tally import Tally


def take_tally(port: int) -> Tally:
    """What the source at `port` has streamed since it was last asked."""
    answer = httpx.get(f"http://127.0.0.1:{port}{TALLY}", trust_env=False)
    return Tally(**answer.json())
