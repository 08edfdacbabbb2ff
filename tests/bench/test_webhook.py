"""The webhook: what it gets, and that neither a failure nor its secret shows anywhere."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bench.cli.commands import main
from bench.cli.webhook import Webhook, webhook_of
from bench.errors import UserError
from bench.store import TrialStore
from tests.bench.making import paired
from tests.ci.checkouts import BETTER, UNDECIDED, Checkout

SECRET = "T0/B0/s3cr3t"


class Receiver(HTTPServer):
    """Answers every request with `status`, and keeps what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.came: list[tuple[str, dict[str, object]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{SECRET}?key={SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.append((self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for one in paired((1.0,) * 4, (0.7, 1.1, 0.8, 0.9)):
        TrialStore(tmp_path).save(one)
    return tmp_path


def compare(results: Path, *options: str) -> int:
    return main(["compare", "--results", str(results), "--webhook-env", "HOOK", *options])


def test_it_gets_what_latest_json_has(
    receiver: Receiver,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOOK", f"{receiver.url}\n")
    assert compare(results, "--format", "json") == 3
    shown = capsys.readouterr()
    assert receiver.came == [("application/json", json.loads(shown.out))]
    assert shown.err == "webhook in HOOK: delivered\n"


@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_a_status_that_is_no_success_changes_nothing_but_a_line(
    receiver: Receiver,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    receiver.status = status
    monkeypatch.setenv("HOOK", receiver.url)
    assert compare(results) == 3
    assert len(receiver.came) == 1, "a redirect is not followed"
    shown = capsys.readouterr()
    assert shown.err == f"webhook in HOOK: not delivered: the answer was status {status}\n"
    assert SECRET not in shown.out


def test_where_nobody_listens_a_line_says_so() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        hook = Webhook("HOOK", f"http://127.0.0.1:{unheard.getsockname()[1]}/{SECRET}")
        line = hook.post(b"{}")
    assert line == "webhook in HOOK: not delivered: [Errno 111] Connection refused"


def test_what_does_not_answer_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hook = Webhook("HOOK", f"http://127.0.0.1:{silent.getsockname()[1]}/{SECRET}")
        line = hook.post(b"{}", limit_s=0.05)
    assert line == "webhook in HOOK: not delivered: no answer within 0.05 s"


def test_neither_the_record_nor_an_error_shows_the_address() -> None:
    assert SECRET not in repr(Webhook("HOOK", f"https://hooks.example/{SECRET}"))
    for text in (f"ftp://hooks.example/{SECRET}", f"https:///{SECRET}", f"http://a/{SECRET} b"):
        with pytest.raises(UserError, match="HOOK holds no HTTP URL") as caught:
            webhook_of("HOOK", {"HOOK": text})
        assert SECRET not in str(caught.value)
    with pytest.raises(UserError, match="HOOK holds a user or a password") as caught:
        webhook_of("HOOK", {"HOOK": f"https://me:{SECRET[-6:]}@hooks.example/"})
    assert "s3cr3t" not in str(caught.value)
    for port in ("x", "99999"):
        with pytest.raises(UserError, match="no HTTP URL"):
            webhook_of("HOOK", {"HOOK": f"https://hooks.example:{port}/"})


def test_an_empty_variable_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    message = "environment variable HOOK is empty; put the webhook's URL in it"
    assert compare(tmp_path) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "--webhook-env", "HOOK"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("measured", "status", "code", "line"),
    [
        (BETTER, 200, 0, "delivered"),
        (UNDECIDED, 500, 3, "not delivered: the answer was status 500"),
    ],
)
def test_a_run_posts_its_verdict_and_keeps_the_secret(
    receiver: Receiver, tmp_path: Path, measured: str, status: int, code: int, line: str
) -> None:
    receiver.status = status
    checkout = Checkout(tmp_path)
    done = checkout.gate(
        *(
            "--webhook-env",
            "HOOK",
            "--log-file",
            str(tmp_path / "log"),
            "--log-file-level",
            "DEBUG",
        ),
        measured=measured,
        HOOK=receiver.url,
        no_proxy="127.0.0.1",
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert f"webhook in HOOK: {line}\n" in done.stdout
    latest = json.loads((checkout.shown / "latest.json").read_text("utf-8"))
    assert receiver.came == [("application/json", latest)]
    assert "--webhook-env" in latest["run"]["provenance"]["arguments"]
    assert SECRET not in done.stdout + done.stderr
    files = [one for one in tmp_path.rglob("*") if one.is_file() and not one.is_symlink()]
    written = [one for one in files if "checkout/results" in str(one) or one.name == "log"]
    assert len(written) > 5
    assert not [one for one in written if SECRET.encode() in one.read_bytes()]


@pytest.mark.slow
def test_a_run_that_measured_nothing_posts_nothing(receiver: Receiver, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    assert checkout.gate("--webhook-env", "HOOK", measured="not", HOOK=receiver.url).returncode == 1
    assert not receiver.came
