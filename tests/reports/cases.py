"""Cases for the tests of reports: judged from trials with known timings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.analysis.judge import cases, factorial_of, judge
from bench.analysis.judgement import Case, Judgement, SloOutcome, Verdict
from bench.analysis.verdict import ALPHA
from bench.records import (
    MemoryReading,
    MemorySeries,
    Role,
    ServerReading,
    ServerSeries,
    Slo,
    Trial,
)
from reports.run import Run
from tests.bench.making import (
    FACTS,
    answered,
    failed,
    measured_factors,
    paired,
    several,
    trial,
    with_readings,
)

SETUP = "vLLM 0.30.0 on CPU, random weights"


def better_case(name: str = "heavy-tail", models: tuple[str, ...] = ("tiny-llama",)) -> Case:
    """Four blocks in which managed takes about 0.4 of baseline's time to the first token.

    The requests of a trial go to the models in turn.
    """
    facts = replace(
        FACTS,
        name=name,
        description=f"What {name} asks.",
        slos=dict.fromkeys(models, Slo(ttft_s=1.0)),
    )
    turns = itertools.cycle(models)
    return judged(
        [
            replace(
                one,
                scenario=facts,
                models=models,
                samples=tuple(replace(sample, model=next(turns)) for sample in one.samples),
            )
            for one in paired((0.50, 0.52, 0.48, 0.51), (0.20, 0.21, 0.19, 0.22))
        ]
    )


def several_cases() -> list[Case]:
    """`better_case` with a second treatment, which is like the control."""
    facts = replace(FACTS, alpha=ALPHA / 2, slos={"tiny-llama": Slo(ttft_s=1.0)})
    control = (0.50, 0.52, 0.48, 0.51)
    levels = {"waiting": (3.0, 1.0), "running": (4.0, 4.0)}
    made = several([control, (0.20, 0.21, 0.19, 0.22), control])
    return [*cases([with_readings(replace(one, scenario=facts), levels) for one in made])]


def factorial_run() -> Run:
    """A run of four arms, in which a queue pays at width 4 and does not matter at width 8."""
    trials = measured_factors(0.8, 0.4, 0.6, 0.6)
    effects = factorial_of(trials)
    assert effects is not None
    return run_with(*cases(trials), factorials=(effects,))


def scraped_case() -> Case:
    """`better_case` with servers that were read; baseline has queues in its first replica."""
    levels = {
        "control": {"waiting": (3.0, 1.0), "running": (4.0, 4.0)},
        "treatment": {"waiting": (1.0, 1.0), "running": (3.0, 3.0)},
    }
    counts = {
        "kv_cache_usage": (0.5, 0.25),
        "preemptions": (2.0, 0.0),
        "prefix_queries": (320.0, 320.0),
        "prefix_hits": (160.0, 0.0),
        "prompt_tokens": (320.0, 320.0),
        "generation_tokens": (100.0, 100.0),
        "finished": (20.0, 20.0),
    }
    return judged([with_readings(one, levels[one.role] | counts) for one in better_case().trials])


def memory_case() -> Case:
    """`scraped_case` with memory that was read; managed has KVCached, which gives memory back."""
    read = {
        "control": MemorySeries("gpu-0", (MemoryReading(-1, 60.0), MemoryReading(5, 61.0))),
        "treatment": MemorySeries(
            "gpu-0",
            (
                *(MemoryReading(-1, 30.0, {"a": 0.0}), MemoryReading(3, 55.0, {"a": 24.5})),
                *(MemoryReading(5, error="nvidia-smi failed"), MemoryReading(9, 31.0, {"a": 0.5})),
            ),
        ),
    }
    return judged([replace(one, memory=(read[one.role],)) for one in scraped_case().trials])


def searched_case() -> Case:
    """Trials whose loads were searched for: baseline carries 10 requests/s, managed 20."""
    facts = replace(
        FACTS, primary="carried_rps", metrics=("carried_rps",), search_step=1.25, alpha=0.01
    )
    made = []
    for block in range(4):
        tried: list[tuple[Role, float, float]] = [("control", 10.0, 0.5), ("control", 12.5, 2.0)]
        tried += [("treatment", 20.0, 0.4), ("treatment", 25.0, 2.0)]
        made += [
            trial(
                role,
                block,
                place,
                [answered(index, ttft_s) for index in range(40)],
                scenario=facts,
                offered_rps=rps,
            )
            for place, (role, rps, ttft_s) in enumerate(tried)
        ]
    return judged(made)


def tenants_case() -> Case:
    """`better_case` of two tenants, each with objectives of its own, which the noisy one misses."""
    slos = {"tiny-llama@quiet": Slo(ttft_s=1.0), "tiny-llama@noisy": Slo(ttft_s=0.3, tpot_s=0.1)}
    turns = itertools.cycle(("quiet", "noisy"))
    case = better_case("noisy-neighbour")
    facts = replace(case.judgement.scenario, slos=slos, tenants=("quiet", "noisy"))
    return judged(
        [
            replace(
                one,
                scenario=facts,
                samples=tuple(replace(sample, tenant=next(turns)) for sample in one.samples),
            )
            for one in case.trials
        ]
    )


def unreadable_case() -> Case:
    """`scraped_case` in which the second replica's metrics could not be read."""
    lost = ServerReading(-0.1, -0.1, error="connection refused")
    trials = [
        replace(one, server=(one.server[0], ServerSeries(one.server[1].replica, (lost,))))
        for one in scraped_case().trials
    ]
    return judged(trials)


def same_arm_case() -> Case:
    trials = paired((0.50, 0.52, 0.48, 0.51), (0.50, 0.51, 0.49, 0.51))
    return judged([replace(one, arm="baseline") for one in trials])


def failing_case() -> Case:
    """A baseline of which every fourth request fails; managed answers none at all."""
    trials = [
        trial(
            one.role,
            one.block,
            one.position,
            [
                failed(index) if one.role == "treatment" or index % 4 == 0 else answered(index, 0.5)
                for index in range(40)
            ],
        )
        for one in paired((0.5,) * 4, (0.5,) * 4)
    ]
    return judged(trials)


def one_arm_case() -> Case:
    trials = paired((0.50, 0.52, 0.48, 0.51), (0.5,) * 4)
    return judged([one for one in trials if one.role == "control"])


def judged(trials: Sequence[Trial], **changes: Any) -> Case:
    return Case(replace(judge(trials), **changes), tuple(trials))


def invalid_case(reason: str) -> Case:
    case = better_case("burst")
    comparisons = tuple(
        replace(
            one,
            control_value=None,
            treatment_value=None,
            ratio=None,
            low=None,
            high=None,
            verdict=Verdict.INVALID,
        )
        for one in case.judgement.comparisons
    )
    judgement = replace(case.judgement, comparisons=comparisons, invalid_reasons=(reason,))
    return Case(judgement, case.trials)


def with_slo(judgement: Judgement, outcome: SloOutcome, attainment: float) -> Judgement:
    """The same judgement, with that outcome for the treatment."""
    changed = [
        replace(one, outcome=outcome, attainment=attainment)
        for one in judgement.slos_of("treatment")
    ]
    return replace(judgement, slos=(*judgement.slos_of("control"), *changed))


def run_with(*cases: Case, **changes: Any) -> Run:
    run = Run(
        cases=cases,
        when="31 January 2026, 14:02",
        setup=SETUP,
        facts={"Engine": "vLLM 0.30.0", "Models": "tiny-llama"},
        provenance={"suite": {"commit": "abc123"}, "flags": ["--enforce-eager", "-x"]},
    )
    return replace(run, **changes)
