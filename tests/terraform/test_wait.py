"""`python -m bench wait`: what it makes of what the node says, or does not say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.cli.commands import main
from bench.environments import node
from bench.errors import UserError
from bench.progress import make_progress

ROOT = Path(__file__).parents[2]
# Stands for ssh: says and does what a file next to it tells, and notes how it was called.
SSH = """#!/bin/sh
folder=$(dirname "$0")
echo "$*" >>"$folder/called"
. "$folder/answer"
"""


class Remote:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ssh = folder / "ssh"
        self.ssh.write_text(SSH, encoding="utf-8")
        self.ssh.chmod(0o755)

    def answers(self, shell: str) -> None:
        new = self.folder / "new"
        new.write_text(f"{shell}\n", encoding="utf-8")
        new.rename(self.folder / "answer")

    def calls(self) -> list[str]:
        called = self.folder / "called"
        return called.read_text(encoding="utf-8").splitlines() if called.exists() else []

    def wait(self, timeout_s: float = 60.0) -> str:
        return node.wait_for_node(f"{self.ssh} me@node", make_progress(), timeout_s)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    monkeypatch.setattr(node, "INTERVAL_S", 0.05)
    return Remote(tmp_path)


def test_it_says_what_a_ready_node_says(remote: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    remote.answers("echo 'Warning: a banner' >&2; echo 'ready: NVIDIA L4, 8 of them; K3s'")
    assert main(["wait", "--ssh", f"{remote.ssh} me@node"]) == 0
    assert capsys.readouterr().out == "the node is ready: NVIDIA L4, 8 of them; K3s\n"
    assert remote.calls() == ["me@node -- cat /var/lib/llm-bench/status"]


def test_it_goes_on_until_the_node_answers_and_is_ready(remote: Remote) -> None:
    answers = (
        "echo 'ssh: connect to host node port 22: Connection refused' >&2; exit 255",
        "echo 'cat: /var/lib/llm-bench/status: No such file or directory' >&2; exit 1",
        "echo 'ERROR: (gcloud.compute.ssh) [ssh] exited with return code [255].'; exit 255",
        "echo 'running: K3s'",
        "echo 'ready: K3s'",
    )

    def tell() -> None:
        for answer in answers[1:]:
            seen = len(remote.calls())
            while len(remote.calls()) <= seen:
                time.sleep(0.02)
            remote.answers(answer)

    remote.answers(answers[0])
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    assert remote.wait() == "K3s"
    teller.join(10)


def test_a_failed_startup_script_ends_it_at_once(remote: Remote) -> None:
    remote.answers("echo 'failed: nvidia-smi shows 7 GPUs in place of 8; see LOG'")
    with pytest.raises(UserError) as error:
        remote.wait()
    assert str(error.value) == (
        "the node's startup script failed: nvidia-smi shows 7 GPUs in place of 8; see LOG"
    )


def test_a_node_that_is_gone_ends_it_at_once(remote: Remote) -> None:
    said = "ERROR: (gcloud.compute.ssh) Could not fetch resource:"
    remote.answers(f"echo '{said}'; echo ' - The resource was not found'; exit 1")
    with pytest.raises(UserError, match="Could not fetch resource:; is it applied"):
        remote.wait()


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ("echo 'running: NVIDIA device plugin'", "running: NVIDIA device plugin"),
        ("echo 'ssh: Connection refused' >&2; exit 255", "ssh: Connection refused"),
        ("exit 255", "ssh ended with 255"),
        ("sleep 60", "no answer within 1 s"),
    ],
)
def test_the_time_out_says_what_was_seen_last(remote: Remote, answer: str, seen: str) -> None:
    remote.answers(answer)
    with pytest.raises(UserError) as error:
        remote.wait(0.1)
    said = str(error.value)
    assert said.startswith("the node was not ready after 0 s: ")
    assert f"{seen}; --ready-timeout allows more" in said
    assert "\n" not in said


def test_without_ssh_this_machine_is_the_node(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("ready: K3s\n", encoding="utf-8")
    assert node.wait_for_node("", make_progress(), 5.0, str(status)) == "K3s"


@pytest.mark.parametrize(
    ("ssh", "said"),
    [
        ("no-such-program node", "cannot start no-such-program"),
        ("ssh 'node", "--ssh takes a command, seen"),
    ],
)
def test_a_command_that_cannot_work_is_refused(
    ssh: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wait", "--ssh", ssh]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("ctrl_c_works")
def test_ctrl_c_ends_it_and_what_it_has_started(remote: Remote) -> None:
    remote.answers('echo $$ >"$folder/pid"; sleep 600')
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "wait", "--ssh", f"{remote.ssh} node"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    pid = remote.folder / "pid"
    try:
        while not (pid.exists() and pid.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.endswith("interrupted\n")
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
