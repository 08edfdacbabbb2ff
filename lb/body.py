"""The fields of a request's body: JSON, or a form with files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from lb.apierror import invalid_body, unsupported_coding
from lb.downstream import Incoming

# A token of English is about four characters; the JSON around it is noise.
_BYTES_PER_TOKEN = 4
# Whisper reads a second of speech as 50 positions; as MP3 it has about 16 kB.
_AUDIO_BYTES_PER_TOKEN = 320

# As many as vLLM takes, and as long as its heads may be.
_MOST_PARTS = 1000
_MOST_HEAD_BYTES = 8192

_DISPOSITION = re.compile(rb"^content-disposition[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_PARAMETER = re.compile(rb';[ \t]*([\w*-]+)=(?:"([^"\r\n]*)"|([^;\s"]+))')


def read_body(incoming: Incoming) -> tuple[dict[str, Any], int]:
    """The fields, and an estimate of the prompt's tokens.

    Raises ApiError 400 for what is neither JSON's object nor a form, 415 for a body that is
    compressed: vLLM does not decompress it.
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
            # vLLM's reader, which takes NaN, a byte order mark, UTF-16 and half a surrogate.
            fields = json.loads(body)
        except RecursionError:
            raise invalid_body("The body is not valid JSON: it is nested too deeply") from None
        except ValueError as error:
            raise invalid_body(f"The body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise invalid_body("The body is not a JSON object")
    return fields, len(body) // _BYTES_PER_TOKEN


def _form_fields(body: bytes, content_type: bytes) -> dict[str, Any]:
    """The values that are no files; the last one of a name counts, as for vLLM."""
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
    """Of a header's value, by their names in lower case."""
    return {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(value)}
