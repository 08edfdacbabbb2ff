"""Whether an arm's engines have KVCached: what they showed when they came up, and what that proves.

KVCached falls back to vLLM's own cache with a line in a log, or none. So an arm that should have it
is judged only where its engines show that they do; a line says what is missing otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from bench.records import Trial

# Beside weights and KV cache: CUDA's context, graphs and workspaces, and the pages that KVCached
# keeps mapped (10 at most, each in all layers: 1.3 GiB of an 8B model).
ALLOWANCE_GIB = 4.0
# Two steps of a logit in bfloat16 where logits are between 16 and 32, as an 8B model's largest are.
NEAR_TIE_NATS = 0.25
# What two tokens that are equally likely differ by, rounded.
LEAST_GAP_NATS = 1e-4


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """A GPU as nvidia-smi has it, with the memory of all that runs on it."""

    uuid: str
    name: str
    used_gib: float
    total_gib: float


@dataclass(frozen=True, slots=True)
class Segment:
    """The shared memory in which an engine with KVCached counts its KV cache."""

    ipc: str
    limit_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class EngineEvidence:
    """What an engine showed when it had come up and nothing was sent to it.

    `ipc` is the name of the segment that it should have. `patched` are the parts of vLLM that its
    log says are patched, `failures` the lines that say that something was not. `weights_gib` are
    those on each of its GPUs. `unread` has a line for each source that told nothing.
    """

    engine: str
    ipc: str
    patched: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    vllm: str | None = None
    kvcached: str | None = None
    weights_gib: float | None = None
    segments: tuple[Segment, ...] = ()
    gpus: tuple[GpuMemory, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def segment(self) -> Segment | None:
        """Its own segment, if it has one."""
        return next((one for one in self.segments if one.ipc == self.ipc), None)


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a greedy answer, and the one that was next to be chosen.

    `gap_nats` is by how much the log probability of the first is larger.
    """

    text: str
    second: str
    gap_nats: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The greedy answer of a model to the prompt with this number."""

    model: str
    prompt: int
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class ArmEvidence:
    """What the engines of an arm showed. `wanted` says whether the arm should have KVCached.

    `utilization` is the share of a GPU that an engine without it would take. `answers` are of one
    engine of each model, asked one prompt at a time; `unread` says why some are missing.
    """

    wanted: bool
    utilization: float
    engines: tuple[EngineEvidence, ...] = ()
    answers: tuple[Answer, ...] = ()
    unread: tuple[str, ...] = ()


_EVIDENCE = TypeAdapter(ArmEvidence)
_KEY = "kvcached"


def as_provenance(evidence: ArmEvidence) -> Mapping[str, Any]:
    """Evidence as a part of a trial's provenance."""
    return {_KEY: asdict(evidence)}


def evidence_in(provenance: Mapping[str, Any]) -> ArmEvidence | None:
    """The evidence that a trial was stored with, if any."""
    found = provenance.get(_KEY)
    return None if found is None else _EVIDENCE.validate_python(found)


def kvcached_reasons(arms: Iterable[Sequence[Trial]]) -> Iterator[str]:
    """A line for each reason why trials, by arm, do not show what their arms' names say.

    Arms take turns on a GPU, so an arm may have come up several times: all of them count.
    """
    seen = list[ArmEvidence]()
    for trials in arms:
        found = [one for trial in trials if (one := evidence_in(trial.provenance)) is not None]
        for reason in dict.fromkeys(line for one in found for line in not_proven(one)):
            yield f"KVCached of {trials[0].arm} is not proven: {reason}"
        seen += found
    without = next((one for one in seen if not one.wanted), None)
    if without is not None:
        pairs = (unlike_answers(without, one) for one in seen if one.wanted)
        for reason in dict.fromkeys(line for of_pair in pairs for line in of_pair):
            yield f"KVCached is not proven: {reason}"


def not_proven(evidence: ArmEvidence) -> tuple[str, ...]:
    """A line for each reason why it is not shown that all engines of an arm have KVCached.

    Empty for an arm that should not have it.
    """
    if not evidence.wanted:
        return ()
    if not evidence.engines:
        return ("no engine was looked at",)
    return (
        *(f"{one.engine}: {reason}" for one in evidence.engines for reason in _engine_reasons(one)),
        *_unlike_patches(evidence.engines),
        *_memory_reasons(evidence),
    )


def unlike_answers(one: ArmEvidence, other: ArmEvidence) -> Iterator[str]:
    """A line for each model whose greedy answers differ between two arms, or cannot be compared.

    Answers are equal where all tokens are, or all up to one where the two arms chose the same two
    tokens in the opposite order, and each nearly as likely as the other: that is rounding, and what
    follows is an answer to another text.
    """
    ours, theirs = ({(a.model, a.prompt): a for a in arm.answers} for arm in (one, other))
    unread = dict.fromkeys((*one.unread, *other.unread))
    yield from (f"greedy answers cannot be compared: {reason}" for reason in unread)
    if not ours.keys() & theirs.keys() and not unread:
        yield "greedy answers cannot be compared: the arms have none in common"
    if any(answers and not _preferences(answers.values()) for answers in (ours, theirs)):
        yield "greedy answers prove nothing: the models prefer no token (weights of no scale?)"
        return
    told = set()
    for key in sorted(ours.keys() & theirs.keys()):
        model, prompt = key
        if model not in told and (why := _difference(ours[key].tokens, theirs[key].tokens)):
            told.add(model)
            yield f"greedy answers of {model} to prompt {prompt} differ {why}"


def _engine_reasons(one: EngineEvidence) -> Iterator[str]:
    yield from one.unread
    if not one.patched and not any(line.startswith("its log ") for line in one.unread):
        yield "its log does not say that vLLM was patched"
    yield from (f"its log says {line!r}" for line in one.failures)
    if one.segments and one.segment is None:
        there = ", ".join(segment.ipc for segment in one.segments)
        yield f"kvctl has no segment {one.ipc}, only {there}"
    elif one.segment is None and not any(line.startswith("kvctl ") for line in one.unread):
        yield f"kvctl has no segment {one.ipc}, nor any other"


def _unlike_patches(engines: Sequence[EngineEvidence]) -> Iterator[str]:
    """A line for each engine that lacks a patch that another one has, if any is patched."""
    every = {name for one in engines for name in one.patched}
    for one in engines:
        if one.patched and (missing := sorted(every - set(one.patched))):
            yield f"{one.engine}: half patched: without {', '.join(missing)}, which others have"


def _memory_reasons(evidence: ArmEvidence) -> Iterator[str]:
    """A line for each GPU with more memory in use than weights, KV cache and allowance explain."""
    gpus = {gpu.uuid: gpu for one in evidence.engines for gpu in one.gpus}
    for uuid, gpu in gpus.items():
        on_it = [one for one in evidence.engines if uuid in {each.uuid for each in one.gpus}]
        names = " and ".join(one.engine for one in on_it)
        weights = [one.weights_gib for one in on_it if one.weights_gib is not None]
        if len(weights) < len(on_it):
            yield f"{names}: memory proves nothing: a log does not say how large the weights are"
            continue
        cached_gib = sum(one.segment.used_bytes for one in on_it if one.segment) / 2**30
        bound_gib = sum(weights) + cached_gib + ALLOWANCE_GIB * len(on_it)
        static_gib = evidence.utilization * gpu.total_gib + sum(weights) - max(weights)
        parts = (
            f"{sum(weights):.1f} of weights, {cached_gib:.1f} of KV cache,"
            f" {ALLOWANCE_GIB:g} an engine for the rest"
        )
        if static_gib <= bound_gib:
            yield (
                f"{names}: memory proves nothing: an engine without KVCached would take no more"
                f" than {bound_gib:.1f} GiB ({parts})"
            )
        elif gpu.used_gib > bound_gib:
            yield (
                f"{names}: {gpu.used_gib:.1f} GiB of the GPU are in use at idle, bound"
                f" {bound_gib:.1f} ({parts}): the KV cache is static"
            )


def _preferences(answers: Iterable[Answer]) -> bool:
    """Whether a model prefers some token. Weights near 0, as vLLM's dummy ones, prefer none.

    Then what it answers does not depend on its KV cache either.
    """
    return any(token.gap_nats > LEAST_GAP_NATS for one in answers for token in one.tokens)


def _difference(one: Sequence[Token], other: Sequence[Token]) -> str | None:
    """Where two answers differ by more than rounding, in words; None if they do not."""
    for index, (ours, theirs) in enumerate(zip(one, other, strict=False)):
        if ours.text != theirs.text:
            swapped = (ours.text, ours.second) == (theirs.second, theirs.text)
            gap = max(ours.gap_nats, theirs.gap_nats)
            if swapped and gap <= NEAR_TIE_NATS:
                return None
            return f"from token {index} on: {ours.text!r} and {theirs.text!r}"
    if len(one) != len(other):
        return f"in length: {len(one)} and {len(other)} tokens"
    return None if one else "in nothing, for they are empty"
