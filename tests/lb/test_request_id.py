"""Every request has an id, which client, balancer and replica agree on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.observability.journal import RequestIds
from tests.lb.scripted import Call, ScriptedReplica, answer, balancer


def test_an_id_is_given_once() -> None:
    one, other = RequestIds(), RequestIds()
    made = [ids.identify([])[0] for ids in (one, other, one, other)]
    assert len(set(made)) == 4


@given(st.from_regex(rb"[A-Za-z0-9._:/+=@-]{1,128}", fullmatch=True))
def test_a_sane_id_is_kept(given_id: bytes) -> None:
    headers = [(b"host", b"h"), (b"x-request-id", given_id)]
    assert RequestIds().identify(headers) == (given_id, headers)


@pytest.mark.parametrize(
    "given_ids",
    [[b""], [b"a b"], [b'a"b'], [b"a\xff"], [b"x" * 129], [b"a", b"b"], [b"a", b"a"]],
)
def test_any_other_is_replaced(given_ids: list[bytes]) -> None:
    headers = [(b"host", b"h"), *((b"x-request-id", value) for value in given_ids)]
    made, replaced = RequestIds().identify(headers)
    assert made not in given_ids
    assert replaced == [(b"host", b"h"), (b"x-request-id", made)]


@pytest.mark.anyio
async def test_client_and_replica_get_the_same_id_and_only_one() -> None:
    async def say_another(call: Call) -> None:
        await call.send(answer(b"{}", head="X-Request-Id: of-the-replica\r\n"))

    async with ScriptedReplica(say_another) as replica, balancer(replica.url) as lb:
        made = await lb.post()
        body = {"model": "m"}
        given = await lb.client.post(
            "/v1/completions", json=body, headers={"X-Request-ID": "of-the-client"}
        )
        refused = await lb.post("unknown")
        health = await lb.client.get("/health", headers={"x-request-id": "of-the-probe"})
    assert given.headers.get_list("x-request-id") == ["of-the-client"]
    assert len(made.headers.get_list("x-request-id")) == 1
    sent = [call.headers["x-request-id"] for call in replica.calls]
    assert sent == [made.headers["x-request-id"], "of-the-client"]
    assert refused.headers["x-request-id"] not in {*sent, ""}
    assert health.headers["x-request-id"] == "of-the-probe"
