"""What is measured once, before arms are compared: prompt overhead and capacity."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.errors import UserError
from bench.load.drive import Load
from bench.load.outcome import Ending
from bench.load.processes import run_spread
from bench.load.prompts import PromptMaker, make_prompts
from bench.load.schedule import plan_closed_loop
from bench.load.strata import RUN
from bench.load.workload import Asks, Fixed, Workload
from bench.progress import Progress, Step
from bench.records import Replica, Sample, Schedule
from bench.sites.base import Site

# Requests in flight on each replica while warming it and while measuring capacity, per
# sequence that it runs at once: as many wait as run, so that no slot falls empty.
IN_FLIGHT_PER_SLOT = 2
WARM_REQUESTS = 32
# The share of a capacity run that is left out while the replicas fill up.
RAMP_SHARE = 0.25
# Capacity is known when two runs in a row come so close, or after so many runs: a machine may
# change its speed for as long as one looks.
WITHIN = 0.03
MOST_RUNS = 5
# Runs before single blocks take this part of the time.
PROBE_SHARE = 0.5
# A closed loop's list of requests must not run dry when the replicas turn out faster
# than they were when the list was made.
SPARE = 3.0

_PROBE = Workload(prompt=Fixed(64), output=Fixed(2))


@dataclass(frozen=True, slots=True)
class Capacity:
    """The requests per second that all replicas of some models complete together.

    `slots` is the number of requests that they run at once.
    """

    rps: float
    slots: int

    def requests_for(self, duration_s: float, in_flight: int) -> int:
        """A number of requests that a closed loop does not use up in `duration_s`."""
        return in_flight + math.ceil(self.rps * duration_s * SPARE)


@dataclass(slots=True)
class Calibration:
    """Measures what both arms share, once for every workload and set of models.

    `slots` is the number of sequences that a replica runs at once, `window_s` how long one
    run of the measurement of capacity takes. Requests go straight to the `replicas`, those that
    are up when it is asked, from all places of `site`. Times in seconds.
    """

    site: Site
    replicas: Callable[[], tuple[Replica, ...]]
    tokenizers: Mapping[str, Path]
    slots: int
    window_s: float
    drain_s: float
    run_id: str
    seed: int
    progress: Progress
    _makers: dict[str, PromptMaker] = field(default_factory=dict)
    # No two runs may send the same prompts: the later one would find them in the cache.
    _runs: Iterator[int] = field(default_factory=itertools.count)
    _capacities: dict[tuple[Asks, tuple[str, ...]], Capacity] = field(default_factory=dict)

    def capacity(self, workload: Asks, models: tuple[str, ...]) -> Capacity:
        """Capacity for `workload`, measured at first use after warming every replica.

        Raises UserError when a replica does not answer.
        """
        key = (workload, models)
        if key not in self._capacities:
            with self.progress.step(f"capacity of {'+'.join(models)}") as step:
                step.update("warming every replica with this workload")
                warm = self._warm(workload, models)
                step.update("saturating every replica in a closed loop")
                self._capacities[key] = self._saturate(workload, models, warm, step)
            self.progress.note(f"capacity: {self._capacities[key].rps:.1f} requests/s")
        return self._capacities[key]

    def prompts(self, schedule: Schedule, salt: str) -> tuple[str, ...]:
        """The text of every request.

        `salt` names the trial: trials that replay a schedule, also those of earlier
        runs on engines that were kept, must not find it in the prefix cache.
        """
        for request in schedule.requests:
            if request.model not in self._makers:
                self._makers[request.model] = self._maker(request.model)
        return make_prompts(schedule, self._makers, f"{self.run_id} {salt}")

    def serving(self, models: Sequence[str]) -> tuple[Replica, ...]:
        """The replicas of some models."""
        return tuple(replica for replica in self.replicas() if replica.model in models)

    def _maker(self, model: str) -> PromptMaker:
        """The model's prompt maker; the server's own count tells the template's overhead."""
        plain = PromptMaker(self.tokenizers[model])
        schedule = self._list_of(1, model, _PROBE, in_flight=1)
        request = schedule.requests[0]
        prompt = plain.make(request.prompt_tokens, request.prompt_seed, self.run_id)
        replica = self.serving((model,))[0]
        ((sample,),) = self._answers([Load(schedule, (prompt,), (replica.url,))])
        if sample.prompt_tokens is None:
            raise UserError(f"{replica.name} reports no token usage, which every metric rests on")
        return plain.with_overhead(sample.prompt_tokens - request.prompt_tokens)

    def _warm(self, workload: Asks, models: tuple[str, ...]) -> Capacity:
        """Send some full batches to every replica at once; a first idea of capacity."""
        replicas = self.serving(models)
        loads = []
        for replica in replicas:
            schedule = self._list_of(WARM_REQUESTS, replica.model, workload, self._in_flight)
            loads.append(self._load(schedule, replica, "warm"))
        ends_s = (max(one.last_token_s or 0.0 for one in each) for each in self._answers(loads))
        return Capacity(sum(WARM_REQUESTS / end_s for end_s in ends_s), self.slots * len(replicas))

    def _list_of(self, count: int, model: str, workload: Asks, in_flight: int) -> Schedule:
        """A fixed list of requests, worked off as fast as it goes."""
        return plan_closed_loop(
            seed=self.seed,
            models=(model,),
            workload=workload,
            concurrency=in_flight,
            duration_s=self.drain_s,
            count=count,
        )

    def probe(self, workload: Asks, models: tuple[str, ...], about: Capacity) -> Capacity:
        """Capacity at this moment, for a block that is about to begin: one short run."""
        return self._run(workload, models, about, self.window_s * PROBE_SHARE)

    def _saturate(
        self, workload: Asks, models: tuple[str, ...], warm: Capacity, step: Step
    ) -> Capacity:
        runs = [self._run(workload, models, warm, self.window_s)]
        while not settled([one.rps for one in runs]) and len(runs) < MOST_RUNS:
            step.update(f"saturating every replica until that repeats, run {len(runs) + 1}")
            runs.append(self._run(workload, models, warm, self.window_s))
        return replace(warm, rps=statistics.fmean(one.rps for one in runs[-2:]))

    def _run(
        self, workload: Asks, models: tuple[str, ...], about: Capacity, window_s: float
    ) -> Capacity:
        """Keep every replica full by itself for a time: no balancer has a part in the result.

        All runs send the same schedule, so that they differ in nothing but the engines' speed.
        """
        run = next(self._runs)
        loads = []
        for replica in self.serving(models):
            schedule = plan_closed_loop(
                seed=self.seed,
                models=(replica.model,),
                workload=workload,
                concurrency=self._in_flight,
                duration_s=window_s,
                count=about.requests_for(window_s, self._in_flight),
            )
            loads.append(self._load(schedule, replica, f"capacity {run}"))
        paces = [
            pace_rps(
                sorted(sample.sent_s for sample in samples if sample.sent_s is not None),
                window_s * RAMP_SHARE,
                window_s,
            )
            for samples in self._answers(loads)
        ]
        return replace(about, rps=sum(paces))

    @property
    def _in_flight(self) -> int:
        """Requests in flight on one replica that keep all its slots busy."""
        return self.slots * IN_FLIGHT_PER_SLOT

    def _load(self, schedule: Schedule, replica: Replica, salt: str) -> Load:
        prompts = self.prompts(schedule, f"{salt} {replica.name}")
        return Load(schedule, prompts, [replica.url] * len(prompts))

    def _answers(self, loads: Sequence[Load]) -> tuple[tuple[Sample, ...], ...]:
        """The samples of each load, in which every request must succeed."""
        processes = self.site.shards or 1
        results = run_spread(loads, self.site, processes=processes, drain_timeout_s=self.drain_s)
        if lost := [line for result in results for line in result.lost]:
            raise UserError(lost[0])
        if any(result.ending is Ending.INTERRUPTED for result in results):
            raise KeyboardInterrupt
        for load, result in zip(loads, results, strict=True):
            failed = [sample for sample in result.samples if not sample.ok]
            if failed:
                raise UserError(
                    f"{len(failed)} of {len(result.samples)} calibration requests to "
                    f"{load.urls[0]} failed; first: {failed[0].error} ({failed[0].detail})"
                )
        return tuple(result.samples for result in results)


def pace_rps(begun_s: Sequence[float], start_s: float, end_s: float) -> float:
    """Requests per second of a replica that is always full, in [start_s, end_s).

    `begun_s` are the times at which it began one, ascending. Only every 20th is looked at
    where there are enough: so many in a row have the workload's own mix of lengths.
    """
    inside_s = [at_s for at_s in begun_s if start_s <= at_s < end_s]
    if len(inside_s) < 2:
        return len(inside_s) / (end_s - start_s)
    step = RUN if len(inside_s) > RUN else len(inside_s) - 1
    marks_s = inside_s[::step]
    return step * (len(marks_s) - 1) / (marks_s[-1] - marks_s[0])


def settled(rates_rps: Sequence[float]) -> bool:
    """Whether the last two runs came out alike."""
    if len(rates_rps) < 2:
        return False
    low, high = sorted(rates_rps[-2:])
    return low >= (1 - WITHIN) * high
