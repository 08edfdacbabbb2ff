"""What the balancer reads in the body of a generation request."""

from __future__ import annotations

import orjson

from lb.apierror import invalid_body
from lb.replicas import Request

# A token of English is about four characters; the JSON around it is noise.
_BYTES_PER_TOKEN = 4


def parse_request(body: bytes, arrived_s: float) -> Request:
    """The model that is asked for and an estimate of the prompt's length.

    Raises ApiError 400 for anything but a JSON object with a model's name. The rest of
    the body is the replica's to judge.
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid_body(f"The body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise invalid_body("The body is not a JSON object")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise invalid_body("The body does not name a model", param="model")
    return Request(model, len(body) // _BYTES_PER_TOKEN, arrived_s)
