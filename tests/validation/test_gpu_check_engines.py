"""gpu-check end to end on real engines of CPUs, vanilla in both arms: the numbers mean nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bench.analysis.kvcached import Answer, ArmEvidence, unlike_answers
from bench.config.topology import EngineEntry, Model, load_topology
from bench.environments.kvcached.collecting import ask, greedy_request, prompts
from bench.environments.kvcached.texts import read_tokens
from bench.environments.local import LocalEnvironment
from bench.load.plan.workload import Fixed, Uniform, Workload
from bench.progress import PlainProgress
from bench.records import Role
from tests.bench.consoles import console
from validation.gpu_check.card import run_here
from validation.gpu_check.command import write_report
from validation.gpu_check.engines import Source, Up
from validation.gpu_check.greedy_model import NAME, greedy_model_folder
from validation.gpu_check.measuring import measure
from validation.gpu_check.plan import Plan
from validation.gpu_check.report import REPORT_FILE, load, starts

pytestmark = pytest.mark.engines

ROOT = Path(__file__).parents[2]
NOTE = (
    "No GPU and no KVCached: engines on CPUs, vanilla in both arms. No number here means anything."
)
# 4,096 tokens of KV cache, of 512 bytes each; ports of its own.
TOPOLOGY = replace(load_topology(), engine=EngineEntry(2048, 8, 2, first_port=8700))
MODELS = [
    replace(one, replicas=1)
    for one in TOPOLOGY.select_models(["tiny-llama", "tiny-qwen", "tiny-mistral"], "cpu", "local")
]
PLAN = Plan(
    dict.fromkeys((one.name for one in MODELS), 4096),
    workload=Workload(prompt=Fixed(128), output=Uniform(8, 64)),
    duration_s=4.0,
    drain_s=60.0,
)


class CpuSource(Source):
    """The suite's own engines on CPUs, started anew for each turn."""

    name = "local"
    note = NOTE

    def __init__(self, progress: PlainProgress) -> None:
        self._progress = progress

    def facts(self) -> Mapping[str, Any]:
        return {"hardware": "cpu"}

    @contextmanager
    def up(self, role: Role) -> Iterator[Up]:
        environment = LocalEnvironment(ROOT / ".cache", TOPOLOGY, self._progress)
        try:
            replicas = environment.start(MODELS)
            folders = {one.name: environment.tokenizer_folder(one.name) for one in MODELS}
            yield Up(replicas, folders)
        finally:
            environment.stop()


def test_a_run_is_measured_in_turns_and_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    progress = PlainProgress(io.StringIO())
    # As if Ctrl-C had come in the second turn.

    class Interrupted(CpuSource):
        turns = 0

        @contextmanager
        def up(self, role: Role) -> Iterator[Up]:
            self.turns += 1
            if self.turns == 2:
                raise KeyboardInterrupt
            with super().up(role) as up:
                yield up

    with pytest.raises(KeyboardInterrupt):
        measure(PLAN, Interrupted(progress), tmp_path, progress)
    write_report(tmp_path)
    assert "not complete: 3 of 12 loads" in (tmp_path / REPORT_FILE).read_text(encoding="utf-8")

    measure(PLAN, CpuSource(progress), tmp_path, progress)
    write_report(tmp_path)
    found = load(tmp_path)
    assert len(found.trials) == 12
    assert starts(found.trials) == {"control": 2, "treatment": 2}
    assert all(one.ok for trial in found.trials for one in trial.samples)
    text = (tmp_path / REPORT_FILE).read_text(encoding="utf-8")
    assert NOTE in text
    assert "not complete" not in text
    assert "2 starts (static), 2 starts (kvcached)" in text
    for one in PLAN.loads:
        assert f"## {one.name}" in text
    assert not [one for one in psutil.Process().children() if "vllm" in " ".join(one.cmdline())]


def test_greedy_answers_of_the_greedy_model_depend_on_what_is_in_its_cache() -> None:
    progress = PlainProgress(io.StringIO())
    model = Model(NAME, path=greedy_model_folder(ROOT / ".cache"), replicas=1)
    engine = EngineEntry(2048, 8, 64, first_port=8710)
    topology = replace(TOPOLOGY, models={NAME: model}, engine=engine)
    environment = LocalEnvironment(ROOT / ".cache", topology, progress)
    try:
        (replica,) = environment.start([model])
        port = int(replica.url.rpartition(":")[2])
        one = replace(console(run_here), engine=NAME, model=NAME, port=port)
        with progress.step("asking") as step:
            first, second = (ask([one], step)[0] for _ in range(2))
        prompt = prompts()[0]
        bodies = [greedy_request(NAME, text) for text in (prompt, prompt[600:])]
        url = f"{replica.url}/v1/completions"
        headers = {"Content-Type": "application/json"}
        answers = [httpx.post(url, content=body, headers=headers).text for body in bodies]
        whole, end = map(read_tokens, answers)
    finally:
        environment.stop()
    # The second time the prompts are in the cache, which moves the likelihoods by roundings.
    arms = [
        ArmEvidence(wanted, 0.9, answers=answers)
        for wanted, answers in ((False, first), (True, second))
    ]
    assert list(unlike_answers(*arms)) == []
    # The same last words after others, which only the cache knows of.
    assert [token.text for token in whole] != [token.text for token in end]
    others = [replace(arms[1], answers=(Answer(NAME, 0, tokens),)) for tokens in (whole, end)]
    (reason,) = unlike_answers(*others)
    assert reason.startswith(f"greedy answers of {NAME} to prompt 0 differ from token 0")
