"""Loads shared by several programs, each in a place of a site."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

from bench.errors import UserError
from bench.load.clocks import Clock, apart_s, ask_clock
from bench.load.drive import Load, run_together
from bench.load.outcome import DriveResult, Ending
from bench.load.parcels import load_bytes, results_of
from bench.load.shards import merge
from bench.processes.program import END, Program, Site, block, read_block

# Enough for every process to be told and to wake up.
_AHEAD_S = 0.05
# To come up, take in the loads and make the requests.
_READY_S = 120.0
# After the last answer, or Ctrl-C: to read what the answers say, and to send it back.
_GRACE_S = 60.0
_LOOK_EVERY_S = 0.2


def run_spread(
    loads: Sequence[Load], site: Site, *, processes: int, drain_timeout_s: float
) -> tuple[DriveResult, ...]:
    """`run_together` in so many processes, which start at one instant; results in their order.

    Ctrl-C reaches all of them and keeps what they measured; repeating it changes nothing. A
    process that is killed loses its samples alone: the results are LOST and say whose. On
    this machine, one process is this one.

    The processes are started anew and not forked: this one has threads, and whatever else
    the caller does; and a shard is then the same thing here and on another machine.

    Raises UserError when a process does not come up, or all of them are lost.
    """
    if site.shards is None and processes == 1:
        return run_together(loads, drain_timeout_s=drain_timeout_s)
    limit_s = max(load.schedule.duration_s for load in loads) + drain_timeout_s + _GRACE_S
    # The shards are closed before the threads, which may be reading from them, are waited for.
    with ThreadPoolExecutor(processes) as threads, _shards(site, processes) as shards:
        _prepare(shards, threads, block(load_bytes(loads)), drain_timeout_s)
        with _counting_ctrl_c() as pressed:
            apart = _start(site, shards, threads)
            measured = [threads.submit(_results, shard, limit_s) for shard in shards]
            interrupted = _await_end(shards, measured, pressed)
    told = [future.result() for future in measured]
    return _collect(site, told, apart, interrupted)


class _Shard:
    """One process, by the name that errors give it."""

    def __init__(self, site: Site, index: int, count: int) -> None:
        self.index = index
        self.count = count
        self.name = f"load process {index + 1} of {count}"
        self.program: Program = site.start("bench.load.shard_process", [], index)


@contextmanager
def _shards(site: Site, count: int) -> Iterator[Sequence[_Shard]]:
    """So many shards; whatever happens, none outlives the block."""
    shards: list[_Shard] = []
    try:
        shards.extend(_Shard(site, index, count) for index in range(count))
        yield shards
    finally:
        for shard in shards:
            shard.program.close()


def _prepare(
    shards: Sequence[_Shard], threads: ThreadPoolExecutor, loads: bytes, drain_s: float
) -> None:
    """Give all their loads and wait until each is ready to start."""

    def give(shard: _Shard) -> None:
        order = {"index": shard.index, "count": shard.count, "drain_s": drain_s}
        shard.program.send(json.dumps(order).encode() + b"\n" + loads)
        try:
            said = shard.program.line(_READY_S)
        except UserError as error:
            raise UserError(f"{shard.name} did not start: {error}") from None
        if said != b"ready":
            raise UserError(f"{shard.name} did not start: it said {said[:80]!r}")

    for one in [threads.submit(give, shard) for shard in shards]:
        one.result()


def _start(site: Site, shards: Sequence[_Shard], threads: ThreadPoolExecutor) -> float | None:
    """Tell all to start at one instant: how far apart they may be where clocks are compared."""
    if site.one_clock:
        clocks = [Clock(0.0, 0.0) for _ in shards]
    else:
        clocks = list(threads.map(_clock_of, shards))
    # What is told arrives within the time that an answer to a question about the clock took.
    start_s = monotonic() + _AHEAD_S + 4 * max(clock.bound_s for clock in clocks)
    for shard, clock in zip(shards, clocks, strict=True):
        shard.program.send(b"start %r\n" % (start_s + clock.ahead_s))
    return None if site.one_clock else apart_s(clocks)


def _clock_of(shard: _Shard) -> Clock:
    try:
        return ask_clock(shard.program, _READY_S)
    except UserError as error:
        raise UserError(f"{shard.name} did not start: {error}") from None


@contextmanager
def _counting_ctrl_c() -> Iterator[threading.Event]:
    """Within the context Ctrl-C sets the event and raises nothing, however often it comes."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # Ctrl-C is told to the main thread only
        return
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _results(shard: _Shard, limit_s: float) -> tuple[DriveResult, ...] | str:
    """What a shard measured, or one line that says why there is nothing."""
    try:
        return results_of(read_block(shard.program, limit_s))
    except (UserError, ValueError) as error:
        return f"{shard.name} left no samples: {error}"


def _await_end(
    shards: Sequence[_Shard],
    measured: Sequence[Future[tuple[DriveResult, ...] | str]],
    pressed: threading.Event,
) -> bool:
    """Wait until all have told what they have, asked to by Ctrl-C if it comes: whether it did."""
    while wait(measured, _LOOK_EVERY_S).not_done:
        if pressed.is_set():
            for shard in shards:
                shard.program.send(END)
            wait(measured, _GRACE_S)
            return True
    return pressed.is_set()


def _collect(
    site: Site,
    told: Sequence[tuple[DriveResult, ...] | str],
    apart: float | None,
    interrupted: bool,
) -> tuple[DriveResult, ...]:
    """The results that there are, as one for each load."""
    found = [one for one in told if not isinstance(one, str)]
    lost = [one for one in told if isinstance(one, str)]
    if not found:
        raise UserError(f"all load processes were lost; {lost[0]}")
    merged = [merge(parts, lost) for parts in zip(*found, strict=True)]
    if not site.one_clock:
        # Replicas are scraped in place 0, on the clock of which nothing is known without it.
        zero = [None if isinstance(told[0], str) else one.started_s for one in found[0]]
        merged = [
            replace(one, started_s=start_s, instrument=replace(one.instrument, start_apart_s=apart))
            for one, start_s in zip(merged, zero, strict=True)
        ]
    if interrupted:
        merged = [replace(one, ending=Ending.INTERRUPTED) for one in merged]
    return tuple(merged)
