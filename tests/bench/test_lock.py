"""The lock of a cache folder: one run at a time, told while waiting, never left behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.processes.lock import exclusive
from bench.progress import PlainProgress

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from bench.processes.lock import exclusive
from bench.progress import make_progress
with exclusive(Path(sys.argv[1]), "the engines", make_progress(), 0):
    print("held", flush=True)
    time.sleep(600)
"""


def silent() -> PlainProgress:
    return PlainProgress(io.StringIO())


def test_a_second_run_waits_until_the_first_is_done(tmp_path: Path) -> None:
    lock, order = tmp_path / "lock", []
    waiting = threading.Event()

    class Telling(io.StringIO):
        def write(self, text: str) -> int:
            waiting.set()
            return super().write(text)

    def second() -> None:
        with exclusive(lock, "the engines", PlainProgress(Telling()), 30):
            order.append("second")

    thread = threading.Thread(target=second)
    with exclusive(lock, "the engines", silent(), 0):
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_giving_up_names_the_process_that_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        exclusive(lock, "the engines", silent(), 0),
        pytest.raises(UserError, match=f"the engines are in use by process {os.getpid()} "),
        exclusive(lock, "the engines", silent(), 0),
    ):
        pass


def test_a_holder_killed_with_9_leaves_no_lock(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError), exclusive(lock, "the engines", silent(), 0):
        pass
    holder.kill()
    holder.communicate()
    with exclusive(lock, "the engines", silent(), 0):
        assert lock.read_text() == str(os.getpid())
