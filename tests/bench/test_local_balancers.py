"""Balancers of the arms: started on demand, ready or refused with one line."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bench.config.peers import Peer
from bench.config.topology import Arm
from bench.environments.balancers import Balancers, balancer_command, why_not_ready
from bench.errors import UserError
from bench.progress import PlainProgress
from bench.records import Replica

REPLICAS = (
    Replica("a", "a-0", "http://127.0.0.1:1"),
    Replica("a", "a-1", "http://127.0.0.1:2"),
    Replica("b", "b-0", "http://127.0.0.1:3"),
)
# A balancer of somebody else: it lists models, and that is all that is known of it.
FOREIGN = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(1)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# The same as a peer, which lists the models that it is told.
LISTED = (
    '{"data": [{% for one in replicas %}{"id": "{{ one.model }}"}'
    "{{ ', ' if not loop.last }}{% endfor %}]}"
)
PEER = Peer(
    install="nothing",
    program=sys.executable,
    version="",
    reads="",
    start='"{{ program }}" "{{ configuration }}" {{ port }}',
    configuration=FOREIGN.replace("sys.argv[2]", f"'''{LISTED}'''"),
)


def models(*names: str) -> str:
    return json.dumps({"data": [{"id": name} for name in names]})


def health(**healthy: bool) -> str:
    replicas = [{"url": replica.url, "healthy": healthy[replica.model]} for replica in REPLICAS]
    return json.dumps({"replicas": replicas})


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        chosen: int = probe.getsockname()[1]
        return chosen


@pytest.fixture
def balancers(tmp_path: Path) -> Iterator[Balancers]:
    balancers = Balancers(tmp_path, PlainProgress(io.StringIO()))
    balancers.serve(REPLICAS)
    yield balancers
    balancers.stop()


def foreign(port: int, answer: str) -> Arm:
    return Arm("theirs", port, None, (sys.executable, "-c", FOREIGN, "{port}", answer))


def keep_asking(balancers: Balancers, arm: Arm, count: int = 1) -> None:
    """Its end is known a moment later than it happens."""
    for _ in range(300):
        balancers.urls(arm, count)
        time.sleep(0.1)


def test_a_policy_runs_this_projects_balancer() -> None:
    arm = Arm("x", 8081, "queue-aware", None)
    command = balancer_command(arm, 8088, ["http://a:1", "http://b:2"])
    assert command[1:] == [
        *("-m", "lb", "--policy", "queue-aware"),
        *("--endpoints", "http://a:1,http://b:2", "--port", "8088"),
    ]


def test_a_command_gets_port_and_endpoints_and_keeps_other_braces() -> None:
    arm = Arm("x", 8090, None, ("proxy", "--listen=:{port}", "{endpoints}", '{"json": {}}'))
    command = balancer_command(arm, 8090, ["http://a:1", "http://b:2"])
    assert command == ["proxy", "--listen=:8090", "http://a:1,http://b:2", '{"json": {}}']


def test_a_balancer_is_started_once_and_stopped(balancers: Balancers, port: int) -> None:
    arm = foreign(port, models("a", "b"))
    (url,) = balancers.urls(arm, 1)
    assert balancers.urls(arm, 1) == (url,)
    assert httpx.get(f"{url}/v1/models", trust_env=False).status_code == 200
    balancers.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_further_balancers_of_an_arm_run_beside_the_first_as_long_as_they_are_wanted(
    balancers: Balancers, port: int
) -> None:
    arm = foreign(port, models("a", "b"))
    first, second = balancers.urls(arm, 2)
    for url in (first, second):
        assert httpx.get(f"{url}/v1/models", trust_env=False).status_code == 200
    assert balancers.urls(arm, 2) == (first, second)
    assert balancers.urls(arm, 1) == (first,)
    with pytest.raises(httpx.ConnectError):
        httpx.get(second, trust_env=False)
    assert httpx.get(f"{first}/v1/models", trust_env=False).status_code == 200


def test_further_balancers_leave_the_ports_of_other_arms_alone(tmp_path: Path, port: int) -> None:
    balancers = Balancers(tmp_path, PlainProgress(io.StringIO()), reserved={port + 1})
    balancers.serve(REPLICAS)
    first, second = balancers.urls(foreign(port, models("a", "b")), 2)
    balancers.stop()
    assert first == f"http://127.0.0.1:{port}"
    assert int(second.rpartition(":")[2]) > port + 1


def test_a_dead_one_of_several_balancers_is_named(balancers: Balancers, port: int) -> None:
    arm = foreign(port, models("a", "b"))
    _, second = balancers.urls(arm, 2)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{second}/die", trust_env=False)
    with pytest.raises(UserError, match="theirs-2 died"):
        keep_asking(balancers, arm, 2)


def test_a_peer_that_does_not_choose_by_model_has_an_instance_for_each(
    balancers: Balancers, port: int
) -> None:
    arm = Arm("peer", port, peer=PEER)
    routes = balancers.routes(arm, 1, ("a", "b"))
    assert routes == balancers.routes(arm, 1, ("a", "b"))
    assert [one.name for one in balancers.running] == ["peer-a", "peer-b"]
    for model, (url,) in routes.items():
        listed = httpx.get(f"{url}/v1/models", trust_env=False).json()["data"]
        assert {one["id"] for one in listed} == {model}
    everything = replace(arm, name="router", peer=replace(PEER, models="all"))
    assert len({*balancers.routes(everything, 1, ("a", "b")).values()}) == 1
    assert [one.name for one in balancers.running][2:] == ["router"]


def test_a_peer_leaves_a_port_that_is_in_use_alone(balancers: Balancers) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        ((url,),) = balancers.routes(Arm("peer", taken, peer=PEER), 1, ("a",)).values()
    assert int(url.rpartition(":")[2]) > taken


def test_a_port_in_use_is_told_with_its_holder(balancers: Balancers) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of arm theirs .* {os.getpid()} "):
            balancers.urls(foreign(port, models("a", "b")), 1)


def test_a_balancer_that_dies_is_told_with_reason_and_log(
    balancers: Balancers, port: int, tmp_path: Path
) -> None:
    arm = Arm("theirs", port, None, ("sh", "-c", "echo 'no such thing' >&2; exit 1"))
    with pytest.raises(UserError, match=f"theirs died: no such thing; see {tmp_path}"):
        balancers.urls(arm, 1)


def test_a_balancer_that_died_after_its_start_is_told_and_not_started_again(
    balancers: Balancers, port: int
) -> None:
    arm = foreign(port, models("a", "b"))
    (url,) = balancers.urls(arm, 1)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/die", trust_env=False)
    with pytest.raises(UserError, match="theirs died"):
        keep_asking(balancers, arm)


def test_a_balancer_that_is_not_installed_is_told(balancers: Balancers, port: int) -> None:
    with pytest.raises(UserError, match="cannot start no-such-balancer"):
        balancers.urls(Arm("theirs", port, None, ("no-such-balancer",)), 1)


@pytest.mark.parametrize(
    ("policy", "answer", "lacking"),
    [
        (None, models("a", "b", "c"), None),
        (None, models("a"), "it lacks b"),
        (None, "[]", "it answers '[]'"),
        (None, '{"data": 3}', "it answers "),
        ("round-robin", health(a=True, b=True), None),
        ("round-robin", health(a=True, b=False), "it lacks http://127.0.0.1:3"),
        ("round-robin", '{"status": "ok"}', "it answers "),
    ],
)
def test_what_a_balancer_lacks_is_told(
    policy: str | None, answer: str, lacking: str | None
) -> None:
    told = why_not_ready(Arm("x", 8090, policy, None), answer, REPLICAS)
    assert told == lacking if lacking is None else str(told).startswith(lacking)


def test_a_balancer_that_gets_ready_late_is_waited_for(balancers: Balancers, port: int) -> None:
    late = ("sh", "-c", 'sleep 0.3; exec "$@"', "sh", sys.executable, "-c", FOREIGN, "{port}")
    (url,) = balancers.urls(Arm("theirs", port, None, (*late, models("a", "b"))), 1)
    assert httpx.get(f"{url}/v1/models", trust_env=False).status_code == 200


def test_an_arms_options_follow_those_of_every_balancer() -> None:
    arm = Arm("bounded", 8088, "queue-aware", None, ("--max-in-flight", "5"))
    assert balancer_command(arm, 8088, ["http://a:1"])[-2:] == ["--max-in-flight", "5"]
