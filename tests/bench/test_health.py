"""What a balancer or an engine says of itself, and what is wrong with it in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli.health import Health, check, check_all
from bench.cli.service_tables import duration_text, health_table
from bench.environments.operations import Service
from tests.bench.operating import (
    ENGINE,
    NOT_PATCHED,
    PATCHED,
    ScriptedOperations,
    balancer_answers,
)

REPLICA = Service("engine", "a-0", model="a", ready=True, state="running")
WANTS = replace(REPLICA, kvcached=True)
BALANCER = Service("balancer", "managed", arm="managed", ready=True, state="running")


def health_of(service: Service, answers: object = ENGINE, text: Sequence[str] = ()) -> Health:
    assert isinstance(answers, dict)
    return check(
        ScriptedOperations((service,), {service.name: answers}, {service.name: text}), service
    )


def test_an_engine_tells_models_version_and_queue() -> None:
    assert health_of(REPLICA) == Health(
        REPLICA, models=("a",), version="0.30.0", running=3, waiting=1, kvcached="not wanted"
    )


@pytest.mark.parametrize(
    ("text", "kvcached"),
    [
        (["starting", PATCHED, "serving"], "active"),
        (["starting", "serving"], "silently off"),
        (["starting", PATCHED, NOT_PATCHED], "silently off"),
        ([], "silently off"),
    ],
)
def test_kvcached_is_active_only_where_the_log_says_so(text: list[str], kvcached: str) -> None:
    found = health_of(WANTS, text=text)
    assert found.kvcached == kvcached
    assert (found.problem is None) is (kvcached == "active")
    assert health_of(REPLICA, text=text).kvcached == "not wanted"


def test_kvcached_is_not_known_without_a_log() -> None:
    found = check(ScriptedOperations((WANTS,), {WANTS.name: ENGINE}), WANTS)
    assert found.kvcached == "unknown"
    assert found.problem is not None


@pytest.mark.parametrize("missing", ["/health", "/v1/models", "/version", "/metrics"])
def test_an_engine_that_does_not_answer_is_told(missing: str) -> None:
    answers = {path: body for path, body in ENGINE.items() if path != missing}
    assert health_of(REPLICA, answers).problem == f"a-0 does not answer {missing}"


def test_an_engine_that_serves_another_model_is_told() -> None:
    other = {**ENGINE, "/v1/models": json.dumps({"data": [{"id": "b"}]})}
    assert health_of(REPLICA, other).problem == "it serves b, and not a"
    nonsense = {**ENGINE, "/v1/models": "<html>"}
    assert health_of(REPLICA, nonsense).problem == "it answers /v1/models with b'<html>'"


def test_what_is_not_ready_is_not_asked() -> None:
    dead = replace(WANTS, ready=False, state="dead: killed from outside")
    found = health_of(dead, {})
    assert (found.problem, found.kvcached) == ("dead: killed from outside", "unknown")


def test_a_balancer_tells_version_models_and_requests() -> None:
    assert health_of(BALANCER, balancer_answers()) == Health(
        BALANCER, models=("a",), version="0.1.0", running=4, waiting=5
    )


def test_what_is_wrong_behind_a_balancer_is_told() -> None:
    unhealthy = health_of(BALANCER, balancer_answers(healthy=False)).problem
    assert unhealthy == "1 of 2 replicas unhealthy: 127.0.0.1:2"
    assert health_of(BALANCER, balancer_answers(draining=True)).problem == "it is stopping"
    said = {**json.loads(balancer_answers()["/health"]), "replicas": []}
    empty = {**balancer_answers(), "/health": json.dumps(said)}
    assert health_of(BALANCER, empty).problem == "it has no replicas"


@pytest.mark.parametrize("health", [{}, {"/health": ""}, {"/health": "[]"}, {"/health": "{}"}])
def test_of_somebody_elses_balancer_only_the_models_are_known(health: dict[str, str]) -> None:
    found = health_of(BALANCER, {**health, "/v1/models": ENGINE["/v1/models"]})
    assert found == Health(BALANCER, models=("a",))


def test_all_are_asked_and_the_order_is_kept() -> None:
    services = [replace(REPLICA, name=f"a-{index}") for index in range(5)]
    operations = ScriptedOperations(services, {one.name: ENGINE for one in services[1:]})
    found = check_all(operations, services)
    assert [one.service for one in found] == services
    assert [one.problem is None for one in found] == [False, True, True, True, True]
    assert check_all(operations, []) == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (12345, "3 h 25 min"),
        (86399, "23 h 59 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations_in_words(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.floats(0, 1e7))
def test_no_part_of_a_duration_is_as_large_as_the_next_unit(seconds: float) -> None:
    limits = {"s": 60, "min": 60, "h": 24, "d": 1e9}
    words = duration_text(seconds).split()
    assert all(
        int(number) < limits[unit] for number, unit in zip(words[::2], words[1::2], strict=True)
    )


@given(st.integers(20, 300))
def test_names_and_addresses_stay_whole_and_words_are_all_there(width: int) -> None:
    name, url = "managed/engine-" + "a" * 40, "http://127.0.0.1:8100"
    long = Health(replace(REPLICA, name=name, url=url), models=("a", "b" * 40), problem="so " * 40)
    table = health_table([long, health_of(BALANCER, balancer_answers())], width=width, colour=False)
    assert table.count(name) == table.count(url) == 1
    assert table.count("so") == 40
    assert table.count("b") >= 40
