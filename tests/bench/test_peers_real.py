"""Balancers of others as they are installed here, in front of scripted replicas."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from bench.config.config import resolve
from bench.config.options import Options
from bench.config.peers import load_peers
from bench.environments.external.environment import make_environment
from bench.environments.peers import version_of
from bench.errors import UserError
from bench.paths import ROOT
from bench.processes.ports import is_free
from bench.progress import PlainProgress
from tests.bench.endpoint import MODEL, Behaviour, endpoint
from tests.bench.peering import CHAT, PATIENCE_S, Scripted, balancing, installed, serving

pytestmark = [pytest.mark.slow, pytest.mark.serial]

# A model of an endpoint may be called like this.
MODELS = ("org/m", "n")
# Waits for nothing else, and ends what is left of its children as any run does: not at all.
RUN = """
import sys, time
from pathlib import Path
from bench.records import Replica
from tests.bench.peering import balancing, installed
with balancing(Path(sys.argv[1]), [Replica("n", "n-0", sys.argv[3])]) as balancers:
    print(balancers.routes(installed(sys.argv[2]), 1, ["n"])["n"][0], flush=True)
    time.sleep(600)
"""


def asked(url: str, model: str, prompt: str) -> Iterator[str]:
    """The contents of a streamed answer, each when it has come."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True}
    with (
        httpx.Client(trust_env=False, timeout=PATIENCE_S) as client,
        client.stream("POST", url + CHAT, json=body | {"max_tokens": 2}) as answer,
    ):
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line.removeprefix("data: "))["choices"]
                content = choices[0]["delta"].get("content") if choices else None
                if content:
                    yield content
            elif line.startswith("data: "):
                yield line.removeprefix("data: ")


def ended(port: int) -> bool:
    """Whether nothing listens there any more; a killed process may take a moment to end."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_free(port) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return is_free(port)


def has_ipv6() -> bool:
    """Whether one can listen at ::1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", load_peers())
def test_a_peer_serves_each_model_from_its_replicas_and_ends_with_the_run(
    name: str, tmp_path: Path
) -> None:
    arm = installed(name)
    assert arm.peer is not None
    # Power of two refuses to start in front of one.
    replicas = [Scripted(model) for model in MODELS for _ in range(2)]
    with serving(replicas) as served, balancing(tmp_path, served) as balancers:
        assert version_of(arm.peer, tmp_path).startswith(f"{arm.peer.name} ")
        routes = balancers.routes(arm, 1, MODELS)
        assert routes == balancers.routes(arm, 1, MODELS), "what runs is not started again"
        for model in MODELS:
            begun = asked(routes[model][0], model, "streams")
            assert next(begun) == "first", "an event is passed on while the stream is open"
            for one in replicas:
                one.finish.set()
            assert list(begun) == ["last", "[DONE]"]
            for one in replicas:
                one.finish.clear()
        for model in MODELS:
            own = [len(one.seen) for one in replicas if one.model == model]
            assert sorted(own) == [0, 1]
        for one in replicas:
            one.seen.clear()
            one.broken = True
        with pytest.raises(httpx.HTTPStatusError):
            list(asked(routes[MODELS[1]][0], MODELS[1], "fails"))
        assert [text for one in replicas for text in one.seen] == ["fails"], "it is sent once"
        ports = [one.port for one in balancers.running]
        killed = balancers.running[0]
        assert killed.process.command_pid is not None
        os.kill(killed.process.command_pid, signal.SIGKILL)
        killed.process.wait(PATIENCE_S)
        with pytest.raises(UserError, match=f"the balancer of {killed.name} died"):
            balancers.routes(arm, 1, MODELS)
    assert killed.name.startswith(name)
    assert all(map(ended, ports))


@pytest.mark.parametrize("name", ["haproxy-round-robin", "nginx", "vllm-router-round-robin"])
def test_requests_at_once_are_spread_over_all_replicas(name: str, tmp_path: Path) -> None:
    arm, replicas = installed(name), [Scripted("n") for _ in range(3)]
    for one in replicas:
        one.finish.set()
    with serving(replicas) as served, balancing(tmp_path, served) as balancers:
        (url,) = balancers.routes(arm, 1, ["n"])["n"]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda n: list(asked(url, "n", f"{n}")), range(12)))
        assert answers == [["first", "last", "[DONE]"]] * 12
        assert [len(one.seen) for one in replicas] == [4, 4, 4]


@pytest.mark.parametrize("name", ["haproxy", "nginx-least-conn"])
def test_least_connections_counts_streams_that_are_open(name: str, tmp_path: Path) -> None:
    arm, replicas = installed(name), [Scripted("n") for _ in range(2)]
    with serving(replicas) as served, balancing(tmp_path, served) as balancers:
        (url,) = balancers.routes(arm, 1, ["n"])["n"]
        begun = asked(url, "n", "long")
        next(begun)
        busy, idle = replicas if replicas[0].seen else replicas[::-1]
        idle.finish.set()
        for number in range(5):
            assert list(asked(url, "n", f"{number}")) == ["first", "last", "[DONE]"]
        assert (len(busy.seen), len(idle.seen)) == (1, 5)


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_which_replica_served_is_told_by_its_address(
    name: str, family: socket.AddressFamily, tmp_path: Path
) -> None:
    if family is socket.AF_INET6 and not has_ipv6():
        pytest.skip("this machine has no ::1: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    arm, replicas = installed(name), [Scripted("n") for _ in range(2)]
    for one in replicas:
        one.finish.set()
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    with serving(replicas, family) as served, balancing(tmp_path, served) as balancers:
        (url,) = balancers.routes(arm, 1, ["n"])["n"]
        for _ in range(6):
            before = [len(one.seen) for one in replicas]
            answer = httpx.post(url + CHAT, json=body, trust_env=False, timeout=PATIENCE_S)
            after = [len(one.seen) for one in replicas]
            (place,) = (
                n for n, pair in enumerate(zip(before, after, strict=True)) if len({*pair}) > 1
            )
            assert answer.headers["x-lb-replica"] == urlsplit(served[place].url).netloc
    assert all(one.seen for one in replicas)


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_further_balancers_of_a_peer_run_beside_the_first(name: str, tmp_path: Path) -> None:
    arm, replica = installed(name), Scripted("n")
    replica.finish.set()
    with serving([replica]) as served, balancing(tmp_path, served) as balancers:
        urls = balancers.routes(arm, 2, ["n"])["n"]
        assert len({*urls}) == 2
        for url in urls:
            assert list(asked(url, "n", "hi")) == ["first", "last", "[DONE]"]
        assert [one.name for one in balancers.running] == [f"{name}-n", f"{name}-n-2"]


def test_a_peer_is_in_front_of_endpoints_and_its_version_in_the_provenance(
    tmp_path: Path,
) -> None:
    installed("nginx")
    one = Behaviour()
    with endpoint(one) as url:
        given = Options(env="external", models=(MODEL,), endpoints=url, arms=("baseline", "nginx"))
        config = resolve(given, tmp_path, "run")
        used = make_environment(config, PlainProgress(io.StringIO()))
        try:
            used.start(config.models)
            ((served,),) = used.arm_routes(config.arms["treatment"], 1, [MODEL]).values()
            facts = used.arm_facts(config.arms["treatment"])
            assert list(asked(served, MODEL, "hi")) == ["0 ", "1 ", "[DONE]"]
        finally:
            used.stop()
        assert used.arm_facts(config.arms["control"]) == {}
    assert re.fullmatch(r"nginx \d+\.\d+\S*", facts["balancer"])


# nginx has workers of its own.
def test_a_peer_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    installed("nginx")
    with serving([Scripted("n")]) as (replica,):
        command = [sys.executable, "-c", RUN, str(tmp_path), "nginx", replica.url]
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert run.stdout is not None
            port = int(run.stdout.readline().rpartition(":")[2])
            assert not is_free(port)
        finally:
            run.kill()
            run.communicate()
    assert ended(port)
