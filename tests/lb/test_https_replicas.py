"""Replicas behind TLS, and behind a path that all requests begin with."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trustme

from lb.discovery.sources import Resolved
from lb.http.endpoint import parse_endpoint
from lb.http.upstream.client import client_context
from tests.lb.running import started
from tests.lb.scripted import STREAM_HEAD, Call, ScriptedReplica, answer, balancer

pytestmark = pytest.mark.anyio

BUSY = b'vllm:num_requests_waiting{model_name="m"} 3.0\n'


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def certified(authority: trustme.CA, *hosts: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*hosts).configure_cert(context)
    return context


@pytest.fixture
async def replica(authority: trustme.CA) -> AsyncIterator[ScriptedReplica]:
    """Behind TLS and a prefix."""
    tls = certified(authority, "127.0.0.1")
    async with ScriptedReplica(metrics=BUSY, tls=tls, prefix="/engines/a") as replica:
        yield replica


async def test_requests_checks_and_polls_go_through_tls_and_the_prefix(
    replica: ScriptedReplica, ca_file: Path
) -> None:
    async with balancer(replica.url, trusted=client_context(ca_file)) as lb:
        await lb.until(replica.url, healthy=True, waiting=3)
        for _ in range(3):
            response = await lb.client.post("/v1/completions?x=1", json={"model": "m"})
            assert (response.status_code, response.json()) == (200, {"model": "m"})
            assert response.headers["x-lb-replica"] == replica.name
        models = await lb.client.get("/v1/models")
    assert {call.target for call in replica.calls} == {"/v1/completions?x=1"}
    assert replica.calls[0].headers["host"] == replica.name.partition("/")[0]
    assert replica.checks > 0
    assert [entry["id"] for entry in models.json()["data"]] == ["m"]
    assert replica.url.startswith("https://127.0.0.1:")
    assert replica.name.endswith("/engines/a")


async def test_connections_are_kept_for_each_way_of_speaking(
    replica: ScriptedReplica, ca_file: Path
) -> None:
    async with balancer(replica.url, trusted=client_context(ca_file), poll_interval_s=60) as lb:
        for _ in range(5):
            assert (await lb.post()).status_code == 200
    assert replica.connections <= 2  # the poller's, which requests take over, and one more


async def test_streams_pass_through_tls_chunk_by_chunk_and_are_aborted_there(
    authority: trustme.CA, ca_file: Path
) -> None:
    async def begin_and_wait(call: Call) -> None:
        await call.send(STREAM_HEAD)
        await call.send_chunk(b"data: 1\n\n")
        await streaming.hang(call)

    tls = certified(authority, "127.0.0.1")
    async with (
        ScriptedReplica(begin_and_wait, tls=tls) as streaming,
        balancer(streaming.url, trusted=client_context(ca_file)) as lb,
        asyncio.timeout(30),
    ):
        response = await lb.stream()
        async for chunk in response.aiter_raw():
            assert chunk == b"data: 1\n\n"
            break
        await response.aclose()
        await streaming.left.wait()


async def test_two_prefixes_on_one_port_are_two_replicas() -> None:
    """A proxy in front of two engines, of which one is not there."""
    async with ScriptedReplica(prefix="/a") as replica:
        missing = f"{replica.url.removesuffix('/a')}/b"
        async with balancer(replica.url, missing) as lb:
            await lb.until(missing, healthy=False)
            answers = [await lb.post() for _ in range(4)]
            facts = await lb.replicas()
    assert {url: one["healthy"] for url, one in facts.items()} == {
        replica.url: True,
        missing: False,
    }
    assert {answer.headers["x-lb-replica"] for answer in answers} == {replica.name}


async def test_a_certificate_that_does_not_hold_is_named(
    replica: ScriptedReplica, caplog: pytest.LogCaptureFixture
) -> None:
    async with balancer(replica.url, trusted=client_context()) as lb:
        response = await lb.post()
        assert not (await lb.replicas())[replica.url]["healthy"]
    assert response.status_code == 503
    assert "its certificate does not hold: unable to get local issuer certificate" in caplog.text


async def test_an_intermediate_ca_can_be_trusted_alone(
    authority: trustme.CA, tmp_path: Path
) -> None:
    intermediate = authority.create_child_ca()
    ca_file = tmp_path / "intermediate.pem"
    intermediate.cert_pem.write_to_path(str(ca_file))
    async with (
        ScriptedReplica(tls=certified(intermediate, "127.0.0.1")) as replica,
        balancer(replica.url, trusted=client_context(ca_file)) as lb,
    ):
        assert (await lb.post()).status_code == 200


async def test_a_certificate_of_another_host_does_not_hold(
    authority: trustme.CA, ca_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = certified(authority, "other.example")
    async with (
        ScriptedReplica(tls=tls) as replica,
        balancer(replica.url, trusted=client_context(ca_file)) as lb,
    ):
        assert (await lb.post()).status_code == 503
    assert "its certificate does not hold: IP address mismatch" in caplog.text


async def test_where_plain_http_is_spoken_https_is_not(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer(b"", "400 Bad Request"))
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as plain:
        port = plain.sockets[0].getsockname()[1]
        async with balancer(f"https://127.0.0.1:{port}") as lb:
            response = await lb.post()
    assert response.status_code == 503
    assert "cannot be connected to (no TLS:" in caplog.text


async def test_a_name_that_is_resolved_is_what_the_certificate_is_for(
    authority: trustme.CA, ca_file: Path
) -> None:
    async with ScriptedReplica(tls=certified(authority, "localhost")) as replica:
        url = f"https://localhost:{replica.url.rpartition(':')[2]}"
        source = Resolved(parse_endpoint(url, "test"))
        async with balancer(source=source, trusted=client_context(ca_file)) as lb:
            await lb.until(replica.url, healthy=True)
            response = await lb.post()
    assert response.status_code == 200
    assert replica.calls[0].headers["host"] == url.removeprefix("https://")


async def test_workers_are_told_how_replicas_are_spoken_to(
    replica: ScriptedReplica, ca_file: Path
) -> None:
    async with (
        started(
            *("--policy", "queue-aware", "--endpoints", replica.url, "--workers", "2"),
            *("--upstream-ca-file", str(ca_file), "--poll-interval", "0.1"),
        ) as running,
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
        asyncio.timeout(60),
    ):
        while (await client.get(f"{running.url}/ready")).status_code != 200:
            await asyncio.sleep(0.02)
        for _ in range(4):
            async with httpx.AsyncClient(trust_env=False, timeout=20) as other:
                response = await other.post(f"{running.url}/v1/completions", json={"model": "m"})
                assert response.status_code == 200
                assert response.headers["x-lb-replica"] == replica.name
