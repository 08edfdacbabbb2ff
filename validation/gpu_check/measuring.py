"""Measures a plan turn by turn: engines come up, show what they have, and get the three loads.

Whatever was measured is kept, and not measured again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.analysis.kvcached import as_provenance, not_proven
from bench.config.config import new_run_id
from bench.environments.base import targets_of
from bench.environments.kvcached.memory import watching
from bench.errors import UserError
from bench.experiment.capacity import EngineCalibration
from bench.load.accuracy.check import check_client
from bench.load.run.drive import DriveResult, Ending, run_load
from bench.load.run.drive import Load as SentLoad
from bench.processes.local import LocalSite
from bench.progress import Progress
from bench.records import Accuracy, MemorySeries, ServerSeries, Trial
from bench.store import TrialStore
from bench.store.files import strict_json, write_whole
from bench.telemetry.cpu import CpuWatch
from bench.telemetry.scraping import scraping
from validation.gpu_check.engines import Source, Up
from validation.gpu_check.plan import ARMS, ORDER, Load, Plan

RUN_FILE = "run.json"
# Requests in flight at the engines together while they are warmed.
_WARM = 12


def measure(plan: Plan, source: Source, folder: Path, progress: Progress) -> None:
    """Measure what `folder` does not have of the plan yet.

    Raises UserError if the folder has measurements of another plan, and KeyboardInterrupt after
    Ctrl-C, when what was measured is kept and no engine is left.
    """
    run = open_run(plan, source, folder)
    store = TrialStore(folder)
    accuracy: Accuracy | None = None
    for turn, role in enumerate(ORDER):
        missing = [load for load in plan.loads if (load.name, turn) not in measured(store, run)]
        if not missing:
            continue
        accuracy = accuracy or check_client(progress, LocalSite())
        progress.note(f"turn {turn + 1} of {len(ORDER)}: {ARMS[role]}")
        with source.up(role) as up:
            for reason in not_proven(up.evidence) if up.evidence else ():
                progress.note(f"KVCached is not proven: {reason}")
            start = _Start(new_run_id(), plan, source.name, run["run_id"], turn, up, accuracy)
            calibration = start.calibration(progress)
            calibration.warm(plan.workload, plan.models, _WARM)
            for load in missing:
                with progress.step(f"{load.name}: {load.about}"):
                    trial = start.trial(load, calibration)
                store.save(trial)
                if trial.cut_short:
                    raise KeyboardInterrupt


def open_run(plan: Plan, source: Source, folder: Path) -> dict[str, Any]:
    """The facts of the run in a folder, which is a new one if there is none yet.

    Raises UserError if that run is of another plan or another GPU.
    """
    path = folder / RUN_FILE
    wanted = json.loads(
        strict_json(path, {"plan": as_json(plan), "source": source.name, **source.facts()})
    )
    if path.is_file():
        found = read_run(path)
        unlike = [name for name, value in wanted.items() if found.get(name) != value]
        if unlike:
            raise UserError(
                f"{folder} has a run with another {unlike[0]}: give another folder with --output, "
                "or remove that one"
            )
        return found
    made = {"run_id": new_run_id(), "note": source.note, **wanted}
    write_whole(path, strict_json(path, made))
    return made


def read_run(path: Path) -> dict[str, Any]:
    """The facts of the run in a file. Raises UserError for another file."""
    try:
        found = json.loads(path.read_bytes())
        run: dict[str, Any] = {**found, "run_id": str(found["run_id"])}
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UserError(
            f"{path} has no run of gpu-check: give another folder with --output, or remove that one"
        ) from None
    return run


def as_json(plan: Plan) -> dict[str, Any]:
    """What makes two plans comparable."""
    return {
        "static_tokens": dict(plan.static_tokens),
        "requests": {load.name: dict(plan.requests(load)) for load in plan.loads},
        "workload": asdict(plan.workload),
        "duration_s": plan.duration_s,
        "drain_s": plan.drain_s,
        "seed": plan.seed,
    }


def trials_of(store: TrialStore, run: dict[str, Any]) -> list[Trial]:
    """The trials of a run that were not cut short."""
    stored = store.load_run(run["run_id"]) if store.has_run(run["run_id"]) else []
    return [trial for trial in stored if not trial.cut_short]


def measured(store: TrialStore, run: dict[str, Any]) -> set[tuple[str, int]]:
    """The loads and turns that a run has."""
    return {(trial.scenario.name, trial.position) for trial in trials_of(store, run)}


@dataclass(frozen=True, slots=True)
class _Start:
    """Engines of an arm that have been started for a turn. `name` is of this start alone."""

    name: str
    plan: Plan
    environment: str
    run_id: str
    turn: int
    up: Up
    accuracy: Accuracy

    def calibration(self, progress: Progress) -> EngineCalibration:
        """What warms the engines and makes prompts, of which no two starts have the same."""
        return EngineCalibration(
            site=LocalSite(),
            targets=lambda: targets_of(self.up.replicas),
            tokenizers=self.up.tokenizers,
            max_num_seqs=_WARM,
            window_s=1.0,
            drain_s=self.plan.drain_s,
            run_id=f"{self.run_id} {self.name}",
            seed=self.plan.seed,
            progress=progress,
        )

    def trial(self, load: Load, calibration: EngineCalibration) -> Trial:
        """Send one load and return what was measured."""
        schedule = self.plan.schedule(load, self.turn)
        urls = {one.model: one.url for one in self.up.replicas}
        prompts = calibration.prompts(schedule, load.name)
        sent = SentLoad(schedule, prompts, [urls[one.model] for one in schedule.requests])
        result, server, memory = self._send(sent)
        facts = load.facts(self.plan.models)
        evidence = as_provenance(self.up.evidence) if self.up.evidence else {}
        return Trial(
            run_id=self.run_id,
            arm=ARMS[ORDER[self.turn]],
            role=ORDER[self.turn],
            environment=self.environment,
            scenario=facts,
            models=self.plan.models,
            block=0,
            position=self.turn,
            seed=self.plan.seed,
            schedule_sha256=schedule.sha256,
            offered_rps=schedule.offered_rps,
            concurrency=None,
            duration_s=schedule.duration_s,
            elapsed_s=result.elapsed_s,
            replicas=self.up.replicas,
            samples=_served(result, self.up),
            instrument=result.instrument,
            server=server,
            memory=memory,
            cut_short=result.ending is Ending.INTERRUPTED,
            engines=self.name,
            provenance=dict(evidence),
        )

    def _send(
        self, load: SentLoad
    ) -> tuple[DriveResult, tuple[ServerSeries, ...], tuple[MemorySeries, ...]]:
        with (
            watching(self.up.consoles) as watched,
            scraping(self.up.replicas, LocalSite()) as scraper,
        ):
            watch = CpuWatch((), os.sched_getaffinity(0))
            result = run_load(load, drain_timeout_s=self.plan.drain_s)
            cpu = watch.stop()
        assert result.started_s is not None
        instrument = replace(
            result.instrument,
            foreign_cpu_share=cpu.foreign,
            stolen_cpu_share=cpu.stolen,
            accuracy=self.accuracy,
        )
        start_s = result.started_s
        return (
            replace(result, instrument=instrument),
            scraper.since(start_s),
            watched.since(start_s),
        )


def _served(result: DriveResult, up: Up) -> tuple[Any, ...]:
    """The samples, each with the only replica of its model."""
    names = {one.model: one.name for one in up.replicas}
    return tuple(replace(one, replica=names[one.model]) for one in result.samples)
