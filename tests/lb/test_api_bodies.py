"""Bodies in every form that vLLM takes are read, and passed on as they are."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.http.api_errors import ApiError
from lb.http.downstream import Incoming
from lb.routing.request_parser import read_body
from tests.lb.scripted import Balancer, ScriptedReplica, balancer

pytestmark = pytest.mark.anyio

SURROGATE = rb'{"model": "m", "prompt": "\ud800"}'
DEEP = b'{"model": "m", "messages": [%b1%b]}' % (b"[" * 400, b"]" * 400)
ODD = {
    "NaN": b'{"model": "m", "prompt": NaN, "user": "u"}',
    "infinity": b'{"model": "m", "prompt": [-Infinity], "messages": [{"x": Infinity}]}',
    "byte order mark": b'\xef\xbb\xbf{"model": "m"}',
    "UTF-16": '{"model": "m", "prompt": "ü"}'.encode("utf-16"),
    "half a surrogate": SURROGATE,
    "half a surrogate in a message": rb'{"model": "m", "messages": [{"role": "\udfff"}]}',
    "half a surrogate as the user": rb'{"model": "m", "user": "\udfff"}',
    "a large number": b'{"model": "m", "prompt": [%d], "x": NaN}' % 10**30,
    "deep": DEEP,
}
CURL = "------------------------d74496d66958873e"


@pytest.fixture
async def replica() -> AsyncIterator[ScriptedReplica]:
    async with ScriptedReplica(models=["m", "m-adapter"]) as replica:
        yield replica


@pytest.fixture
async def lb(replica: ScriptedReplica) -> AsyncIterator[Balancer]:
    async with balancer(replica.url) as lb:
        yield lb


async def post(lb: Balancer, content: bytes, path: str = "/v1/x", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await lb.client.post(path, content=content, headers=named)


def form(boundary: str, *parts: tuple[str, bytes]) -> bytes:
    """A form of parts with the parameters of their Content-Disposition."""
    written = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {parameters}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for parameters, content in parts
    )
    return written + f"--{boundary}--\r\n".encode()


# JSON.


@pytest.mark.parametrize("policy", ["round-robin", "prefix-aware", "session"])
async def test_json_that_only_python_takes_is_passed_on_as_it_is(
    replica: ScriptedReplica, policy: str
) -> None:
    async with ScriptedReplica() as other, balancer(replica.url, other.url, policy=policy) as lb:
        for name, body in ODD.items():
            response = await post(lb, body)
            assert (response.status_code, response.content) == (200, body), name


async def test_what_python_does_not_take_either_is_refused(
    replica: ScriptedReplica, lb: Balancer
) -> None:
    for body in (b"", b"{", b"\xff", b'{"model": nan}', b"[" * 100_000, b"\xef\xbb\xbf"):
        response = await post(lb, body)
        assert response.status_code == 400, body[:20]
        assert response.json()["error"]["code"] == "invalid_body"
    assert not replica.calls


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd", "gzip, identity"])
async def test_a_compressed_body_is_a_415_that_names_the_coding(
    replica: ScriptedReplica, lb: Balancer, coding: str
) -> None:
    compressed = gzip.compress(b'{"model": "m"}')
    response = await post(lb, compressed, content_encoding=coding)
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "identity"
    assert coding.lower() in response.json()["error"]["message"]
    assert not replica.calls


async def test_of_several_codings_each_counts(replica: ScriptedReplica, lb: Balancer) -> None:
    headers = [("content-encoding", "gzip"), ("content-encoding", "identity")]
    response = await lb.client.post("/v1/x", content=gzip.compress(b"{}"), headers=headers)
    assert response.status_code == 415
    assert "encoded as gzip, identity" in response.json()["error"]["message"]
    assert not replica.calls


async def test_a_body_that_is_said_to_be_as_it_is_is_passed_on(lb: Balancer) -> None:
    response = await post(lb, b'\xef\xbb\xbf{"model": "m"}', content_encoding="identity")
    assert response.status_code == 200


# No model.


@pytest.mark.parametrize("body", [b"{}", b'{"model": null}', b'{"model": ""}'])
async def test_a_request_without_a_model_is_for_the_one_that_all_replicas_list_first(
    replica: ScriptedReplica, body: bytes
) -> None:
    async with ScriptedReplica(models=["m"]) as other, balancer(replica.url, other.url) as lb:
        answers = [await post(lb, body) for _ in range(4)]
        metrics = await lb.metrics()
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, body)] * 4
    assert len(replica.calls) == len(other.calls) == 2
    assert 'lb_choices_total{replica="' + other.name + '",model="m"' in metrics


async def test_without_a_model_nobody_is_chosen_where_replicas_differ(
    replica: ScriptedReplica,
) -> None:
    async with ScriptedReplica(models=["n"]) as other, balancer(replica.url, other.url) as lb:
        response = await post(lb, b"{}")
        # Even while one of them is away: its requests are not the other one's.
        await other.die()
        await lb.until(other.url, healthy=False)
        later = await post(lb, b"{}")
    for each in (response, later):
        assert each.status_code == 400
        error = each.json()["error"]
        assert (error["code"], error["param"]) == ("invalid_body", "model")
        assert error["message"].endswith("there are several: m, n")


async def test_without_a_model_and_before_any_replica_has_answered_it_is_a_503() -> None:
    async with ScriptedReplica() as replica:
        await replica.die()
        async with balancer(replica.url) as lb:
            response = await post(lb, b"{}")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_a_model_that_is_no_name_is_a_400(lb: Balancer) -> None:
    for body in (b'{"model": 7}', b'{"model": ["m"]}'):
        response = await post(lb, body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "model")


async def test_an_adapter_that_is_loaded_at_run_time_is_found_where_it_is(
    replica: ScriptedReplica,
) -> None:
    async with ScriptedReplica(models=["m"]) as other, balancer(replica.url, other.url) as lb:
        assert (await lb.post(model="fresh")).status_code == 404
        other.models = ["m", "fresh"]
        await lb.until(other.url, models=["m", "fresh"])
        assert {(await lb.post(model="fresh")).headers["x-lb-replica"] for _ in range(3)} == {
            other.name
        }
        other.models = ["m"]
        await lb.until(other.url, models=["m"])
        assert (await lb.post(model="fresh")).status_code == 404


# Forms.


async def test_a_form_with_a_file_goes_to_the_model_that_it_names(replica: ScriptedReplica) -> None:
    async with ScriptedReplica(models=["whisper"]) as other, balancer(replica.url, other.url) as lb:
        for model in ("whisper", "m"):
            response = await lb.client.post(
                "/v1/audio/transcriptions",
                files={"file": ("a.wav", b"\xff\x00--\r\n\r\n" * 1000)},
                data={"model": model, "language": "de"},
            )
            assert response.status_code == 200
        unknown = await lb.client.post(
            "/v1/audio/translations", files={"file": b"x"}, data={"model": "other"}
        )
    (call,) = other.calls
    assert b'name="model"\r\n\r\nwhisper' in call.body
    assert call.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert len(replica.calls) == 1
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (f"multipart/form-data; boundary={CURL}", form(CURL, ('name="model"', b"m"))),
        ('Multipart/Form-Data; Boundary="a b"', form("a b", ('name="model"', b"m"))),
        ("multipart/form-data; charset=utf-8;boundary=x", form("x", ("name=model", b"m"))),
        (
            "multipart/form-data; boundary=x",
            form(
                "x", ('name="file"; filename="model"', b"\r\n\r\nx\r\n--"), ('name="model"', b"m")
            ),
        ),
        (
            "multipart/form-data; boundary=x",
            form("x", ('name="model"; filename="y"', b"none"), ('name="model"', b"m")),
        ),
        (
            "multipart/form-data; boundary=x",
            form("x", ('name="model"', b"m"), ("name=\"model\"; filename*=UTF-8''y", b"none")),
        ),
        ("multipart/form-data; boundary=x", b"preamble\r\n" + form("x", ('name="model"', b"m"))),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\ncontent-type: text/plain\r\ncontent-disposition:form-data;name=model\r\n\r\n"
            b"m\r\n--x--",
        ),
        ("multipart/form-data; boundary=x", form("x", ('name="model"', b""), ('name="a"', b"b"))),
        (
            "multipart/form-data; boundary=x",
            form("x", ('name="model"', b"n"), ('name="model"', b"m")),
        ),
    ],
)
async def test_a_form_is_read_however_it_is_written(
    lb: Balancer, content_type: str, body: bytes
) -> None:
    response = await post(lb, body, content_type=content_type)
    assert (response.status_code, response.content) == (200, body)


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("multipart/form-data", form("x", ('name="model"', b"m")), "has no boundary"),
        ("multipart/form-data; boundary=y", form("x"), "does not have the boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nm\r\n", "cut off or malformed"),
        ("multipart/form-data; boundary=x", b"--x\r\nname\r\n--x--", "cut off or malformed"),
        ("multipart/form-data; boundary=x", b"", "does not have the boundary"),
        ("multipart/form-data; boundary=x", form("x", *[("name=a", b"")] * 1001), "more than 1000"),
    ],
)
async def test_a_form_that_cannot_be_read_is_a_400(
    replica: ScriptedReplica, lb: Balancer, content_type: str, body: bytes, reason: str
) -> None:
    response = await post(lb, body, content_type=content_type)
    assert response.status_code == 400
    assert reason in response.json()["error"]["message"]
    assert not replica.calls


def incoming(body: bytes, content_type: bytes = b"application/json") -> Incoming:
    headers = [(b"content-type", content_type)]
    return Incoming(b"POST", b"/v1/x", headers, body, True, False, 0.0, len(body))


CONTENT = st.binary(max_size=50).filter(lambda content: b"--x" not in content)


@given(st.lists(st.tuples(st.sampled_from(["model", "prompt", "file"]), CONTENT), max_size=5))
def test_the_last_value_of_each_field_counts(parts: list[tuple[str, bytes]]) -> None:
    body = form("x", *((f'name="{name}"', content) for name, content in parts))
    fields, _ = read_body(incoming(body, b"multipart/form-data; boundary=x"))
    assert fields == {name: content.decode("utf-8", "replace") for name, content in parts}


@given(st.binary(max_size=200), st.sampled_from([b"multipart/form-data; boundary=x", b"a/b"]))
def test_whatever_comes_is_read_or_a_400(body: bytes, content_type: bytes) -> None:
    try:
        fields, tokens = read_body(incoming(body, content_type))
        read = isinstance(fields, dict) and tokens >= 0
    except ApiError as error:
        read = error.status == 400
    assert read


def test_seconds_of_speech_are_fewer_tokens_than_text_of_that_size() -> None:
    speech = form("x", ('name="file"; filename="a.mp3"', bytes(960_000)))  # a minute
    _, of_speech = read_body(incoming(speech, b"multipart/form-data; boundary=x"))
    _, of_text = read_body(incoming(json.dumps({"prompt": "x" * 960_000}).encode()))
    assert of_speech == pytest.approx(3000, rel=0.01)
    assert of_text == pytest.approx(240_000, rel=0.01)
