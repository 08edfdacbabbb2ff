"""What the balancer reads of a request: the model, the prompt's length and the policy's key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from lb.http.api_errors import invalid_body, unsupported_coding
from lb.http.downstream import Incoming
from lb.http.http1 import Header
from lb.policies.affinity import key_of
from lb.replicas.cached import BLOCK_TOKENS
from lb.replicas.replica import Request
from lb.routing.routes import Route

SESSION_HEADER = b"x-session-id"

# Long enough to differ between system prompts, short enough that all turns of a conversation
# begin with the same bytes.
_PREFIX_BYTES = 1024
# Sent by browsers that ask, without a key, whether a page may send a request.
_PREFLIGHT_HEADER = b"access-control-request-method"

# A token of English is about four characters; the JSON around it is noise.
BYTES_PER_TOKEN = 4
# Blocks of a prompt; those beyond count as not cached.
_BLOCK_BYTES = BLOCK_TOKENS * BYTES_PER_TOKEN
_MOST_BLOCKS = 32
# Whisper reads a second of speech as 50 positions; as MP3 it has about 16 kB.
_AUDIO_BYTES_PER_TOKEN = 320

# Parts of a form, and bytes of the head of each: vLLM's limits.
_MOST_PARTS = 1000
_MOST_HEAD_BYTES = 8192

_DISPOSITION = re.compile(rb"^content-disposition[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_PARAMETER = re.compile(rb';[ \t]*([\w*-]+)=(?:"([^"\r\n]*)"|([^;\s"]+))')

KeyOf = Callable[[Mapping[str, Any], Iterable[Header]], int | None]


def request_of(
    route: Route,
    incoming: Incoming,
    default_model: Callable[[], str],
    key_of: KeyOf | None = None,
    *,
    in_blocks: bool = False,
) -> Request:
    """What a request on `route` asks for. Raises ApiError, like `parse_request`."""
    if route.kind != "relayed":
        return Request("", 0, stored_response=route.kind == "stored")
    if incoming.method != b"POST":
        request = Request(default_model(), 0)
    else:
        request = parse_request(incoming, default_model, key_of)
        if in_blocks:
            request.blocks = prompt_blocks(request.model, incoming.body)
    request.path = route.path
    return request


def is_preflight(route: Route, incoming: Incoming) -> bool:
    """Whether a browser asks if a page may send a request."""
    return route.kind == "preflight" and _PREFLIGHT_HEADER in dict(incoming.headers)


def parse_request(
    incoming: Incoming, default_model: Callable[[], str], key_of: KeyOf | None = None
) -> Request:
    """The request in a body: its model, an estimate of the prompt's length, and the policy's key.

    `default_model` is called if the body names no model. Raises ApiError, as it and `read_body`
    do, and 400 for a model that is not a string. Replicas check the rest.
    """
    fields, prompt_tokens = read_body(incoming)
    model = fields.get("model")
    if not model:
        model = fields["model"] = default_model()
    elif not isinstance(model, str):
        raise invalid_body("The model's name in the body is not a string", param="model")
    key = None if key_of is None else key_of(fields, incoming.headers)
    return Request(model, prompt_tokens, key, bool(fields.get("previous_response_id")))


def prompt_blocks(model: str, body: bytes) -> Sequence[int]:
    """Hashes of the prompt in a body of JSON, one for all up to the end of each whole block.

    Only this process can compare them. What follows the prompt is in the last one at most, which
    is then like no other. A form has none: its bytes are not those of a prompt.
    """
    if len(body) < _BLOCK_BYTES or not body.lstrip().startswith(b"{"):
        return ()
    start = body.find(b'"messages"')
    if start < 0 and (start := body.find(b'"prompt"')) < 0:
        return ()
    key = hash(model)
    most = min(len(body), start + _MOST_BLOCKS * _BLOCK_BYTES)
    return [
        key := hash((key, body[end - _BLOCK_BYTES : end]))
        for end in range(start + _BLOCK_BYTES, most + 1, _BLOCK_BYTES)
    ]


def prefix_key(fields: Mapping[str, Any], _headers: Iterable[Header]) -> int | None:
    """A hash of the model and the first `_PREFIX_BYTES` of the prompt or messages."""
    prompt = fields.get("messages") or fields.get("prompt")
    if not isinstance(prompt, str | list) or not prompt:
        return None
    text = b""
    # Prompts may have megabytes: no more is read than is needed.
    for part in [prompt] if isinstance(prompt, str) else prompt:
        text += _beginning(part) + b","
        if len(text) >= _PREFIX_BYTES:
            break
    return key_of(_bytes(fields["model"]), text[:_PREFIX_BYTES])


def session_key(fields: Mapping[str, Any], headers: Iterable[Header]) -> int | None:
    """A hash of the session in the header, or else of the body's `user`."""
    for name, value in headers:
        if name == SESSION_HEADER:
            return key_of(value)
    user = fields.get("user")
    return key_of(_bytes(user)) if isinstance(user, str) and user else None


def _beginning(part: Any) -> bytes:
    """At least the part that counts of a prompt, a token id or a message."""
    if isinstance(part, str):
        return _bytes(part[:_PREFIX_BYTES])
    if isinstance(part, dict) and isinstance(content := part.get("content"), str):
        part = {**part, "content": content[:_PREFIX_BYTES]}
    try:
        return orjson.dumps(part)
    except TypeError:  # nested too deeply, or a lone surrogate
        with suppress(RecursionError):
            return json.dumps(part).encode()
        return b""


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def read_body(incoming: Incoming) -> tuple[dict[str, Any], int]:
    """The fields of a JSON object or form, and an estimate of the prompt's tokens.

    Raises ApiError: 415 for a compressed body, which vLLM would not decompress, 400 for others.
    """
    body = incoming.body
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        codings = [value for name, value in incoming.headers if name == b"content-encoding"]
        coding = b", ".join(codings).strip().lower()
        if coding not in {b"", b"identity"}:
            raise unsupported_coding(coding) from None
        content_type = dict(incoming.headers).get(b"content-type", b"")
        if content_type.strip().lower().startswith(b"multipart/form-data"):
            return _form_fields(body, content_type), len(body) // _AUDIO_BYTES_PER_TOKEN
        try:
            # As vLLM does: this parser accepts NaN, a byte order mark, UTF-16, lone surrogates.
            fields = json.loads(body)
        except RecursionError:
            raise invalid_body("The body is not valid JSON: it is nested too deeply") from None
        except ValueError as error:
            raise invalid_body(f"The body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise invalid_body("The body is not a JSON object")
    return fields, len(body) // BYTES_PER_TOKEN


def _form_fields(body: bytes, content_type: bytes) -> dict[str, Any]:
    """The values that are not files; of several with one name the last, as for vLLM."""
    boundary = _parameters(content_type).get(b"boundary", b"")
    if not boundary:
        raise invalid_body("The Content-Type multipart/form-data has no boundary")
    fields = {}
    for head, start, end in _parts(body, b"--" + boundary):
        found = _DISPOSITION.search(head)
        parameters = {} if found is None else _parameters(found[1])
        if b"name" in parameters and not parameters.keys() & {b"filename", b"filename*"}:
            name = parameters[b"name"].decode("utf-8", "replace")
            fields[name] = body[start:end].decode("utf-8", "replace")
    return fields


def _parts(body: bytes, delimiter: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each part's head, and where its content starts and ends. Raises ApiError 400."""
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if at == 1:
        raise invalid_body("The body does not have the boundary that its Content-Type says")
    for _ in range(_MOST_PARTS):
        at += len(delimiter)
        if body.startswith(b"--", at):
            return
        end = body.find(b"\r\n" + delimiter, at)
        blank = body.find(b"\r\n\r\n", at, at + _MOST_HEAD_BYTES)
        if not 0 <= blank < end:
            raise invalid_body("The multipart body is cut off or malformed")
        yield body[at:blank], blank + 4, end
        at = end + 2
    raise invalid_body(f"The multipart body has more than {_MOST_PARTS} parts")


def _parameters(value: bytes) -> dict[bytes, bytes]:
    """The parameters of a header's value, by their names in lower case."""
    return {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(value)}


KEYS: Mapping[str, KeyOf] = {"prefix": prefix_key, "session": session_key}
