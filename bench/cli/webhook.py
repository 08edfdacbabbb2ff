"""Posts the verdict of a run to an address that may hold a secret: it is never shown."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from bench.errors import UserError

LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook, and the name of the environment variable that has its URL."""

    name: str
    url: str = field(repr=False)

    def post(self, body: bytes, limit_s: float = LIMIT_S) -> str:
        """Post JSON, within `limit_s` in all; returns a line that says what came of it."""
        said = [f"not delivered: no answer within {limit_s:g} s"]
        # No timeout of a socket covers the resolving of names, or an answer that trickles.
        # As a daemon the thread does not hold up the end of the run.
        posting = threading.Thread(target=lambda: said.append(self._post(body)), daemon=True)
        posting.start()
        posting.join(limit_s)
        return f"webhook in {self.name}: {said[-1]}"

    def _post(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json", "User-Agent": "llm-serving-ab-bench"}
        request = Request(self.url, body, headers, method="POST")
        try:
            with build_opener(_NoRedirects).open(request, timeout=LIMIT_S):
                return "delivered"
        except HTTPError as error:
            return f"not delivered: the answer was status {error.code}"
        except (OSError, HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", error)).replace(self.url, "URL")
            return f"not delivered: {' '.join(reason.split()) or type(error).__name__}"


def webhook_of(name: str | None, environ: Mapping[str, str]) -> Webhook | None:
    """The webhook whose URL is in the environment variable `name`; None without a name.

    Raises UserError with one line, which does not show the URL, where there is none or no use of
    it.
    """
    if name is None:
        return None
    url = environ.get(name, "").strip()
    if not url:
        raise UserError(f"environment variable {name} is empty; put the webhook's URL in it")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise UserError(f"environment variable {name} holds no HTTP URL; put the webhook's in it")
    if parts.username or parts.password:
        raise UserError(f"the URL in {name} holds a user or a password, which are not sent")
    return Webhook(name, url)


class _NoRedirects(HTTPRedirectHandler):
    """Takes a redirect for an answer: the verdict goes where the user sent it, or nowhere."""

    def redirect_request(self, *_: Any) -> None:
        """Make no new request; the answer becomes an HTTPError."""
