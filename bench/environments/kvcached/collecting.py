"""Asks engines that have just come up what they show of KVCached."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.analysis.kvcached import Answer, ArmEvidence, EngineEvidence
from bench.environments.kvcached.texts import (
    KVCTL,
    NVIDIA_SMI,
    read_gpus,
    read_log,
    read_segments,
    read_tokens,
)
from bench.errors import UserError
from bench.processes.program import Program
from bench.progress import Step

Read = TypeVar("Read")

# Before a command in an image whose variables switch KVCached on: it would patch itself into that.
UNPATCHED = ("env", "ENABLE_KVCACHED=false", "KVCACHED_AUTOPATCH=0")
# The engine's own container has Python, and reaches the engine wherever it runs.
_POST = """
import sys, urllib.request
headers = {'Content-Type': 'application/json'}
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), headers)
sys.stdout.write(urllib.request.urlopen(request, timeout=60).read().decode())
"""
_VERSION = "import importlib.metadata as m; print(m.version('kvcached'))"
# English text, long enough that its cache fills several blocks.
_TEXT = Path(__file__).parents[1] / "cpu_engine" / "corpus.txt"
PROMPTS, PROMPT_CHARACTERS, ANSWER_TOKENS = 4, 1200, 32


@dataclass(frozen=True, slots=True)
class Console:
    """An engine, and how to look at it.

    `ipc` is the name that KVCached has for it, and it listens on `port` of its own machine or
    container. `place` is that of all engines beside it, which have the same GPUs. `log` gives the
    lines of its log from the beginning. `run` runs a command beside the engine and returns its
    output; `start` starts one. All raise UserError.
    """

    engine: str
    model: str
    ipc: str
    port: int
    place: str
    log: Callable[[], Iterable[str]]
    run: Callable[[Sequence[str]], str]
    start: Callable[[Sequence[str]], Program]


def collect(
    consoles: Sequence[Console], *, wanted: bool, utilization: float, step: Step
) -> ArmEvidence:
    """What the engines of an arm show; nothing else may be sent to them meanwhile.

    With `wanted` they should have KVCached. `utilization` is the share of a GPU that one without it
    takes. What cannot be asked is in the evidence, and is no error.
    """
    engines = look(consoles, step) if wanted else ()
    answers, unread = ask(consoles, step)
    return ArmEvidence(wanted, utilization, engines, answers, unread)


def look(consoles: Iterable[Console], step: Step) -> tuple[EngineEvidence, ...]:
    """What each engine shows of KVCached."""
    engines = []
    for one in consoles:
        step.update(f"what {one.engine} shows of KVCached")
        engines.append(_engine(one))
    return tuple(engines)


def ask(consoles: Sequence[Console], step: Step) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
    """Greedy answers of the first engine of each model, and a line for each that gives none."""
    answers, unread = list[Answer](), list[str]()
    for one in {console.model: console for console in reversed(consoles)}.values():
        step.update(f"greedy answers of {one.engine}")
        try:
            answers += _answers(one)
        except UserError as error:
            unread.append(f"{one.engine} gives none: {error}")
    return tuple(answers), tuple(unread)


def prompts() -> tuple[str, ...]:
    """The prompts that greedy answers are asked for; no two begin alike."""
    text = _TEXT.read_text(encoding="ascii")
    starts = range(0, PROMPTS * PROMPT_CHARACTERS, PROMPT_CHARACTERS)
    return tuple(text[start : start + PROMPT_CHARACTERS] for start in starts)


def greedy_request(model: str, prompt: str) -> str:
    """The body of a completion that always takes the most likely token, and tells the second."""
    return json.dumps(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "seed": 0,
            "ignore_eos": True,
            "logprobs": 2,
            "return_tokens_as_token_ids": True,
        }
    )


def _engine(console: Console) -> EngineEvidence:
    unread = list[str]()

    def read(what: str, command: Sequence[str], parse: Callable[[str], Read]) -> Read | None:
        try:
            return parse(console.run([*UNPATCHED, *command]))
        except UserError as error:
            unread.append(f"{what} tells nothing: {error}")
            return None

    try:
        log = read_log(console.log())
    except UserError as error:
        unread.append(f"its log tells nothing: {error}")
        log = read_log(())
    return EngineEvidence(
        engine=console.engine,
        ipc=console.ipc,
        patched=log.patched,
        failures=log.failures,
        vllm=log.vllm,
        kvcached=read("the version of KVCached", ("python3", "-c", _VERSION), str.strip),
        weights_gib=log.weights_gib,
        segments=read("kvctl", KVCTL, read_segments) or (),
        gpus=read("nvidia-smi", NVIDIA_SMI, read_gpus) or (),
        unread=tuple(unread),
    )


def _answers(console: Console) -> Iterator[Answer]:
    url = f"http://127.0.0.1:{console.port}/v1/completions"
    for number, prompt in enumerate(prompts()):
        body = greedy_request(console.model, prompt)
        answer = console.run([*UNPATCHED, "python3", "-ISc", _POST, url, body])
        yield Answer(console.model, number, read_tokens(answer))
