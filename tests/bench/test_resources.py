"""Room for connections: as far as the machine lets, and in one line where it does not."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from tests.bench.load_source import Call, source

ROOT = Path(__file__).parents[2]
LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from bench.errors import UserError
from bench.processes.resources import allow_connections, allow_connections_up_to
try:
    print({call})
except UserError as error:
    print(error)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def limited(soft: int, hard: int, call: str) -> list[str]:
    """What a call says in a process with these limits, and its soft limit afterwards."""
    code = LIMITED.format(soft=soft, hard=hard, call=call)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_limit_is_raised_to_what_the_connections_need() -> None:
    assert limited(256, 4096, "allow_connections(1000)") == ["None", "1500"]


def test_a_limit_that_suffices_stays() -> None:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = 4096 if soft == resource.RLIM_INFINITY else min(soft, 4096)
    assert limited(soft, soft, "allow_connections(100)") == ["None", str(soft)]


def test_a_machine_that_allows_less_is_told_in_one_line() -> None:
    told, _ = limited(256, 2048, "allow_connections(5000)")
    assert told == (
        "5,000 connections at once need 5,500 open files, 2,048 are allowed; raise ulimit -Hn"
    )


def test_as_many_as_the_machine_lets() -> None:
    assert limited(256, 2048, "allow_connections_up_to(5000)") == ["1548", "2048"]


SENDING = """
import collections, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
from bench.errors import UserError
from bench.load.run.drive import run_load
from tests.bench.load_source import closed, drive, opened
for schedule in (opened([0.0] * 100, 0.5), closed(100, 100, 0.5)):
    try:
        result = drive(schedule, url=sys.argv[1], prompts=["a"] * 100, drain_timeout_s=1.0)
        told = {(s.error, s.detail if s.error == "client" else "") for s in result.samples}
        print(sorted(f"{error} {detail}" for error, detail in told))
    except UserError as error:
        print(error)
"""


def test_what_this_machine_ran_out_of_is_the_clients_own_failure() -> None:
    async def hang(call: Call) -> None:
        await call.hang()

    with source(hang) as served:
        done = subprocess.run(
            [sys.executable, "-c", SENDING, served.url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    open_loop, closed_loop = done.stdout.splitlines()
    assert open_loop == "['client [Errno 24] Too many open files', 'timeout ']"
    assert closed_loop.startswith("100 connections at once need 600 open files, 60 are allowed")
