"""Waits until replicas answer, each a chat request of some tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence

import httpx
import orjson

from bench.errors import UserError
from bench.progress import Step
from bench.records import Replica

ANSWER_TIMEOUT_S = 120.0
# Enough to run every kind of step that an engine has.
OUTPUT_TOKENS = 64
PROMPT = "How long does a queue have to be?"


async def await_answers(
    replicas: Sequence[Replica],
    step: Step,
    timeout_s: float,
    check_alive: Callable[[], None],
    advice: Callable[[Collection[str]], str] = lambda _: "",
) -> None:
    """Return when every replica has answered; all are asked at once.

    Calls `check_alive`, which may raise, while it waits. Raises UserError for a replica that
    answers anything but a completion, or not within `timeout_s` seconds; the line ends with the
    `advice` for the names of those that did not.
    """
    deadline_s = time.monotonic() + timeout_s
    # The addresses are loopback: a proxy named in the environment must not be used.
    async with httpx.AsyncClient(timeout=ANSWER_TIMEOUT_S, trust_env=False) as client:
        pending = {
            asyncio.create_task(_await_answer(client, replica), name=replica.name)
            for replica in replicas
        }
        try:
            while pending:
                waiting = sorted(task.get_name() for task in pending)
                ready = len(replicas) - len(pending)
                step.update(f"{ready}/{len(replicas)} ready, waiting for {waiting[0]}")
                done, pending = await asyncio.wait(pending, timeout=0.2)
                for error in filter(None, [task.exception() for task in done]):
                    raise error
                if pending:
                    check_alive()
                    if time.monotonic() > deadline_s:
                        names = ", ".join(waiting)
                        late = f"{names} did not answer within {timeout_s:.0f} s"
                        raise UserError(late + advice(waiting))
        finally:
            for task in pending:
                task.cancel()


async def _await_answer(client: httpx.AsyncClient, replica: Replica) -> None:
    request = {
        "model": replica.model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": OUTPUT_TOKENS,
        "ignore_eos": True,
    }
    while True:
        try:
            response = await client.post(f"{replica.url}/v1/chat/completions", json=request)
        except httpx.TransportError:
            await asyncio.sleep(0.1)  # not listening yet
        else:
            return _require_completion(replica.name, response)


def _require_completion(name: str, response: httpx.Response) -> None:
    try:
        content = orjson.loads(response.content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        content = None
    if response.status_code != httpx.codes.OK or not content:
        raise UserError(
            f"{name} answered a chat request with status {response.status_code}: "
            f"{' '.join(response.text.split())[:200]}"
        )
