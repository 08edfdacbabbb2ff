"""Replicas that misbehave and clients that leave: nothing is lost, leaked or dressed up."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from lb.routing.exchange import Timeouts
from tests.lb.scrape import value
from tests.lb.scripted import (
    CHUNKED_HEAD,
    STREAM_HEAD,
    Behaviour,
    Call,
    ScriptedReplica,
    answer,
    balancer,
)

pytestmark = pytest.mark.anyio

JSON_HEAD = CHUNKED_HEAD % b"application/json"


async def reset(call: Call) -> None:
    call.reset()


async def close(call: Call) -> None:
    call.writer.close()


async def half_close(call: Call) -> None:
    """Say that nothing will come, and go on listening."""
    call.writer.write_eof()
    await call.reader.read()


async def reset_after_head(call: Call) -> None:
    await call.send(STREAM_HEAD)
    call.reset()


async def garbage(call: Call) -> None:
    await call.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def impossible_status(call: Call) -> None:
    await call.send(answer(b"{}", status="777 Jackpot"))


async def impossible_status_with_a_broken_body(call: Call) -> None:
    head = b"HTTP/1.1 777 Jackpot\r\ntransfer-encoding: chunked\r\n\r\n"
    await call.send(head + b"2\r\n{}\r\nnonsense")


async def endless_head(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\n" + b"x-padding: " + b"x" * 100_000)


async def reset_midway(call: Call) -> None:
    await call.send(STREAM_HEAD)
    await call.send_chunk(b'data: {"n": 1}\n\n')
    call.reset()


# Before the first byte


@pytest.mark.parametrize("failing", [reset, close, half_close, reset_after_head])
async def test_a_request_that_got_no_byte_is_answered_by_another_replica(
    failing: Behaviour,
) -> None:
    async with (
        ScriptedReplica(failing) as bad,
        ScriptedReplica() as good,
        balancer(bad.url, good.url) as lb,
    ):
        response = await lb.post()
        metrics = await lb.metrics()
    assert response.status_code == 200
    assert response.headers["x-lb-replica"] == good.name
    assert (len(bad.calls), len(good.calls)) == (1, 1)
    assert f'lb_retries_total{{replica="{bad.name}",model="m"}} 1\n' in metrics
    assert value(metrics, "lb_upstream_errors_total", replica=bad.name) == 1


async def test_a_request_is_retried_only_once() -> None:
    async with (
        ScriptedReplica(reset) as first,
        ScriptedReplica(reset) as second,
        ScriptedReplica() as third,
        balancer(first.url, second.url, third.url) as lb,
    ):
        response = await lb.post()
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "replica_failed"
    assert response.headers["x-lb-replica"] == second.name
    assert not third.calls


async def test_a_retry_goes_only_to_a_replica_that_serves_the_model() -> None:
    async with (
        ScriptedReplica(reset, models=["m"]) as bad,
        ScriptedReplica(models=["n"]) as other,
        balancer(bad.url, other.url) as lb,
    ):
        response = await lb.post()
    assert response.status_code == 502
    assert not other.calls


async def test_a_replica_that_refuses_connections_gets_no_more_requests() -> None:
    async with (
        ScriptedReplica() as dead,
        ScriptedReplica() as alive,
        balancer(dead.url, alive.url, poll_interval_s=60) as lb,
    ):
        await dead.die()
        responses = [await lb.post() for _ in range(6)]
        replicas = await lb.replicas()
        metrics = await lb.metrics()
    assert [response.status_code for response in responses] == [200] * 6
    assert not replicas[dead.url]["healthy"]
    assert 'kind="connect"} 1\n' in metrics


async def test_no_replica_left_is_a_503_that_says_so() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url, poll_interval_s=60) as lb:
        await replica.die()
        first, second = await lb.post(), await lb.post()
    assert (first.status_code, second.status_code) == (503, 503)
    assert "cannot be connected to" in first.json()["error"]["message"]
    assert second.json()["error"]["message"] == "No replica that serves 'm' is healthy"
    assert second.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "failing",
    [garbage, impossible_status, impossible_status_with_a_broken_body, endless_head],
)
async def test_what_is_not_http_is_a_502_and_not_repeated(failing: Behaviour) -> None:
    async with (
        ScriptedReplica(failing) as bad,
        ScriptedReplica() as good,
        balancer(bad.url, good.url) as lb,
    ):
        response = await lb.post()
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "server_error"
    assert not good.calls


async def test_a_kept_connection_that_is_closed_under_a_request_does_not_fail_it() -> None:
    closed_once = False

    async def answer_then_close_the_next(call: Call) -> None:
        nonlocal closed_once
        if len(replica.calls) == 2 and not closed_once:
            closed_once = True
            call.reset()
        else:
            await call.send(answer(b"{}"))

    async with (
        ScriptedReplica(answer_then_close_the_next) as replica,
        balancer(replica.url, poll_interval_s=60) as lb,
    ):
        statuses = [(await lb.post()).status_code for _ in range(3)]
        metrics = await lb.metrics()
    assert closed_once
    assert statuses == [200, 200, 200]
    assert f'lb_retries_total{{replica="{replica.name}",model="m"}} 1\n' in metrics
    assert 'model="m",kind="idle"} 1\n' in metrics
    assert 'kind="lost"' not in metrics


async def test_a_replica_that_is_unavailable_is_passed_over() -> None:
    async def unavailable(call: Call) -> None:
        await call.send(answer(b'{"error": "starting"}', status="503 Service Unavailable"))

    async with (
        ScriptedReplica(unavailable) as bad,
        ScriptedReplica() as good,
        balancer(bad.url, good.url, poll_interval_s=60) as lb,
    ):
        statuses = [(await lb.post()).status_code for _ in range(20)]
        metrics = await lb.metrics()
    assert statuses == [200] * 20
    # After three in a row it is left alone.
    assert len(bad.calls) == 3
    assert f'lb_retries_total{{replica="{bad.name}",model="m"}} 3\n' in metrics


async def test_the_answer_of_the_last_replica_is_passed_on_whatever_it_is() -> None:
    async def unavailable(call: Call) -> None:
        await call.send(answer(b'{"error": "starting"}', status="503 Service Unavailable"))

    async with ScriptedReplica(unavailable) as replica, balancer(replica.url) as lb:
        response = await lb.post()
    assert (response.status_code, response.json()) == (503, {"error": "starting"})


async def test_a_replica_that_hangs_loses_the_request_to_another() -> None:
    async with (
        ScriptedReplica() as hung,
        ScriptedReplica() as good,
        balancer(hung.url, good.url, timeouts=Timeouts(first_byte_s=0.2)) as lb,
        asyncio.timeout(20),
    ):
        hung.behaviour = hung.hang
        response = await lb.post()
        await hung.left.wait()
        await lb.until(hung.url, in_flight=0)
        metrics = await lb.metrics()
    assert response.headers["x-lb-replica"] == good.name
    assert f'lb_upstream_errors_total{{replica="{hung.name}",model="m",kind="slow"}} 1\n' in metrics


async def test_a_stream_that_stalls_ends_with_an_error_event() -> None:
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url, timeouts=Timeouts(stall_s=0.2)) as lb,
        asyncio.timeout(20),
    ):
        replica.behaviour = replica.begin_and_hang
        text = (await lb.post(stream=True)).text
        await replica.left.wait()
    assert "stopped in the middle of its answer" in text
    assert "[DONE]" not in text


async def test_retries_stop_when_the_budget_is_spent() -> None:
    """A fleet that fails everything gets at most the reserve on top, not twice the load."""
    async with (
        ScriptedReplica(reset) as one,
        ScriptedReplica(reset) as two,
        balancer(one.url, two.url, poll_interval_s=60) as lb,
    ):
        for _ in range(50):
            await lb.post()
    assert len(one.calls) + len(two.calls) <= 50 + 10 + 0.2 * 50


# After the first byte


async def test_a_broken_stream_ends_with_an_error_event_and_no_done() -> None:
    async with (
        ScriptedReplica(reset_midway) as bad,
        ScriptedReplica() as good,
        balancer(bad.url, good.url) as lb,
    ):
        response = await lb.post(stream=True)
        replicas = await lb.replicas()
    events = [line for line in response.text.split("\n") if line]
    assert events[0] == 'data: {"n": 1}'
    assert events[1].startswith('data: {"error":{"message":"Replica ')
    assert len(events) == 2
    assert not good.calls
    assert replicas[bad.url]["in_flight"] == 0


@pytest.mark.parametrize("cut_off", [b"", b'data: {"half'])
async def test_an_error_event_is_an_event_of_its_own(cut_off: bytes) -> None:
    async def cut(call: Call) -> None:
        await call.send(STREAM_HEAD)
        await call.send_chunk(b"data: 1\n\n" + cut_off)
        call.writer.close()

    async with ScriptedReplica(cut) as replica, balancer(replica.url) as lb:
        response = await lb.post(stream=True)
    assert response.text.split("\n\n")[-2].strip("\n").startswith('data: {"error":')


@pytest.mark.parametrize(
    "head",
    [JSON_HEAD, b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"],
)
async def test_a_broken_answer_breaks_the_connection(head: bytes) -> None:
    async def cut(call: Call) -> None:
        await call.send(head + (b"5\r\n{'a':\r\n" if head is JSON_HEAD else b"{'a':"))
        await asyncio.sleep(0)
        call.reset()

    async with ScriptedReplica(cut) as replica, balancer(replica.url) as lb:
        with pytest.raises(httpx.RemoteProtocolError):
            await lb.post()
        assert (await lb.replicas())[replica.url]["in_flight"] == 0
        assert value(await lb.metrics(), "lb_requests_total") == 1


async def test_garbage_in_a_stream_is_a_broken_stream() -> None:
    async def bad_chunk(call: Call) -> None:
        await call.send(STREAM_HEAD)
        await call.send_chunk(b"data: 1\n\n")
        await call.send(b"not a chunk size\r\n")

    async with ScriptedReplica(bad_chunk) as replica, balancer(replica.url) as lb:
        response = await lb.post(stream=True)
        metrics = await lb.metrics()
    assert '"error"' in response.text
    assert 'kind="bad-answer"} 1\n' in metrics


# A balancer that stops


async def test_a_stream_that_outlasts_the_grace_period_ends_with_an_error_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ScriptedReplica() as replica, httpx.AsyncClient() as client:
        replica.behaviour = replica.begin_and_hang
        async with balancer(replica.url) as lb:
            request = client.build_request("POST", f"{lb.url}/v1/completions", json={"model": "m"})
            response = await client.send(request, stream=True)
        text = (await response.aread()).decode()
        async with asyncio.timeout(20):
            await replica.left.wait()
    assert '"message":"The balancer is stopping"' in text
    assert not [record for record in caplog.records if record.exc_info]


# Clients that leave


async def test_a_stream_that_is_left_is_aborted_at_the_replica() -> None:
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url) as lb,
        asyncio.timeout(20),
    ):
        replica.behaviour = replica.begin_and_hang
        response = await lb.stream()
        assert (await lb.replicas())[replica.url]["in_flight"] == 1
        await response.aclose()
        await replica.left.wait()
        await lb.until(replica.url, in_flight=0)
        assert 'status="499"} 1\n' in await lb.metrics()


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_request_that_is_left_before_its_first_byte_is_aborted(streamed: bool) -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, asyncio.timeout(20):
        replica.behaviour = replica.hang
        request = asyncio.create_task(lb.post(stream=streamed))
        await replica.called.wait()
        assert (await lb.replicas())[replica.url]["in_flight"] == 1
        request.cancel()
        await replica.left.wait()
        await lb.until(replica.url, in_flight=0)


async def test_many_requests_that_are_left_leave_nothing_in_flight() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, asyncio.timeout(30):
        replica.behaviour = replica.hang
        requests = [asyncio.create_task(lb.post()) for _ in range(50)]
        await lb.until(replica.url, in_flight=50)
        for request in requests:
            request.cancel()
        await lb.until(replica.url, in_flight=0)


async def test_a_client_that_leaves_while_nothing_is_read_is_noticed() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, asyncio.timeout(20):
        replica.behaviour = replica.flood
        response = await lb.stream()
        await response.aclose()
        await replica.left.wait()
        await lb.until(replica.url, in_flight=0)


async def test_an_upload_that_is_left_is_not_forwarded() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, asyncio.timeout(20):
        _, port = lb.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()
        while 'status="499"} 1\n' not in await lb.metrics():
            await asyncio.sleep(0.02)
    assert not replica.calls
