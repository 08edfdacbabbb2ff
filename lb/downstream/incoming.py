"""A client's request as a value, and what must hold of its head."""

from __future__ import annotations

from dataclasses import dataclass

from lb.apierror import ApiError, bad_request
from lb.http1 import Header


# Nothing changes it, but a frozen one would take six times as long to make.
@dataclass(slots=True)
class Incoming:
    """A whole request. `target` is path and query, header names are lower case.

    `keep_alive` is what the client wants; `http10` clients know no chunks. `complete_s`
    is when the last byte came, on the monotonic clock.
    """

    method: bytes
    target: bytes
    headers: list[Header]
    body: bytes
    keep_alive: bool
    http10: bool
    complete_s: float


def objection(target: bytes, headers: list[Header], version: str) -> ApiError | None:
    """Why a head is refused, beyond what the parser refuses already.

    The parser (llhttp, strict) rejects what request smuggling is made of: two lengths,
    a length beside chunks, unknown transfer codings, folded lines, bare CR and NUL.
    """
    if version not in {"1.1", "1.0"}:
        return bad_request(f"HTTP/{version} is not spoken here, use HTTP/1.1")
    if not target.startswith(b"/"):
        return bad_request("The request target must begin with '/'")
    hosts = 0
    for name, _ in headers:
        if name == b"host":
            hosts += 1
        elif name == b"upgrade":
            return bad_request("Upgrade is not supported")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return bad_request(f"A request has one Host header, seen {hosts}")
    return None
