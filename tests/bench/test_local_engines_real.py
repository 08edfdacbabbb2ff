"""Real vLLM engines through the environment: one tiny model, two replicas."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bench.environments.local import LocalEnvironment, kept_engines, stop_kept
from bench.environments.local.answers import chat
from bench.environments.local.install import ensure_engine
from bench.environments.local.state import Engines, await_end, read_engines, state_file
from bench.errors import UserError
from bench.progress import PlainProgress, make_progress
from bench.topology import EngineEntry, Model, Topology, load_topology

pytestmark = pytest.mark.engines

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
# Ports of their own, so that engines which somebody has kept are not in the way.
ENGINE = EngineEntry(kv_cache_mib=64, first_port=8300)
TOPOLOGY = replace(load_topology(), engine=ENGINE)
MODELS = TOPOLOGY.select_models(["tiny-llama"])
OWNER = """
import sys, time
from pathlib import Path
from bench.environments.local import LocalEnvironment
from bench.progress import make_progress
from tests.bench.test_local_engines_real import MODELS, TOPOLOGY
environment = LocalEnvironment(Path(sys.argv[1]), TOPOLOGY, make_progress())
environment.start(MODELS)
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of its own, with the engine's packages of the project's."""
    folder = tmp_path_factory.mktemp("cache")
    venv = ensure_engine(ROOT / ".cache", make_progress())
    (folder / "engine-venv").symlink_to(venv.folder)
    yield folder
    stop_kept(folder, make_progress())


def environment(
    cache: Path, *, keep: bool = True, topology: Topology = TOPOLOGY
) -> LocalEnvironment:
    return LocalEnvironment(cache, topology, make_progress(), keep=keep)


def running(cache: Path) -> Engines:
    engines = read_engines(state_file(cache))
    assert engines is not None
    return engines


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    return not alive


def test_kept_engines_answer_are_pinned_and_are_found_again(cache: Path) -> None:
    first = environment(cache)
    replicas = first.start(MODELS)
    first.stop()
    before = running(cache)

    second = environment(cache)
    assert second.start(MODELS) == replicas
    assert second.facts()["engines"] == "found running"
    assert running(cache) == before
    assert second.dead_replicas() == ()
    for one in replicas:
        answer = chat(one.url, one.model, output_tokens=16, timeout_s=60.0).json()
        assert answer["usage"]["completion_tokens"] == 16
    cores = {
        one.spec.name: {frozenset(p.cpu_affinity() or ()) for p in family(one.process.pid)}
        for one in before.replicas
    }
    usable = len(os.sched_getaffinity(0))
    assert all(len(core) == 1 for core in cores.values())
    assert len({core for each in cores.values() for core in each}) == min(2, usable)
    second.stop()


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP])
def test_half_dead_engines_are_replaced(
    cache: Path, harm: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    ...


def test_a_run_that_does_not_keep_leaves_nothing(cache: Path) -> None:
    ...
