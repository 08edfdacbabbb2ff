"""Balancers of others as they are declared: what is read and written, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.judge import cases
from bench.cli.operating import deploy
from bench.config.config import Config, resolve
from bench.config.options import Options
from bench.config.peers import Peer, Ready, load_peers, located
from bench.config.topology import load_topology
from bench.environments.balancers import why_not_ready
from bench.environments.peers import (
    Place,
    balancer_facts,
    command_of,
    require_reachable,
    version_of,
)
from bench.errors import UserError
from bench.records import Replica
from reports.run import run_of
from tests.bench.making import several

PEERS = load_peers()
ENTRY = "{arms: {a: x}, install: apt install p, start: p, version: p -v, reads: (.*)}"
PEER = Peer("apt install p", "p", "p -v", "(.*)", program="p", name="p")
REPLICAS = (
    Replica("org/m", "m-0", "http://127.0.0.1:8100"),
    Replica("org/m", "m-1", "http://127.0.0.1:8101"),
    Replica("n", "n-0", "http://[::1]:8102"),
)
HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z]{2,5})?", fullmatch=True)
ANY_REPLICAS = st.lists(
    st.builds(
        lambda model, host, port: Replica(model, f"{model}-{port}", f"http://{host}:{port}"),
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,20}", fullmatch=True),
        HOSTS,
        st.integers(1, 65535),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one.url,
)


def program(folder: Path, name: str, says: str) -> Path:
    """A program in a folder, which prints something."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def read(tmp_path: Path, text: str) -> dict[str, Peer]:
    path = tmp_path / "peers.yaml"
    path.write_text(text, encoding="utf-8")
    return load_peers(path)


def resolved(tmp_path: Path, *arms: str, **options: Any) -> Config:
    options = {"models": ("tiny-llama",), **options}
    return resolve(Options(arms=arms, **options), tmp_path, "run")


@pytest.fixture
def only_haproxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a checkout on a machine that has HAProxy, and no other peer."""
    program(tmp_path / ".cache" / "peers" / "haproxy" / "bin", "haproxy", "")
    monkeypatch.setattr("bench.config.peers.shutil.which", only_under(tmp_path))
    return tmp_path


def only_under(root: Path) -> object:
    def which(name: str, path: str | None = None) -> str | None:
        found = Path(path or "/nowhere") / name
        return str(found) if found.is_relative_to(root) and found.exists() else None

    return which


@given(ANY_REPLICAS, st.sampled_from(list(PEERS.values())), st.integers(1, 512))
def test_whatever_the_replicas_all_are_told_to_the_program(
    tmp_path_factory: pytest.TempPathFactory,
    replicas: list[Replica],
    peer: Peer,
    max_num_seqs: int,
) -> None:
    folder = tmp_path_factory.mktemp("a folder")
    place = Place(8040, 8041, tuple(replicas), folder, max_num_seqs)
    command = command_of(replace(peer, program="/opt/some where/program"), place)
    files = "".join(path.read_text() for path in folder.iterdir())
    written = "\n".join((*command, files))
    assert "/opt/some where/program" in command
    assert all(one.url.removeprefix("http://") in written for one in replicas)
    assert peer.policy in written
    assert "8040" in written
    assert "{{" not in written
    assert not peer.configuration or str(folder / f"{peer.name}.conf") in command
    if peer.models == "all":
        assert all(one.model in written for one in replicas)


@given(ANY_REPLICAS)
def test_litellm_gets_yaml_with_a_deployment_for_each_replica(
    tmp_path_factory: pytest.TempPathFactory, replicas: list[Replica]
) -> None:
    place = Place(8040, 8041, tuple(replicas), tmp_path_factory.mktemp("litellm"), 4)
    command_of(PEERS["litellm"], place)
    listed = yaml.safe_load((place.folder / "litellm.conf").read_text())["model_list"]
    assert [(one["model_name"], one["litellm_params"]["api_base"]) for one in listed] == [
        (one.model, f"{one.url}/v1") for one in replicas
    ]


def test_each_arm_of_a_peer_differs_from_its_others() -> None:
    told = [(peer.name, peer.policy) for peer in PEERS.values()]
    assert len({*told}) == len(told) == len(PEERS)


def test_a_peer_is_an_arm_of_any_topology_and_a_file_may_name_it(tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(
        "models: {m: {architecture: llama}}\n"
        "arms:\n"
        "  wide: {peer: nginx-least-conn, port: 9000, engine: {max_num_seqs: 8}}\n"
        "  haproxy: {policy: random, port: 9001}\n"
    )
    topology = load_topology(path)
    wide = topology.arm("wide")
    assert wide.peer == PEERS["nginx-least-conn"]
    assert (wide.port, wide.engine.max_num_seqs) == (9000, 8)
    assert topology.arm("nginx").peer == PEERS["nginx"]
    assert topology.arm("haproxy").policy == "random", "the file's own arms come first"
    ports = [topology.arm(name).port for name in PEERS if name != "haproxy"]
    assert len({*ports}) == len(ports)
    with pytest.raises(UserError, match=r"unknown arm 'ngnix'; known: .*did you mean 'nginx'"):
        topology.arm("ngnix")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p: {}", "p.install: Field required"),
        (f"p: {ENTRY[:-1]}, colour: red}}", "p.colour: Unexpected"),
        (f"p: {ENTRY[:-1]}, models: two}}", "p.models: .*seen 'two'"),
        (f"p: {ENTRY[:-1]}, name: q}}", "p: its key is the name"),
        (f"p: {ENTRY[:-1]}, program: .}}", "p: program: '.' is neither"),
        (f"'': {ENTRY}", "'' is no name"),
        (f"{'p' * 300}: {ENTRY}", "'ppp.*' is no name: .* 64 at most"),
        (f"p: {ENTRY.replace('a:', '../a:')}", "'../a' is no name"),
        (f"p: {ENTRY.replace('(.*)', '(.*')}", r"p: reads: '\(\.\*' has no group"),
        (f"p: {ENTRY.replace('(.*)', '.*')}", r"p: reads: '\.\*' has no group"),
        (f"p: {ENTRY}\nq: {ENTRY}", "q: arm 'a' is of p, too"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_an_unknown_peer_of_an_arm_is_one_line_with_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text("models: {m: {architecture: llama}}\narms: {a: {peer: apache, port: 1}}")
    with pytest.raises(UserError, match=r"line 2: arms.a.peer: .*haproxy.*seen 'apache'"):
        load_topology(path)


@pytest.mark.parametrize(
    "text", ["{{ colour }}", "{% for %}", "{{ 1 / 0 }}", "{{ port + 'a' }}", "'"]
)
def test_a_mistake_in_a_template_is_one_line(tmp_path: Path, text: str) -> None:
    place = Place(1, 2, REPLICAS, tmp_path, 4)
    with pytest.raises(UserError, match=r"^peer p: .* in ['\"]") as raised:
        command_of(replace(PEER, start=f"p {text}"), place)
    assert "\n" not in str(raised.value)


def test_what_was_installed_for_the_suite_comes_before_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    assert located(PEER, tmp_path) is None
    on_path = program(tmp_path / "elsewhere", "p", "")
    assert located(PEER, tmp_path) == replace(PEER, program=str(on_path))
    own = program(tmp_path / "peers" / "p" / "bin", "p", "")
    assert located(PEER, tmp_path) == replace(PEER, program=str(own))


def test_a_version_is_read_from_what_the_program_says(tmp_path: Path) -> None:
    path = program(tmp_path, "p", "proxy p/1.2 of today")
    peer = replace(PEER, program=str(path), version='"{{ program }}" -v', reads=r"p/(\S+)")
    assert version_of(peer, tmp_path) == "p 1.2"
    arm = replace(load_topology().arm("haproxy"), peer=peer)
    assert balancer_facts([arm, load_topology().arm("managed")], tmp_path) == {
        "haproxy": {"balancer": "p 1.2"}
    }


@pytest.mark.parametrize("says", ["vllm-router: error: unrecognized arguments: --version", ""])
def test_another_program_of_the_same_name_is_refused(tmp_path: Path, says: str) -> None:
    path = program(tmp_path, "vllm-router", says)
    peer = replace(PEERS["production-stack"], program=str(path))
    with pytest.raises(UserError, match=r"does not say that it is production-stack: .*install it"):
        version_of(peer, tmp_path)


def test_a_peer_is_ready_when_it_says_so_of_all_replicas() -> None:
    arm = load_topology().arm("smg-round-robin")
    assert arm.peer is not None
    assert arm.peer.ready == Ready("/readiness", '"healthy_workers":{{ replicas | length }},')
    for healthy, lacking in ((3, False), (2, True), (30, True)):
        answer = json.dumps(
            {"status": "ready", "healthy_workers": healthy, "total": 3}, separators=(",", ":")
        )
        assert (why_not_ready(arm, answer, REPLICAS) is not None) == lacking


def test_arms_that_are_not_installed_are_left_out_and_named_with_the_line_that_installs_them(
    only_haproxy: Path,
) -> None:
    config = resolved(only_haproxy, "baseline", "nginx", "haproxy", "managed")
    assert [f"{role} {arm.name}" for role, arm in config.arms.items()] == [
        "control baseline",
        "treatment haproxy",
        "treatment-2 managed",
    ]
    assert config.absent == {"nginx": "nginx is absent; install it with: apt install nginx"}
    peer = config.arms["treatment"].peer
    assert peer is not None
    assert peer.program == str(only_haproxy / ".cache/peers/haproxy/bin/haproxy")


@pytest.mark.parametrize("arms", [("nginx", "haproxy", "managed"), ("haproxy", "nginx")])
def test_without_the_control_or_any_treatment_there_is_nothing_to_measure(
    only_haproxy: Path, arms: tuple[str, ...]
) -> None:
    with pytest.raises(UserError, match=r"^--arms: nginx is absent; install it with: apt install"):
        resolved(only_haproxy, *arms)


@pytest.mark.parametrize("environment", ["docker", "k8s"])
def test_peers_run_on_this_machine_alone(tmp_path: Path, environment: str) -> None:
    with pytest.raises(UserError, match=f"arm nginx is .* --env {environment} cannot run"):
        resolved(tmp_path, "baseline", "nginx", env=environment, models=())


@pytest.mark.parametrize(
    ("url", "headers", "message"),
    [
        ("https://r0:1", {}, "arm nginx takes replicas at http://HOST:PORT, seen https://r0:1;"),
        ("http://r0:1/v2", {}, "arm nginx takes replicas at http://HOST:PORT, seen http://r0:1/v2"),
        ("http://r0:1", {"authorization": "Bearer x"}, "arm nginx gets no key for its replicas;"),
    ],
)
def test_replicas_that_peers_cannot_reach_as_the_client_does_are_refused(
    url: str, headers: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        require_reachable("nginx", [Replica("m", "m-0", url)], headers)
    require_reachable("nginx", REPLICAS, {"x-team": "search"})


def test_deploy_starts_no_peer() -> None:
    with pytest.raises(UserError, match="arm nginx is started by runs that measure it"):
        deploy(Options(), ["nginx"])


def test_a_run_tells_the_versions_of_peers() -> None:
    balancers = {"control": "nginx 1.22.1", "treatment": "haproxy 2.6.12"}
    trials = [
        replace(one, provenance={**one.provenance, "balancer": balancers[one.role]})
        for one in several([(1.0, 1.1, 0.9, 1.0), (0.3, 0.31, 0.3, 0.32)])
    ]
    facts = run_of(cases(trials), "today").facts
    assert facts["Balancers"] == "baseline: nginx 1.22.1; managed: haproxy 2.6.12"
