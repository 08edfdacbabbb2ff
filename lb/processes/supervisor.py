"""A parent that keeps child processes running, and does nothing else that could fail.

It has no event loop and no threads, so that it can fork at any time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

logger = logging.getLogger("lb")

_CHECK_S = 1.0
# A child that ends at once again is started again ever more slowly.
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 1.0
_STABLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a child does. `run` gets the end of a pipe that closes with the supervisor.

    `ended` is called in the parent when a child has ended. A child of which `hung` is
    true is killed.
    """

    name: str
    run: Callable[[int], None]
    ended: Callable[[], object] = lambda: None
    hung: Callable[[], bool] = lambda: False


class Supervisor:
    """Runs every job in a process of its own until SIGTERM or SIGINT.

    Signals are passed on as SIGTERM, to all at once; who has not ended `patience_s` later
    is killed. `on_stop` is called first.
    """

    def __init__(self, jobs: Sequence[Job], on_stop: Callable[[], None], patience_s: float) -> None:
        self._jobs = jobs
        self._on_stop = on_stop
        self._patience_s = patience_s
        self._children: dict[int, Job] = {}
        self._started_s: dict[str, float] = {}
        self._delay_s = _FIRST_DELAY_S
        self._kill_s: float | None = None
        self._lifeline, self._own_end = os.pipe()

    def run(self) -> None:
        """Returns when every child has ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._check)
        signal.setitimer(signal.ITIMER_REAL, _CHECK_S, _CHECK_S)
        for job in self._jobs:
            self._start(job)
        while self._children:
            process, status = os.waitpid(-1, 0)
            self._reap(self._children.pop(process), status)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _start(self, job: Job) -> None:
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGALRM}
        # Nothing may be asked of a child before it can hear it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        if self._kill_s is not None:  # it was asked to stop at the last moment
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            return
        self._started_s[job.name] = time.monotonic()
        process = os.fork()
        if process:
            self._children[process] = job
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            return
        os.close(self._own_end)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Ctrl-C reaches the whole group; the supervisor tells when to stop.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        code = 1
        try:
            job.run(self._lifeline)
            code = 0
        except BaseException:
            logger.exception("%s failed", job.name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # What the parent has to do at its end is not to be done by its children.
            os._exit(code)

    def _reap(self, job: Job, status: int) -> None:
        job.ended()
        if self._kill_s is not None:
            return
        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        logger.error("%s %s and is started again", job.name, how)
        if time.monotonic() > self._started_s[job.name] + _STABLE_S:
            self._delay_s = _FIRST_DELAY_S
        time.sleep(self._delay_s)
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)
        if self._kill_s is None:
            self._start(job)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._kill_s is None:
            self._kill_s = time.monotonic() + self._patience_s
            self._on_stop()
        self._signal_all(signal.SIGTERM)

    def _check(self, _number: int, _frame: FrameType | None) -> None:
        if self._kill_s is not None and time.monotonic() > self._kill_s:
            self._signal_all(signal.SIGKILL)
        for process, job in tuple(self._children.items()):
            if job.hung():
                logger.error("%s hangs and is killed", job.name)
                os.kill(process, signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in tuple(self._children):
            with contextlib.suppress(ProcessLookupError):  # ended, and about to be reaped
                os.kill(process, number)
