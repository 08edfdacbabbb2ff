"""What the suite makes of a daemon's answers, and what it says of one that does not answer."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest

from bench.environments.docker.daemon import Container, Daemon
from bench.errors import UserError

ENGINE = {
    "Id": "1",
    "Name": "/llm-bench-managed_tiny-llama-0_1",
    "RestartCount": 0,
    "State": {
        "Status": "running",
        "Pid": 77,
        "ExitCode": 0,
        "StartedAt": "2026-01-31T23:59:59.123456789Z",
        "Health": {"Status": "healthy"},
    },
    "Config": {
        "Labels": {
            "llm-bench": "",
            "llm-bench.kind": "engine",
            "llm-bench.model": "tiny-llama",
            "com.docker.compose.project": "llm-bench-managed",
            "com.docker.compose.service": "tiny-llama-0",
        },
        "Env": ["ENABLE_KVCACHED=true", "HF_TOKEN=secret"],
        "Image": "llm-bench-engine-cpu:0.1.0",
    },
    "HostConfig": {"CpusetCpus": "1"},
    "NetworkSettings": {"Ports": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8001"}]}},
}


def seen(**state: Any) -> Container:
    return Container.seen({**ENGINE, "State": {**ENGINE["State"], **state}})  # type: ignore[dict-item]


def test_a_running_engine_is_read_as_docker_shows_it() -> None:
    one = Container.seen(ENGINE)
    assert (one.service, one.project, one.kind, one.model) == (
        *("tiny-llama-0", "llm-bench-managed", "engine", "tiny-llama"),
    )
    assert (one.url, one.ports, one.core, one.pid) == ("http://127.0.0.1:8001", (8001,), "1", 77)
    assert one.runs
    assert not one.end
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


class Answers(http.server.BaseHTTPRequestHandler):
    """A daemon that has `containers`, by id, and refuses to remove the one with id `stuck`."""

    containers: dict[str, dict[str, Any]]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote_plus(self.path)
        if "/version" in path:
            self.answer(200, {"ApiVersion": "1.41", "Version": "20.10.24"})
        elif "/containers/json" in path:
            asked = json.loads(path.partition("filters=")[2].partition("&")[0])["label"]
            labels = {one.partition("=")[0]: one.partition("=")[2] for one in asked}
            self.answer(
                200,
                [
                    {"Id": one["Id"]}
                    for one in self.containers.values()
                    if labels.items() <= one["Config"]["Labels"].items()
                ],
            )
        elif "/containers/" in path:
            found = self.containers.get(path.split("/")[3])
            self.answer(200 if found else 404, found or {"message": "No such container"})
        else:
            self.answer(200, [])

    def do_DELETE(self) -> None:
        gone = self.path.split("/")[3].partition("?")[0]
        if gone == "stuck":
            self.answer(500, {"message": "device\nor resource busy"})
        else:
            self.answer(204 if self.containers.pop(gone, None) else 404, {"message": "No such"})

    def answer(self, status: int, body: object) -> None:
        text = b"" if status == 204 else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


def container(number: str, project: str, **labels: str) -> dict[str, Any]:
    own = {"llm-bench": "", "com.docker.compose.project": project, **labels}
    config = {**ENGINE["Config"], "Labels": own}  # type: ignore[dict-item]
    return {**ENGINE, "Id": number, "Name": f"/{number}", "Config": config}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Daemon]:
    Answers.containers = {
        "a": container("a", "llm-bench-baseline"),
        "b": container("b", "llm-bench-managed"),
        "c": {**container("c", "theirs"), "Config": {"Labels": {}, "Env": None}},
    }
    path = tmp_path / "docker.sock"
    with Server(str(path), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Daemon(f"unix://{path}")
        server.shutdown()
        thread.join()


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
    said = str(caught.value)
    assert said.startswith(f"no Docker daemon answers at unix://{tmp_path}/no.sock: ")
    assert said.endswith("; is it running, and may you use it (group docker)?")
    assert "\n" not in said


@pytest.mark.parametrize("url", ["tcp://10.0.0.1:2376", "ssh://me@node"])
def test_a_daemon_of_another_machine_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="needs the daemon of this machine"):
        Daemon.chosen({"DOCKER_HOST": url})
