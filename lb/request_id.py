"""Every request has an id: its client's, or one that the balancer gives it."""

from __future__ import annotations

import itertools
import re
import secrets

from lb.http1 import Header

REQUEST_ID_HEADER = b"x-request-id"

_SANE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestIds:
    """Ids that no other process gives."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8).encode("ascii")
        self._numbers = itertools.count()

    def identify(self, headers: list[Header]) -> tuple[bytes, list[Header]]:
        """The id of a request, and its headers with it."""
        for name, value in headers:
            if name == REQUEST_ID_HEADER:
                others = [header for header in headers if header[0] != REQUEST_ID_HEADER]
                if _SANE.fullmatch(value) and len(others) + 1 == len(headers):
                    return value, headers
                headers = others
                break
        made = b"%b-%x" % (self._prefix, next(self._numbers))
        return made, [*headers, (REQUEST_ID_HEADER, made)]
