"""The official client works through the balancer as if it were one server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
import openai
import pytest

from tests.lb.scripted import (
    END_OF_CHUNKS,
    STREAM_HEAD,
    Balancer,
    Call,
    ScriptedReplica,
    answer,
    balancer,
)

pytestmark = pytest.mark.anyio

WORDS = ["one ", "two ", "three"]
MESSAGES: Any = [{"role": "user", "content": "count"}]


def completion(kind: str, **choice: Any) -> bytes:
    choices = [{"index": 0, "finish_reason": None, **choice}]
    return json.dumps(
        {"id": "c", "object": kind, "created": 1, "model": "m", "choices": choices}
    ).encode()


async def count(call: Call) -> None:
    """Count to three, in pieces if a stream was asked for; embed if that was."""
    if call.target == "/v1/embeddings":
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        body = {"object": "list", "model": "m", "data": data, "usage": usage}
        await call.send(answer(json.dumps(body).encode()))
    elif json.loads(call.body).get("stream"):
        await call.send(STREAM_HEAD)
        for word in WORDS:
            event = completion("chat.completion.chunk", delta={"content": word})
            await call.send_chunk(b"data: " + event + b"\n\n")
        await call.send_chunk(b"data: [DONE]\n\n")
        await call.send(END_OF_CHUNKS)
    else:
        message = {"role": "assistant", "content": "".join(WORDS)}
        await call.send(answer(completion("chat.completion", message=message)))


async def fail_after_one_word(call: Call) -> None:
    await call.send(STREAM_HEAD)
    event = completion("chat.completion.chunk", delta={"content": WORDS[0]})
    await call.send_chunk(b"data: " + event + b"\n\n")
    call.reset()


@pytest.fixture
async def lb() -> AsyncIterator[Balancer]:
    async with ScriptedReplica(count) as replica, balancer(replica.url) as running:
        yield running


def async_client(lb: Balancer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{lb.url}/v1", api_key="x", max_retries=0)


async def test_the_asynchronous_client_gets_answers_and_streams(lb: Balancer) -> None:
    async with async_client(lb) as client:
        whole = await client.chat.completions.create(model="m", messages=MESSAGES)
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        pieces = [chunk.choices[0].delta.content async for chunk in stream]
    assert whole.choices[0].message.content == "one two three"
    assert pieces == WORDS


async def test_the_synchronous_client_gets_answers_and_streams(lb: Balancer) -> None:
    def talk() -> tuple[str | None, list[str | None]]:
        with openai.OpenAI(base_url=f"{lb.url}/v1", api_key="x", max_retries=0) as client:
            whole = client.chat.completions.create(model="m", messages=MESSAGES)
            stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            pieces = [chunk.choices[0].delta.content for chunk in stream]
            return whole.choices[0].message.content, pieces

    assert await anyio.to_thread.run_sync(talk) == ("one two three", WORDS)


async def test_the_client_lists_models_and_embeds(lb: Balancer) -> None:
    async with async_client(lb) as client:
        models = [model.id async for model in client.models.list()]
        embedded = await client.embeddings.create(model="m", input="text", encoding_format="float")
    assert models == ["m"]
    assert embedded.data[0].embedding == [0.5]


async def test_the_client_calls_tools_in_pieces() -> None:
    pieces = ['{"city": ', '"Rome"}']

    async def call_tool(call: Call) -> None:
        sent.update(json.loads(call.body))
        await call.send(STREAM_HEAD)
        for piece in pieces:
            tool_call = {"index": 0, "id": "t", "function": {"name": "weather", "arguments": piece}}
            event = completion("chat.completion.chunk", delta={"tool_calls": [tool_call]})
            await call.send_chunk(b"data: " + event + b"\n\n")
        await call.send_chunk(b"data: [DONE]\n\n")
        await call.send(END_OF_CHUNKS)

    sent: dict[str, Any] = {}
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    async with (
        ScriptedReplica(call_tool) as replica,
        balancer(replica.url) as lb,
        async_client(lb) as client,
    ):
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, tools=tools, tool_choice="required", stream=True
        )
        deltas = [chunk.choices[0].delta async for chunk in stream]
    arguments = [
        one.function.arguments for delta in deltas for one in delta.tool_calls or () if one.function
    ]
    assert arguments == pieces
    assert (sent["tools"], sent["tool_choice"]) == (tools, "required")


async def test_the_client_recognises_the_errors(lb: Balancer) -> None:
    async with async_client(lb) as client:
        with pytest.raises(openai.NotFoundError, match="Known models: m"):
            await client.chat.completions.create(model="gpt", messages=MESSAGES)


async def test_the_client_recognises_a_stream_that_broke() -> None:
    async with (
        ScriptedReplica(fail_after_one_word) as replica,
        balancer(replica.url) as lb,
        async_client(lb) as client,
    ):
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        first = await anext(stream)
        with pytest.raises(openai.APIError, match="Replica"):
            await anext(stream)
    assert first.choices[0].delta.content == WORDS[0]
