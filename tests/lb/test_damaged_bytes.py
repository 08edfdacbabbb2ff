"""Whatever clients, replicas and the API server send: it is served, or refused in so many words."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lb.discovery.kubernetes.service import Service
from lb.discovery.kubernetes.slices import EVENTS, Change, EndpointSliceList, Slices
from lb.discovery.poller import _models, parse_gauges
from lb.errors import UserError
from lb.http.api_errors import ApiError
from lb.http.downstream import Incoming, Limits
from lb.http.endpoint import parse_targets
from lb.http.keys import parse_keys
from lb.http.upstream.errors import UpstreamError
from lb.routing.request_parser import parse_request, prefix_key, prompt_blocks, session_key
from tests.fuzzing import damaged
from tests.lb.messages import REPLIES, REQUESTS
from tests.lb.wires import Proxy

SLICE = {
    "metadata": {"name": "a", "resourceVersion": "5"},
    "addressType": "IPv4",
    "endpoints": [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": True, "terminating": False},
            "targetRef": {"kind": "Pod", "name": "p-0"},
        },
        {"addresses": ["10.0.0.2"]},
    ],
    "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
}
LIST = {"kind": "EndpointSliceList", "metadata": {"resourceVersion": "1"}, "items": [SLICE]}
CHAT = {
    "model": "m",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    "user": "u",
    "previous_response_id": "r",
}
FORM = (
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--B--\r\n'
)
GAUGES = (
    b'vllm:num_requests_waiting{engine="0",model_name="m"} 2.0\n'
    b'vllm:num_requests_waiting{engine="1",model_name="m"} 1.0\n'
    b'vllm:num_requests_running{engine="0",model_name="m"} 4.0\n'
)


class Format(NamedTuple):
    """A sample, what reads it, and whether it is JSON."""

    sample: bytes
    read: Callable[[bytes], object]
    of_json: bool = True


def request_of(body: bytes) -> None:
    kind = b"application/json" if body[:1] in b"{[" else b"multipart/form-data; boundary=B"
    headers = [(b"content-type", kind)]
    incoming = Incoming(b"POST", b"/v1/x", headers, body, True, False, 0.0, len(body))
    for key_of in (None, prefix_key, session_key):
        request = parse_request(incoming, lambda: "m", key_of)
        prompt_blocks(request.model, body)


def gauges_of(text: bytes) -> None:
    gauges = parse_gauges(text, {"m"})
    if gauges is not None:
        assert all(0 <= one < 2**64 for one in (gauges.waiting, gauges.running, gauges.generated))


def slices_of(body: bytes) -> None:
    slices = Slices(Service("n", "s", "http"))
    slices.replace(EndpointSliceList.model_validate_json(body))
    slices.targets()


def change_of(line: bytes) -> None:
    event = EVENTS.validate_json(line)
    if isinstance(event, Change):
        slices = Slices(Service("n", "s", "http"))
        slices.apply(event)
        slices.targets()


def text_of(read: Callable[[str, str], object]) -> Callable[[bytes], object]:
    return lambda data: read(data.decode(errors="replace"), "test")


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


FORMATS = {
    "chat": Format(as_json(CHAT), request_of),
    "completion": Format(as_json({"model": "m", "prompt": ["a", [1, 2]], "user": "ü"}), request_of),
    "form": Format(FORM, request_of, of_json=False),
    "gauges": Format(GAUGES, gauges_of, of_json=False),
    "models": Format(as_json({"object": "list", "data": [{"id": "m"}]}), _models),
    "slices": Format(as_json(LIST), slices_of),
    "change": Format(as_json({"type": "MODIFIED", "object": SLICE}), change_of),
    "replicas": Format(
        b"http://127.0.0.1:1 weight=2,https://[::1]/x # c\n", text_of(parse_targets), False
    ),
    "keys": Format(b"a sk-1\n# c\nb sha256:" + b"ab" * 32, text_of(parse_keys), False),
}


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_what_is_damaged_is_read_or_refused(name: str, data: st.DataObject) -> None:
    one = FORMATS[name]
    with suppress(ApiError, UserError, UpstreamError, ValidationError):
        one.read(data.draw(damaged(one.sample, of_json=one.of_json)))


def exchange(sent: bytes, replies: list[bytes], limits: Limits) -> None:
    """A client sends, replicas answer, and all ends; nothing of it may stay."""
    proxy = Proxy(limits)
    for start in range(0, len(sent), 50):
        proxy.send([sent[start : start + 50]])
    for reply in replies:
        connection = proxy.answer([reply[:30], reply[30:]] if reply else [])
        if connection is not None:
            connection.eof_received()
            connection.connection_lost(None)
    proxy.leave()
    assert proxy.held_bytes == 0
    # An error in a callback of the parser looks like one of the client's.
    assert b"callback" not in proxy.client.written


@settings(max_examples=300)
@given(
    data=st.data(),
    limits=st.sampled_from([Limits(), Limits(head_bytes=300, body_bytes=60, bodies_bytes=100)]),
)
def test_damaged_messages_are_served_or_refused(data: st.DataObject, limits: Limits) -> None:
    requests = data.draw(st.lists(st.sampled_from(list(REQUESTS.values())), min_size=1, max_size=3))
    replies = data.draw(st.lists(st.sampled_from(list(REPLIES.values())), max_size=3))
    sent = data.draw(damaged(b"".join(one.data for one in requests)))
    exchange(sent, [data.draw(damaged(one.data)) for one in replies], limits)


@pytest.mark.parametrize("framing", [b"0\r\nx-late: ", b"5;"])
def test_endless_framing_of_a_replica_is_not_kept(framing: bytes) -> None:
    proxy = Proxy()
    proxy.send([REQUESTS["length"].data])
    begun = REPLIES["json in chunks"].data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n2\r\n{}\r\n"
    proxy.answer([begun + framing, *[b"y" * 10_000] * 100])
    ((_, wire),) = proxy.replica.asked
    assert wire.ended
    assert proxy.client.ended


def test_a_length_with_many_zeros_before_it_is_a_length() -> None:
    """llhttp takes them, and Python's `int` does not."""
    proxy = Proxy()
    proxy.send(
        [b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %b\r\n\r\n" % b"5".zfill(5000), b"12345"]
    )
    (asked,) = proxy.asked
    assert asked.endswith(b"content-length: 5\r\n\r\n12345")
