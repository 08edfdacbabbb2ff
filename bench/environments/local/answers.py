"""Waits for replicas: each must complete a chat request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import httpx

from bench.errors import UserError
from bench.progress import Step
from bench.records import Replica

# Enough to run every kind of step that an engine has.
OUTPUT_TOKENS = 64
ANSWER_TIMEOUT_S = 120.0
PROMPT = "How long does a queue have to be?"


def await_answers(
    replicas: Sequence[Replica],
    step: Step,
    timeout_s: float,
    check_alive: Callable[[], None],
) -> None:
    """Return when every replica has answered; all are asked at once.

    Calls `check_alive`, which may raise, while it waits. Raises UserError for a replica that
    answers anything but a completion, or not within `timeout_s` seconds.
    """
    give_up = threading.Event()
    pool = ThreadPoolExecutor(len(replicas))
    names = {pool.submit(_await_answer, replica, give_up): replica.name for replica in replicas}
    try:
        _await_all(names, step, timeout_s, check_alive)
    finally:
        give_up.set()
        pool.shutdown(wait=False)


def chat(
    url: str, model: str, output_tokens: int, timeout_s: float, prompt: str = PROMPT
) -> httpx.Response:
    """The response to a request for a completion of `output_tokens` tokens, not streamed."""
    request = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": output_tokens,
        "ignore_eos": True,
    }
    # The address is loopback: a proxy named in the environment must not be used.
    return httpx.post(
        f"{url}/v1/chat/completions", json=request, timeout=timeout_s, trust_env=False
    )


def _await_all(
    names: dict[Future[None], str],
    step: Step,
    timeout_s: float,
    check_alive: Callable[[], None],
) -> None:
    deadline_s = time.monotonic() + timeout_s
    pending = set(names)
    while pending:
        waiting = sorted(names[answer] for answer in pending)
        step.update(f"{len(names) - len(pending)}/{len(names)} ready, waiting for {waiting[0]}")
        done, pending = wait(pending, timeout=0.2)
        for answer in done:
            answer.result()
        if pending:
            check_alive()
            if time.monotonic() > deadline_s:
                raise UserError(f"{', '.join(waiting)} did not answer within {timeout_s:.0f} s")


def _await_answer(replica: Replica, give_up: threading.Event) -> None:
    while not give_up.is_set():
        try:
            response = chat(replica.url, replica.model, OUTPUT_TOKENS, ANSWER_TIMEOUT_S)
        except httpx.TransportError:
            give_up.wait(0.1)  # not listening yet
            continue
        _check(replica.name, response)
        return


def _check(name: str, response: httpx.Response) -> None:
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        content = None
    if response.status_code != httpx.codes.OK or not content:
        raise UserError(
            f"{name} answered a chat request with status {response.status_code}: "
            f"{' '.join(response.text.split())[:200]}"
        )
