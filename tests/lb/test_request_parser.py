"""What the balancer reads in a request's body, and what it refuses."""

from __future__ import annotations

import pytest

from lb.http.api_errors import ApiError
from lb.http.downstream import Incoming
from lb.replicas.replica import Request
from lb.routing.request_parser import KeyOf, parse_request, prefix_key, session_key


def post(body: bytes, *headers: tuple[bytes, bytes]) -> Incoming:
    return Incoming(
        method=b"POST",
        target=b"/v1/completions",
        headers=list(headers),
        body=body,
        keep_alive=True,
        http10=False,
        complete_s=1.5,
        body_bytes=len(body),
    )


def read(body: bytes, key_of: KeyOf | None = None) -> Request:
    return parse_request(post(body), lambda: "default", key_of)


def test_the_model_is_the_one_at_the_top_of_the_body() -> None:
    body = b'{"messages": [{"model": "inner", "content": "model"}], "model": "outer"}'
    assert read(body).model == "outer"


def test_a_longer_body_is_a_longer_prompt() -> None:
    short, long = (read(b'{"model": "m", "prompt": "%b"}' % (b"x" * n)) for n in (4, 400))
    assert long.prompt_tokens - short.prompt_tokens == 99


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "The body is not valid JSON"),
        (b"{", "The body is not valid JSON"),
        (b"\xff\xfe", "The body is not valid JSON"),
        (b"[" * 100_000, "The body is not valid JSON"),
        (b"[]", "The body is not a JSON object"),
        (b'{"model": 7}', "The model's name in the body is not a string"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ApiError, match=reason) as refused:
        read(body)
    assert refused.value.status == 400


def test_a_body_that_names_no_model_is_for_the_default_one() -> None:
    assert {read(body).model for body in (b"{}", b'{"model": ""}')} == {"default"}
    named = read(b'{"model": "default", "prompt": "p"}', prefix_key)
    assert read(b'{"prompt": "p"}', prefix_key).key == named.key is not None


def key_of_prompt(prompt: str, model: str = "m") -> int | None:
    return prefix_key({"model": model, "prompt": prompt}, ())


def test_prompts_that_begin_alike_have_the_same_key_whatever_follows() -> None:
    system = "You are a helpful assistant. " * 50
    assert key_of_prompt(system + "Hello") == key_of_prompt(system + "Good bye") is not None
    assert key_of_prompt(system) != key_of_prompt(system.upper())
    assert key_of_prompt(system) != key_of_prompt(system, model="n")


def test_all_turns_of_a_conversation_have_the_same_key() -> None:
    turns = [{"role": "system", "content": "Be brief. " * 200}]
    first = prefix_key({"model": "m", "messages": turns}, ())
    turns += [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert prefix_key({"model": "m", "messages": turns}, ()) == first is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ab", "ac"),
        ([1, 2], [1, 3]),
        ([1, 2], [12]),
        ([{"role": "user", "content": "a"}], [{"role": "tool", "content": "a"}]),
        ([{"content": "a"}, {"content": "b"}], [{"content": "a"}, {"content": "c"}]),
        ([{"content": [{"type": "text", "text": "a"}]}], [{"content": [{"text": "b"}]}]),
    ],
)
def test_what_differs_at_the_beginning_has_another_key(one: object, other: object) -> None:
    def key(prompt: object) -> int | None:
        return prefix_key({"model": "m", "messages": prompt}, ())

    assert key(one) != key(other)
    assert key(one) is not None


@pytest.mark.parametrize("fields", [{}, {"prompt": ""}, {"prompt": 7}, {"messages": []}])
def test_a_request_without_text_has_no_prefix(fields: dict[str, object]) -> None:
    assert prefix_key({"model": "m", **fields}, ()) is None


def test_a_session_is_named_by_its_header_or_else_by_the_user() -> None:
    header = ((b"x-session-id", b"s1"),)
    assert session_key({"user": "u"}, header) == session_key({}, header)
    assert session_key({"user": "u"}, ()) != session_key({"user": "v"}, ())
    assert session_key({}, ()) is None


def test_the_key_is_made_only_where_the_policy_wants_one() -> None:
    body = b'{"model": "m", "user": "u"}'
    assert read(body).key is None
    assert read(body, session_key).key == session_key({"user": "u"}, ())
