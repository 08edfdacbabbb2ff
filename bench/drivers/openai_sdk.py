"""Driver `openai`: the official SDK as an application would use it.

It gets the same schedule as the built-in client, and its answers are read by the same rules. The
time that the SDK itself takes, from the call to the write and from the read to the chunk, is
measured, too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from time import monotonic
from typing import Any

import httpx2
import openai
import orjson
from openai.types.chat import ChatCompletionChunk

from bench.drivers.driver import Setup
from bench.load.client.exchange import Exchange, Failure
from bench.load.run.drive import DriveResult, Load, run_load
from bench.records import DriverFacts, ErrorKind, PlannedRequest

NOTES = (
    "requests count as sent when the SDK is called, and chunks as arrived when it hands them"
    " out: its own work, and making a connection, are in TTFT, E2E and ITL",
    "a stream without [DONE] looks complete to it when a finish reason came, and what breaks"
    " behind [DONE] is not seen",
    "compressed answers are asked for, and decoded; redirects are followed",
    "server-sent events are read by the SDK's rules: one that is not JSON, whatever its name, or"
    " not UTF-8, is an error, and what follows a byte order mark at the start is lost",
)


class OpenAiDriver:
    """`run_load` with a client of the SDK for each base URL."""

    def run(self, load: Load, *, drain_timeout_s: float) -> DriveResult:
        """Send `load`; see `Driver`."""
        result = run_load(load, drain_timeout_s=drain_timeout_s, connect=SdkSender)
        return replace(result, driver=DriverFacts("openai", version("openai"), NOTES))


def make(_: Setup) -> OpenAiDriver:
    """The driver; it needs nothing."""
    return OpenAiDriver()


class SdkSender:
    """Sends to the server at `base_url` through the SDK; see `Sender`."""

    def __init__(self, base_url: str) -> None:
        self._client = openai.AsyncOpenAI(
            base_url=f"{base_url.rstrip('/')}/v1",
            # The user's own key is none of this server's business.
            api_key="none",
            max_retries=0,
            timeout=None,
            # As many connections as requests: the SDK's own limit would queue some. No
            # redirects: they would lead to another server.
            http_client=openai.DefaultAsyncHttpxClient(
                trust_env=False,
                follow_redirects=False,
                limits=httpx2.Limits(max_connections=None),
            ),
        )

    def encode(self, planned: PlannedRequest, prompt: str) -> dict[str, Any]:
        """The arguments of the call; what they ask for is what the built-in client asks."""
        return {
            "model": planned.model,
            "messages": [{"role": "user", "content": prompt}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": planned.output_tokens,
            "temperature": 0,
            "extra_body": {"min_tokens": planned.output_tokens, "ignore_eos": True},
            "extra_headers": {"X-Tenant": planned.tenant} if planned.tenant else {},
        }

    async def fetch(self, request: dict[str, Any], exchange: Exchange) -> None:
        """Send `request` and fill `exchange` until it has ended."""
        exchange.sent_s = monotonic()
        try:
            await self._stream(request, exchange)
        except openai.APIStatusError as error:
            _note_head(exchange, error.response)
            exchange.add(monotonic(), error.response.content)
        # For an answer that is no chunk the SDK raises whatever its own code runs into.
        except (openai.APIError, httpx2.RequestError, ValueError, TypeError) as error:
            exchange.failure = Failure(_kind(error), str(error.__cause__ or error))
        exchange.complete = exchange.failure is None

    async def close(self) -> None:
        """Close the idle connections."""
        await self._client.close()

    async def _stream(self, request: dict[str, Any], exchange: Exchange) -> None:
        async with await self._client.chat.completions.create(**request) as stream:
            _note_head(exchange, stream.response)
            if "text/event-stream" not in exchange.headers.get("content-type", "").lower():
                exchange.add(monotonic(), await stream.response.aread())
                return
            async for chunk in stream:
                exchange.add(monotonic(), _event(chunk))
        # The SDK does not pass this one on.
        exchange.add(monotonic(), b"data: [DONE]\n\n")


def _kind(error: Exception) -> ErrorKind:
    """The kind of failure for an exception of the SDK, or one that it lets through."""
    match error:
        case openai.APIConnectionError(__cause__=httpx2.ConnectError()):
            return ErrorKind.CONNECT
        case openai.APIConnectionError() | httpx2.TransportError():
            return ErrorKind.DISCONNECT
        case openai.APIError():
            return ErrorKind.SERVER
    return ErrorKind.PROTOCOL  # what came was not JSON, no chunk, or not encoded as it said


def _note_head(exchange: Exchange, response: httpx2.Response) -> None:
    exchange.status = response.status_code
    exchange.headers.update(response.headers)
    # It has been decoded.
    exchange.headers.pop("content-encoding", None)


def _event(chunk: object) -> bytes:
    """The event of a chunk, which may be any JSON, with strings that are not Unicode."""
    content = chunk.to_dict(mode="json") if isinstance(chunk, ChatCompletionChunk) else chunk
    try:
        data = orjson.dumps(content)
    except orjson.JSONEncodeError:
        data = json.dumps(content).encode()
    return b"data: " + data + b"\n\n"
