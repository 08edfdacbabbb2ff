"""What the balancer refuses itself, it refuses in the words of the OpenAI API."""

from __future__ import annotations

import httpx
import pytest

from lb.http.downstream import Limits
from tests.lb.scripted import ScriptedReplica, balancer

pytestmark = pytest.mark.anyio


def error_of(response: httpx.Response) -> dict[str, object]:
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "code", "param"}
    assert isinstance(error, dict)
    return error


async def test_an_unknown_model_is_a_404_that_lists_the_known_ones() -> None:
    async with (
        ScriptedReplica(models=["llama"]) as one,
        ScriptedReplica(models=["qwen", "llama"]) as two,
        balancer(one.url, two.url) as lb,
    ):
        response = await lb.post(model="gpt-4")
        metrics = await lb.metrics()
    error = error_of(response)
    assert response.status_code == 404
    assert error["message"] == "The model 'gpt-4' does not exist. Known models: llama, qwen"
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "gpt-4" not in metrics


async def test_a_body_that_names_none_of_several_models_is_a_400() -> None:
    async with (
        ScriptedReplica(models=["a"]) as replica,
        ScriptedReplica(models=["b"]) as other,
        balancer(replica.url, other.url) as lb,
    ):
        response = await lb.client.post("/v1/completions", content=b"{}")
    error = error_of(response)
    assert response.status_code == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", "model")
    assert not replica.calls


async def test_a_body_over_the_limit_is_a_413() -> None:
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url, limits=Limits(body_bytes=1000)) as lb,
    ):
        fits = await lb.post(prompt="x" * 900)
        too_large = await lb.post(prompt="x" * 1000)
    assert (fits.status_code, too_large.status_code) == (200, 413)
    assert error_of(too_large)["code"] == "body_too_large"
    assert len(replica.calls) == 1


async def test_another_method_is_a_405_that_names_the_right_one() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        response = await lb.client.get("/v1/chat/completions")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert error_of(response)["type"] == "invalid_request_error"


async def test_what_is_not_generation_is_not_forwarded() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        unknown = await lb.client.post("/generate", json={"model": "m"})
        mistaken = await lb.client.post("/v1/models", json={"model": "m"})
    assert (unknown.status_code, error_of(unknown)["code"]) == (404, "not_found")
    assert (mistaken.status_code, error_of(mistaken)["code"]) == (405, "method_not_allowed")
    assert not replica.calls


async def test_before_any_replica_has_answered_every_model_is_a_503() -> None:
    async with ScriptedReplica() as replica:
        await replica.die()
        async with balancer(replica.url) as lb:
            response = await lb.post()
    assert response.status_code == 503
    assert error_of(response)["message"] == "No replica has answered yet"
