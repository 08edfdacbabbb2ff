"""The commands that operate an environment: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from bench.cli.commands import main
from bench.environments.operations import Service
from tests.bench.operating import ENGINE, ScriptedOperations, balancer_answers

MANAGED = Service(
    "balancer", "managed", arm="managed", url="http://127.0.0.1:8081", ready=True, state="running",
    uptime_s=70.0, log="managed.log",
)  # fmt: skip
REPLICA = Service(
    "engine", "a-0", arm="managed", model="a", ready=True, state="running", place="core 0",
    restarts=1, log="a-0.log",
)  # fmt: skip
DEAD = replace(REPLICA, name="a-1", ready=False, state="dead: ValueError: no")
ANSWERS = {"managed": balancer_answers(), "a-0": ENGINE}

Make = Callable[..., ScriptedOperations]


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes what the commands find in environment local."""

    def make(*services: Service) -> ScriptedOperations:
        texts = {one.name: [f"{one.name} {line}" for line in range(3)] for one in services}
        operations = ScriptedOperations(services, dict(ANSWERS), dict(texts))
        monkeypatch.setattr(
            "bench.environments.local.operations.make_operations", lambda *_: operations
        )
        return operations

    return make


def said(capsys: pytest.CaptureFixture[str], code: int, *typed: str) -> str:
    assert main(typed) == code
    return capsys.readouterr().out


def test_deploy_takes_arms_or_the_two_that_are_compared(
    deployed: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    operations = deployed(MANAGED, REPLICA)
    text = said(capsys, 0, "deploy", "--models", "tiny-llama")
    said(capsys, 0, "deploy", "all", "--models", "tiny-qwen")
    twice = ("cache-aware", "managed", "cache-aware")
    said(capsys, 0, "deploy", *twice, "--models", "tiny-llama", "--keep-env")
    both = ("baseline", "managed")
    assert operations.done == [
        ("deploy", both, ("tiny-llama",), False),
        ("deploy", both, ("tiny-qwen",), False),
        ("deploy", ("cache-aware", "managed"), ("tiny-llama",), True),
    ]
    assert "http://127.0.0.1:8081" in text
    assert "up: baseline, managed; `python -m bench teardown --env local` ends that" in text


def test_status_shows_what_is_deployed_and_named_arms_that_are_not(
    deployed: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(MANAGED, REPLICA, DEAD)
    rows = [line.split() for line in said(capsys, 0, "status").splitlines()]
    assert rows[0] == ["arm", "name", "URL", "on", "ready", "restarts", "uptime", "state"]
    assert [row[:2] for row in rows[1:]] == [
        ["managed", name] for name in ("managed", "a-0", "a-1")
    ]
    assert rows[3][-3:] == ["dead:", "ValueError:", "no"]
    assert "not deployed" in said(capsys, 0, "status", "baseline")


def test_where_nothing_is_deployed_it_is_said(
    deployed: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed()
    line = "nothing is deployed in environment local; see `python -m bench deploy --env local`\n"
    assert said(capsys, 0, "status") == line
    assert said(capsys, 1, "health") == line
    assert said(capsys, 0, "teardown") == line
    assert said(capsys, 0, "teardown", "managed") == "nothing of arm managed is there\n"
    assert main(["logs"]) == 2
    assert capsys.readouterr().err == f"error: {line}"
    assert json.loads(said(capsys, 1, "health", "--format", "json")) == {
        "environment": "local",
        "healthy": False,
        "services": [],
    }


@pytest.mark.parametrize(
    ("services", "names", "code"),
    [
        ([MANAGED, REPLICA], [], 0),
        ([MANAGED, REPLICA], ["managed"], 0),
        ([MANAGED, REPLICA], ["managed", "baseline"], 1),
        ([MANAGED, REPLICA, DEAD], [], 1),
        ([replace(REPLICA, kvcached=True)], [], 1),
    ],
)
def test_the_exit_code_of_health_says_whether_all_is_there_and_well(
    deployed: Make,
    capsys: pytest.CaptureFixture[str],
    services: Sequence[Service],
    names: list[str],
    code: int,
) -> None:
    deployed(*services)
    said(capsys, code, "health", *names)
    found = json.loads(said(capsys, code, "health", *names, "--format", "json"))
    assert found["healthy"] is (code == 0)
    assert any(one["problem"] for one in found["services"]) is (code == 1)


def test_the_json_of_status_is_part_of_that_of_health(
    deployed: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(MANAGED, DEAD)
    (one, _) = json.loads(said(capsys, 0, "status", "--format", "json"))["services"]
    (same, dead) = json.loads(said(capsys, 1, "health", "--format", "json"))["services"]
    assert one == {
        "kind": "balancer",
        "name": "managed",
        "arm": "managed",
        "model": "",
        "url": "http://127.0.0.1:8081",
        "place": "",
        "state": "running",
        "ready": True,
        "restarts": 0,
        "uptime_s": 70.0,
        "log": "managed.log",
        "kvcached_wanted": False,
    }
    more = {"models": ["a"], "version": "0.1.0", "running": 4, "waiting": 5}
    assert same == {**one, **more, "kvcached": "not wanted", "problem": None}
    assert dead["problem"] == "dead: ValueError: no"


@pytest.mark.parametrize("typed", [["health"], ["status", "--format", "json"]])
def test_watch_shows_it_again_until_ctrl_c(
    deployed: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
) -> None:
    operations = deployed(MANAGED)
    seen: Iterator[None] = iter([None] * 3)

    def services(_: object) -> tuple[Service, ...]:
        if next(seen, KeyboardInterrupt) is KeyboardInterrupt:
            raise KeyboardInterrupt
        return (MANAGED,)

    monkeypatch.setattr(operations, "services", services)
    text = said(capsys, 130, *typed, "--watch", "--interval", "0.001")
    assert text.count("http://127.0.0.1:8081") == 3
    assert "json" not in typed or len(list(map(json.loads, text.splitlines()))) == 3


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_lines_of_several_logs_begin_with_the_name(
    deployed: Make, capsys: pytest.CaptureFixture[str], follow: list[str]
) -> None:
    operations = deployed(MANAGED, REPLICA, DEAD)
    del operations.texts["a-1"]
    lines = said(capsys, 0, "logs", "--tail", "2", *follow).splitlines()
    assert sorted(lines) == [
        "a-0     | a-0 1",
        "a-0     | a-0 2",
        "a-1     | it has no log",
        "managed | managed 1",
        "managed | managed 2",
    ]


def test_lines_of_a_single_log_are_as_they_are(
    deployed: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(MANAGED)
    assert said(capsys, 0, "logs", "managed", "--tail", "1") == "managed 2\n"


def test_teardown_takes_arms_or_all_that_is_there(
    deployed: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    operations = deployed(MANAGED)
    assert said(capsys, 0, "teardown") == "all that was deployed is gone\n"
    assert said(capsys, 0, "teardown", "managed", "baseline") == ("arm managed, baseline is gone\n")
    said(capsys, 0, "teardown", "managed", "all")
    expected = [None, ("managed", "baseline"), None]
    assert operations.done == [("teardown", arms) for arms in expected]
