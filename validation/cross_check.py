"""`python -m validation cross-check`: the drivers and vLLM's own benchmark on one real engine.

All do the same work, one after another; the table shows how far their figures differ.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from bench.config.config import new_run_id
from bench.config.topology import load_topology
from bench.console import log_folder
from bench.environments.base import targets_of
from bench.environments.local import LocalEnvironment
from bench.experiment.capacity import EngineCalibration
from bench.load.plan.schedule import plan_closed_loop
from bench.load.plan.workload import Fixed, Workload
from bench.load.run.drive import Load
from bench.progress import Progress, make_progress
from bench.records import Schedule
from validation import harness
from validation.cross_check_tools import METRICS, Values, tools_for
from validation.figures import Comparison, Round
from validation.harness import ROOT

# A closed loop of a number of requests is over when they are; its window only bounds it.
WINDOW_S = 300.0
STEADY = 1.1
"""How many times its lowest value the reference's E2E p50 may reach on an idle machine."""
WHY: Mapping[str, str] = yaml.safe_load(harness.configuration("differences.yml"))
"""Why the lines of the table differ, by their names."""

COMPARISON = Comparison(
    note="Ratios are medians of the rounds' ratios to builtin.",
    metrics=METRICS,
    reference="builtin",
    within_rounds=True,
)


@dataclass(frozen=True, slots=True)
class Work:
    """What every tool does: `requests`, of which `concurrency` are in flight at a time.

    Each has `prompt_tokens`, chat template included, and `output_tokens`.
    """

    model: str
    concurrency: int
    requests: int
    prompt_tokens: int
    output_tokens: int

    def __str__(self) -> str:
        return (
            f"{self.requests} requests of {self.prompt_tokens} + {self.output_tokens} tokens, "
            f"{self.concurrency} at once, to one vLLM engine with {self.model}"
        )

    def load(
        self, seed: int, salt: str, prompts: Callable[[Schedule, str], tuple[str, ...]], url: str
    ) -> Load:
        """The load of one tool in one round; with one `seed` every tool gets the same requests.

        `salt` has to differ between tools, so that none finds the prompts of another in the
        engine's prefix cache. `prompts` makes the texts.
        """
        schedule = plan_closed_loop(
            seed=seed,
            models=(self.model,),
            workload=Workload(Fixed(self.prompt_tokens), Fixed(self.output_tokens)),
            concurrency=self.concurrency,
            duration_s=WINDOW_S,
            count=self.requests,
        )
        return Load(schedule, prompts(schedule, salt), (url,) * len(schedule.requests))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    harness.add_counts(
        parser,
        ("rounds", 3, "times that every tool does the work, in alternating order"),
        ("requests", 48, "requests of each tool and round"),
        ("concurrency", 4, "requests at once"),
        ("input-tokens", 128, "tokens of a prompt, chat template included"),
        ("output-tokens", 64, "tokens of an answer"),
    )
    parser.add_argument("--model", default="tiny-llama", metavar="NAME")


def compare(
    options: argparse.Namespace, output: Path = ROOT / "results" / "cross-check.json"
) -> None:
    """Measure, print the table, write everything to `output` (JSON). Raises UserError."""
    sizes = (options.concurrency, options.requests, options.input_tokens, options.output_tokens)
    work = Work(options.model, *sizes)
    with served(work, make_progress()) as (environment, calibration):
        rounds = run_rounds(environment, work, options.rounds, calibration)
        seen = dict(environment.facts())
    facts = harness.machine_facts({"usable": seen["usable_cores"]})
    facts |= {"environment": seen, "work": asdict(work), "differences": WHY}
    harness.finish(COMPARISON, rounds, facts, remarks_of(rounds, work), output)
    print(f"results: {output}")


@contextmanager
def served(work: Work, progress: Progress) -> Iterator[tuple[LocalEnvironment, EngineCalibration]]:
    """One engine of the model while the context lasts, and what makes prompts for it."""
    topology = load_topology()
    picked = topology.select_models([work.model], "cpu", "local")
    models = [replace(one, replicas=1) for one in picked]
    environment = LocalEnvironment(ROOT / ".cache", topology, progress)
    with ExitStack() as cleanup:
        held = environment.hold("python -m validation cross-check", progress, math.inf)
        cleanup.enter_context(held)
        cleanup.callback(environment.stop)
        replicas = environment.start(models)
        yield (
            environment,
            EngineCalibration(
                site=environment.site(),
                targets=lambda: targets_of(replicas),
                tokenizers={work.model: environment.tokenizer_folder(work.model)},
                max_num_seqs=topology.engine.max_num_seqs,
                window_s=1.0,
                drain_s=60.0,
                run_id=new_run_id(),
                seed=0,
                progress=progress,
            ),
        )


def run_rounds(
    environment: LocalEnvironment, work: Work, rounds: int, calibration: EngineCalibration
) -> list[Round[Values]]:
    """By round: the values of every line of the table. Every tool runs once before, to warm up."""
    progress = calibration.progress
    tools = tools_for(environment, ROOT / ".cache", log_folder(ROOT, "cross-check"), progress)
    (replica,) = calibration.targets()

    def measure(name: str, number: int) -> dict[str, Values]:
        salt = f"{name} {number}"
        return dict(tools[name](work.load(number, salt, calibration.prompts, replica.url)))

    with progress.step("warming up") as step:
        for name in tools:
            step.update(name)
            measure(name, 0)
    found = harness.run_rounds({name: name for name in tools}, rounds, measure, progress)
    return [
        {line: values for lines in measured.values() for line, values in lines.items()}
        for measured in found
    ]


def remarks_of(rounds: Sequence[Round[Values]], work: Work) -> Iterator[str]:
    """What was done, whether the machine was steady, and why the lines differ."""
    yield f"{len(rounds)} rounds of {work}; medians of the rounds, ranges and ratios."
    reference = COMPARISON.figures(rounds)[COMPARISON.reference]["e2e_p50_s"]
    if reference.high > reference.low * STEADY:
        yield (
            f"The reference's own E2E p50 differed {reference.high / reference.low:.2f}-fold"
            " between rounds: something else ran here, and smaller differences between tools say"
            " nothing."
        )
    yield from (f"{name}: {reason}" for name, reason in WHY.items())
