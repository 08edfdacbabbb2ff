"""Reads what engines with KVCached write: their log, kvctl's list, nvidia-smi, their answers.

Pure functions. Those for the output of a program raise UserError, in one line, for any other text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import orjson

from bench.analysis.kvcached import GpuMemory, Segment, Token
from bench.errors import UserError

KVCTL = ("kvctl", "list", "--json")
_FIELDS = ("uuid", "name", "memory.used", "memory.total")
NVIDIA_SMI = (
    "nvidia-smi",
    f"--query-gpu={','.join(_FIELDS)}",
    "--format=csv,noheader,nounits",
)
# Of a log, from its beginning: engines have said it long before.
START_LINES = 5_000
_PATCHED = re.compile(r"Successfully patched vllm: (.*)")
# An engine that says one of these goes on without KVCached, or with a part of it.
_FAILED = re.compile(r"Failed to patch .*|Failed to initialize kvcached.*")
_VERSION = re.compile(r"Detected vllm version: (\S+)")
_CAPACITY = re.compile(r"Using kvcached process-local KV capacity: .*weights=(\d+) bytes")
_LOADED = re.compile(r"Model loading took ([\d.]+) GiB")
_QUOTED = 80


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What the start of an engine's log says of KVCached; empty and None for what it does not."""

    patched: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    vllm: str | None = None
    weights_gib: float | None = None


def read_log(lines: Iterable[str]) -> LogFacts:
    """What the first lines of an engine's log say, in whichever of its processes.

    KVCached counts the weights in bytes; without it vLLM says them in GiB.
    """
    text = "\n".join(islice(lines, START_LINES))
    names = (name.strip() for found in _PATCHED.findall(text) for name in found.split(","))
    version, capacity, loaded = (pattern.search(text) for pattern in (_VERSION, _CAPACITY, _LOADED))
    weights_gib = float(loaded[1]) if loaded else None
    return LogFacts(
        patched=tuple(dict.fromkeys(filter(None, names))),
        failures=tuple(dict.fromkeys(line.strip() for line in _FAILED.findall(text))),
        vllm=version[1] if version else None,
        weights_gib=int(capacity[1]) / 2**30 if capacity else weights_gib,
    )


def read_segments(text: str) -> tuple[Segment, ...]:
    """The segments that `KVCTL` lists."""
    try:
        return tuple(
            Segment(str(one["ipc"]), int(one["limit_bytes"]), int(one["used_bytes"]))
            for one in orjson.loads(text)
        )
    except (ValueError, OverflowError, LookupError, TypeError):
        raise UserError(f"kvctl writes {_quoted(text)} in place of a list of segments") from None


def read_gpus(text: str) -> tuple[GpuMemory, ...]:
    """The GPUs that `NVIDIA_SMI` lists."""
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        rows = [[field.strip() for field in line.split(",")] for line in lines]
        gpus = tuple(
            GpuMemory(uuid, name, int(used) / 1024, int(total) / 1024)
            for uuid, name, used, total in rows
        )
    except (ValueError, OverflowError):
        gpus = ()
    if not gpus:
        raise UserError(f"nvidia-smi writes {_quoted(text)} in place of the memory of GPUs")
    return gpus


def read_tokens(body: str) -> tuple[Token, ...]:
    """The tokens of vLLM's answer to a completion that asked for `logprobs`."""
    try:
        found = orjson.loads(body)["choices"][0]["logprobs"]
        steps = zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True)
        return tuple(_token(*step) for step in steps)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"it answers {_quoted(body)} in place of tokens") from None


def _token(text: str, logprob: float, top: dict[str, float]) -> Token:
    second = max((one for one in top if one != text), key=top.__getitem__, default="")
    return Token(text, second, logprob - top[second] if second else 0.0)


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _QUOTED else f"{line[:_QUOTED]}…")
