"""Programs on this machine: what they say, how they end, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from bench.errors import UserError
from bench.processes.guard import MODULE
from bench.processes.idle import others_run
from bench.processes.local import LocalProgram, LocalSite
from bench.processes.program import GRACE_S, block, read_block

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
ECHO = """
import sys
from bench.processes.program import block, standard_input, take_block
sys.stdout.buffer.write(block(take_block(standard_input())))
"""
WATCHES = """
import time
from bench.processes.program import watch_input
watch_input(lambda: print("end", flush=True))
print("ready", flush=True)
time.sleep(600)
"""


@contextmanager
def program(code: str) -> Iterator[LocalProgram]:
    with closing(LocalProgram([sys.executable, "-c", code])) as started:
        yield started


def test_blocks_go_there_and_back_however_large_they_are() -> None:
    data = os.urandom(20_000_000)
    with program(ECHO) as echo:
        echo.send(block(data))
        assert read_block(echo, PATIENCE_S) == data


def test_a_program_that_says_nothing_is_late_and_not_waited_for() -> None:
    with program("import time; time.sleep(600)") as silent:
        with pytest.raises(UserError, match=r"it said nothing for 0\.1 s"):
            silent.line(0.1)
        assert silent.ended() is None


def test_one_that_has_ended_is_told_with_its_last_words_and_what_it_said_is_kept() -> None:
    with program("import sys; print('first'); sys.exit('no such model')") as failed:
        assert failed.line(PATIENCE_S) == b"first"
        with pytest.raises(UserError, match=r"^it ended with 1: no such model$"):
            failed.line(PATIENCE_S)
        failed.send(b"to nobody\n")
    assert failed.ended() == "it ended with 1: no such model"
    with pytest.raises(UserError, match=r"^it ended with 1: no such model$"):
        failed.line(PATIENCE_S)


def test_what_is_no_block_is_told() -> None:
    with (
        program("print('Traceback')") as wrong,
        pytest.raises(UserError, match=r"b'Traceback' where"),
    ):
        read_block(wrong, PATIENCE_S)


def test_closing_ends_a_program_that_watches_its_input_at_once() -> None:
    with program(WATCHES) as watching:
        assert watching.line(PATIENCE_S) == b"ready"
        watching.send(b"end\n")
        assert watching.line(PATIENCE_S) == b"end"
        assert watching.ended() is None
    assert watching.ended() == "it ended with 1 and said nothing"
    watching.close()


def test_closing_ends_also_one_that_does_not() -> None:
    with program("import time; print('ready', flush=True); time.sleep(600)") as deaf:
        assert deaf.line(PATIENCE_S) == b"ready"
    assert deaf.ended() == "it ended with 137 and said nothing"


def test_a_module_that_is_not_there_is_told_by_python_itself() -> None:
    with (
        closing(LocalSite().start("bench.no_such_module", [], 0)) as missing,
        pytest.raises(UserError, match=r"it ended with 1: .*No module named bench\.no_such_module"),
    ):
        missing.line(PATIENCE_S)


def test_kill_9_of_the_parent_ends_the_program() -> None:
    code = (
        "import sys, time; from bench.processes.local import LocalProgram\n"
        "one = LocalProgram([sys.executable, '-c', sys.argv[1]])\n"
        "one.line(60); print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, WATCHES], cwd=ROOT, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (orphan,) = psutil.Process(parent.pid).children()
        parent.send_signal(signal.SIGKILL)
    orphan.wait(PATIENCE_S)


@contextmanager
def guarded_module(module: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A module under guard, as in a pod."""
    environ = {**os.environ, "PYTHONPATH": f"{module.parent}:{ROOT}"}
    guard = [sys.executable, "-m", "bench.processes.guard", MODULE, str(GRACE_S)]
    command = [*guard, module.stem]
    with subprocess.Popen(
        command, env=environ, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("import sys; print(sys.stdin.readline(), flush=True); sys.exit(3)", 3),
        ("import os, sys; print(sys.stdin.readline(), flush=True); os.kill(os.getpid(), 9)", 137),
    ],
)
def test_a_program_under_guard_gets_its_input_and_its_end_is_told(
    tmp_path: Path, code: str, end: int
) -> None:
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    with guarded_module(tmp_path / "own.py") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hear\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hear\n"
        assert process.wait(PATIENCE_S) == end


def test_one_that_ignores_the_end_of_its_input_is_killed(tmp_path: Path) -> None:
    code = "import time; print('up', flush=True); time.sleep(600)"
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    with guarded_module(tmp_path / "own.py") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.stdin.write(bytes(100_000))  # more than a pipe holds, and nobody reads it
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 137


def test_what_keeps_a_place_ends_when_it_is_told_to() -> None:
    with subprocess.Popen([sys.executable, "-m", "bench.processes.idle"], cwd=ROOT) as idle:
        with pytest.raises(subprocess.TimeoutExpired):
            idle.wait(1.0)
        idle.terminate()
        assert idle.wait(PATIENCE_S) == 0


def test_a_place_is_in_use_while_something_else_runs_there() -> None:
    assert others_run()
