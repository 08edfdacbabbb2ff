"""What is measured before arms are compared: prompt overhead and capacity."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.analysis.validity import OF_A_LIMIT
from bench.environments.base import Target
from bench.errors import UserError
from bench.experiment.budget import Budget
from bench.load.plan.prompts import PromptMaker, Prompts, WordPrompts, make_prompts
from bench.load.plan.schedule import plan_closed_loop
from bench.load.plan.workload import RUN, Asks, Fixed, Workload
from bench.load.run.drive import Ending, Load
from bench.load.run.processes import run_spread
from bench.processes.program import Site
from bench.progress import Progress
from bench.records import ErrorKind, Sample, Schedule

# Requests in flight on each replica while it is warmed or its capacity is measured, per sequence
# that it runs at once: as many wait as run, so that it always runs all it can.
IN_FLIGHT_PER_SEQUENCE = 2
# Requests that warm a replica, per request in flight: some full batches.
WARM_ROUNDS = 4
# The share of a capacity run that is left out while the replicas fill up.
RAMP_SHARE = 0.25
# Capacity is known when two successive runs differ by this share at most, or after so many runs:
# the speed of some machines never settles.
WITHIN = 0.03
MOST_RUNS = 5
# The run before a block takes this share of the time of a first measurement.
PROBE_SHARE = 0.5
# A closed loop's list of requests is so many times too long, so that it suffices when replicas
# become faster.
SPARE = 3.0

# The prompt that shows how many tokens the chat template adds.
_PROBE_TOKENS = 64
# Words of the prompts that show how many tokens a word has, where no tokenizer is known.
_PROBE_WORDS = (16, 116)
# Requests in flight while endpoints are warmed for a load that is given as a rate.
_WARM_STREAMS = 4


@dataclass(frozen=True, slots=True)
class Capacity:
    """Requests per second, and sequences at once, of all replicas of some models together.

    Where each arm has its own, `rps` is of the slower and `most_rps` of the faster one.
    """

    rps: float
    max_num_seqs: int
    most_rps: float = 0.0

    def requests_for(self, duration_s: float, in_flight: int) -> int:
        """How many requests a closed loop needs, so that they last for `duration_s`."""
        return in_flight + math.ceil(max(self.rps, self.most_rps) * duration_s * SPARE)


@dataclass(slots=True)
class EngineCalibration:
    """Measures what both arms share, once for each workload and set of models.

    Requests go from all places of `site` to what `targets` returns, the replicas as a rule.
    `tokenizers` are folders, by model, None where there is none. `max_num_seqs` is the number of
    sequences that a replica runs at once, `window_s` the duration of one run of the measurement of
    capacity. Every request that is sent is counted in `budget`.
    """

    site: Site
    targets: Callable[[], tuple[Target, ...]]
    tokenizers: Mapping[str, Path | None]
    max_num_seqs: int
    window_s: float
    drain_s: float
    run_id: str
    seed: int
    progress: Progress
    budget: Budget = field(default_factory=Budget)
    _makers: dict[str, Prompts] = field(default_factory=dict)
    # No two runs may send the same prompts: the later one would find them in the prefix cache.
    _runs: Iterator[int] = field(default_factory=itertools.count)
    _capacities: dict[tuple[Asks, tuple[str, ...]], Capacity] = field(default_factory=dict)

    def capacity(self, workload: Asks, models: tuple[str, ...]) -> Capacity:
        """Capacity for `workload`, measured at first use. Raises UserError if a replica fails.

        It is the mean of the last two runs: they are repeated until two agree, or MOST_RUNS times.
        """
        key = (workload, models)
        if key not in self._capacities:
            with self.progress.step(f"capacity of {'+'.join(models)}") as step:
                step.update("warming every replica with this workload")
                warm = self._warm(workload, models, self._concurrency)
                step.update("saturating every replica in a closed loop")
                runs = [self._run(workload, models, warm, self.window_s)]
                while not settled([one.rps for one in runs]) and len(runs) < MOST_RUNS:
                    step.update(f"saturating every replica until that repeats, run {len(runs) + 1}")
                    runs.append(self._run(workload, models, warm, self.window_s))
            rps = statistics.fmean(one.rps for one in runs[-2:])
            self._capacities[key] = replace(warm, rps=rps)
            self.progress.note(f"capacity: {self._capacities[key].rps:.1f} requests/s")
        return self._capacities[key]

    def warm(self, workload: Asks, models: tuple[str, ...], in_flight: int | None) -> Capacity:
        """An estimate of capacity, from requests that warm every target. Raises UserError.

        `in_flight` requests are under way at the targets of an arm together; None stands for a few.
        """
        with self.progress.step(f"warming {'+'.join(models)}"):
            targets = self._serving(models)
            arms = len({one.arm for one in targets})
            each = (in_flight or _WARM_STREAMS) * arms // len(targets)
            return self._warm(workload, models, max(1, each))

    def probe(self, workload: Asks, models: tuple[str, ...], earlier: Capacity) -> Capacity:
        """Capacity at this moment, from one short run. Raises UserError if a replica fails."""
        return self._run(workload, models, earlier, self.window_s * PROBE_SHARE)

    def prompts(self, schedule: Schedule, salt: str) -> tuple[str, ...]:
        """The text of every request.

        `salt` names the trial: a trial that replays a schedule, even in a later run on kept
        engines, must not find its prompts in the prefix cache.
        """
        for request in schedule.requests:
            if request.model not in self._makers:
                self._makers[request.model] = self._maker(request.model)
        return make_prompts(schedule, self._makers, f"{self.run_id} {salt}")

    def makes_exact(self, models: Sequence[str]) -> bool:
        """Whether prompts have exactly the number of tokens that is asked for."""
        return all(self.tokenizers[model] is not None for model in models)

    def _maker(self, model: str) -> Prompts:
        """The model's prompt maker. One request shows how many tokens the template adds.

        Without a tokenizer, two requests show how many tokens a word has.
        """
        folder = self.tokenizers[model]
        if folder is None:
            return self._words(model)
        plain = PromptMaker(folder)
        counted = self._counted(model, plain, _PROBE_TOKENS)
        return plain if counted is None else plain.with_overhead(counted - _PROBE_TOKENS)

    def _words(self, model: str) -> Prompts:
        short, long = (
            (words, self._counted(model, WordPrompts(), words)) for words in _PROBE_WORDS
        )
        return WordPrompts.fit(short, long)

    def _counted(self, model: str, maker: Prompts, prompt_tokens: int) -> int | None:
        """How many tokens the first target counts in a prompt; None if it does not say."""
        workload = Workload(Fixed(prompt_tokens), Fixed(2))
        schedule = self._closed_loop(model, workload, 1, 1, self.drain_s)
        (request,) = schedule.requests
        prompt = maker.make(request.prompt_tokens, request.prompt_seed, self.run_id)
        target = self._serving((model,))[0]
        ((sample,),) = self._send([Load(schedule, (prompt,), (target.url,), api=target.api)])
        return sample.prompt_tokens

    def _warm(self, workload: Asks, models: tuple[str, ...], in_flight: int) -> Capacity:
        """Send some full batches to every replica at once; returns a first estimate of capacity."""
        count = WARM_ROUNDS * in_flight
        answers = self._saturate(workload, models, count, in_flight, self.drain_s, "warm")
        ends_s = (max(one.last_token_s or 0.0 for one in samples) for samples in answers)
        arms_rps = self._of_arms(models, [count / end_s for end_s in ends_s])
        return Capacity(min(arms_rps), self.max_num_seqs * len(answers), max(arms_rps))

    def _of_arms(self, models: Sequence[str], rates_rps: Sequence[float]) -> list[float]:
        """Requests/s of the targets of each arm together; one number where they serve both."""
        of_arms: dict[str, float] = {}
        for target, rate_rps in zip(self._serving(models), rates_rps, strict=True):
            of_arms[target.arm] = of_arms.get(target.arm, 0.0) + rate_rps
        return list(of_arms.values())

    def _run(
        self, workload: Asks, models: tuple[str, ...], earlier: Capacity, window_s: float
    ) -> Capacity:
        """Capacity in one run of `window_s` at the replicas. All runs send the same schedule."""
        count = earlier.requests_for(window_s, self._concurrency)
        salt = f"capacity {next(self._runs)}"
        paces = [
            pace_rps(
                sorted(sample.sent_s for sample in samples if sample.sent_s is not None),
                window_s * RAMP_SHARE,
                window_s,
            )
            for samples in self._saturate(
                workload, models, count, self._concurrency, window_s, salt
            )
        ]
        return replace(earlier, rps=min(self._of_arms(models, paces)))

    def _saturate(
        self,
        workload: Asks,
        models: tuple[str, ...],
        count: int,
        in_flight: int,
        duration_s: float,
        salt: str,
    ) -> tuple[tuple[Sample, ...], ...]:
        """Keep every target full, with at most `count` requests; returns the samples of each."""
        loads = []
        for target in self._serving(models):
            schedule = self._closed_loop(target.model, workload, count, in_flight, duration_s)
            prompts = self.prompts(schedule, f"{salt} {target.name}")
            loads.append(Load(schedule, prompts, [target.url] * len(prompts), api=target.api))
        return self._send(loads)

    def _closed_loop(
        self, model: str, workload: Asks, count: int, in_flight: int, duration_s: float
    ) -> Schedule:
        return plan_closed_loop(
            seed=self.seed,
            models=(model,),
            workload=workload,
            concurrency=min(count, in_flight),
            duration_s=duration_s,
            count=count,
        )

    @property
    def _concurrency(self) -> int:
        """Requests in flight on one replica that keep it full."""
        return self.max_num_seqs * IN_FLIGHT_PER_SEQUENCE

    def _serving(self, models: Sequence[str]) -> tuple[Target, ...]:
        return tuple(target for target in self.targets() if target.model in models)

    def _send(self, loads: Sequence[Load]) -> tuple[tuple[Sample, ...], ...]:
        """The samples of each load. Raises UserError unless every request succeeds."""
        processes = self.site.shards or 1
        results = run_spread(loads, self.site, processes=processes, drain_timeout_s=self.drain_s)
        if lost := [line for result in results for line in result.lost]:
            raise UserError(lost[0])
        if any(result.ending is Ending.INTERRUPTED for result in results):
            raise KeyboardInterrupt
        for load, result in zip(loads, results, strict=True):
            self.budget.count(result.samples)
            failed = [sample for sample in result.samples if not sample.ok]
            if failed:
                raise UserError(
                    f"{len(failed)} of {len(result.samples)} calibration requests to "
                    f"{load.urls[0]} failed; first: {failed[0].error} ({failed[0].detail})"
                    f"{OF_A_LIMIT if failed[0].error is ErrorKind.RATE_LIMITED else ''}"
                )
        return tuple(result.samples for result in results)


def pace_rps(begun_s: Sequence[float], start_s: float, end_s: float) -> float:
    """Requests per second that a full replica begins in [start_s, end_s).

    `begun_s` are the times at which it began a request, ascending. Where there are enough, whole
    runs of 20 requests are counted: each such run has the workload's mix of lengths.
    """
    inside_s = [at_s for at_s in begun_s if start_s <= at_s < end_s]
    if len(inside_s) < 2:
        return len(inside_s) / (end_s - start_s)
    step = RUN if len(inside_s) > RUN else len(inside_s) - 1
    marks_s = inside_s[::step]
    counted_s = marks_s[-1] - marks_s[0]
    # Where this machine stood still, requests begin in bursts, and one of these is no pace.
    if counted_s < (end_s - start_s) / 4:
        return len(inside_s) / (end_s - start_s)
    return step * (len(marks_s) - 1) / counted_s


def settled(rates_rps: Sequence[float]) -> bool:
    """Whether the last two runs differ by WITHIN at most."""
    if len(rates_rps) < 2:
        return False
    low, high = sorted(rates_rps[-2:])
    return low >= (1 - WITHIN) * high
