"""What the balancer reads of a request for replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from json import dumps
from typing import Any

import orjson

from lb.apierror import invalid_body
from lb.body import read_body
from lb.downstream import Incoming
from lb.http1 import Header
from lb.policies.affinity import key_of
from lb.replicas import Request
from lb.routes import Route, listed_path

SESSION_HEADER = b"x-session-id"

# Long enough to tell system prompts apart, short enough that all turns of one
# conversation, and all that begin alike, go to the same replica.
_PREFIX_BYTES = 1024
# Browsers ask with it, and without any key, whether a page may send a request.
_PREFLIGHT_HEADER = b"access-control-request-method"

KeyOf = Callable[[Mapping[str, Any], Iterable[Header]], int | None]


def request_of(
    route: Route,
    incoming: Incoming,
    default_model: Callable[[], str],
    key_of: KeyOf | None = None,
) -> Request:
    """What a request on `route` asks for. Raises ApiError, like `parse_request`."""
    if route.kind != "relayed":
        return Request("", 0, stored_response=route.kind == "stored")
    if incoming.method != b"POST":
        request = Request(default_model(), 0)
    else:
        request = parse_request(incoming, default_model, key_of)
    request.path = listed_path(incoming.target)
    return request


def is_preflight(route: Route, incoming: Incoming) -> bool:
    """Whether a browser asks if a page may send a request."""
    return route.kind == "preflight" and _PREFLIGHT_HEADER in dict(incoming.headers)


def parse_request(
    incoming: Incoming, default_model: Callable[[], str], key_of: KeyOf | None = None
) -> Request:
    """The model that is asked for, an estimate of the prompt's length, and the key.

    Raises ApiError, like `read_body` and `default_model`, which is called if the body names
    no model, and 400 for a name that is no text. The rest is the replica's to judge.
    """
    fields, prompt_tokens = read_body(incoming)
    model = fields.get("model")
    if not model:
        model = fields["model"] = default_model()
    elif not isinstance(model, str):
        raise invalid_body("The model's name in the body is not a string", param="model")
    key = None if key_of is None else key_of(fields, incoming.headers)
    return Request(model, prompt_tokens, key, bool(fields.get("previous_response_id")))


def prefix_key(fields: Mapping[str, Any], _headers: Iterable[Header]) -> int | None:
    """Stands for the model and the first `_PREFIX_BYTES` of the prompt or the messages."""
    prompt = fields.get("messages") or fields.get("prompt")
    if not isinstance(prompt, str | list) or not prompt:
        return None
    text = b""
    # No more of it than is needed: prompts may have megabytes.
    for part in [prompt] if isinstance(prompt, str) else prompt:
        text += _beginning(part) + b","
        if len(text) >= _PREFIX_BYTES:
            break
    return key_of(_bytes(fields["model"]), text[:_PREFIX_BYTES])


def session_key(fields: Mapping[str, Any], headers: Iterable[Header]) -> int | None:
    """Stands for the session that a header names, or else for the body's `user`."""
    for name, value in headers:
        if name == SESSION_HEADER:
            return key_of(value)
    user = fields.get("user")
    return key_of(_bytes(user)) if isinstance(user, str) and user else None


def _beginning(part: Any) -> bytes:
    """At least what counts of a prompt, a token's number or a message."""
    if isinstance(part, str):
        return _bytes(part[:_PREFIX_BYTES])
    if isinstance(part, dict) and isinstance(content := part.get("content"), str):
        part = {**part, "content": content[:_PREFIX_BYTES]}
    try:
        return orjson.dumps(part)
    except TypeError:  # too deep, or what only a lenient reader takes
        with suppress(RecursionError):
            return dumps(part).encode()
        return b""


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


KEYS: Mapping[str, KeyOf] = {"prefix": prefix_key, "session": session_key}
