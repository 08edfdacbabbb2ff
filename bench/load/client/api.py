"""How requests for a server are written: path, headers, body fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import orjson

from bench.errors import UserError
from bench.processes.tls import Tls
from bench.records import PlannedRequest

ApiKind = Literal["chat", "completions"]
_PATHS: Mapping[ApiKind, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


@dataclass(frozen=True, slots=True)
class Api:
    """How the requests for a server are written.

    `headers` are sent with every request; they may hold keys, so no text shows them. `fields`
    replace or extend the fields of a request's body; None leaves a field out. Without
    `exact_answers` the server may end an answer earlier than asked.
    """

    kind: ApiKind = "chat"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    fields: Mapping[str, Any] = field(default_factory=dict)
    tls: Tls = field(default_factory=Tls)
    exact_answers: bool = True

    @property
    def path(self) -> str:
        """Where completions are, below the base URL."""
        return _PATHS[self.kind]

    def asked(self, prompt: str) -> Mapping[str, Any]:
        """The field of a body that holds the prompt."""
        if self.kind == "completions":
            return {"prompt": prompt}
        return {"messages": [{"role": "user", "content": prompt}]}

    def head(self, url: SplitResult) -> str:
        """The head of a request to the base URL `url`, without the length of the body."""
        own = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return (
            f"POST {url.path.rstrip('/')}{self.path} HTTP/1.1\r\n"
            f"Host: {url.netloc.rpartition('@')[2]}\r\n"
            "Content-Type: application/json\r\n"
            "Accept: text/event-stream\r\n"
            "Accept-Encoding: identity\r\n"
            f"{own}"
        )

    def body(self, planned: PlannedRequest, prompt: str) -> bytes:
        """The body of a request as JSON.

        The answer's length is fixed three times over: `max_tokens`, `ignore_eos`, and
        `min_tokens` (vLLM), which also keeps special tokens out, whose text is empty.
        """
        body = {
            "model": planned.model,
            **self.asked(prompt),
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": planned.output_tokens,
            "min_tokens": planned.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            **self.fields,
        }
        return orjson.dumps({name: value for name, value in body.items() if value is not None})


def split_url(base_url: str) -> SplitResult:
    """The parts of an HTTP URL with a host. Raises UserError with one line for any other text."""
    try:
        url = urlsplit(base_url)
        _ = url.port
        (url.hostname or "").encode("idna")
    except ValueError as error:
        raise UserError(f"{base_url!r} is not a URL: {error}") from None
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise UserError(f"{base_url!r} is not an HTTP URL; write http://host:port")
    return url
