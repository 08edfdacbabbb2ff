"""Shares loads among several programs, each in a place of a site."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from time import monotonic

from bench.errors import UserError
from bench.load.run.drive import DriveResult, Ending, Load, run_together
from bench.load.run.shards import LOADS_JSON, RESULTS_JSON, merge
from bench.processes.clocks import Clock, ask_clock
from bench.processes.program import END, Site, block, read_block

# Enough for every process to receive the start and to wake up.
_AHEAD_S = 0.05
# To start, read the loads and make the requests.
_READY_S = 120.0
# After the last answer, or Ctrl-C: to parse the answers and to send the samples.
_GRACE_S = 60.0
_LOOK_EVERY_S = 0.2


def run_spread(
    loads: Sequence[Load], site: Site, *, processes: int, drain_timeout_s: float
) -> tuple[DriveResult, ...]:
    """`run_together` in so many processes, which start at one instant; results in their order.

    Ctrl-C ends all of them and keeps what they measured; a second one changes nothing. A
    process that is killed loses only its own samples: the results are LOST and say whose.
    A single process on this machine is this one.

    The processes are new ones, not forks: this one has threads, and a shard is then the same
    here and on another machine.

    Raises UserError when a process does not start, or all of them are lost.
    """
    if site.shards is None and processes == 1:
        return run_together(loads, drain_timeout_s=drain_timeout_s)
    limit_s = max(load.schedule.duration_s for load in loads) + drain_timeout_s + _GRACE_S
    # The shards are closed before the threads, which may be reading from them, are waited for.
    with ThreadPoolExecutor(processes) as threads, ExitStack() as running:
        shards = [_Shard(site, index, processes, running) for index in range(processes)]
        _prepare(shards, threads, block(LOADS_JSON.dump_json(tuple(loads))), drain_timeout_s)
        with _counting_ctrl_c() as pressed:
            spread_s = _start(site, shards, threads)
            measured = [threads.submit(_results, shard, limit_s) for shard in shards]
            interrupted = _await_end(shards, measured, pressed)
    results = [future.result() for future in measured]
    return _collect(site, results, spread_s, interrupted)


class _Shard:
    """One process, which ends with `running`."""

    def __init__(self, site: Site, index: int, count: int, running: ExitStack) -> None:
        self.index = index
        self.count = count
        self.name = f"load process {index + 1} of {count}"
        program = site.start("bench.load.run.shard_process", [], index)
        self.program = running.enter_context(closing(program))

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Within the context a UserError says that this process did not start."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.name} did not start: {error}") from None


def _prepare(
    shards: Sequence[_Shard], threads: ThreadPoolExecutor, loads: bytes, drain_s: float
) -> None:
    """Send their loads to all shards, and wait until each is ready to start."""

    def give(shard: _Shard) -> None:
        order = {"index": shard.index, "count": shard.count, "drain_s": drain_s}
        shard.program.send(json.dumps(order).encode() + b"\n" + loads)
        with shard.starting():
            if (said := shard.program.line(_READY_S)) != b"ready":
                raise UserError(f"it said {said[:80]!r}")

    for one in [threads.submit(give, shard) for shard in shards]:
        one.result()


def _start(site: Site, shards: Sequence[_Shard], threads: ThreadPoolExecutor) -> float | None:
    """Start all at one instant. Returns their `start_spread_s`; None if they share a clock."""
    if site.one_clock:
        clocks = [Clock(0.0, 0.0) for _ in shards]
    else:
        clocks = list(threads.map(_clock_of, shards))
    # The start reaches a program within the time that its answers about the clock took.
    start_s = monotonic() + _AHEAD_S + 4 * max(clock.bound_s for clock in clocks)
    for shard, clock in zip(shards, clocks, strict=True):
        shard.program.send(b"start %r\n" % (start_s + clock.ahead_s))
    return None if site.one_clock else start_spread_s(clocks)


def _clock_of(shard: _Shard) -> Clock:
    with shard.starting():
        return ask_clock(shard.program, _READY_S)


@contextmanager
def _counting_ctrl_c() -> Iterator[threading.Event]:
    """Within the context Ctrl-C sets the event and raises nothing, however often it comes."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # only the main thread receives Ctrl-C
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
        return RESULTS_JSON.validate_json(read_block(shard.program, limit_s))
    except (UserError, ValueError) as error:
        return f"{shard.name} left no samples: {error}"


def _await_end(
    shards: Sequence[_Shard],
    measured: Sequence[Future[tuple[DriveResult, ...] | str]],
    pressed: threading.Event,
) -> bool:
    """Wait for all results; Ctrl-C asks the shards to end. Returns whether it came."""
    while wait(measured, _LOOK_EVERY_S).not_done:
        if pressed.is_set():
            for shard in shards:
                shard.program.send(END)
            wait(measured, _GRACE_S)
            return True
    return pressed.is_set()


def _collect(
    site: Site,
    results: Sequence[tuple[DriveResult, ...] | str],
    spread_s: float | None,
    interrupted: bool,
) -> tuple[DriveResult, ...]:
    """One result for each load, of the shards that have one. A str says why a shard has none."""
    found = [one for one in results if not isinstance(one, str)]
    lost = [one for one in results if isinstance(one, str)]
    if not found:
        raise UserError(f"all load processes were lost; {lost[0]}")
    merged = [merge(parts, lost) for parts in zip(*found, strict=True)]
    if not site.one_clock:
        # Replicas are scraped in place 0: if that was lost, nothing is known of its clock.
        zero = [None if isinstance(results[0], str) else one.started_s for one in found[0]]
        merged = [
            replace(
                one, started_s=start_s, instrument=replace(one.instrument, start_apart_s=spread_s)
            )
            for one, start_s in zip(merged, zero, strict=True)
        ]
    if interrupted:
        merged = [replace(one, ending=Ending.INTERRUPTED) for one in merged]
    return tuple(merged)


def start_spread_s(clocks: Sequence[Clock]) -> float:
    """Upper bound, in seconds, of the time between two programs' starts at the same instant."""
    return sum(sorted((one.bound_s for one in clocks), reverse=True)[:2]) if clocks[1:] else 0.0
