"""What clients may take of the balancer's time and memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take, and the bodies of all connections of a process together.

    `head_bytes` bounds a head, and the trailers of a body. A head has to be complete
    `head_s` after its first byte, a body to bring something
    every `body_s` and, after the first `body_s`, `body_bytes_per_s` on average. A connection
    without a request is closed after `idle_s`, one whose client takes nothing of an answer
    after `stalled_s`.
    """

    head_bytes: int = 32 * 1024
    body_bytes: int = 64 * 1024 * 1024
    bodies_bytes: int = 256 * 1024 * 1024
    head_s: float = 10.0
    body_s: float = 30.0
    body_bytes_per_s: float = 32 * 1024
    idle_s: float = 75.0
    stalled_s: float = 60.0
    # After a refusal, what the client still sends is read, so that it sees the answer.
    linger_s: float = 2.0


class BodyMemory:
    """Bytes of bodies that a process holds: from when they come until nobody needs them."""

    __slots__ = ("held_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
