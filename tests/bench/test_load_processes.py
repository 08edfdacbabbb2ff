"""Real processes share one load: together, and whatever becomes of one of them."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import psutil
import pytest

from bench.errors import UserError
from bench.load.run.drive import DriveResult, Ending, Load
from bench.load.run.processes import run_spread
from bench.processes.local import LocalSite
from bench.records import ErrorKind, Schedule
from tests.bench.load_source import ANSWER, CHUNKED, LAST_CHUNK, Call, chunk, closed, opened, source

SHARD = ["-m", "bench.load.run.shard_process"]
WHOLE = CHUNKED + chunk(ANSWER) + LAST_CHUNK


async def answer(call: Call) -> None:
    await call.write(WHOLE)


def spread(
    schedule: Schedule, url: str, *, processes: int, drain_timeout_s: float = 20.0
) -> DriveResult:
    seeded = replace(schedule, sha256="5eed")
    count = len(schedule.requests)
    load = Load(seeded, [f"prompt {index}" for index in range(count)], [url] * count)
    (result,) = run_spread(
        [load], LocalSite(), processes=processes, drain_timeout_s=drain_timeout_s
    )
    return result


def shard_processes() -> list[psutil.Process]:
    """The load processes of this process, in the order of their index."""
    children = sorted(psutil.Process().children(), key=lambda child: child.create_time())
    return [child for child in children if child.cmdline()[1:3] == SHARD]


@pytest.mark.parametrize("processes", [1, 3])
def test_together_they_send_every_request_once_and_all_samples_come_back_in_order(
    processes: int,
) -> None:
    with source(answer) as served:
        result = spread(
            opened([0.02 * index for index in range(20)], 0.4), served.url, processes=processes
        )
    assert [sample.index for sample in result.samples] == list(range(20))
    assert all(sample.ok and sample.output_tokens == 2 for sample in result.samples)
    assert sorted(call.prompt for call in served.calls) == sorted(
        f"prompt {index}" for index in range(20)
    )
    assert (result.ending, result.lost) == (Ending.COMPLETE, ())
    assert result.instrument.processes == processes


def test_times_of_all_processes_count_from_one_instant() -> None:
    with source(answer) as served:
        at_s = [0.0] * 4 + [0.8] * 4
        result = spread(opened(at_s, 1.0), served.url, processes=2)
    received_s = {call.prompt: call.received_s for call in served.calls}
    # The server's clock is the same one: what it saw tells the instant, sample by sample.
    starts_s = [
        received_s[f"prompt {sample.index}"] - sample.sent_s
        for sample in result.samples
        if sample.sent_s is not None
    ]
    assert len(starts_s) == 8
    assert max(starts_s) - min(starts_s) < 0.4
    assert [sample.scheduled_s for sample in result.samples] == pytest.approx(at_s)


def test_together_they_keep_the_slots_of_a_closed_loop_full() -> None:
    four = asyncio.Barrier(4)

    async def answer_four_at_a_time(call: Call) -> None:
        # With fewer than four in flight this waits for ever, and the deadline passes.
        await four.wait()
        await answer(call)

    with source(answer_four_at_a_time) as served:
        schedule = closed(40, concurrency=4, duration_s=10.0)
        result = spread(schedule, served.url, processes=2, drain_timeout_s=1.0)
    assert [sample.error for sample in result.samples] == [None] * 40


def test_more_processes_than_requests_is_no_mistake() -> None:
    with source(answer) as served:
        result = spread(opened([0.0, 0.1], 0.2), served.url, processes=3)
    assert [sample.ok for sample in result.samples] == [True, True]
    assert result.ending is Ending.COMPLETE


def test_a_process_killed_with_9_loses_its_own_samples_and_is_told() -> None:
    victim: list[int] = []

    async def kill_one(call: Call) -> None:
        if not victim:
            victim.append(0)
            shard_processes()[0].kill()
        await answer(call)

    with source(kill_one) as served:
        result = spread(opened([0.05 * index for index in range(20)], 1.0), served.url, processes=2)
    assert result.ending is Ending.LOST
    assert result.cut_short
    assert len(result.samples) == 10
    assert all(sample.ok for sample in result.samples)
    (told,) = result.lost
    assert told == "load process 1 of 2 left no samples: it ended with 137 and said nothing"


def test_with_every_process_killed_there_is_no_result() -> None:
    async def kill_all(call: Call) -> None:
        for process in shard_processes():
            process.kill()
        await call.hang()

    with source(kill_all) as served, pytest.raises(UserError, match="all load processes were lost"):
        spread(opened([0.0, 20.0], 21.0), served.url, processes=2)


@pytest.mark.usefixtures("ctrl_c_works")
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_keeps_what_every_process_has_measured_and_leaves_none_behind(times: int) -> None:
    async def ctrl_c_at_the_last(call: Call) -> None:
        if call.prompt in {"prompt 0", "prompt 1", "prompt 2", "prompt 3"}:
            await answer(call)
        else:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(0.02)
            await call.hang()

    with source(ctrl_c_at_the_last) as served:
        result = spread(opened([0.0] * 4 + [0.6, 50.0], 60.0), served.url, processes=2)
    assert result.ending is Ending.INTERRUPTED
    assert [sample.error for sample in result.samples] == [None] * 4 + [ErrorKind.TIMEOUT]
    assert result.samples[-1].detail == "the trial was interrupted"
    assert result.elapsed_s < 50
    assert shard_processes() == []


def test_a_load_that_no_process_can_start_on_is_told_in_its_own_words() -> None:
    with pytest.raises(UserError, match=r"load process . of 2 did not start: .*is not an HTTP URL"):
        spread(opened([0.0, 0.0], 0.1), "localhost", processes=2)
