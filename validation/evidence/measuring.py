"""One run of the plan, from engines to an entry of the ledger."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from bench.analysis.judgement import Judgement
from bench.analysis.sensitivity import spread_of
from bench.analysis.verdict import RULE
from bench.config.config import Config, new_run_id, resolve
from bench.config.options import Options
from bench.environments.local import LocalEnvironment
from bench.progress import Progress
from bench.provenance import git_commit
from bench.records import Trial
from bench.scenario import Scenario
from bench.session import Session
from validation.evidence.ledger import LedgerEntry
from validation.evidence.plan import MODELS, PlannedRun

NEIGHBOUR = Path(__file__).with_name("neighbour.py")
NEIGHBOUR_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Bench:
    """Where runs are measured: the checkout, and what they report to."""

    root: Path
    progress: Progress

    def measure(self, run: PlannedRun) -> LedgerEntry:
        """Measure one run. The engines stay up for the next one."""
        config = self._config(run)
        session = Session(
            config=config,
            compares=True,
            progress=self.progress,
            provenance={"seed": run.seed, "profile": run.profile},
            make_environment=lambda: LocalEnvironment(
                config.cache, config.topology, self.progress, keep=True
            ),
        )
        began_s = time.monotonic()
        try:
            with _neighbour(run.seed) if run.neighbour else nullcontext():
                one = session.first_round(_scenario(run.scenario), (run.model,))
        finally:
            session.close()
            shutil.rmtree(config.results, ignore_errors=True)
        took_s = time.monotonic() - began_s
        return _entry(run, one.judgement, one.trials, took_s, git_commit(self.root / ".git"))

    def _config(self, run: PlannedRun) -> Config:
        options = Options(
            models=MODELS,
            arms=(run.control, run.treatment),
            profile=run.profile,
            seed=run.seed,
            keep_env=True,
        )
        config = resolve(options, self.root, new_run_id())
        if run.slowed_by:
            # The same balancer at another port, before replicas with less of their core.
            slowed = replace(
                config.arms["treatment"],
                name=f"{run.treatment}-slowed",
                port=1 + max(arm.port for arm in config.topology.arms.values()),
                slowed=1 - run.slowed_by,
            )
            arms = {**config.topology.arms, slowed.name: slowed}
            config = replace(
                config,
                arms={**config.arms, "treatment": slowed},
                topology=replace(config.topology, arms=arms),
            )
        return replace(config, results=config.cache / "evidence" / config.run_id)


def _scenario(name: str) -> Scenario:
    """The scenario that the tests of that name measure."""
    module = importlib.import_module(f"tests.scenarios.test_{name.replace('-', '_')}")
    scenario = module.SCENARIO
    assert isinstance(scenario, Scenario)
    return scenario


@contextmanager
def _neighbour(seed: int) -> Iterator[None]:
    command = [sys.executable, "-I", "-S", str(NEIGHBOUR), str(NEIGHBOUR_SHARE), str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE):  # leaving it closes the input
        yield


def _entry(
    run: PlannedRun,
    judgement: Judgement,
    trials: Sequence[Trial],
    took_s: float,
    commit: str | None,
) -> LedgerEntry:
    primary = judgement.primary
    assert primary is not None
    environment = trials[0].provenance["environment"]
    speeds = [
        rps
        for trial in trials
        for rps in (trial.capacity_rps, trial.capacity_after_rps)
        if rps is not None
    ]
    return LedgerEntry(
        run=run,
        rule=RULE,
        commit=commit,
        machine=f"{environment.get('cpu', 'unknown CPU')}, {environment['usable_cores']} cores",
        day=f"{trials[0].run_id[:4]}-{trials[0].run_id[4:6]}-{trials[0].run_id[6:8]}",
        took_s=round(took_s, 1),
        verdict=str(primary.verdict),
        ratio=primary.ratio,
        low=primary.low,
        high=primary.high,
        blocks=judgement.blocks,
        set_aside=sum("is set aside" in note for note in judgement.notes),
        spread=spread_of(judgement.effects),
        capacity_rps=(min(speeds), max(speeds)) if speeds else None,
        reasons=judgement.invalid_reasons,
    )
