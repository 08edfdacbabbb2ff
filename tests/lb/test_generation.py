"""What the balancer reads in a request's body, and what it refuses."""

from __future__ import annotations

import pytest

from lb.apierror import ApiError
from lb.generation import parse_request


def test_the_model_is_the_one_at_the_top_of_the_body() -> None:
    body = b'{"messages": [{"model": "inner", "content": "model"}], "model": "outer"}'
    assert parse_request(body, 1.5).model == "outer"


def test_a_longer_body_is_a_longer_prompt() -> None:
    short, long = (
        parse_request(b'{"model": "m", "prompt": "%b"}' % (b"x" * n), 0) for n in (4, 400)
    )
    assert long.prompt_tokens - short.prompt_tokens == 99


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "The body is not valid JSON"),
        (b"{", "The body is not valid JSON"),
        (b"\xff\xfe", "The body is not valid JSON"),
        (b"[" * 100_000, "The body is not valid JSON"),
        (b"[]", "The body is not a JSON object"),
        (b"{}", "The body does not name a model"),
        (b'{"model": 7}', "The body does not name a model"),
        (b'{"model": ""}', "The body does not name a model"),
    ],
)
def test_a_body_that_names_no_model_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ApiError, match=reason) as refused:
        parse_request(body, 0)
    assert refused.value.status == 400
