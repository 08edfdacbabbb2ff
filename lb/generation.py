"""What the balancer reads in the body of a generation request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any

import orjson

from lb.apierror import invalid_body
from lb.downstream import Incoming
from lb.http1 import Header
from lb.policies.affinity import key_of
from lb.replicas import Request

SESSION_HEADER = b"x-session-id"
TENANT_HEADER = b"x-tenant"

# A token of English is about four characters; the JSON around it is noise.
_BYTES_PER_TOKEN = 4
# Long enough to tell system prompts apart, short enough that all turns of one
# conversation, and all that begin alike, go to the same replica.
_PREFIX_BYTES = 1024


KeyOf = Callable[[Mapping[str, Any], Iterable[Header]], int | None]


def parse_request(incoming: Incoming, key_of: KeyOf | None = None) -> Request:
    """The model that is asked for, an estimate of the prompt's length, and the key.

    Raises ApiError 400 for anything but a JSON object with a model's name. The rest of
    the body is the replica's to judge.
    """
    try:
        fields = orjson.loads(incoming.body)
    except orjson.JSONDecodeError as error:
        raise invalid_body(f"The body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise invalid_body("The body is not a JSON object")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise invalid_body("The body does not name a model", param="model")
    key = None if key_of is None else key_of(fields, incoming.headers)
    return Request(model, len(incoming.body) // _BYTES_PER_TOKEN, key)


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
    return key_of(str(fields["model"]).encode(), text[:_PREFIX_BYTES])


def session_key(fields: Mapping[str, Any], headers: Iterable[Header]) -> int | None:
    """Stands for the session that a header names, or else for the body's `user`."""
    for name, value in headers:
        if name == SESSION_HEADER:
            return key_of(value)
    user = fields.get("user")
    return key_of(user.encode()) if isinstance(user, str) and user else None


def tenant_of(headers: Iterable[Header]) -> bytes:
    """Who asks: by the header for it, else by the API key; b"" for all others together.

    Of a key there is a hash, because tenants are named in logs.
    """
    key = b""
    for name, value in headers:
        if name == TENANT_HEADER:
            return value
        if name == b"authorization":
            key = value
    return b"key-" + sha256(key).hexdigest()[:12].encode("ascii") if key else b""


def _beginning(part: Any) -> bytes:
    """At least what counts of a prompt, a token's number or a message."""
    if isinstance(part, str):
        return part[:_PREFIX_BYTES].encode()
    if isinstance(part, dict) and isinstance(content := part.get("content"), str):
        part = {**part, "content": content[:_PREFIX_BYTES]}
    return orjson.dumps(part)


KEYS: Mapping[str, KeyOf] = {"prefix": prefix_key, "session": session_key}
