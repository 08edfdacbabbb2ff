"""One engine, and every tool at it in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

from bench.calibration import Calibration
from bench.config.config import new_run_id
from bench.config.topology import load_topology
from bench.drivers.aiperf import AiperfDriver
from bench.drivers.builtin import BuiltinDriver
from bench.drivers.openai_sdk import OpenAiDriver
from bench.environments.local import LocalEnvironment
from bench.environments.local.install import ensure_engine
from bench.progress import Progress
from validation.cross_check.figures import Values
from validation.cross_check.table import WHY
from validation.cross_check.tools import Measure, by_aiperf, by_driver, by_vllm_bench
from validation.cross_check.vllm_bench import VllmBench
from validation.cross_check.work import Work


@contextmanager
def served(
    work: Work, cache: Path, progress: Progress
) -> Iterator[tuple[LocalEnvironment, Calibration]]:
    """One engine of the model, up and warm with this work."""
    topology = load_topology()
    models = [replace(one, replicas=1) for one in topology.select_models([work.model], "cpu")]
    environment = LocalEnvironment(cache, topology, progress)
    try:
        replicas = environment.start(models)
        yield (
            environment,
            Calibration(
                site=environment.site(),
                replicas=lambda: replicas,
                tokenizers={work.model: environment.tokenizer_folder(work.model)},
                slots=topology.engine.max_num_seqs,
                window_s=1.0,
                drain_s=60.0,
                run_id=new_run_id(),
                seed=0,
                progress=progress,
            ),
        )
    finally:
        environment.stop()


def run_rounds(
    tools: Mapping[str, Measure],
    work: Work,
    rounds: int,
    calibration: Calibration,
    progress: Progress,
) -> list[dict[str, Values]]:
    """Every tool in each round, each time another one first; the first round only warms up."""
    (replica,) = calibration.replicas()
    names = list(tools)
    seen = []
    for index in range(-1, rounds):
        values: dict[str, Values] = {}
        with progress.step(f"round {index + 1}/{rounds}" if index >= 0 else "warming up") as step:
            for turn in range(len(names)):
                name = names[(turn + index) % len(names)]
                step.update(name)
                salt = f"{name} {index}"
                load = work.load(index + 1, salt, calibration.prompts, replica.url)
                values |= tools[name](load)
        if index >= 0:
            # The reference first, whoever began.
            seen.append({line: values[line] for line in WHY})
    return seen


def tools_for(
    environment: LocalEnvironment, cache: Path, logs: Path, progress: Progress
) -> dict[str, Measure]:
    """All tools, with what they need under `cache`; what they leave goes under `logs`."""
    folders = (logs / f"{number:03}" for number in count())
    tokenizer_folder = environment.tokenizer_folder
    aiperf = AiperfDriver.installed(cache, folders, tokenizer_folder, progress)
    vllm = VllmBench(ensure_engine(cache, progress).python, tokenizer_folder)
    return {
        "builtin": by_driver("builtin", BuiltinDriver(environment.site())),
        "openai": by_driver("openai", OpenAiDriver()),
        "aiperf": by_aiperf(aiperf, folders),
        "vllm bench": by_vllm_bench(vllm, folders),
    }
