"""Whether an arm has KVCached: what engines write is read, and each way to be without is told."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.judge import judge
from bench.analysis.kvcached import (
    NEAR_TIE_NATS,
    Answer,
    ArmEvidence,
    EngineEvidence,
    GpuMemory,
    Segment,
    Token,
    as_provenance,
    evidence_in,
    not_proven,
    unlike_answers,
)
from bench.environments.kvcached.collecting import (
    ANSWER_TOKENS,
    collect,
    greedy_request,
    prompts,
)
from bench.environments.kvcached.texts import (
    KVCTL,
    NVIDIA_SMI,
    LogFacts,
    read_gpus,
    read_log,
    read_segments,
    read_tokens,
)
from bench.errors import UserError
from bench.progress import PlainProgress
from tests.bench.consoles import DATA, GPU, console
from tests.bench.making import paired

PATCHES = ("elastic_block_pool", "engine_core", "model_runner_v2")
TOKENS = tuple(Token(f"token_id:{index}", "token_id:99", 1.0) for index in range(8))


def lines_of(name: str) -> list[str]:
    return (DATA / name).read_text(encoding="utf-8").splitlines()


def engine(name: str = "llama_0", **changes: Any) -> EngineEvidence:
    """An engine of two on a GPU, that has KVCached."""
    segments = (Segment("llama_0", 77309411328, 0), Segment("qwen_0", 77309411328, 0))
    made = EngineEvidence(
        engine=name,
        ipc=name,
        patched=PATCHES,
        vllm="0.30.0",
        kvcached="0.1.6",
        weights_gib=15.0,
        segments=segments,
        gpus=(GpuMemory("GPU-1", "NVIDIA H100", 35.0, 79.6),),
    )
    return replace(made, **changes)


def arm(*engines: EngineEvidence, **changes: Any) -> ArmEvidence:
    made = ArmEvidence(True, 0.9, engines or (engine(), engine("qwen_0")))
    return replace(made, **changes)


def test_the_log_of_an_engine_says_what_is_patched() -> None:
    old = read_log(lines_of("engine-0.14.0.log"))
    assert old.vllm == "0.14.0"
    assert old.patched == (
        *("elastic_block_pool", "engine_core", "gpu_model_runner", "gpu_worker"),
        "kv_cache_coordinator",
    )
    assert old.failures == ()
    assert old.weights_gib is None
    new = read_log(lines_of("vllm-0.30.0.log"))
    assert new.vllm == "0.30.0"
    assert "kv_layout_v2" in new.patched
    assert len(set(new.patched)) == len(new.patched)
    assert new.weights_gib == 15.0


def test_without_kvcached_the_weights_are_those_that_vllm_tells() -> None:
    told = "(EngineCore pid=91) INFO [gpu_model_runner.py:5417] Model loading took 14.99 GiB memory"
    assert read_log([told]).weights_gib == 14.99
    assert read_log([]) == LogFacts()


@pytest.mark.parametrize(
    "line",
    [
        "Failed to patch vllm: gpu_worker, kv_cache_coordinator",
        "Failed to patch kv_cache_coordinator: no attribute",
        "Failed to initialize kvcached, disabling: out of memory",
    ],
)
def test_a_log_that_says_that_something_failed_is_quoted(line: str) -> None:
    said = f"[kvcached][WARNING][2026-11-20 10:00:04][patch_base.py:180] {line}"
    found = read_log([*lines_of("vllm-0.30.0.log"), said])
    assert found.failures == (line,)
    assert not_proven(arm(engine(failures=found.failures), engine("qwen_0"))) == (
        f"llama_0: its log says {line!r}",
    )


def test_segments_are_those_that_kvctl_lists() -> None:
    found = read_segments((DATA / "kvctl.json").read_text(encoding="utf-8"))
    assert found == (Segment("llama_0", 77309411328, 0), Segment("qwen_0", 77309411328, 0))
    assert read_segments("[]\n") == ()


def test_memory_is_that_which_nvidia_smi_lists() -> None:
    (found,) = read_gpus(GPU)
    assert found == GpuMemory(GPU.partition(",")[0], "NVIDIA H100 80GB HBM3", 45.0, 81559 / 1024)
    assert len(read_gpus(GPU * 8)) == 8


@pytest.mark.parametrize(
    "text",
    ["", "No devices were found\n", GPU.replace("46080", "[N/A]"), "a, b\n", "uuid, name, 1, 2, 3"],
)
def test_other_output_of_nvidia_smi_is_quoted(text: str) -> None:
    with pytest.raises(UserError, match=r"nvidia-smi writes '.*' in place of the memory of GPUs"):
        read_gpus(text)


@given(st.text(max_size=200))
def test_no_text_makes_a_reader_fail_otherwise(text: str) -> None:
    read_log(text.splitlines())
    for read in (read_segments, read_gpus, read_tokens):
        with suppress(UserError):
            read(text)


def test_an_arm_whose_engines_show_it_has_kvcached() -> None:
    assert not_proven(arm()) == ()
    assert not_proven(ArmEvidence(False, 0.9)) == ()


STATIC = (GpuMemory("GPU-1", "NVIDIA H100", 72.4, 79.6),)
SMALL = (GpuMemory("GPU-1", "NVIDIA T4", 9.0, 14.0),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patched": ()}, "llama_0: its log does not say that vLLM was patched"),
        (
            {"patched": PATCHES[:2]},
            "llama_0: half patched: without model_runner_v2, which others have",
        ),
        (
            {"segments": (Segment("qwen_0", 1, 0),)},
            "llama_0: kvctl has no segment llama_0, only qwen_0",
        ),
        ({"segments": ()}, "llama_0: kvctl has no segment llama_0, nor any other"),
        (
            {"segments": (), "unread": ("kvctl tells nothing: it ended with 127: not found",)},
            "llama_0: kvctl tells nothing: it ended with 127: not found",
        ),
        (
            {"gpus": STATIC},
            "llama_0 and qwen_0: 72.4 GiB of the GPU are in use at idle, bound 38.0 (30.0 of "
            "weights, 0.0 of KV cache, 4 an engine for the rest): the KV cache is static",
        ),
        (
            {"weights_gib": None},
            "llama_0 and qwen_0: memory proves nothing: a log does not say how large the weights "
            "are",
        ),
    ],
)
def test_each_way_to_be_without_it_is_told_in_one_line(changes: Any, reason: str) -> None:
    gpus = {"gpus": changes["gpus"]} if "gpus" in changes else {}
    assert not_proven(arm(engine(**changes), engine("qwen_0", **gpus))) == (reason,)


def test_where_a_static_cache_would_take_no_more_memory_proves_nothing() -> None:
    (reason,) = not_proven(arm(engine(weights_gib=9.0, gpus=SMALL)))
    assert reason.startswith(
        "llama_0: memory proves nothing: an engine without KVCached would take"
    )


def test_what_the_cache_holds_is_no_sign_of_a_static_one() -> None:
    held = (Segment("llama_0", 77309411328, 36 * 2**30),)
    assert not_proven(arm(engine(segments=held, gpus=STATIC))) != ()
    used = (GpuMemory("GPU-1", "NVIDIA H100", 54.0, 79.6),)
    assert not_proven(arm(engine(segments=held, gpus=used))) == ()


def test_an_arm_at_which_nobody_looked_is_not_proven() -> None:
    assert not_proven(ArmEvidence(True, 0.9)) == ("no engine was looked at",)


def answers(tokens: Sequence[Token], model: str = "llama", prompt: int = 0) -> ArmEvidence:
    return ArmEvidence(False, 0.9, answers=(Answer(model, prompt, tuple(tokens)),))


def other(at: int, token: Token) -> tuple[Token, ...]:
    """The answer with another token there, and other ones after it."""
    rest = (replace(one, text="token_id:7777") for one in TOKENS[at + 1 :])
    return (*TOKENS[:at], token, *rest)


def test_equal_answers_are_equal() -> None:
    assert list(unlike_answers(answers(TOKENS), answers(TOKENS))) == []


def test_garbage_is_told_with_the_first_token_that_differs() -> None:
    garbage = other(3, Token("token_id:0", "token_id:1", 0.1))
    assert list(unlike_answers(answers(TOKENS), answers(garbage))) == [
        "greedy answers of llama to prompt 0 differ from token 3 on: 'token_id:3' and 'token_id:0'"
    ]


@pytest.mark.parametrize(
    ("gap_nats", "equal"), [(0.0, True), (NEAR_TIE_NATS, True), (2 * NEAR_TIE_NATS, False)]
)
def test_two_tokens_that_are_nearly_as_likely_may_change_places(
    gap_nats: float, equal: bool
) -> None:
    first, second = Token("a", "b", gap_nats), Token("b", "a", 0.0)
    one, two = (*TOKENS[:3], first, *TOKENS[4:]), other(3, second)
    for pair in ((answers(one), answers(two)), (answers(two), answers(one))):
        assert (list(unlike_answers(*pair)) == []) is equal


def test_a_token_that_was_not_the_second_choice_is_no_rounding() -> None:
    one, two = (Token("a", "c", 0.0),), (Token("b", "a", 0.0),)
    assert list(unlike_answers(answers(one), answers(two)))


def test_models_that_prefer_no_token_prove_nothing() -> None:
    """The answer of an engine with vLLM's dummy weights: each token is as likely as any other."""
    tokens = read_tokens((DATA / "dummy-weights.json").read_text(encoding="utf-8"))
    assert len(tokens) == ANSWER_TOKENS
    assert {one.gap_nats for one in tokens} == {0.0}
    assert list(unlike_answers(answers(tokens), answers(tokens))) == [
        "greedy answers prove nothing: the models prefer no token (weights of no scale?)"
    ]


def test_answers_that_cannot_be_compared_are_told() -> None:
    def reasons(one: ArmEvidence, two: ArmEvidence) -> list[str]:
        return list(unlike_answers(one, two))

    assert reasons(answers(TOKENS), answers(TOKENS[:5]))
    assert reasons(answers(()), answers(()))
    assert reasons(answers(TOKENS), answers(TOKENS, model="qwen")) == [
        "greedy answers cannot be compared: the arms have none in common"
    ]
    silent = replace(answers(()), answers=(), unread=("llama_0 gives none: refused",))
    assert reasons(answers(TOKENS), silent) == [
        "greedy answers cannot be compared: llama_0 gives none: refused"
    ]


@pytest.mark.parametrize(
    ("managed", "reason"),
    [
        (arm(answers=answers(TOKENS).answers), None),
        (
            arm(engine(patched=()), engine("qwen_0"), answers=answers(TOKENS).answers),
            "KVCached of managed is not proven: llama_0: its log does not say",
        ),
        (
            arm(answers=answers(other(0, Token("x", "y", 0.1))).answers),
            "KVCached is not proven: greedy answers of llama to prompt 0 differ from token 0 on",
        ),
    ],
)
def test_a_comparison_is_valid_only_where_it_is_proven(
    managed: ArmEvidence, reason: str | None
) -> None:
    evidence = {"control": answers(TOKENS), "treatment": managed}
    trials = [
        replace(one, provenance=json.loads(json.dumps(as_provenance(evidence[one.role]))))
        for one in paired((0.2,) * 4, (0.1,) * 4)
    ]
    assert evidence_in(trials[0].provenance) == evidence[trials[0].role]
    found = judge(trials).invalid_reasons
    assert len(found) == (reason is not None)
    assert all(line.startswith(reason or "-") for line in found)


def test_arms_without_it_need_no_proof() -> None:
    assert judge(paired((0.2,) * 4, (0.1,) * 4)).invalid_reasons == ()


def answer_body(text: str) -> str:
    top = {text: -0.5, "token_id:9": -1.25}
    logprobs = {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [top]}
    return json.dumps({"choices": [{"logprobs": logprobs}]})


def collected(run: Callable[[Sequence[str]], str], *, wanted: bool = True) -> ArmEvidence:
    with PlainProgress(io.StringIO()).step("looking") as step:
        one = console(run, lines_of("vllm-0.30.0.log"))
        return collect([one], wanted=wanted, utilization=0.9, step=step)


def test_a_token_without_a_second_choice_can_be_stored() -> None:
    (token,) = read_tokens(answer_body("token_id:9"))
    assert token == Token("token_id:9", "", 0.0)


def test_an_engine_is_asked_in_its_container_without_kvcached_in_what_asks() -> None:
    asked = []

    def run(command: Sequence[str]) -> str:
        asked.append(tuple(command))
        assert command[:3] == ["env", "ENABLE_KVCACHED=false", "KVCACHED_AUTOPATCH=0"]
        texts: dict[tuple[str, ...], str] = {
            KVCTL: (DATA / "kvctl.json").read_text(encoding="utf-8"),
            NVIDIA_SMI: GPU.replace("46080", "17000"),
        }
        if tuple(command[3:]) in texts:
            return texts[tuple(command[3:])]
        return "0.1.6\n" if command[4] == "-c" else answer_body("token_id:5")

    found = collected(run)
    assert not_proven(found) == ()
    assert found.engines[0].kvcached == "0.1.6"
    assert [one.tokens for one in found.answers] == [(Token("token_id:5", "token_id:9", 0.75),)] * 4
    assert len(asked) == 3 + len(prompts())
    asked.clear()
    assert collected(run, wanted=False).engines == ()
    assert len(asked) == len(prompts())


def test_what_cannot_be_asked_is_a_reason_and_no_error() -> None:
    def run(command: Sequence[str]) -> str:
        raise UserError("it ended with 127: env: 'kvctl': No such file or directory")

    found = collected(run)
    reasons = not_proven(found)
    assert len(reasons) == 3
    assert all("tells nothing: it ended with 127" in reason for reason in reasons)
    assert any(reason.startswith("llama-0: nvidia-smi") for reason in reasons)
    assert found.unread == (
        "llama-0 gives none: it ended with 127: env: 'kvctl': No such file or directory",
    )


def test_greedy_prompts_differ_from_their_beginning_and_ask_for_no_chance() -> None:
    assert len({prompt[:100] for prompt in prompts()}) == len(prompts())
    request = json.loads(greedy_request("llama", "x"))
    assert (request["temperature"], request["max_tokens"]) == (0, ANSWER_TOKENS)
