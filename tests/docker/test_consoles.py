"""How the engines in containers are looked at: each by its own name, port and lines."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.config.topology import load_topology
from bench.environments.docker.daemon import Container
from bench.environments.docker.environment import DockerEnvironment
from bench.progress import PlainProgress
from tests.docker.scripted_daemon import ENGINE

TOPOLOGY = load_topology()
ALONE = replace(Container.seen(ENGINE), model="llama-3.1-8b", service="llama-3-1-8b-0")
SHARED = replace(
    ALONE,
    model="",
    service="colocated-0",
    command=("llama-3.1-8b 8000 vllm serve", "qwen2.5-7b 8001 vllm serve"),
)
LOG = ["[llama-3.1-8b] one", "[qwen2.5-7b] two"]


class Deployed:
    """A deployment, and a daemon, that have one container of engines, and one that has ended."""

    def __init__(self, one: Container) -> None:
        self._one = one

    def containers(self, group: str) -> tuple[Container, ...]:
        assert group == "managed"
        return (self._one, replace(self._one, status="exited"))

    def lines(self, one: Container, count: int | None, *, follow: bool) -> Iterator[str]:
        assert (one, count, follow) == (self._one, None, False)
        return iter(LOG)


def consoles(
    one: Container, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> list[tuple[Any, ...]]:
    arm = TOPOLOGY.arm("managed")
    progress = PlainProgress(io.StringIO())
    environment = DockerEnvironment(TOPOLOGY, (arm,), tmp_path, progress, timeout_s=1.0)
    deployed = Deployed(one)
    monkeypatch.setattr(environment, "_deployment", deployed)
    monkeypatch.setattr(environment, "_daemon", deployed, raising=False)
    monkeypatch.setattr(environment, "_models", TOPOLOGY.models)
    found = environment._consoles("managed")
    assert {each.place for each in found} == {one.service}
    return [(each.engine, each.model, each.ipc, each.port, list(each.log())) for each in found]


def test_an_engine_that_has_a_container_has_all_of_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (found,) = consoles(ALONE, monkeypatch, tmp_path)
    assert found == ("llama-3-1-8b-0", "llama-3.1-8b", "llama_3_1_8b_0", 8000, LOG)


def test_engines_that_share_one_have_their_own_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert consoles(SHARED, monkeypatch, tmp_path) == [
        ("colocated-0:8000", "llama-3.1-8b", "llama_3_1_8b", 8000, ["one"]),
        ("colocated-0:8001", "qwen2.5-7b", "qwen2_5_7b", 8001, ["two"]),
    ]
