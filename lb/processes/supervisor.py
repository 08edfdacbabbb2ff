"""A parent process that keeps its child processes running.

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
# The delay before a child is restarted; it doubles while children end before they are stable.
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 1.0
_STABLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a child process runs. `run` gets a pipe whose other end closes with the supervisor.

    `ended` is called in the parent when the child has ended. The child is killed if `hung`
    returns true.
    """

    name: str
    run: Callable[[int], None]
    ended: Callable[[], object] = lambda: None
    hung: Callable[[], bool] = lambda: False


class Supervisor:
    """Runs each job in a process of its own until SIGTERM or SIGINT.

    Then `on_stop` is called, and all children get a SIGTERM. Those that have not ended
    `timeout_s` later are killed.
    """

    def __init__(self, jobs: Sequence[Job], on_stop: Callable[[], None], timeout_s: float) -> None:
        self._jobs = jobs
        self._on_stop = on_stop
        self._timeout_s = timeout_s
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
        # No signal may reach a child before it has its own handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        if self._kill_s is not None:  # it was just asked to stop
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
        # Ctrl-C reaches the whole group; children stop when the supervisor sends SIGTERM.
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
            # Not sys.exit: a child must not run what the parent does at its end.
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
            self._kill_s = time.monotonic() + self._timeout_s
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
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(process, number)
