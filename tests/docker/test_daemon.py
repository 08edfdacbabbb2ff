"""What the suite makes of a daemon's answers, and what it says of one that does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.environments.docker.daemon import Container, Daemon
from bench.errors import UserError
from tests.docker.scripted_daemon import ENGINE, Answers, container, scripted_daemon


def seen(**state: Any) -> Container:
    return Container.seen({**ENGINE, "State": {**ENGINE["State"], **state}})


def test_a_running_engine_is_read_as_docker_shows_it() -> None:
    one = Container.seen(ENGINE)
    assert (one.service, one.project, one.kind, one.model) == (
        *("tiny-llama-0", "llm-bench-managed", "engine", "tiny-llama"),
    )
    assert (one.url, one.ports, one.core, one.pid) == ("http://127.0.0.1:8001", (8001,), "1", 77)
    assert one.runs
    assert not one.end
    assert one.place == "core 1"
    on_gpus = {"CpusetCpus": "", "DeviceRequests": [{"DeviceIDs": ["4", "5"]}]}
    assert Container.seen({**ENGINE, "HostConfig": on_gpus}).place == "GPU 4, 5"
    assert "secret" not in str(one)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8001"),
        ("::", "http://127.0.0.1:8001"),
        ("127.0.0.2", "http://127.0.0.2:8001"),
        ("::1", "http://[::1]:8001"),
    ],
)
def test_an_address_that_means_all_is_reached_at_loopback(host: str, url: str) -> None:
    ports = {"8000/tcp": [{"HostIp": host, "HostPort": "8001"}], "9/tcp": None}
    assert Container.seen({**ENGINE, "NetworkSettings": {"Ports": ports}}).url == url


def test_how_a_container_ended_is_said_in_words() -> None:
    assert seen(Status="exited", ExitCode=137).end == "ended with exit code 137"
    assert seen(Status="exited", ExitCode=137, OOMKilled=True).end == (
        "ended with exit code 137 (out of memory)"
    )
    assert seen(Status="restarting").end == "restarting"


def test_a_container_that_was_started_again_is_another_start() -> None:
    before = seen()
    assert seen().starts == before.starts
    assert seen(StartedAt="2026-01-31T23:59:59.999Z").starts != before.starts
    assert Container.seen({**ENGINE, "RestartCount": 1}).starts != before.starts
    assert Container.seen({**ENGINE, "Id": "2"}).starts != before.starts


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Daemon]:
    theirs = {**container("c", "theirs"), "Config": {"Labels": {}, "Env": None}}
    ours = (container("a", "llm-bench-baseline"), container("b", "llm-bench-managed"))
    with scripted_daemon(tmp_path, *ours, theirs) as daemon:
        yield daemon


def test_only_containers_of_the_suite_are_seen_and_removed(answering: Daemon) -> None:
    assert [one.name for one in answering.containers()] == ["a", "b"]
    assert answering.projects() == ("llm-bench-baseline", "llm-bench-managed")
    of_one = answering.containers("llm-bench-managed")
    said: list[str] = []
    answering.remove([*of_one, *of_one], said.append)  # one that is gone already is no error
    assert said == ["b", "b"]
    assert sorted(Answers.containers) == ["a", "c"]


def test_what_docker_refuses_is_said_in_one_line(answering: Daemon) -> None:
    Answers.containers["stuck"] = container("stuck", "llm-bench-managed")
    with pytest.raises(UserError) as caught:
        answering.remove(answering.containers(), lambda _: None)
    assert str(caught.value) == "Docker refuses: device or resource busy"


def test_a_daemon_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        Daemon(f"unix://{tmp_path}/no.sock")
    assert str(caught.value) == (
        f"no Docker daemon answers at unix://{tmp_path}/no.sock: No such file or directory; is it "
        "running, and may you use it (group docker)?"
    )


@pytest.mark.parametrize("url", ["tcp://10.0.0.1:2376", "ssh://me@node"])
def test_a_daemon_of_another_machine_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="needs the daemon of this machine"):
        Daemon.chosen({"DOCKER_HOST": url})


def execute(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, output: bytes, errors: bytes) -> str:
    """Run a command of which the daemon sends the streams so."""

    def start(_id: str, *, demux: bool) -> tuple[bytes, bytes]:
        assert demux
        return output, errors

    monkeypatch.setattr(daemon._client.api, "exec_start", start)
    return daemon.execute(seen(), ["kvctl", "list"])


def test_a_command_in_a_container_gives_its_output(
    answering: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    Answers.exit_code = 0
    assert execute(answering, monkeypatch, b"[]\n", b"readline not available.") == "[]\n"
    assert Answers.executed == ["kvctl", "list"]


def test_a_command_in_a_container_that_fails_is_told_in_its_own_words(
    answering: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    Answers.exit_code = 127
    with pytest.raises(UserError, match=r"ended with 127: env: 'kvctl': No such file"):
        execute(answering, monkeypatch, b"", b"env: 'kvctl': No such file or directory\n")


def test_a_program_in_a_container_is_started_by_the_client_and_ends_with_its_input(
    answering: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = tmp_path / "docker"
    client.write_text('#!/bin/sh\necho "$@"\nshift 5\nexec "$@"\n', encoding="utf-8")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = answering.start(seen(), ["cat"])
    program.send(b"clock\n")
    said = [program.line(30.0) for _ in range(2)]
    assert said == [f"--host {answering.url} exec --interactive 1 cat".encode(), b"clock"]
    program.close()
    assert program.ended() == "it ended with 0 and said nothing"
    client.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="docker cannot be run: No such file"):
        answering.start(seen(), ["cat"])
