"""What becomes of every route that vLLM serves: passed on, or refused by name."""

from __future__ import annotations

import httpx
import pytest

from tests.lb.scripted import Call, ScriptedReplica, answer, balancer

pytestmark = pytest.mark.anyio

# As vLLM 0.30 registers them, with every option and task that adds some.
RELAYED = """
POST /v1/chat/completions
POST /v1/chat/completions/batch
POST /v1/chat/completions/render
POST /v1/chat/completions/derender
POST /v1/completions
POST /v1/completions/render
POST /v1/completions/derender
POST /v1/responses
POST /v1/responses/render
GET /v1/responses/resp_1
POST /v1/responses/resp_1/cancel
POST /v1/messages
POST /v1/messages/count_tokens
POST /v1/messages/render
POST /v1/embeddings
POST /v2/embed
POST /v1/audio/transcriptions
POST /v1/audio/translations
POST /tokenize
POST /detokenize
GET /tokenizer_info
POST /pooling
POST /classify
POST /score
POST /v1/score
POST /rerank
POST /v1/rerank
POST /v2/rerank
POST /generative_scoring
POST /inference/v1/generate
POST /cohere/v2/chat
POST /cohere/v2/chat/render
POST /invocations
"""
OWN = """
GET /health
GET /metrics
GET /v1/models
"""
# And what the message has to say.
REFUSED = """
POST /v1/load_lora_adapter          send this to every replica itself
POST /v1/unload_lora_adapter        send this to every replica itself
POST /adapters                      send this to every replica itself
DELETE /adapters/a                  send this to every replica itself
GET /v1/realtime                    WebSockets are not passed on
GET /ping                           use /health, or /ready
POST /ping                          use /health, or /ready
GET /load                           ask a replica itself
GET /version                        ask a replica itself
GET /server_info                    ask a replica itself
GET /docs                           ask a replica itself
GET /docs/oauth2-redirect           ask a replica itself
GET /redoc                          ask a replica itself
GET /openapi.json                   ask a replica itself
GET /static/swagger-ui.css          ask a replica itself
POST /sleep                         send it to the replicas themselves
POST /wake_up                       send it to the replicas themselves
GET /is_sleeping                    send it to the replicas themselves
POST /pause                         send it to the replicas themselves
POST /resume                        send it to the replicas themselves
GET /is_paused                      send it to the replicas themselves
POST /abort_requests                send it to the replicas themselves
POST /start_profile                 send it to the replicas themselves
POST /stop_profile                  send it to the replicas themselves
POST /reset_prefix_cache            send it to the replicas themselves
POST /reset_mm_cache                send it to the replicas themselves
POST /reset_encoder_cache           send it to the replicas themselves
POST /collective_rpc                send it to the replicas themselves
POST /scale_elastic_ep              send it to the replicas themselves
POST /is_scaling_elastic_ep         send it to the replicas themselves
POST /init_weight_transfer_engine   send it to the replicas themselves
POST /start_weight_update           send it to the replicas themselves
POST /start_draft_weight_update     send it to the replicas themselves
POST /update_weights                send it to the replicas themselves
POST /finish_weight_update          send it to the replicas themselves
POST /update_weight_version         send it to the replicas themselves
GET /weight_info                    send it to the replicas themselves
GET /get_world_size                 send it to the replicas themselves
POST /fault_tolerance/apply         send it to the replicas themselves
GET /fault_tolerance/status         send it to the replicas themselves
"""


def lines(table: str) -> list[str]:
    return table.strip().splitlines()


async def test_what_is_passed_on_reaches_a_replica_as_it_was_sent() -> None:
    gets = [line.split()[1] for line in lines(RELAYED) if line.startswith("GET")]
    async with ScriptedReplica(scripted=gets) as replica, balancer(replica.url) as lb:
        for line in lines(RELAYED):
            method, path = line.split()
            body = b"" if method == "GET" else b'{"model": "m"}'
            response = await lb.client.request(method, f"{path}?beta=true", content=body)
            assert (response.status_code, response.content) == (200, body), line
            assert (replica.calls[-1].method, replica.calls[-1].target) == (
                method,
                f"{path}?beta=true",
            )
    assert len(replica.calls) == len(lines(RELAYED))


@pytest.mark.parametrize("path", ["/tokenizer_info", "/v1/responses/resp_1"])
async def test_what_can_be_got_can_be_asked_for_without_its_body(path: str) -> None:
    async def tell(call: Call) -> None:
        await call.send(answer(b"{}"))

    async with ScriptedReplica(tell, scripted=[path]) as replica, balancer(replica.url) as lb:
        response = await lb.client.head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "2"
    assert [call.method for call in replica.calls] == ["GET"]


async def test_what_is_refused_says_what_to_do_instead_and_reaches_no_replica() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        for line in lines(REFUSED):
            method, path, hint = line.split(maxsplit=2)
            response = await lb.client.request(method, path, json={"lora_name": "a"})
            assert response.status_code == 404, line
            error = response.json()["error"]
            assert error["code"] == "not_supported"
            assert error["message"].startswith(f"{method} {path} is not supported by the balancer")
            assert hint in error["message"]
    assert not replica.calls


async def test_what_is_the_balancers_own_it_answers_itself() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        for line in lines(OWN):
            method, path = line.split()
            assert (await lb.client.request(method, path)).status_code == 200, line
    assert not replica.calls


@pytest.mark.parametrize(
    "path",
    [
        "/v1/%6coad_lora_adapter",
        "/v1%2Fload_lora_adapter",
        "/v1/./load_lora_adapter",
        "/v1//load_lora_adapter",
        "/v1/x/../load_lora_adapter",
        "/v1/x/%2e%2e/%2e%2e/sleep",
        "/v1/load_lora_adapter/",
        "//sleep",
        "/%73leep",
    ],
)
async def test_no_way_of_writing_a_path_brings_to_a_replica_what_is_refused(path: str) -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        target = httpx.URL(lb.url, raw_path=path.encode())
        response = await lb.client.post(target, json={"model": "m"})
    assert response.status_code == 404
    assert not replica.calls


async def test_a_slash_at_the_end_does_not_become_a_redirect_to_a_replica() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        response = await lb.client.post("/v1/completions/", json={"model": "m"})
    assert response.status_code == 404
    assert "leave out the slash" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/files"), ("DELETE", "/v1/files/f"), ("GET", "/v1/batches"), ("POST", "/files")],
)
async def test_what_nobody_serves_is_not_found(method: str, path: str) -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        response = await lb.client.request(method, path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    assert not replica.calls


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/completions", "POST"),
        ("PUT", "/rerank", "POST"),
        ("POST", "/tokenizer_info", "GET"),
    ],
)
async def test_another_method_is_refused_with_the_right_one(
    method: str, path: str, allow: str
) -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        response = await lb.client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allow)
    assert not replica.calls
