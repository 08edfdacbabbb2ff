"""However the bytes of an exchange are cut, both sides get the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.http.downstream import Limits
from tests.lb.messages import BODY, REPLIES, REQUESTS, TARGET, Reply, Request
from tests.lb.wires import Proxy, read_answers

NAMES = st.sampled_from(sorted(REQUESTS))
KEPT = st.sampled_from(sorted(name for name, request in REQUESTS.items() if not request.ends))
REPLY = st.sampled_from(sorted(REPLIES))
GET = REQUESTS["get"].data


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """`data` in pieces; places beyond its end do not matter."""
    ends = sorted({place for place in places if 0 < place < len(data)})
    return [data[start:end] for start, end in pairwise([0, *ends, len(data)])]


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """In one piece, in two at each byte, and in single bytes."""
    for place in range(len(data)):
        yield cut(data, [place])
    yield cut(data, range(len(data)))


def check(
    requests: Sequence[Request],
    replies: Sequence[Reply],
    request_pieces: Sequence[bytes],
    reply_pieces: Sequence[Sequence[bytes]],
    *,
    late: bool = False,
) -> None:
    """`late`: the replica begins to answer when all requests have been sent."""
    proxy = Proxy()
    left = list(zip(replies, reply_pieces, strict=True))

    def answer() -> None:
        while left and len(proxy.asked) + len(left) > len(replies):
            reply, pieces = left.pop(0)
            connection = proxy.answer(pieces)
            assert connection is not None
            if not reply.framed:
                connection.eof_received()

    for piece in request_pieces:
        proxy.send([piece])
        if not late:
            answer()
    answer()
    for request, asked in zip(requests, proxy.asked, strict=True):
        head, _, body = asked.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        assert first == b"%b %b HTTP/1.1" % (request.asked_as.encode(), TARGET)
        assert body == request.body
        assert b"host: replica:80" in lines
        assert not [line for line in lines if line.startswith((b"upgrade", b"http2", b"conn"))]
        if request.body:
            assert {b"x-kept: yes", b"x-empty:"} <= {line.strip() for line in lines}
    answers = read_answers(
        proxy.client.written, [request.method for request in requests], proxy.client.ended
    )
    seen = [(answer.status, answer.body, answer.whole) for answer in answers]
    expected = []
    for request, reply in zip(requests, replies, strict=True):
        if request.interim and len(requests) == 1:
            expected.append((100, b"", True))
        body = b"" if request.method == "HEAD" else reply.body
        expected.append((reply.status, body, True))
    if len(requests) > 1:  # what has come before its turn needs no leave any more
        seen = [one for one in seen if one[0] != 100]
    assert seen == expected
    assert not proxy.refused


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_the_same_wherever_it_is_cut(name: str) -> None:
    request, reply = REQUESTS[name], REPLIES["json"]
    for pieces in every_cut(request.data):
        check([request], [reply], pieces, [[reply.data]])


@pytest.mark.parametrize("asked", ["length", "head", "1.0", "1.0, kept"])
@pytest.mark.parametrize("name", REPLIES)
def test_an_answer_is_the_same_wherever_it_is_cut(name: str, asked: str) -> None:
    request, reply = REQUESTS[asked], REPLIES[name]
    for pieces in every_cut(reply.data):
        check([request], [reply], [request.data], [pieces])


@given(st.lists(KEPT, max_size=4), NAMES, st.data(), st.booleans())
def test_requests_in_a_row_each_get_their_own_answer(
    names: list[str], last: str, data: st.DataObject, late: bool
) -> None:
    """On one connection, pipelined, in random pieces on both sides."""
    requests = [REQUESTS[name] for name in (*names, last)]
    # An answer that ends with its connection to HTTP/1.0 would end the others, too.
    closing = [request.http10 for request in requests]
    replies = [
        REPLIES["json" if closes and number < len(names) else data.draw(REPLY)]
        for number, closes in enumerate(closing)
    ]
    sent = b"".join(request.data for request in requests)
    places = st.lists(st.integers(1, len(sent)), max_size=20)
    reply_pieces = [
        cut(reply.data, data.draw(st.lists(st.integers(1, len(reply.data)), max_size=20)))
        for reply in replies
    ]
    check(requests, replies, cut(sent, data.draw(places)), reply_pieces, late=late)


# What is refused


def post(*lines: bytes, body: bytes = b"") -> bytes:
    head = b"\r\n".join((b"POST / HTTP/1.1", b"host: lb", *lines, b"", b""))
    return head + body


REFUSED = {
    "no host": (b"POST / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (post(b"host: b"), 400),
    "length and chunks": (post(b"content-length: 1", b"transfer-encoding: chunked"), 400),
    "two lengths": (post(b"content-length: 1", b"content-length: 1"), 400),
    "1.0 in chunks": (post(b"transfer-encoding: chunked").replace(b"1.1", b"1.0"), 400),
    "h2c with two lengths": (
        post(b"upgrade: h2c", b"connection: upgrade", b"content-length: 1", b"content-length: 1"),
        400,
    ),
    "websocket": (post(b"upgrade: WebSocket", b"connection: Upgrade"), 400),
    "connect": (b"CONNECT lb:80 HTTP/1.1\r\nhost: lb\r\n\r\n", 400),
    "other scheme": (b"GET ftp://lb/ HTTP/1.1\r\nhost: lb\r\n\r\n", 400),
    "no authority": (b"GET http:///v1 HTTP/1.1\r\nhost: lb\r\n\r\n", 400),
    "all of the server": (b"OPTIONS * HTTP/1.1\r\nhost: lb\r\n\r\n", 400),
    "head without host": (b"HEAD / HTTP/1.1\r\n\r\n", 400),
    "head of all": (b"HEAD * HTTP/1.1\r\nhost: lb\r\n\r\n", 400),
    "no chunk": (post(b"transfer-encoding: chunked", body=b"x\r\n"), 400),
    "bare LF": (b"GET / HTTP/1.1\nhost: lb\n\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "compressed in chunks": (
        post(b"transfer-encoding: gzip, chunked", body=b"1\r\nx\r\n0\r\n\r\n"),
        501,
    ),
    "two codings": (post(b"transfer-encoding: gzip", b"transfer-encoding: chunked"), 501),
    "too long a body": (post(b"content-length: 301", body=b"x" * 301), 413),
    "too many chunks": (
        post(b"transfer-encoding: chunked", body=b"12d\r\n" + b"x" * 301 + b"\r\n0\r\n\r\n"),
        413,
    ),
    "too long a head": (post(b"x: " + b"y" * 400), 431),
    "too many headers": (post(*[b"x: y"] * 100), 431),
    "too long a target": (b"GET /%b HTTP/1.1\r\nhost: lb\r\n\r\n" % (b"y" * 400), 431),
    "too long an offer": (post(b"upgrade: h2c", b"connection: upgrade", b"x: " + b"y" * 400), 431),
    "too many trailers": (
        post(b"transfer-encoding: chunked", body=b"0\r\n" + b"x: y\r\n" * 100 + b"\r\n"),
        431,
    ),
}


@pytest.mark.parametrize("before", ["nothing", "a request"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_wherever_it_is_cut(name: str, before: str) -> None:
    data, status = REFUSED[name]
    good = REQUESTS["length"] if before == "a request" else None
    method = "HEAD" if data.startswith(b"HEAD") else "GET"
    whole = data if good is None else good.data + data
    for pieces in every_cut(whole):
        proxy = Proxy(Limits(head_bytes=400, body_bytes=300))
        for piece in pieces:
            proxy.send([piece])
            proxy.answer([REPLIES["json"].data])
        answers = read_answers(proxy.client.written, ["POST"] * (good is not None) + [method], "")
        assert [answer.status for answer in answers] == [200] * (good is not None) + [status]
        assert all(answer.whole for answer in answers)
        assert bool(answers[-1].body) == (method != "HEAD")
        assert proxy.client.ended
        assert len(proxy.asked) == (good is not None)
        assert [seen for seen, _ in proxy.refused] == [status]


def test_what_comes_behind_a_refused_request_changes_nothing() -> None:
    """Not even whether its answer may have a body."""
    proxy = Proxy(Limits(body_bytes=5))
    proxy.send([post(b"content-length: 6", body=b"123456") + REQUESTS["head"].data])
    (answer,) = read_answers(proxy.client.written, ["POST"], "")
    assert (answer.status, answer.whole) == (413, True)
    assert not proxy.asked


@st.composite
def heads(draw: st.DrawFn, least: int, most: int) -> bytes:
    """Whole requests without a body, of so many bytes."""
    size = draw(st.integers(least, most))
    target = b"/" + b"t" * draw(st.sampled_from([0, 0, 500]))
    head = b"GET %b HTTP/1.1\r\nhost: lb\r\n" % target
    lines = draw(st.sampled_from([0, 1, 30]))
    head += b"".join(b"x-%d: y\r\n" % number for number in range(lines))
    return head + b"x: " + b"y" * (size - len(head) - len(b"x: \r\n\r\n")) + b"\r\n\r\n"


@given(heads(990, 1010), st.sampled_from([b"", REQUESTS["length"].data * 3]), st.data())
def test_a_head_is_judged_by_its_own_size(head: bytes, before: bytes, data: st.DataObject) -> None:
    sent = before + head
    places = st.lists(st.integers(1, len(sent)), max_size=30)
    proxy = Proxy(Limits(head_bytes=1000))
    for piece in cut(sent, data.draw(places)):
        proxy.send([piece])
        while proxy.answer([REPLIES["json"].data]):
            pass
    answers = read_answers(proxy.client.written, ["POST"] * 3 * bool(before) + ["GET"], "")
    assert answers[-1].status == (200 if len(head) <= 1000 else 431)


@given(st.integers(1990, 2010), st.booleans(), st.data())
def test_a_body_is_judged_by_its_own_size(size: int, chunked: bool, data: st.DataObject) -> None:
    body = b"x" * size
    sizes = cut(body, data.draw(st.lists(st.integers(1, size), max_size=10)))
    if chunked:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in sizes)
        sent = post(b"transfer-encoding: chunked", body=chunks + b"0\r\n\r\n")
    else:
        sent = post(b"content-length: %d" % size, body=body)
    proxy = Proxy(Limits(body_bytes=2000))
    proxy.send(cut(sent, data.draw(st.lists(st.integers(1, len(sent)), max_size=30))))
    proxy.answer([REPLIES["json"].data])
    (answer,) = read_answers(proxy.client.written, ["POST"], "")
    assert answer.status == (200 if size <= 2000 else 413)


@pytest.mark.parametrize(
    "start", [b"GET /", b"GET / HTTP/1.1\r\nhost: lb\r\nx: ", b"GET / HTTP/1.1\r\nhost: lb\r\nx-"]
)
@pytest.mark.parametrize("piece", [1, 7, 5000])
def test_a_head_without_an_end_is_refused(start: bytes, piece: int) -> None:
    proxy = Proxy(Limits(head_bytes=1000))
    proxy.send(cut(start + b"y" * 5000, range(0, 10_000, piece)))
    (answer,) = read_answers(proxy.client.written, ["GET"], "")
    assert answer.status == 431


@pytest.mark.parametrize("start", [b"x: ", b"x"])
def test_trailers_without_an_end_are_refused(start: bytes) -> None:
    sent = post(b"transfer-encoding: chunked", body=b"1\r\nx\r\n0\r\n" + start + b"y" * 5000)
    proxy = Proxy(Limits(head_bytes=1000))
    proxy.send(cut(sent, range(0, len(sent), 100)))
    (answer,) = read_answers(proxy.client.written, ["POST"], "")
    assert answer.status == 431
    assert not proxy.asked


@given(st.integers(65_500, 65_600), st.sampled_from([1, 1000]), st.data())
def test_a_replicas_head_is_judged_by_its_own_size(
    size: int, lines: int, data: st.DataObject
) -> None:
    """Of the bytes of its headers, 64 KiB are let through."""
    fixed = b"content-length: 2\r\n"
    headers = fixed + b"".join(b"x-%d: y\r\n" % number for number in range(lines))
    headers += b"x: " + b"y" * (size - len(headers) - len(b"x: \r\n")) + b"\r\n"
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: %b\r\n\r\n" % (b"z" * 5000)
    sent = interim * data.draw(st.integers(0, 20)) + b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n{}"
    proxy = Proxy()
    proxy.send([GET])
    proxy.answer(cut(sent, data.draw(st.lists(st.integers(1, len(sent)), max_size=20))))
    (answer,) = read_answers(proxy.client.written, ["GET"], "")
    assert answer.status == (200 if size <= 65_536 else 502)


_CHUNKED = b"1\r\nx\r\n0\r\n\r\n"
UNUSABLE = {
    "compressed in chunks": (
        b"200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n" + _CHUNKED,
        "gzip",
    ),
    "two codings": (
        b"200 OK\r\ntransfer-encoding: br\r\ntransfer-encoding: chunked\r\n\r\n" + _CHUNKED,
        "br, chunked",
    ),
    "compressed until closed": (b"200 OK\r\ntransfer-encoding: gzip\r\n\r\nx", "gzip"),
    "chunks in chunks": (
        b"200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n" + _CHUNKED,
        "chunked, chunked",
    ),
    "another protocol": (b"101 Go\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", "status 101"),
    "no status": (
        b"600 No\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "status 600",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_passed_on_is_the_replicas_fault_wherever_it_is_cut(name: str) -> None:
    data, reason = UNUSABLE[name]
    for pieces in every_cut(b"HTTP/1.1 " + data):
        proxy = Proxy()
        proxy.send([GET])
        proxy.answer(pieces)
        (answer,) = read_answers(proxy.client.written, ["GET"], "")
        assert (answer.status, answer.whole) == (502, True)
        assert reason in answer.body.decode()
        assert proxy.replica.asked[0][1].ended


@pytest.mark.parametrize("head", [b"204 No\r\ncontent-length: 2", b"204 No\r\nx: y", b"304 No"])
def test_a_body_that_must_not_be_there_is_not_taken_for_the_next_answer(head: bytes) -> None:
    proxy = Proxy()
    proxy.send([GET])
    proxy.answer([b"HTTP/1.1 %b\r\n\r\n" % head])
    assert proxy.replica.asked[0][1].ended


# What comes at its turn


def test_who_waits_for_leave_behind_another_request_gets_it_when_that_is_answered() -> None:
    proxy = Proxy()
    head, body = REQUESTS["expect"].data[: -len(BODY)], REQUESTS["expect"].data[-len(BODY) :]
    proxy.send([REQUESTS["length"].data + head])
    assert not proxy.client.written
    proxy.answer([REPLIES["json"].data])
    assert proxy.client.written.endswith(b"}HTTP/1.1 100 Continue\r\n\r\n")
    proxy.send([body])
    proxy.answer([REPLIES["error"].data])
    answers = read_answers(proxy.client.written, ["POST", "POST"], "")
    assert [answer.status for answer in answers] == [200, 100, 400]


def test_http_1_0_is_told_that_its_connection_is_kept() -> None:
    proxy = Proxy()
    proxy.send([REQUESTS["1.0, kept"].data])
    proxy.answer([REPLIES["json"].data])
    assert b"\r\nconnection: keep-alive\r\n" in proxy.client.written
    proxy.send([b"GET / HTTP/1.0\r\n\r\n"])
    proxy.answer([REPLIES["stream"].data[:-9], REPLIES["stream"].data[-9:]])
    assert proxy.client.written.count(b"\r\nconnection: close\r\n") == 1
    assert proxy.client.ended == "closed"


def test_what_connection_lists_never_takes_the_length_away() -> None:
    proxy = Proxy()
    proxy.send([GET])
    lists = b"connection: x-a, Content-Length\r\nconnection: x-b\r\nx-a: 1\r\nx-b: 1\r\n"
    proxy.answer([b"HTTP/1.1 200 OK\r\n" + lists + b"content-length: 2\r\n\r\n{}"])
    (answer,) = read_answers(proxy.client.written, ["GET"], "")
    assert (answer.body, answer.whole, answer.headers) == (b"{}", True, {})
